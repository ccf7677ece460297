"""Boxes of one image or clip, in one convention.

Coordinates are `x1, y1, x2, y2` in pixels, both corners inclusive: width = x2 - x1 + 1 (the convention that the
released weights were trained with; `shared/parity`: golden `boxes`). Everything that needs the "+ 1" is in this file.
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
