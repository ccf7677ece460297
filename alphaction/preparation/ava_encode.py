"""Writes short films and pictures from frames, with PyAV and OpenCV alone.

Shapes: h x w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from alphaction.utils.atomic import atomic_write

QUALITY = "18"  # x264's constant rate factor: hardly to be told from the source
JPEG_QUALITY = 95


def fitted_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """(width, height), both even, of a picture whose shorter side is at most `short_side` pixels."""
    scale = min(1.0, short_side / min(width, height))
    return max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))


def shrink(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [h, w, 3] at another size (width, height)."""
    if image.shape[1::-1] == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def write_clip(path: Path, images: Sequence[np.ndarray], *, fps: float) -> None:
    """An H.264 mp4 of RGB frames uint8 [h, w, 3] with even sides, atomically."""
    rate = Fraction(fps).limit_denominator(1001)
    with atomic_write(path) as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = 1 / rate
        stream.codec_context.thread_count = 1  # several videos are worked on at a time
        stream.options = {"crf": QUALITY, "preset": "veryfast"}
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_picture(path: Path, image: np.ndarray) -> None:
    """A JPEG of an RGB frame uint8 [h, w, 3], atomically."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    with atomic_write(path) as file:
        file.write(data.tobytes())
