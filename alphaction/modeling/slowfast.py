"""SlowFast networks (Feichtenhofer et al., 2019) as the paper's backbone.

        slow  [N, 3, T, H, W]      stem ─(+)─ res1 ─(+)─ res2 ─(+)─ res3 ─(+)─ res4 ─ [N, 32 w, T, H/16, W/16]
                                          │          │          │          │
        fast  [N, 3, a T, H, W]    stem ──┴── res1 ──┴── res2 ──┴── res3 ──┴── res4 ─ [N, 32 b w, a T, H/16, W/16]

Shapes: N clips, T frames of the slow pathway, a (ALPHA) fast frames per slow frame, w channels after the slow stem,
b (BETA) the ratio of fast to slow channels. (+): a lateral connection samples the fast features at the slow frames and
appends them to the slow channels. The last stage dilates instead of striding. The stem's pooling has no padding, so a
side of 256 pixels has 63 cells after it. `Geometry` and `LateralOptions` have what other projects' networks do instead.

Module names are those of the released weight files: `res_nl1.res_0.btnk.conv1.conv`, `Tconv1.conv`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from alphaction.layers import Conv3d
from alphaction.modeling.blocks import BatchNormOptions, ResBlock, he_initialised
from alphaction.modeling.nonlocal_block import NonLocalBlock, NonLocalOptions
from alphaction.modeling.recompute import recomputed

NUM_STAGES = 4
_EXPANSION = 4  # output channels of a residual block per inner channel
_STRIDES = (1, 2, 2)  # the last stage's is in `Geometry`
_SLOW_KERNELS = (1, 1, 3, 3)  # temporal, per stage
_FAST_KERNELS = (3, 3, 3, 3)
_LATERAL_RATIO = 2  # lateral channels per fast channel
_GROUP_FRAMES = 4


@dataclass(frozen=True)
class Body:
    """A row of the table of networks.

    Attributes:
        depths: residual blocks per stage.
        width: channels after the slow pathway's stem; its stages have 4, 8, 16 and 32 times as many.
        conv4_nonlocal_every: every how many blocks of the third stage a non-local block follows, where asked for
            (three of them in either ResNet).
    """

    depths: tuple[int, int, int, int]
    width: int
    conv4_nonlocal_every: int = 2


BODIES = {
    "Slowfast-Resnet50": Body(depths=(3, 4, 6, 3), width=64),
    "Slowfast-Resnet101": Body(depths=(3, 4, 23, 3), width=64, conv4_nonlocal_every=7),
    # For small data and processors, from scratch; with BETA 0.5 its fast pathway is as wide as the others'.
    "Slowfast-Tiny": Body(depths=(1, 1, 1, 1), width=16),
}


@dataclass(frozen=True)
class Geometry:
    """Where networks of one body differ; the defaults are AlphAction's.

    Attributes:
        pool_padding: cells around the map for the stem's pooling, 0 or 1.
        last_stride, last_dilation: of the last stage, in height and width.
        conv4_temporal_blocks: so many blocks of the third stage, the first ones, see more than one frame; 0: all.
    """

    pool_padding: int = 0
    last_stride: int = 1
    last_dilation: int = 2
    conv4_temporal_blocks: int = 0


@dataclass(frozen=True)
class LateralOptions:
    """What a lateral connection consists of; the defaults are AlphAction's.

    Attributes:
        kernel: frames that its convolution sees, an odd number.
        bias: whether the convolution has one.
        norm, relu: whether a batch norm and a ReLU follow.
    """

    kernel: int = 5
    bias: bool = True
    norm: bool = False
    relu: bool = False


@dataclass(frozen=True)
class NonLocalPlaces:
    """Where a pathway has non-local blocks: `conv3` the second stage, `conv4` the third; `group_conv3` attends within
    runs of four frames in the second stage."""

    conv3: bool = False
    conv4: bool = False
    group_conv3: bool = False


class FeatureMaps(NamedTuple):
    """The backbone's result; None for a pathway that is off.

    slow: [N, Cs, T, H/16, W/16]; fast: [N, Cf, a T, H/16, W/16].
    """

    slow: Tensor | None
    fast: Tensor | None


class LateralConnection(nn.Module):
    """From fast to slow: one convolution over time, strided to the slow frames, and what `LateralOptions` adds."""

    def __init__(self, dim: int, *, alpha: int, options: LateralOptions, bn: BatchNormOptions) -> None:
        super().__init__()
        dim_out, frames = _LATERAL_RATIO * dim, options.kernel
        self.conv = he_initialised(
            Conv3d(dim, dim_out, (frames, 1, 1), stride=(alpha, 1, 1), padding=(frames // 2, 0, 0), bias=options.bias)
        )
        self.bn = bn.make(dim_out) if options.norm else None
        self.relu = options.relu

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, a T, H, W] to [N, 2 C, T, H, W]."""
        if self.bn is not None:
            return self.conv.normed(x, self.bn, relu=self.relu)
        return self.conv(x).relu_() if self.relu else self.conv(x)


class Pathway(nn.Module):
    """One of the two networks: a stem and four residual stages.

    Args:
        width: channels after the stem.
        lateral_dims: channels that are appended before each stage (0: none).
        body: blocks per stage.
        stem_kernel: frames that the stem's convolution sees.
        temporal_kernels: frames that the first convolution of each block sees, per stage.
        bn: batch norm of the residual network.
        nonlocal_places: where non-local blocks stand.
        nonlocal_options: how they work.
        geometry: strides, dilation and padding.
        recompute: in training, activations within blocks are computed again in the backward pass instead of kept.
    """

    def __init__(
        self,
        *,
        width: int,
        lateral_dims: tuple[int, ...],
        body: Body,
        stem_kernel: int,
        temporal_kernels: tuple[int, ...],
        bn: BatchNormOptions,
        nonlocal_places: NonLocalPlaces,
        nonlocal_options: NonLocalOptions,
        geometry: Geometry,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.recompute = recompute
        self.conv1 = he_initialised(
            Conv3d(3, width, (stem_kernel, 7, 7), stride=(1, 2, 2), padding=(stem_kernel // 2, 3, 3), bias=False)
        )
        self.bn1 = bn.make(width)
        edge = geometry.pool_padding
        self.maxpool1 = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, edge, edge))
        strides, dilations = (*_STRIDES, geometry.last_stride), (1, 1, 1, geometry.last_dilation)
        nonlocal_every = (
            0,
            2 if nonlocal_places.conv3 else 0,
            body.conv4_nonlocal_every if nonlocal_places.conv4 else 0,
            0,
        )
        dims = [width]
        for i in range(NUM_STAGES):
            inner = width * 2**i
            stage = _make_stage(
                dims[-1] + lateral_dims[i],
                inner,
                depth=body.depths[i],
                temporal_kernel=temporal_kernels[i],
                temporal_blocks=geometry.conv4_temporal_blocks if i == 2 else 0,
                stride=strides[i],
                dilation=dilations[i],
                bn=bn,
                nonlocal_every=nonlocal_every[i],
                nonlocal_options=nonlocal_options,
                group_frames=_GROUP_FRAMES if nonlocal_places.group_conv3 and i == 1 else None,
            )
            self.add_module(f"res_nl{i + 1}", stage)
            dims.append(_EXPANSION * inner)
        self.dims = tuple(dims)  # channels after the stem and after each stage

    def stem(self, clip: Tensor) -> Tensor:
        """[N, 3, T, H, W] to [N, w, T, ~H/4, ~W/4]."""
        return self.maxpool1(self.conv1.normed(clip, self.bn1, relu=True))

    def stage(self, i: int, x: Tensor) -> Tensor:
        """Residual stage i = 1..4."""
        stage: nn.Sequential = getattr(self, f"res_nl{i}")
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return stage(x)
        for block in stage:
            x = recomputed(block, x)
        return x


def _make_stage(
    dim_in: int,
    dim_inner: int,
    *,
    depth: int,
    temporal_kernel: int,
    temporal_blocks: int,
    stride: int,
    dilation: int,
    bn: BatchNormOptions,
    nonlocal_every: int,
    nonlocal_options: NonLocalOptions,
    group_frames: int | None,
) -> nn.Sequential:
    """`depth` residual blocks, the first one strided, with a non-local block after every `nonlocal_every`-th."""
    stage = nn.Sequential()
    dim_out = _EXPANSION * dim_inner
    for i in range(depth):
        block = ResBlock(
            dim_in if i == 0 else dim_out,
            dim_inner,
            dim_out,
            temporal_kernel=temporal_kernel if not temporal_blocks or i < temporal_blocks else 1,
            stride=stride if i == 0 else 1,
            dilation=dilation,
            bn=bn,
        )
        stage.add_module(f"res_{i}", block)
        if nonlocal_every and (i + 1) % nonlocal_every == 0:
            attention = NonLocalBlock(dim_out, dim_out // 2, options=nonlocal_options, group_frames=group_frames)
            stage.add_module(f"nonlocal_{i}", attention)
    return stage


class SlowFast(nn.Module):
    """Two pathways with lateral connections, or one of them alone.

    Args:
        body: blocks and channels, a row of `BODIES`.
        alpha: fast frames per slow frame.
        beta: ratio of fast to slow channels.
        slow, fast: whether the pathway exists.
        bn: batch norm of the residual networks.
        slow_nonlocal, fast_nonlocal: where each pathway has non-local blocks.
        nonlocal_options: how non-local blocks work.
        lateral, geometry: where networks of other projects differ.
        recompute: less memory in training: only the blocks' inputs are kept for the backward pass, the rest is
            computed again there.
        plain: convolutions as written (`Conv3d.plain`).
        test_precision: arithmetic in evaluation mode without gradients, where not float32. Weights, input and result
            have the precision that they have.

    Raises:
        ValueError: no pathway, or channels that are not whole numbers.
    """

    def __init__(
        self,
        body: Body,
        *,
        alpha: int,
        beta: float = 0.125,
        slow: bool = True,
        fast: bool = True,
        bn: BatchNormOptions | None = None,
        slow_nonlocal: NonLocalPlaces | None = None,
        fast_nonlocal: NonLocalPlaces | None = None,
        nonlocal_options: NonLocalOptions | None = None,
        lateral: LateralOptions | None = None,
        geometry: Geometry | None = None,
        recompute: bool = False,
        plain: bool = False,
        test_precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.test_precision = test_precision
        if not (slow or fast):
            raise ValueError("slowfast: both pathways are off, expected at least one")
        fast_width = round(body.width * beta)
        if fast_width < 1 or fast_width != body.width * beta:
            raise ValueError(
                f"beta: got {beta}, which makes the fast pathway {body.width * beta:g} channels wide "
                f"({body.width} slow ones * beta), expected a whole number >= 1"
            )
        self.alpha = alpha
        bn = bn or BatchNormOptions()
        pathway = partial(
            Pathway,
            body=body,
            bn=bn,
            nonlocal_options=nonlocal_options or NonLocalOptions(),
            geometry=geometry or Geometry(),
            recompute=recompute,
        )
        fast_dims = (fast_width, *(_EXPANSION * fast_width * 2**i for i in range(NUM_STAGES - 1)))
        self.slow = self.fast = None
        if slow:
            self.slow = pathway(
                width=body.width,
                lateral_dims=tuple(_LATERAL_RATIO * dim if fast else 0 for dim in fast_dims),
                stem_kernel=1,
                temporal_kernels=_SLOW_KERNELS,
                nonlocal_places=slow_nonlocal or NonLocalPlaces(),
            )
        if fast:
            self.fast = pathway(
                width=fast_width,
                lateral_dims=(0,) * NUM_STAGES,
                stem_kernel=5,
                temporal_kernels=_FAST_KERNELS,
                nonlocal_places=fast_nonlocal or NonLocalPlaces(),
            )
            for i, dim in enumerate(fast_dims, start=1):
                connection = LateralConnection(dim, alpha=alpha, options=lateral or LateralOptions(), bn=bn)
                # Without a slow pathway nothing reads them; weight files hold them all the same.
                self.fast.add_module(f"Tconv{i}", connection.requires_grad_(slow))
        for module in self.modules():
            if isinstance(module, Conv3d):
                module.plain = plain

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of the maps that `forward` returns, slow first, without those that are None."""
        return tuple(pathway.dims[-1] for pathway in (self.slow, self.fast) if pathway is not None)

    def forward(self, slow: Tensor | None, fast: Tensor | None) -> FeatureMaps:
        """Feature maps of both pathways.

        Args:
            slow: normalised clip [N, 3, T, H, W]; ignored when the pathway is off.
            fast: normalised clip [N, 3, a T, H, W]; ignored when the pathway is off.
        """
        self._check_frames(slow, fast)
        if self.test_precision is torch.float32 or self.training or torch.is_grad_enabled():
            return self._maps(slow, fast)
        clips = [None if clip is None else clip.to(self.test_precision) for clip in (slow, fast)]
        return FeatureMaps(*(None if features is None else features.float() for features in self._maps(*clips)))

    def _maps(self, slow: Tensor | None, fast: Tensor | None) -> FeatureMaps:
        slow = None if self.slow is None or slow is None else self.slow.stem(slow)
        fast = None if self.fast is None or fast is None else self.fast.stem(fast)
        for i in range(1, NUM_STAGES + 1):
            if self.slow is not None and slow is not None:
                if self.fast is not None and fast is not None:
                    slow = torch.cat([slow, getattr(self.fast, f"Tconv{i}")(fast)], dim=1)
                slow = self.slow.stage(i, slow)
            if self.fast is not None and fast is not None:
                fast = self.fast.stage(i, fast)
        return FeatureMaps(slow, fast)

    def _check_frames(self, slow: Tensor | None, fast: Tensor | None) -> None:
        for name, pathway, clip in (("slow", self.slow, slow), ("fast", self.fast, fast)):
            if pathway is not None and clip is None:
                raise ValueError(f"{name} clip: got None, expected [N, 3, T, H, W] (the pathway is on)")
        if self.slow is None or self.fast is None or slow is None or fast is None:
            return
        if fast.shape[2] != self.alpha * slow.shape[2]:
            raise ValueError(
                f"frames: got {slow.shape[2]} slow and {fast.shape[2]} fast, "
                f"expected {self.alpha} (alpha) fast frames per slow frame"
            )
