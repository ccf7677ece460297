"""The detector written plainly, as the original computes it: what benchmarks/model.py measures ours against.

Written by us for the comparison (the original's code is not ours to carry), and never used by the package. It computes
the same numbers from the same weights, in the straightforward way:

- every convolution is `nn.Conv3d` on contiguous tensors;
- frozen batch norm makes its factor and its offset anew in each pass, then multiplies and adds: two more passes over
  the memory;
- interaction blocks give every person a copy of the clip's context and compute keys and values for each copy.

Clips come normalised, since the original does that in the data loader. Names are those of the weight files, so that
`load_state_dict` takes ours. Shapes: N clips, T frames, R persons, C channels, L slots of a context, D inner channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from plain_interaction import Counts, PlainInteraction
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align
from yacs.config import CfgNode

from alphaction.errors import ConfigError

DEPTHS = {"Slowfast-Resnet50": (3, 4, 6, 3), "Slowfast-Resnet101": (3, 4, 23, 3), "Slowfast-Tiny": (1, 1, 1, 1)}
WIDTHS = {"Slowfast-Resnet50": 64, "Slowfast-Resnet101": 64, "Slowfast-Tiny": 16}


class PlainInput(NamedTuple):
    """What the plain detector reads.

    slow, fast: normalised clips [N, 3, T, H, W]; persons, objects: [n, 5], (clip index, x1, y1, x2, y2) in pixels;
    counts: of both per clip; memory: [N, S, Q, C], persons of the seconds around each clip, or None.
    """

    slow: Tensor
    fast: Tensor
    persons: Tensor
    objects: Tensor
    counts: Counts
    memory: Tensor | None


class TwoPassNorm(nn.Module):
    """Frozen batch norm: one pass multiplies, one adds."""

    def __init__(self, channels: int, *, eps: float) -> None:
        super().__init__()
        self.eps = eps
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        factor = self.weight / (self.running_var + self.eps).sqrt()
        offset = self.bias - self.running_mean * factor
        shape = (1, -1, 1, 1, 1)
        return x * factor.view(shape) + offset.view(shape)


class _Norms(NamedTuple):
    frozen: bool
    eps: float
    momentum: float

    def make(self, channels: int) -> nn.Module:
        if self.frozen:
            return TwoPassNorm(channels, eps=self.eps)
        return nn.BatchNorm3d(channels, eps=self.eps, momentum=self.momentum)


class _ConvNorm(nn.Module):
    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        kernel: tuple[int, int, int],
        norms: _Norms,
        *,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, dilation * (kernel[1] // 2), dilation * (kernel[2] // 2))
        self.conv = nn.Conv3d(
            dim_in, dim_out, kernel, (1, stride, stride), padding, dilation=(1, dilation, dilation), bias=False
        )
        self.bn = norms.make(dim_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class _Bottleneck(nn.Module):
    def __init__(self, dim_in: int, inner: int, frames: int, norms: _Norms, *, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(dim_in, inner, (frames, 1, 1), norms)
        self.conv2 = _ConvNorm(inner, inner, (1, 3, 3), norms, stride=stride, dilation=dilation)
        self.conv3 = _ConvNorm(inner, 4 * inner, (1, 1, 1), norms)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.relu(self.conv2(self.relu(self.conv1(x)))))


class _Block(nn.Module):
    def __init__(self, dim_in: int, inner: int, frames: int, norms: _Norms, *, stride: int, dilation: int) -> None:
        super().__init__()
        self.btnk = _Bottleneck(dim_in, inner, frames, norms, stride=stride, dilation=dilation)
        changes = dim_in != 4 * inner or stride != 1
        self.shortcut = _ConvNorm(dim_in, 4 * inner, (1, 1, 1), norms, stride=stride) if changes else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.btnk(x) + self.shortcut(x))


class _Pathway(nn.Module):
    def __init__(
        self,
        width: int,
        extra: Sequence[int],
        depths: Sequence[int],
        norms: _Norms,
        *,
        stem: int,
        kernels: Sequence[int],
    ) -> None:
        """Args: `extra` are the channels from the other pathway before each stage."""
        super().__init__()
        self.conv1 = nn.Conv3d(3, width, (stem, 7, 7), (1, 2, 2), (stem // 2, 3, 3), bias=False)
        self.bn1 = norms.make(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool1 = nn.MaxPool3d((1, 3, 3), (1, 2, 2))
        before = width
        for i, depth in enumerate(depths):
            inner, stage = width * 2**i, nn.Sequential()
            for j in range(depth):
                dim_in = before + extra[i] if j == 0 else 4 * inner
                stride, dilation = 2 if i in (1, 2) and j == 0 else 1, 2 if i == 3 else 1
                block = _Block(dim_in, inner, kernels[i], norms, stride=stride, dilation=dilation)
                stage.add_module(f"res_{j}", block)
            self.add_module(f"res_nl{i + 1}", stage)
            before = 4 * inner

    def stem(self, x: Tensor) -> Tensor:
        return self.maxpool1(self.relu(self.bn1(self.conv1(x))))


class _Lateral(nn.Module):
    def __init__(self, dim: int, alpha: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(dim, 2 * dim, (5, 1, 1), (alpha, 1, 1), (2, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class PlainBackbone(nn.Module):
    """Both pathways of SlowFast, four stages, lateral connections."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        node = cfg.MODEL.BACKBONE
        _refuse_what_is_not_here(node)
        norms = _Norms(node.FROZEN_BN, node.BN_EPSILON, node.BN_MOMENTUM)
        width, depths = WIDTHS[node.CONV_BODY], DEPTHS[node.CONV_BODY]
        thin = round(width * node.SLOWFAST.BETA)
        dims = [thin, *(4 * thin * 2**i for i in range(3))]
        extra = [2 * dim for dim in dims]
        self.slow = _Pathway(width, extra, depths, norms, stem=1, kernels=(1, 1, 3, 3))
        self.fast = _Pathway(thin, (0, 0, 0, 0), depths, norms, stem=5, kernels=(3, 3, 3, 3))
        for i, dim in enumerate(dims, start=1):
            self.fast.add_module(f"Tconv{i}", _Lateral(dim, cfg.INPUT.ALPHA))
        self.dim_out = 32 * (width + thin)

    def forward(self, slow: Tensor, fast: Tensor) -> tuple[Tensor, Tensor]:
        slow, fast = self.slow.stem(slow), self.fast.stem(fast)
        for i in range(1, 5):
            slow = torch.cat([slow, getattr(self.fast, f"Tconv{i}")(fast)], dim=1)
            slow, fast = getattr(self.slow, f"res_nl{i}")(slow), getattr(self.fast, f"res_nl{i}")(fast)
        return slow, fast


def _refuse_what_is_not_here(node: CfgNode) -> None:
    if node.CONV_BODY not in DEPTHS:
        raise ConfigError(f"MODEL.BACKBONE.CONV_BODY: got {node.CONV_BODY!r}, expected one of {', '.join(DEPTHS)}")
    for name in ("SLOW", "FAST"):
        way = node.SLOWFAST[name]
        if not way.ACTIVE or way.CONV3_NONLOCAL or way.CONV4_NONLOCAL:
            raise ConfigError(
                f"MODEL.BACKBONE.SLOWFAST.{name}: the plain form in benchmarks/ has both pathways and no non-local "
                "blocks, as the released configurations; expected ACTIVE True, CONV3_NONLOCAL and CONV4_NONLOCAL False"
            )


class _Features(nn.Module):
    def __init__(self, cfg: CfgNode, dim_in: int) -> None:
        super().__init__()
        node = cfg.MODEL.IA_STRUCTURE
        self.add = node.FUSION == "add"
        if node.ACTIVE:
            self.ia_structure = PlainInteraction(cfg, dim_in)
        dim = cfg.MODEL.ROI_ACTION_HEAD.MLP_HEAD_DIM
        self.fc1 = nn.Linear(dim_in + (node.DIM_OUT if node.ACTIVE and not self.add else 0), dim)
        self.fc2 = nn.Linear(dim, dim)

    def forward(self, persons: Tensor, objects: Tensor, memory: Tensor | None, counts: Counts) -> Tensor:
        if hasattr(self, "ia_structure"):
            refined = self.ia_structure(persons, objects, memory, counts)
            persons = persons + refined if self.add else torch.cat([persons, refined], dim=1)
        return F.relu(self.fc2(F.relu(self.fc1(persons.flatten(1)))))


class _Head(nn.Module):
    def __init__(self, cfg: CfgNode, dim_in: int) -> None:
        super().__init__()
        node = cfg.MODEL.ROI_ACTION_HEAD
        self.feature_extractor = _Features(cfg, dim_in)
        self.predictor = nn.ModuleDict({"cls_score": nn.Linear(node.MLP_HEAD_DIM, node.NUM_CLASSES)})
        self.dropout = nn.Dropout(node.DROPOUT_RATE)

    def forward(self, persons: Tensor, objects: Tensor, memory: Tensor | None, counts: Counts) -> Tensor:
        x = self.feature_extractor(persons, objects, memory, counts)
        return self.predictor["cls_score"](self.dropout(x))


class PlainDetector(nn.Module):
    """From normalised clips and boxes to logits [R, K]."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        node = cfg.MODEL.ROI_ACTION_HEAD
        if node.POOLER_TYPE != "align3d" or not node.MEAN_BEFORE_POOLER:
            raise ConfigError(
                "MODEL.ROI_ACTION_HEAD: the plain form in benchmarks/ pools as the released configurations do; "
                "expected POOLER_TYPE align3d, MEAN_BEFORE_POOLER True"
            )
        self.pooling = (node.POOLER_RESOLUTION, node.POOLER_SCALE, node.POOLER_SAMPLING_RATIO)
        self.backbone = PlainBackbone(cfg)
        self.roi_heads = nn.ModuleDict({"action": _Head(cfg, self.backbone.dim_out)})

    def forward(self, given: PlainInput) -> Tensor:
        maps = [x.float().mean(dim=2) for x in self.backbone(given.slow, given.fast)]
        persons, objects = self._pooled(maps, given.persons), self._pooled(maps, given.objects)
        return self.roi_heads["action"](persons, objects, given.memory, given.counts)

    def _pooled(self, maps: list[Tensor], boxes: Tensor) -> Tensor:
        """[n, C, 1, 1, 1]."""
        side, scale, samples = self.pooling
        bins = [roi_align(x, boxes, (side, side), scale, samples, aligned=False) for x in maps]
        return torch.cat([F.max_pool2d(x, side) for x in bins], dim=1)[..., None]
