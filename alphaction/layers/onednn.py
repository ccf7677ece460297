"""Convolutions over time and space on x86 processors: oneDNN on channels-last memory.

PyTorch takes oneDNN for some shapes and numbers of threads and a much slower loop for the rest; here it is asked for
always. Shapes: N clips, C channels, T frames, H x W cells.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from alphaction.layers.onednn_call import Geometry
from alphaction.layers.onednn_gradients import Convolution


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolution [N, C, T, H, W] -> [N, C', T', H', W'], with gradients; the result is channels-last.

    Args:
        x, weight, bias: float32 or bfloat16, all alike.
    """
    x = x.contiguous(memory_format=torch.channels_last_3d)
    columns = columns_at_once(x.shape, weight.shape, geometry)
    if columns == 2:
        weight, bias, geometry = _paired(weight, bias, geometry)
    return _apart(Convolution.apply(x, weight, bias, geometry), columns)


class Ready(NamedTuple):
    """A convolution as inference takes it.

    Attributes:
        weight: in the order in which oneDNN reads it (not to be used otherwise).
        columns: of the result that one place of the kernel gives.
    """

    weight: Tensor
    bias: Tensor | None
    geometry: Geometry
    columns: int


def made_ready(
    weight: Tensor, bias: Tensor | None, geometry: Geometry, *, columns: int, shape: tuple[int, ...]
) -> Ready:
    """For `infer`.

    Args:
        columns: `columns_at_once` of the input.
        shape: that of the input for which the order of the weights is chosen; others are right, too.
    """
    if columns == 2:
        weight, bias, geometry = _paired(weight, bias, geometry)
    stride, padding, dilation = geometry
    weight = torch.ops.mkldnn._reorder_convolution_weight(
        weight.contiguous(memory_format=torch.channels_last_3d), padding, stride, dilation, 1, shape
    )
    return Ready(weight, bias, geometry, columns)


def infer(x: Tensor, ready: Ready, *, add: Tensor | None = None, relu: bool = False) -> Tensor:
    """ReLU(convolution(x) + add) in one pass over the memory, without gradients."""
    x = x.contiguous(memory_format=torch.channels_last_3d)
    weight, bias, (stride, padding, dilation), columns = ready
    unary = "relu" if relu else "none"
    if add is None:
        y = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, padding, stride, dilation, 1, unary, [], "")
        return _apart(y, columns)
    if columns == 2 or add.dtype != x.dtype:
        y = infer(x, ready) + add
        return y.relu_() if relu else y
    add = add.contiguous(memory_format=torch.channels_last_3d)
    return torch.ops.mkldnn._convolution_pointwise.binary(
        x, add, weight, bias, padding, stride, dilation, 1, "add", 1.0, unary if relu else None, [], ""
    )


def columns_at_once(shape: tuple[int, ...], kernel: tuple[int, ...], geometry: Geometry) -> int:
    """2 for eight channels from a large kernel, the fast pathway's stem: AVX-512 would leave half its lanes empty.

    Args:
        shape: of the input, [N, C, T, H, W].
        kernel: [C', C, k, h, w].
    """
    if kernel[0] > 8 or kernel[2] == 1 or kernel[4] < 7 or geometry.dilation[2] > 1:
        return 1
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return 1
    width = (shape[4] + 2 * geometry.padding[2] - kernel[4]) // geometry.stride[2] + 1
    return 2 if width % 2 == 0 else 1


def _paired(weight: Tensor, bias: Tensor | None, geometry: Geometry) -> tuple[Tensor, Tensor | None, Geometry]:
    """Two neighbouring columns of the result as channels of one: 9/7 of the work for a kernel of 7, in full lanes."""
    (frames, rows, step), padding, dilation = geometry
    both = None if bias is None else torch.cat([bias, bias])
    pair = torch.cat([F.pad(weight, (0, step)), F.pad(weight, (step, 0))])
    return pair, both, Geometry((frames, rows, 2 * step), padding, dilation)


def _apart(y: Tensor, columns: int) -> Tensor:
    """The columns in their places: in channels-last memory [.., W' / 2, 2 x C'] lies as [.., W', C'] should."""
    if columns == 1:
        return y
    y = y.permute(0, 2, 3, 4, 1).contiguous()
    return y.unflatten(4, (2, -1)).flatten(3, 4).permute(0, 4, 1, 2, 3)
