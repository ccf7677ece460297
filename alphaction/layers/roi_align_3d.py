"""Region of interest operators on clips: each frame is pooled with the same box.

Shapes: N clips, C channels, T frames, H x W cells, R regions over all clips, h x w output bins.

Both operators treat channels independently, so the frames of a clip travel as additional channels through one call of
torchvision's operator. Without `aligned` there is no half-pixel shift and a minimal region of one cell: the convention
that AlphAction's released weights were trained with.
"""

from __future__ import annotations

from torch import Tensor
from torchvision import ops


def roi_align_3d(
    features: Tensor,
    rois: Tensor,
    *,
    output_size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int = 0,
    aligned: bool = False,
) -> Tensor:
    """Bilinear samples averaged per bin.

    Args:
        features: [N, C, T, H, W].
        rois: [R, 5], rows of (clip index, x1, y1, x2, y2) in pixels of the clip.
        output_size: bins as (h, w).
        spatial_scale: cells per pixel, 1/16 for SlowFast.
        sampling_ratio: samples per bin and axis; 0 takes as many as the bin has cells.
        aligned: a cell's value lies in its middle (shift by half a cell), and regions may be smaller than a cell.

    Returns:
        [R, C, T, h, w].
    """
    frames_as_channels = features.flatten(1, 2)
    pooled = ops.roi_align(frames_as_channels, rois, output_size, spatial_scale, sampling_ratio, aligned=aligned)
    return pooled.unflatten(1, features.shape[1:3])


def roi_pool_3d(features: Tensor, rois: Tensor, *, output_size: tuple[int, int], spatial_scale: float) -> Tensor:
    """Largest cell per bin, 0 for an empty bin; arguments and result as in `roi_align_3d`."""
    pooled = ops.roi_pool(features.flatten(1, 2), rois, output_size, spatial_scale)
    return pooled.unflatten(1, features.shape[1:3])
