"""What the pathways are built of: normalisation, convolution with it, the bottleneck residual block.

Shapes: N clips, C channels, T frames, H x W cells. Everything maps [N, C, T, H, W] to [N, C', T, H', W'].
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from alphaction.layers import Conv3d, FrozenBatchNorm


@dataclass(frozen=True)
class BatchNormOptions:
    """How a batch norm is made.

    Attributes:
        frozen: constants from the weight file instead of batch statistics and learned terms.
        eps, momentum: as in `torch.nn.BatchNorm3d`.
        last_gamma: initial weight of the last batch norm in a residual branch; 0 lets a fresh block begin as the
            identity (Goyal et al., 2017).
    """

    frozen: bool = False
    eps: float = 1e-5
    momentum: float = 0.1
    last_gamma: float = 0.0

    def make(self, channels: int) -> FrozenBatchNorm | nn.BatchNorm3d:
        if self.frozen:
            return FrozenBatchNorm(channels, eps=self.eps)
        return nn.BatchNorm3d(channels, eps=self.eps, momentum=self.momentum)


def he_initialised(conv: Conv3d) -> Conv3d:
    """The convolution with fresh weights: He et al. (2015), normal, fan-in; bias 0."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class ConvBn(nn.Module):
    """Convolution without bias, then batch norm; "same" padding."""

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        *,
        bn: BatchNormOptions,
        kernel: tuple[int, int, int] = (1, 1, 1),
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        """Args: `kernel` is (t, h, w); `stride` and `dilation` act on h and w, never on time."""
        super().__init__()
        padding = (kernel[0] // 2, dilation * (kernel[1] // 2), dilation * (kernel[2] // 2))
        self.conv = he_initialised(
            Conv3d(
                dim_in,
                dim_out,
                kernel,
                stride=(1, stride, stride),
                padding=padding,
                dilation=(1, dilation, dilation),
                bias=False,
            )
        )
        self.bn = bn.make(dim_out)

    def forward(self, x: Tensor, *, add: Tensor | None = None, relu: bool = False) -> Tensor:
        """Args: `add` is added to the result, then `relu` cuts it off at 0."""
        return self.conv.normed(x, self.bn, add=add, relu=relu)


class Bottleneck(nn.Module):
    """t x 1 x 1, 1 x 3 x 3, 1 x 1 x 1: narrows, looks around, widens."""

    def __init__(
        self,
        dim_in: int,
        dim_inner: int,
        dim_out: int,
        *,
        temporal_kernel: int,
        stride: int,
        dilation: int,
        bn: BatchNormOptions,
    ) -> None:
        super().__init__()
        self.conv1 = ConvBn(dim_in, dim_inner, kernel=(temporal_kernel, 1, 1), bn=bn)
        self.conv2 = ConvBn(dim_inner, dim_inner, kernel=(1, 3, 3), stride=stride, dilation=dilation, bn=bn)
        self.conv3 = ConvBn(dim_inner, dim_out, bn=bn)
        if not bn.frozen:
            nn.init.constant_(self.conv3.bn.weight, bn.last_gamma)

    def forward(self, x: Tensor, *, add: Tensor) -> Tensor:
        """ReLU(bottleneck(x) + add)."""
        return self.conv3(self.conv2(self.conv1(x, relu=True), relu=True), add=add, relu=True)


class ResBlock(nn.Module):
    """ReLU(bottleneck(x) + shortcut(x)); the shortcut is a convolution where the shape changes."""

    def __init__(
        self,
        dim_in: int,
        dim_inner: int,
        dim_out: int,
        *,
        temporal_kernel: int,
        stride: int,
        dilation: int,
        bn: BatchNormOptions,
    ) -> None:
        super().__init__()
        self.btnk = Bottleneck(
            dim_in, dim_inner, dim_out, temporal_kernel=temporal_kernel, stride=stride, dilation=dilation, bn=bn
        )
        same_shape = dim_in == dim_out and stride == 1
        self.shortcut = None if same_shape else ConvBn(dim_in, dim_out, stride=stride, bn=bn)

    def forward(self, x: Tensor) -> Tensor:
        return self.btnk(x, add=x if self.shortcut is None else self.shortcut(x))
