"""Arithmetic without a policy of its own: convolution, frozen batch norm, RoI operators over clips, focal losses."""

from alphaction.layers.conv3d import Conv3d
from alphaction.layers.focal_loss import sigmoid_focal_loss, softmax_focal_loss
from alphaction.layers.frozen_bn import FrozenBatchNorm
from alphaction.layers.roi_align_3d import roi_align_3d, roi_pool_3d

__all__ = ["Conv3d", "FrozenBatchNorm", "roi_align_3d", "roi_pool_3d", "sigmoid_focal_loss", "softmax_focal_loss"]
