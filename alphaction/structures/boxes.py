"""Boxes of one image or clip, in one convention.

Coordinates are `x1, y1, x2, y2` in pixels, both corners inclusive: width = x2 - x1 + 1, the corners of a box inside an
image of W x H lie in [0, W - 1] x [0, H - 1] (the convention that the released weights were trained with;
`tests/golden/boxes.npz`). Everything that needs the "+ 1" is in this file.

Shapes: n boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Boxes:
    """Boxes within an image; every operation returns new boxes.

    Attributes:
        xyxy: float32 [n, 4], pixels, inclusive corners.
        size: (height, width) of the image in pixels.
    """

    xyxy: Tensor
    size: tuple[int, int]

    def __post_init__(self) -> None:
        if self.xyxy.ndim != 2 or self.xyxy.shape[1] != 4:
            raise ValueError(f"boxes: got shape {tuple(self.xyxy.shape)}, expected [n, 4]")

    def __len__(self) -> int:
        return self.xyxy.shape[0]

    def __getitem__(self, rows: Tensor | slice) -> Boxes:
        return Boxes(self.xyxy[rows], self.size)

    def to(self, device: torch.device | str) -> Boxes:
        return Boxes(self.xyxy.to(device), self.size)

    @staticmethod
    def from_xywh(xywh: Tensor, size: tuple[int, int]) -> Boxes:
        """From `x, y, width, height` in pixels; x2 = x + max(width - 1, 0)."""
        x, y, w, h = xywh.unbind(-1)
        return Boxes(torch.stack([x, y, x + (w - 1).clamp(min=0), y + (h - 1).clamp(min=0)], dim=-1), size)

    def to_xywh(self) -> Tensor:
        """`x, y, width, height` in pixels, [n, 4]."""
        x1, y1, x2, y2 = self.xyxy.unbind(-1)
        return torch.stack([x1, y1, x2 - x1 + 1, y2 - y1 + 1], dim=-1)

    @staticmethod
    def from_edges(edges: Tensor, size: tuple[int, int]) -> Boxes:
        """From `left, top, right, bottom` edges (width = right - left), as torchvision's parts give them."""
        left, top, right, bottom = edges.unbind(-1)
        return Boxes(torch.stack([left, top, right - 1, bottom - 1], dim=-1), size)

    def to_edges(self) -> Tensor:
        """`left, top, right, bottom` edges, [n, 4]: width = right - left, right and bottom up to the image's size."""
        x1, y1, x2, y2 = self.xyxy.unbind(-1)
        return torch.stack([x1, y1, x2 + 1, y2 + 1], dim=-1)

    def area(self) -> Tensor:
        """Width times height in square pixels, [n]; a box of one pixel has area 1."""
        x1, y1, x2, y2 = self.xyxy.unbind(-1)
        return (x2 - x1 + 1) * (y2 - y1 + 1)

    def resize(self, size: tuple[int, int]) -> Boxes:
        """The boxes in the image resized to `size` (height, width): corners times the ratio of each axis.

        The "+ 1" of the inclusive convention is not scaled (kept: released weights, QUIRKS 23).
        """
        ratio_y, ratio_x = (float(new) / float(old) for new, old in zip(size, self.size, strict=True))
        x1, y1, x2, y2 = self.xyxy.unbind(-1)
        return Boxes(torch.stack([x1 * ratio_x, y1 * ratio_y, x2 * ratio_x, y2 * ratio_y], dim=-1), size)

    def hflip(self) -> Boxes:
        """The boxes in the image mirrored left to right: x -> width - x - 1."""
        width = self.size[1]
        x1, y1, x2, y2 = self.xyxy.unbind(-1)
        return Boxes(torch.stack([width - x2 - 1, y1, width - x1 - 1, y2], dim=-1), self.size)

    def vflip(self) -> Boxes:
        """The boxes in the image mirrored top to bottom: y -> height - y.

        Without the "- 1" of `hflip`, as recorded from the original (QUIRKS 24). Training and testing never call it.
        """
        height = self.size[0]
        x1, y1, x2, y2 = self.xyxy.unbind(-1)
        return Boxes(torch.stack([x1, height - y2, x2, height - y1], dim=-1), self.size)

    def clip(self) -> Boxes:
        """Corners limited to the image. No box is removed; `keep_mask` says which are left with an area."""
        height, width = self.size
        x1, y1, x2, y2 = self.xyxy.unbind(-1)
        x1, x2 = x1.clamp(0, width - 1), x2.clamp(0, width - 1)
        y1, y2 = y1.clamp(0, height - 1), y2.clamp(0, height - 1)
        return Boxes(torch.stack([x1, y1, x2, y2], dim=-1), self.size)

    def keep_mask(self) -> Tensor:
        """bool [n]: boxes whose right corner lies right of and below the left one (call it after `clip`).

        A box of exactly one pixel (x1 == x2) counts as empty, as in the original.
        """
        x1, y1, x2, y2 = self.xyxy.unbind(-1)
        return (x2 > x1) & (y2 > y1)

    def extend(self, scale: tuple[float, float]) -> Boxes:
        """Boxes enlarged by `scale` (of the width, of the height), half on each side, then clipped to the image.

        The number of boxes never changes (QUIRKS 25).
        """
        scale_x, scale_y = scale
        x1, y1, x2, y2 = self.xyxy.unbind(-1)
        dx = (x2 - x1 + 1) * scale_x * 0.5
        dy = (y2 - y1 + 1) * scale_y * 0.5
        return Boxes(torch.stack([x1 - dx, y1 - dy, x2 + dx, y2 + dy], dim=-1), self.size).clip()

    def jitter(self, uniforms: Tensor, *, outwards: tuple[float, float], inwards: tuple[float, float]) -> Boxes:
        """Boxes with every edge moved by its own random amount (augmentation of training regions).

        Args:
            uniforms: float32 [n, 4] in [0, 1), draws for x1, y1, x2, y2: 0 moves the left and upper edge furthest
                outwards and the right and lower edge furthest inwards.
            outwards: largest move out of the box, as a fraction of (width, height).
            inwards: largest move into the box, as a fraction of (width, height).

        Returns:
            Boxes inside the image, x2 >= x1 + 1 and y2 >= y1 + 1 (images of at least 2 x 2 pixels).
        """
        if uniforms.shape != self.xyxy.shape:
            raise ValueError(f"uniforms: got shape {tuple(uniforms.shape)}, expected {tuple(self.xyxy.shape)}")
        height, width = self.size
        x1, y1, x2, y2 = self.xyxy.unbind(-1)
        w, h = x2 - x1 + 1, y2 - y1 + 1
        u = uniforms.to(self.xyxy)
        (out_x, out_y), (in_x, in_y) = outwards, inwards
        x1 = (x1 + (u[:, 0] * (out_x + in_x) - out_x) * w).clamp(0, max(width - 2, 0))
        y1 = (y1 + (u[:, 1] * (out_y + in_y) - out_y) * h).clamp(0, max(height - 2, 0))
        x2 = (x2 + (u[:, 2] * (out_x + in_x) - in_x) * w).clamp(max=width - 1).maximum(x1 + 1)
        y2 = (y2 + (u[:, 3] * (out_y + in_y) - in_y) * h).clamp(max=height - 1).maximum(y1 + 1)
        return Boxes(torch.stack([x1, y1, x2, y2], dim=-1), self.size)

    def top_k(self, k: int, scores: Tensor | None = None) -> Tensor:
        """Rows of the k boxes with the highest scores, int64 [min(k, n)], in ascending order of the score.

        Without scores the first k rows, in their order (QUIRKS 16).
        """
        if scores is None:
            return torch.arange(min(k, len(self)), device=self.xyxy.device)
        if scores.shape != (len(self),):
            raise ValueError(f"scores: got shape {tuple(scores.shape)}, expected ({len(self)},)")
        return torch.argsort(scores, stable=True)[max(len(self) - k, 0) :]
