"""Takes the frames of a clip one by one and keeps no more of each than the network needs.

Shapes: P frames of a clip (both pathways), H x W pixels as decoded, h x w pixels of the clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from alphaction.dataset.frame_forms import FrameConverter, FramePlanes
from alphaction.errors import VideoError
from alphaction.structures.planes import ClipPlanes, PlaneLayout

Size = tuple[int, int]  # (height, width) in pixels
REDUCE_ABOVE = 4  # times the clip's pixels


class RgbCanvas:
    """Resizes, recolours and mirrors each frame as it comes, in 8 bit: the way the released weights were trained.

    Args:
        count: P.
        resized: from the size of a frame as shown to that of the clip.
        color: as `transforms.Augmentation.color`.
        flip: mirror left to right.
        to_bgr: blue first.
        converter: from decoded frames to RGB; not needed for `put`.
    """

    def __init__(
        self,
        count: int,
        *,
        resized: Callable[[Size], Size],
        color: tuple[int, int, int] | None = None,
        flip: bool = False,
        to_bgr: bool = False,
        converter: FrameConverter | None = None,
    ) -> None:
        self._count, self._resized, self._color = count, resized, color
        self._flip, self._to_bgr, self._converter = flip, to_bgr, converter
        self._hue = ((np.arange(256) + (0 if color is None else color[0])) % 180).astype(np.uint8)
        self._size: Size = (0, 0)
        self._out: np.ndarray | None = None

    def receive(self, places: np.ndarray, frame: av.VideoFrame) -> None:
        """Takes a decoded frame for the places in 0..P-1."""
        if self._converter is None:
            raise ValueError("converter: got none, expected one for decoded frames")
        self.put(places, self._converter.rgb(frame))

    def put(self, places: np.ndarray, image: np.ndarray) -> None:
        """Takes a frame uint8 [H, W, 3] RGB for the places in 0..P-1; all frames of a clip have one size."""
        out = self._out
        if out is None:
            out = self._begin((int(image.shape[0]), int(image.shape[1])))
        height, width = self._size
        if image.shape[:2] != self._size:
            # Bilinear without smoothing, rounded to 8 bits, as the released weights were trained (QUIRKS 4).
            image = cv2.resize(image, (width, height), dst=self._small, interpolation=cv2.INTER_LINEAR)
        if self._color is not None:
            image = self._recolored(np.ascontiguousarray(image), self._color)
        first, *others = places.tolist()
        planes = list(out[::-1, first] if self._to_bgr else out[:, first])
        if self._flip:
            for plane, source in zip(planes, cv2.split(image, self._planes), strict=True):
                cv2.flip(source, 1, dst=plane)
        else:
            cv2.split(image, planes)
        for place in others:
            out[:, place] = out[:, first]

    def clip(self) -> Tensor:
        """uint8 [3, P, h, w], in the canvas's own memory."""
        if self._out is None:
            raise ValueError("clip: no frame was put")
        return torch.from_numpy(self._out)

    def _begin(self, before: Size) -> np.ndarray:
        self._size = height, width = self._resized(before)
        # Where a frame passes through: small enough to stay in the processor's cache.
        self._small = np.empty((height, width, 3), dtype=np.uint8)
        self._planes = [np.empty((height, width), dtype=np.uint8) for _ in range(3)]
        self._out = out = np.empty((3, self._count, height, width), dtype=np.uint8)
        return out

    def _recolored(self, image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
        """By way of 8-bit HSV: hue (0..179) goes round, saturation and value stop at 0 and 255."""
        planes = list(cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), self._planes))
        planes[0] = cv2.LUT(planes[0], self._hue, dst=planes[0])
        for channel in (1, 2):
            change = color[channel]
            shift = cv2.add if change > 0 else cv2.subtract
            by = float(abs(change))
            planes[channel] = shift(planes[channel], by, dst=planes[channel])  # type: ignore[call-overload]  # a scalar
        return cv2.cvtColor(cv2.merge(planes, self._small), cv2.COLOR_HSV2RGB)


class PlaneCanvas:
    """Keeps the planes of each frame as they were decoded; the rest is done on the model's device.

    Frames of more than `REDUCE_ABOVE` times the clip's pixels are resized at once, all three planes to the clip's size,
    or a 4K video would send 450 MB per clip. Colour matrix, range and rotation are those of the clip's first frame.

    Args:
        slow_frames, fast_frames: T_slow and T_fast; P is their sum.
        resized, color, flip, to_bgr, converter: as for `RgbCanvas`.
    """

    def __init__(
        self,
        slow_frames: int,
        fast_frames: int,
        *,
        resized: Callable[[Size], Size],
        converter: FrameConverter,
        color: tuple[int, int, int] | None = None,
        flip: bool = False,
        to_bgr: bool = False,
    ) -> None:
        self._resized, self._converter = resized, converter
        self._fixed = PlaneLayout(
            slow_frames, fast_frames, source=(0, 0), size=(0, 0), color=color, flip=flip, to_bgr=to_bgr
        )
        self._layout: PlaneLayout | None = None

    def receive(self, places: np.ndarray, frame: av.VideoFrame) -> None:
        """Takes a decoded frame for the places in 0..P-1."""
        planes = self._converter.planes(frame)
        layout = self._begin(planes) if self._layout is None else self._layout
        if planes.turns != layout.turns:
            raise VideoError("the frames of one clip are rotated differently; expected one rotation per video")
        first, *others = places.tolist()
        for out, plane in ((self._luma[first], planes.luma), *zip(self._chroma[first], planes.chroma, strict=True)):
            if out.shape == plane.shape:
                out[:] = plane
            else:
                cv2.resize(plane, out.shape[::-1], dst=out, interpolation=cv2.INTER_LINEAR)
        for place in others:
            self._luma[place], self._chroma[place] = self._luma[first], self._chroma[first]

    def clip(self) -> ClipPlanes:
        """In the canvas's own memory."""
        if self._layout is None:
            raise ValueError("clip: no frame was received")
        return ClipPlanes(torch.from_numpy(self._data), (self._layout,), padded=self._layout.size)

    def _begin(self, planes: FramePlanes) -> PlaneLayout:
        source = (int(planes.luma.shape[0]), int(planes.luma.shape[1]))
        size = self._resized(source[::-1] if planes.turns % 2 else source)
        reduced = math.prod(source) > REDUCE_ABOVE * math.prod(size)
        if reduced:
            source = size[::-1] if planes.turns % 2 else size
        self._layout = layout = replace(
            self._fixed,
            source=source,
            size=size,
            matrix=planes.matrix,
            full_range=planes.full_range,
            full_chroma=reduced,
            turns=planes.turns,
        )
        self._data = np.empty(layout.bytes, np.uint8)
        luma, chroma = np.split(self._data, [layout.luma_bytes])
        self._luma = luma.reshape(layout.frames, *layout.source)
        self._chroma = chroma.reshape(layout.frames, 2, *layout.chroma)
        return layout
