"""The gradients of convolutions over time and space on x86 processors, in the forms that oneDNN computes quickly.

Asked for the gradients of long thin kernels as such it takes up to three times as long. Shapes: N clips, C channels, T
frames, H x W cells, k taps in time; all memory is channels-last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from alphaction.layers.onednn_call import Geometry, forward

# Below so many channels on either side a matrix product is slower than oneDNN's gradient of a 1 x 1 convolution.
_NARROW = 32


class Convolution(torch.autograd.Function):
    """oneDNN's convolution of channels-last x, weight, bias or None and `Geometry`, with the gradients below."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return forward(x, weight, bias, geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        grad = grad.contiguous(memory_format=torch.channels_last_3d)
        input_grad, weight_grad = _gradients(grad, x, weight, ctx.geometry, of_x=of_x, of_weight=of_weight)
        return input_grad, weight_grad, grad.sum(dim=(0, 2, 3, 4)) if of_bias else None, None


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, *, of_x: bool, of_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients with respect to x and weight, where asked for."""
    stride, padding, dilation = geometry
    mask = (of_x, of_weight)
    if weight.shape[3:] == (1, 1) and stride[1:] == (1, 1) and padding[1:] == (0, 0):
        return (
            _time_input_gradient(grad, x, weight, geometry) if of_x else None,
            _time_weight_gradient(grad, x, weight, geometry) if of_weight else None,
        )
    if weight.shape[2] == 1 and stride[0] == 1 and padding[0] == 0:
        input_grad, weight_grad = _library_gradients(
            _frames(grad), _frames(x), weight.squeeze(2), stride[1:], padding[1:], dilation[1:], mask
        )
        return (
            None if input_grad is None else input_grad.unflatten(0, (len(x), -1)).transpose(1, 2),
            None if weight_grad is None else weight_grad.unsqueeze(2),
        )
    # The gradient of the weights is rubbish in bfloat16 (torch 2.15) where a kernel sees more frames than there are.
    room = padding[0] if x.shape[2] < weight.shape[2] else 0
    padded = F.pad(x, (0, 0, 0, 0, room, room))
    input_grad, weight_grad = _library_gradients(
        grad, padded, weight, stride, (padding[0] - room, *padding[1:]), dilation, mask
    )
    return None if input_grad is None else input_grad.narrow(2, room, x.shape[2]), weight_grad


def _library_gradients(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    mask: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """PyTorch's own, of a convolution of two or three dimensions."""
    none = (0,) * len(stride)
    input_grad, weight_grad, _ = torch.ops.aten.convolution_backward(
        grad, x, weight, None, stride, padding, dilation, False, none, 1, (*mask, False)
    )
    return input_grad, weight_grad


def _frames(x: Tensor) -> Tensor:
    """[N, C, T, H, W] -> [N T, C, H, W]: of channels-last memory a view."""
    return x.transpose(1, 2).flatten(0, 1)


class _Tap(NamedTuple):
    """A frame of a kernel in time, and the frames that it brings together."""

    number: int
    inputs: slice
    outputs: slice


def _taps(frames_in: int, frames_out: int, kernel: int, geometry: Geometry) -> Iterator[_Tap]:
    step, padding, dilation = geometry.stride[0], geometry.padding[0], geometry.dilation[0]
    for number in range(kernel):
        offset = number * dilation - padding  # output frame t reads input frame t * step + offset
        first, last = max(0, -(offset // step)), min(frames_out - 1, (frames_in - 1 - offset) // step)
        if first <= last:
            inputs = slice(first * step + offset, last * step + offset + 1, step)
            yield _Tap(number, inputs, slice(first, last + 1))


def _time_input_gradient(grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Of a k x 1 x 1 kernel: the convolution of `grad` with the kernel turned round, as quick as the forward pass."""
    kernel, dilation = weight.shape[2], geometry.dilation[0]
    room = dilation * (kernel - 1) - geometry.padding[0]
    turned = weight.transpose(0, 1)
    if geometry.stride[0] == 1 and room >= 0:
        turned = turned.flip(2) if kernel > 1 else turned
        return forward(grad, turned, None, Geometry((1, 1, 1), (room, 0, 0), (dilation, 1, 1)))
    result = torch.zeros_like(x)  # channels-last as x
    point = Geometry((1, 1, 1), (0, 0, 0), (1, 1, 1))
    for number, inputs, outputs in _taps(x.shape[2], grad.shape[2], kernel, geometry):
        result[:, :, inputs] += forward(grad[:, :, outputs], turned[:, :, number : number + 1], None, point)
    return result


def _time_weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Of a k x 1 x 1 kernel: per tap the product of all cells of `grad` with the cells of `x` that it met."""
    # float32: the clips' parts are added up.
    total = torch.zeros(weight.shape, dtype=torch.float32)
    whole = weight.shape[2] == 1 and x.shape[2] == grad.shape[2]
    groups = [slice(None)] if whole else [slice(n, n + 1) for n in range(len(x))]
    for number, inputs, outputs in _taps(x.shape[2], grad.shape[2], weight.shape[2], geometry):
        for clips in groups:
            total[:, :, number, 0, 0] += _product(grad[clips, :, outputs], x[clips, :, inputs])
    return total.to(weight.dtype)


def _product(grad: Tensor, x: Tensor) -> Tensor:
    """[N, C', T, H, W] and [N, C, T, H, W] -> [C', C], summed over everything else."""
    if min(grad.shape[1], x.shape[1]) >= _NARROW:
        rows, columns = (part.permute(0, 2, 3, 4, 1).flatten(0, 3) for part in (grad, x))
        return rows.t() @ columns
    weight = x.new_empty(grad.shape[1], x.shape[1], 1, 1)  # only its shape is read
    _, product = _library_gradients(_frames(grad), _frames(x), weight, (1, 1), (0, 0), (1, 1), (False, True))
    assert product is not None  # the mask asks for it
    return product.flatten(1)
