"""What a decoded frame is turned into: RGB pixels as shown, or its planes as they were decoded.

Shapes: H x W pixels of the coded picture, h x w pixels as displayed (a phone's rotation mark is applied).
"""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import VideoReformatter

_FULL_RANGE = 2  # of av.VideoFrame.color_range: 0..255 instead of 16..235


@dataclass(frozen=True)
class FramePlanes:
    """A frame in YUV 4:2:0, 8 bit, not yet rotated. The arrays are views, valid as long as the frame is.

    Attributes:
        luma: uint8 [H, W].
        chroma: two of uint8 [ceil(H/2), ceil(W/2)], blue (U) and red (V).
        matrix: number of the colour matrix as in H.264 (1 = BT.709, 5 = BT.601, 9 = BT.2020, 2 = not said).
        full_range: whether luma runs from 0 to 255 instead of 16 to 235.
        turns: quarter turns to the left that bring the picture upright.
    """

    luma: np.ndarray
    chroma: tuple[np.ndarray, np.ndarray]
    matrix: int
    full_range: bool
    turns: int


class FrameConverter:
    """Converts frames, one after the other. Setting up a conversion costs more than a frame, so keep one converter.

    Not for several threads at a time.
    """

    def __init__(self) -> None:
        self._rgb = VideoReformatter()
        self._yuv = VideoReformatter()

    def rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 [h, w, 3] RGB, an array of its own; colour matrix and range are those that the frame names."""
        image = self._rgb.reformat(frame, format="rgb24", **_ONE_THREAD).to_ndarray()
        turns = quarter_turns(frame)
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else image

    def planes(self, frame: av.VideoFrame) -> FramePlanes:
        """The frame's planes. Other forms than 8-bit YUV 4:2:0 (10 bit, RGB, 4:2:2 ...) are converted by libav."""
        full = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
        matrix = int(frame.colorspace)
        if frame.format.name not in ("yuv420p", "yuvj420p"):
            frame = self._yuv.reformat(frame, format="yuv420p", **_ONE_THREAD)
            full = frame.color_range == _FULL_RANGE
            matrix = int(frame.colorspace)
        luma, blue, red = (_plane(plane) for plane in frame.planes)
        return FramePlanes(luma, (blue, red), matrix=matrix, full_range=full, turns=quarter_turns(frame))


def quarter_turns(frame: av.VideoFrame) -> int:
    """Quarter turns to the left (0..3) that bring the frame upright."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


def shown_size(frame: av.VideoFrame) -> tuple[int, int]:
    """(height, width) in pixels as displayed."""
    return (frame.width, frame.height) if quarter_turns(frame) % 2 else (frame.height, frame.width)


def _plane(plane: av.video.plane.VideoPlane) -> np.ndarray:
    """uint8 [height, width] without the padding at the ends of the rows; a view."""
    values = np.frombuffer(plane, np.uint8)  # type: ignore[call-overload]  # PyAV's stubs do not say that it is a buffer
    return values[: plane.height * plane.line_size].reshape(plane.height, plane.line_size)[:, : plane.width]


def _one_thread() -> dict[str, int]:
    """The option that keeps a converter from starting threads of its own, where this PyAV has it (older have none)."""
    option = {"threads": 1}
    try:
        VideoReformatter().reformat(av.VideoFrame(16, 16, "rgb24"), format="bgr24", **option)
    except TypeError:
        return {}
    return option


_ONE_THREAD = _one_thread()
