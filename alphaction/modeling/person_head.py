"""The person head: finds the persons of a clip on the slow pathway's map at the keyframe; no box file is needed then.

A Faster R-CNN of torchvision's parts (proposals, then a box head) on one map of stride 16, with fewer channels.

Shapes: N clips, C channels of the slow map, T slow frames, H x W cells, n persons of a clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead
from torchvision.ops import roi_align

from alphaction.structures import Boxes

STRIDE = 16  # pixels per cell of the slow map
_BINS = 7  # per side of a pooled proposal
_MAP = "key"  # torchvision's parts take maps by name

# Training, as torchvision's detectors: anchors and proposals that overlap a person this much are persons, or not.
_ANCHOR_IS_PERSON, _ANCHOR_IS_NONE = 0.7, 0.3
_PROPOSAL_IS_PERSON = 0.5
_ANCHORS_PER_CLIP, _SHARE_OF_PERSON_ANCHORS = 256, 0.5
_SHARE_OF_PERSON_PROPOSALS = 0.25
_BEFORE_NMS = 1000  # proposals
_PROPOSAL_NMS = 0.7


@dataclass(frozen=True)
class PersonHeadOptions:
    """How persons are found.

    Attributes:
        channels: of the map after it was reduced.
        dim: width of the box head's two linear layers.
        anchor_sizes: roots of the anchors' areas, pixels of the resized clip.
        anchor_ratios: heights over widths.
        proposals: that the box head looks at, per clip.
        samples: proposals per clip that the box head is trained on.
        nms: of two found persons that overlap more than this the one with the lower score is dropped.
        max_persons: most persons of a clip, those of highest score.
        score_threshold: persons with a lower score are dropped.
        extend_scale: in testing features are pooled from boxes made wider and higher by these shares.
    """

    channels: int = 256
    dim: int = 1024
    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    proposals: int = 300
    samples: int = 128
    nms: float = 0.5
    max_persons: int = 20
    score_threshold: float = 0.8
    extend_scale: tuple[float, float] = (0.1, 0.05)


class FoundPersons(NamedTuple):
    """Of one clip, best score first.

    Attributes:
        persons: within the clip, without its padding.
        scores: float32 [n], probabilities.
    """

    persons: Boxes
    scores: Tensor


class PersonHead(nn.Module):
    """Region proposals and a box head. Computes in float32, within autocast too.

    In training it draws the proposals that it learns from with torch's generator.

    Args:
        dim_in: C.
    """

    def __init__(self, dim_in: int, options: PersonHeadOptions | None = None) -> None:
        super().__init__()
        options = options or PersonHeadOptions()
        self.max_persons = options.max_persons
        self.score_threshold = options.score_threshold
        self.extend_scale = options.extend_scale
        self.reduce = nn.Conv2d(dim_in, options.channels, kernel_size=1)
        nn.init.kaiming_normal_(self.reduce.weight, nonlinearity="relu")
        nn.init.zeros_(self.reduce.get_parameter("bias"))
        anchors = AnchorGenerator((tuple(options.anchor_sizes),), (tuple(options.anchor_ratios),))
        self.rpn = RegionProposalNetwork(
            anchors,
            RPNHead(options.channels, anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=_ANCHOR_IS_PERSON,
            bg_iou_thresh=_ANCHOR_IS_NONE,
            batch_size_per_image=_ANCHORS_PER_CLIP,
            positive_fraction=_SHARE_OF_PERSON_ANCHORS,
            pre_nms_top_n={"training": _BEFORE_NMS, "testing": _BEFORE_NMS},
            post_nms_top_n={"training": options.proposals, "testing": options.proposals},
            nms_thresh=_PROPOSAL_NMS,
        )
        self.boxes = RoIHeads(
            _KeyMapPooler(),
            TwoMLPHead(options.channels * _BINS**2, options.dim),
            FastRCNNPredictor(options.dim, num_classes=2),
            fg_iou_thresh=_PROPOSAL_IS_PERSON,
            bg_iou_thresh=_PROPOSAL_IS_PERSON,
            batch_size_per_image=options.samples,
            positive_fraction=_SHARE_OF_PERSON_PROPOSALS,
            bbox_reg_weights=None,
            score_thresh=0.0,
            nms_thresh=options.nms,
            detections_per_img=options.max_persons,
        )

    def losses(self, slow: Tensor, persons: Sequence[Boxes]) -> dict[str, Tensor]:
        """What is to be minimised in training: scalars, means over the clips, by their logged names.

        Args:
            slow: map of the slow pathway [N, C, T, H, W].
            persons: all annotated ones of each clip; everything else is taken for background.
        """
        sizes = [boxes.size for boxes in persons]
        with torch.autocast(slow.device.type, enabled=False):
            maps = self._maps(slow)
            targets = [
                {"boxes": edges, "labels": torch.ones(len(edges), dtype=torch.int64, device=edges.device)}
                for edges in (boxes.to_edges().to(maps[_MAP]) for boxes in persons)
            ]
            proposals, first = self.rpn(_images(maps, sizes), maps, targets)
            _, second = self.boxes(maps, proposals, sizes, targets)
        return {
            "loss_objectness": first["loss_objectness"],
            "loss_rpn_box": first["loss_rpn_box_reg"],
            "loss_person": second["loss_classifier"],
            "loss_person_box": second["loss_box_reg"],
        }

    def find(self, slow: Tensor, sizes: Sequence[tuple[int, int]]) -> list[FoundPersons]:
        """The persons of each clip; needs evaluation mode.

        Args:
            slow: map of the slow pathway [N, C, T, H, W].
            sizes: (height, width) in pixels of each clip without padding.
        """
        if self.training:
            raise ValueError("person head: got training mode, expected evaluation mode")
        with torch.autocast(slow.device.type, enabled=False):
            maps = self._maps(slow)
            proposals, _ = self.rpn(_images(maps, sizes), maps)
            results, _ = self.boxes(maps, proposals, list(sizes))
        return [self._kept(result, size) for result, size in zip(results, sizes, strict=True)]

    def _maps(self, slow: Tensor) -> dict[str, Tensor]:
        """The map at the keyframe, with fewer channels.

        The keyframe is in the middle of the clip, between two slow frames. Either of them alone shows where persons are
        half a step before or after it, so their mean is taken.
        """
        middle = slow.shape[2] // 2
        key = slow[:, :, max(middle - 1, 0) : middle + 1].mean(dim=2).to(self.reduce.weight.dtype)
        return {_MAP: F.relu(self.reduce(key))}

    def _kept(self, result: Mapping[str, Tensor], size: tuple[int, int]) -> FoundPersons:
        """Persons with an area and a score that is high enough."""
        persons = Boxes.from_edges(result["boxes"].float(), size).clip()
        keep = persons.keep_mask() & (result["scores"] >= self.score_threshold)
        return FoundPersons(persons[keep], result["scores"][keep].float())


class _KeyMapPooler(nn.Module):
    """Proposals pooled from the one map.

    Not torchvision's MultiScaleRoIAlign: that guesses the stride from the largest clip of the first batch, which may be
    smaller than the padded map times the stride, and keeps the guess.
    """

    def forward(self, maps: Mapping[str, Tensor], proposals: list[Tensor], sizes: object) -> Tensor:
        """[proposals of all clips, channels, bins, bins]; `sizes` is what RoIHeads passes along."""
        return roi_align(maps[_MAP], proposals, (_BINS, _BINS), spatial_scale=1 / STRIDE, sampling_ratio=2)


def _images(maps: Mapping[str, Tensor], sizes: Sequence[tuple[int, int]]) -> ImageList:
    """The clips as the proposal network wants to see them: it asks for their padded size, to know the stride."""
    height, width = maps[_MAP].shape[-2:]
    return ImageList(maps[_MAP].new_empty(0, height * STRIDE, width * STRIDE), list(sizes))
