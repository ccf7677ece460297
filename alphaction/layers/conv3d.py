"""Convolution over time and space, alone or with the batch norm, sum and ReLU that follow it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alphaction.layers.folding import ConstantNorm, FoldedCache, folded, is_constant
from alphaction.layers.forms import arithmetic_of, form_of, is_exporting
from alphaction.layers.onednn import columns_at_once, convolve, infer, made_ready
from alphaction.layers.onednn_call import Geometry, Triple


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d` in the form that is fastest where it runs (`forms.form_of`), one group, zero padding.

    Attributes:
        plain: computed as written, by `torch.nn.Conv3d`, with a batch norm of its own after it.
    """

    stride: Triple
    padding: Triple
    dilation: Triple
    plain = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Triple,
        *,
        stride: int | Triple = 1,
        padding: int | Triple = 0,
        dilation: int | Triple = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, dilation=dilation, bias=bias
        )
        self._ready: FoldedCache[Any] = FoldedCache()

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, T, H, W] to [N, C', T', H', W']."""
        return self._plain(x) if self.plain or is_exporting() else self._convolve(x, None)

    def normed(self, x: Tensor, bn: nn.Module, *, add: Tensor | None = None, relu: bool = False) -> Tensor:
        """bn(convolution(x)), plus `add`, [N, C', T', H', W'], then ReLU; a constant batch norm costs nothing.

        Args:
            bn: batch norm of C' channels, or any module.
        """
        if self.plain or is_exporting():
            y = bn(self._plain(x))
            y = y if add is None else y + add
            return y.relu_() if relu else y
        if is_constant(bn):
            return self._convolve(x, bn, add=add, relu=relu)
        return _finished(bn(self._convolve(x, None)), add, relu=relu)

    def _convolve(self, x: Tensor, bn: ConstantNorm | None, *, add: Tensor | None = None, relu: bool = False) -> Tensor:
        """ReLU(convolution(x) + add), with a constant batch norm in the convolution."""
        dtype = arithmetic_of(x)
        form = form_of(x, dtype)
        x = x.to(dtype)
        geometry = Geometry(self.stride, self.padding, self.dilation)
        if form == "onednn" and not torch.is_grad_enabled():
            columns = columns_at_once(x.shape, self.weight.shape, geometry)
            make = partial(made_ready, geometry=geometry, columns=columns, shape=tuple(x.shape))
            ready = self._ready.get(self, bn, dtype=dtype, form=(form, columns), make=make)
            return infer(x, ready, add=add, relu=relu)
        weight, bias = self._weights(bn, dtype)
        if form == "onednn":
            y = convolve(x, weight, bias, geometry)
        else:
            x = x.contiguous(memory_format=torch.channels_last_3d) if form == "library_last" else x
            y = self._library(x, weight, bias)
        return _finished(y, add, relu=relu)

    def _weights(self, bn: ConstantNorm | None, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        if not torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return self._ready.get(self, bn, dtype=dtype, form="weights", make=_pair)
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            self._ready.clear()  # of no use in training, and would keep memory
        weight, bias = folded(self, bn)
        return weight.to(dtype), None if bias is None else bias.to(dtype)

    def _plain(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        if weight.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
            weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
        return self._library(x, weight, bias)

    def _library(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        frames, height, width = self.padding
        if x.device.type == "cpu" and x.shape[2] < self.kernel_size[0] and arithmetic_of(x) is torch.bfloat16:
            # The gradient of the weights is rubbish or NaN there (torch 2.15, oneDNN) where a kernel sees more frames
            # than the clip has and the padding in time is left to the convolution.
            x, frames = F.pad(x, (0, 0, 0, 0, frames, frames)), 0
        return F.conv3d(x, weight, bias, self.stride, (frames, height, width), self.dilation)

    def _apply(self, fn: Any, recurse: bool = True) -> nn.Module:
        self._ready.clear()  # moved or cast: the old form is of no use, and would keep the old weights alive
        return super()._apply(fn, recurse)

    def train(self, mode: bool = True) -> Conv3d:
        self._ready.clear()  # a test begins with what the weights are then, however they were changed
        return super().train(mode)


def _finished(y: Tensor, add: Tensor | None, *, relu: bool) -> Tensor:
    """ReLU(y + add), in y's place: neither convolution nor batch norm needs its result for the gradients."""
    if add is not None:
        y = y.add_(add) if y.dtype == add.dtype else y + add
    return y.relu_() if relu else y


def _pair(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    return weight, bias
