"""Encodes a drawn scene as a video file."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from alphaction.synthetic.render import Renderer
from alphaction.synthetic.scene import Scene

# With its look-ahead the encoder gives other bytes for the same pictures now and then where they are few blocks high.
FOR_SMALL_PICTURES = "sync-lookahead=0:rc-lookahead=0:mbtree=0"


def write_video(path: Path, scene: Scene, *, rng: np.random.Generator, fps: int, encoder: str = "") -> None:
    """Encodes the scene as H.264; one thread, so that the same scene gives the same bytes.

    Args:
        path: of the MP4 file.
        rng: of ground and noise.
        encoder: further options of x264.
    """
    height, width = scene.size
    with av.open(str(path), mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "26", "g": str(fps), "threads": "1"}
        if encoder:
            stream.options |= {"x264-params": encoder}
        for picture in Renderer(scene, rng=rng).frames(fps):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
