"""Clips as the decoder gave them, in YUV, with what is left to do to them on the model's device.

Shapes: N clips, P = T_slow + T_fast frames of a clip, H x W pixels of the planes, h x w pixels of a clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class PlaneLayout:
    """One clip: where its numbers lie, and how they become the network's pixels.

    Attributes:
        slow_frames, fast_frames: T_slow and T_fast; the slow pathway's frames come first.
        source: (H, W) of the planes, not yet rotated.
        size: (h, w) of the clip.
        matrix: number of the colour matrix as in H.264 (1 = BT.709, 5 = BT.601, 9 = BT.2020, 2 = not said: BT.601).
        full_range: whether luma runs from 0 to 255 instead of 16 to 235.
        full_chroma: whether colour planes are as large as luma (YUV 4:4:4): those of frames that the reader resized.
        turns: quarter turns to the left that bring the picture upright.
        color: added to (hue in units of 2 degrees, saturation 0..255, value 0..255), or None.
        flip: mirror left to right.
        to_bgr: blue first.
    """

    slow_frames: int
    fast_frames: int
    source: tuple[int, int]
    size: tuple[int, int]
    matrix: int = 2
    full_range: bool = False
    full_chroma: bool = False
    turns: int = 0
    color: tuple[int, int, int] | None = None
    flip: bool = False
    to_bgr: bool = False

    @property
    def frames(self) -> int:
        return self.slow_frames + self.fast_frames

    @property
    def chroma(self) -> tuple[int, int]:
        """(height, width) of a colour plane."""
        height, width = self.source
        return self.source if self.full_chroma else (-(-height // 2), -(-width // 2))

    @property
    def luma_bytes(self) -> int:
        return self.frames * math.prod(self.source)

    @property
    def bytes(self) -> int:
        return self.luma_bytes + 2 * self.frames * math.prod(self.chroma)

    @property
    def geometry(self) -> PlaneLayout:
        """The layout without what differs from clip to clip: clips of one geometry can be computed together."""
        return replace(self, color=None, flip=False)


@dataclass(frozen=True)
class ClipPlanes:
    """The planes of one or several clips.

    Attributes:
        data: uint8 [bytes]. For each clip its luma [P, H, W], then its chroma [P, 2, ceil(H/2), ceil(W/2)] (or
            [P, 2, H, W]: `PlaneLayout.full_chroma`), blue difference (U) before red difference (V).
        layouts: of each clip, in the order of `data`.
        padded: (height, width) in pixels that the clips of the batch are padded to.
    """

    data: Tensor
    layouts: Sequence[PlaneLayout]
    padded: tuple[int, int]

    def __post_init__(self) -> None:
        size = sum(layout.bytes for layout in self.layouts)
        if self.data.dtype != torch.uint8 or self.data.shape != (size,):
            raise ValueError(f"data: got {self.data.dtype} {tuple(self.data.shape)}, expected uint8 ({size},)")

    def __len__(self) -> int:
        return len(self.layouts)

    def __getitem__(self, clips: slice) -> ClipPlanes:
        """Neighbouring clips; nothing is copied, and the padding stays."""
        start, stop, _ = clips.indices(len(self))
        first = sum(layout.bytes for layout in self.layouts[:start])
        chosen = self.layouts[start:stop]
        data = self.data[first : first + sum(layout.bytes for layout in chosen)]
        return ClipPlanes(data, chosen, self.padded)

    def runs(self, most: int) -> list[ClipPlanes]:
        """Neighbouring clips of one geometry, at most `most` frames together (or one clip)."""
        ends = [0]
        for i, layout in enumerate(self.layouts):
            first = self.layouts[ends[-1]]
            if i and (layout.geometry != first.geometry or (i + 1 - ends[-1]) * layout.frames > most) and i > ends[-1]:
                ends.append(i)
        return [self[slice(start, end)] for start, end in zip(ends, [*ends[1:], len(self)], strict=True)]

    def stacked(self) -> tuple[Tensor, Tensor]:
        """luma uint8 [N, P, H, W] and chroma [N, P, 2, ., .] of clips of one geometry; views."""
        layout = self.layouts[0]
        rows = self.data.view(len(self), layout.bytes)
        luma = rows[:, : layout.luma_bytes].unflatten(1, (layout.frames, *layout.source))
        return luma, rows[:, layout.luma_bytes :].unflatten(1, (layout.frames, 2, *layout.chroma))
