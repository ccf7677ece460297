"""One feature per box from the backbone's maps (paper, section 3.1).

Shapes: N clips, C channels of all pathways together, T frames, H x W cells, R boxes over all clips, S bins per side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from alphaction.layers import roi_align_3d, roi_pool_3d
from alphaction.structures import Boxes


class RoiPooler3d:
    """Mean over time, S x S bins per box, then the largest bin of each channel. Has no weights.

    Args:
        kind: "align3d" samples bilinearly, "pooling3d" takes the largest cell of each bin.
        output_size: S.
        spatial_scale: cells per pixel.
        sampling_ratio: samples per bin and axis ("align3d"); 0 = adaptive.
        aligned: shifted by half a cell ("align3d"), see `roi_align_3d`.
        mean_before_pooler: the temporal mean is taken of the maps (cheap); False: of the pooled bins.
    """

    def __init__(
        self,
        *,
        kind: Literal["align3d", "pooling3d"] = "align3d",
        output_size: int = 7,
        spatial_scale: float = 1 / 16,
        sampling_ratio: int = 0,
        aligned: bool = False,
        mean_before_pooler: bool = True,
    ) -> None:
        if kind not in ("align3d", "pooling3d"):
            raise ValueError(f"pooler: got kind {kind!r}, expected 'align3d' or 'pooling3d'")
        self.kind = kind
        self.output_size = (output_size, output_size)
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned
        self.mean_before_pooler = mean_before_pooler

    def __call__(self, maps: Sequence[Tensor | None], boxes: Sequence[Boxes]) -> Tensor:
        """Features [R, C, 1, 1, 1]; arguments as in `bins`."""
        return self.of_rois(maps, rois_of(boxes))

    def of_rois(self, maps: Sequence[Tensor | None], rois: Tensor) -> Tensor:
        """Features [R, C, 1, 1, 1] of rois [R, 5], rows of (clip index, x1, y1, x2, y2); maps as in `bins`."""
        bins = self._bins(maps, rois)
        return bins.flatten(2).max(dim=2).values[:, :, None, None, None]

    def bins(self, maps: Sequence[Tensor | None], boxes: Sequence[Boxes]) -> Tensor:
        """Features per bin.

        Args:
            maps: [N, C_p, T_p, H, W] per pathway, in channel order; None for a pathway that is off.
            boxes: per clip, pixels of the resized clip.

        Returns:
            [R, C, 1, S, S].
        """
        return self._bins(maps, rois_of(boxes))

    def _bins(self, maps: Sequence[Tensor | None], rois: Tensor) -> Tensor:
        return torch.cat([self._pool(features, rois) for features in maps if features is not None], dim=1)

    def _pool(self, features: Tensor, rois: Tensor) -> Tensor:
        # In float32 always: half precision would round box corners to several pixels.
        if self.mean_before_pooler:
            features = features.mean(dim=2, keepdim=True, dtype=torch.float32)
        else:
            features = features.float()
        if self.kind == "align3d":
            pooled = roi_align_3d(
                features,
                rois,
                output_size=self.output_size,
                spatial_scale=self.spatial_scale,
                sampling_ratio=self.sampling_ratio,
                aligned=self.aligned,
            )
        else:
            pooled = roi_pool_3d(features, rois, output_size=self.output_size, spatial_scale=self.spatial_scale)
        return pooled if self.mean_before_pooler else pooled.mean(dim=2, keepdim=True)


def rois_of(boxes: Sequence[Boxes]) -> Tensor:
    """[R, 5], rows of (clip index, x1, y1, x2, y2)."""
    rows = []
    for clip, clip_boxes in enumerate(boxes):
        xyxy = clip_boxes.xyxy
        rows.append(torch.cat([xyxy.new_full((len(clip_boxes), 1), clip), xyxy], dim=1))
    return torch.cat(rows)
