"""The whole network with tensors as its input and result, ready to be written for other programs.

Shapes: N clips, T frames of a pathway, H x W pixels (padded), R persons and O objects over all clips, K classes,
C channels of a person's feature; S, Q: see `interaction`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from alphaction.export.interaction import OpenFeatures, OpenInteraction
from alphaction.layers.folding import folded, is_constant
from alphaction.modeling.blocks import ConvBn
from alphaction.modeling.detector import ActionDetector
from alphaction.modeling.nonlocal_block import NonLocalBlock
from alphaction.modeling.slowfast import LateralConnection, Pathway
from alphaction.structures.groups import ActionGroup

#: Result names, in their order.
OUTPUTS = ("scores", "features")
# Of each module that has both, a convolution and the batch norm after it.
_PAIRS = (
    (ConvBn, "conv", "bn"),
    (Pathway, "conv1", "bn1"),
    (NonLocalBlock, "out", "bn"),
    (LateralConnection, "conv", "bn"),
)


class OpenNetwork(nn.Module):
    """An `ActionDetector` in evaluation mode whose pass is tensor operations only.

    Args:
        model: is not changed. Its person head, if any, is left out.
        groups: how classes are grouped, in class order (soft-max or sigmoid).
        pixels: type of the clips, uint8 or float32.

    Attributes:
        input_names: of the tensors that `forward` takes, in their order.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self, model: ActionDetector, groups: Sequence[ActionGroup], *, pixels: torch.dtype = torch.uint8
    ) -> None:
        super().__init__()
        self.pixels = pixels
        model = copy.deepcopy(model).eval().requires_grad_(False)
        self.backbone = _folded(model.backbone)
        self.pooler = model.pooler
        self.head = model.head
        structure = self.head.feature_extractor.ia_structure
        if structure is not None:
            self.head.feature_extractor.add_module("ia_structure", OpenInteraction(structure))
        self.groups = tuple(groups)
        self.register_buffer("pixel_mean", model.pixel_mean.float())
        self.register_buffer("pixel_std", model.pixel_std.float())
        names = [name for name in ("slow", "fast") if getattr(model.backbone, name) is not None]
        names += ["sizes", "boxes"]
        if structure is not None and structure.needs_objects:
            names.append("objects")
        if structure is not None and structure.needs_memory:
            names.append("memory")
        self.input_names = tuple(names)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [R, K] and features [R, C] of the boxes.

        Args:
            inputs: as `input_names` says, of
                slow, fast: [N, 3, T, H, W], 0 .. 255, padded at the right and the bottom with anything.
                sizes: int64 [N, 2], (height, width) in pixels of each clip without padding.
                boxes, objects: float32 [R, 5] and [O, 5], rows of (clip, x1, y1, x2, y2) in pixels of the clip.
                memory: float32 [N, S, Q, C].
        """
        given = dict(zip(self.input_names, inputs, strict=True))
        sizes, boxes = given["sizes"], given["boxes"]
        maps = self.backbone(*(self._normalised(given.get(name), sizes) for name in ("slow", "fast")))
        objects = given.get("objects")
        features = OpenFeatures(
            person=self.pooler.of_rois(maps, boxes),
            person_counts=(),
            object=None if objects is None else self.pooler.of_rois(maps, objects),
            clips=boxes[:, 0].to(torch.int64),
            object_clips=None if objects is None else objects[:, 0].to(torch.int64),
        )
        logits = self.head(features, given.get("memory"))
        scores = [
            part.softmax(dim=1) if group.loss == "softmax" else part.sigmoid()
            for group, part in zip(self.groups, logits.split([group.size for group in self.groups], dim=1), strict=True)
        ]
        return torch.cat(scores, dim=1), features.person.flatten(1)

    def _normalised(self, clips: Tensor | None, sizes: Tensor) -> Tensor | None:
        """As `structures.batch.normalize_clips`: zero in the padding."""
        if clips is None:
            return None
        rows = torch.arange(clips.shape[3], device=sizes.device)[None, :] < sizes[:, :1]
        columns = torch.arange(clips.shape[4], device=sizes.device)[None, :] < sizes[:, 1:]
        inside = rows[:, None, None, :, None] & columns[:, None, None, None, :]
        pixels = (clips.float() - self.pixel_mean) / self.pixel_std
        return torch.where(inside, pixels, torch.zeros_like(pixels[:1, :1, :1, :1, :1]))


def _folded(backbone: nn.Module) -> nn.Module:
    """The backbone with its batch norms, constants by now, in the convolutions: fewer steps in every format."""
    for module in backbone.modules():
        for kind, conv_name, bn_name in _PAIRS:
            if isinstance(module, kind):
                conv, bn = getattr(module, conv_name), getattr(module, bn_name, None)
                with torch.no_grad():
                    if bn is None or not is_constant(bn):
                        continue
                    weight, bias = folded(conv, bn)
                conv.weight = nn.Parameter(weight, requires_grad=False)
                conv.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
                setattr(module, bn_name, nn.Identity())
    return backbone
