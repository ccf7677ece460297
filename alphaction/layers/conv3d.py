"""Convolution over time and space."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d`, right in bfloat16 on processors, too.

    There the gradient of the weights is rubbish or NaN (torch 2.15, oneDNN) where a kernel sees more frames than the
    clip has and the padding in time is left to the convolution: so the frames are padded beforehand.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, T, H, W] to [N, C', T', H', W']."""
        if x.device.type != "cpu" or x.shape[2] >= self.kernel_size[0] or not _in_bfloat16(x):
            return super().forward(x)
        if isinstance(self.padding, str):
            raise ValueError(f"padding: got {self.padding!r}, expected numbers")
        frames, height, width = self.padding
        x = F.pad(x, (0, 0, 0, 0, frames, frames))
        return F.conv3d(x, self.weight, self.bias, self.stride, (0, height, width), self.dilation, self.groups)


def _in_bfloat16(x: Tensor) -> bool:
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16
    return x.dtype == torch.bfloat16
