"""The call of oneDNN's convolution that its forward pass and its gradients share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

Triple = tuple[int, int, int]


class Geometry(NamedTuple):
    """How a kernel moves: frames, height, width."""

    stride: Triple
    padding: Triple
    dilation: Triple


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """The convolution, in the memory format of x."""
    stride, padding, dilation = geometry
    return torch.mkldnn_convolution(x, weight, bias, padding, stride, dilation, 1)
