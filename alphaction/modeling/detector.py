"""The whole network, from clips and boxes to logits.

        clips ── normalise ── SlowFast ── pool one feature per box ── action head ── logits
                 └────────────────── extract ───────────────────┘    └── classify ──┘

Shapes: N clips, T frames, H x W pixels, R persons over all clips, O objects over all clips, C channels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from alphaction.modeling.head import ActionHead
from alphaction.modeling.person_head import PersonHead
from alphaction.modeling.pooler import RoiPooler3d
from alphaction.modeling.slowfast import FeatureMaps, SlowFast
from alphaction.structures import ClipBatch, DetectorOutput, MemoryWindow, RoiFeatures
from alphaction.structures.render import network_clips


class ActionDetector(nn.Module):
    """Action scores of the persons in a batch of clips.

    `forward` is `extract` (dear) and then `classify` (cheap); the result is the same in training and in testing.
    Weights are named as in the released files.

    Args:
        backbone: from clips to feature maps.
        pooler: from feature maps and boxes to features.
        head: from features to logits.
        pixel_mean, pixel_std: per channel of the clip, on the scale 0..255.
        person_head: finds the persons; None where the batches bring them.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        *,
        backbone: SlowFast,
        pooler: RoiPooler3d,
        head: ActionHead,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        person_head: PersonHead | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooler = pooler
        self.roi_heads = nn.ModuleDict({"action": head})
        # Not below `roi_heads.`, which --no-head leaves out: persons look alike whatever the classes are.
        self.person_head = person_head
        # Not in the state dict: the released weight files do not hold them.
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).reshape(-1, 1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).reshape(-1, 1, 1, 1), persistent=False)

    def forward(self, batch: ClipBatch, memory: MemoryWindow | None = None) -> DetectorOutput:
        """Logits [R, K] of the batch's persons, the features they come from, in training the person head's losses.

        Args:
            batch: on the model's device.
            memory: as in `classify`.
        """
        maps = self._maps(batch)
        features = self._pooled(maps, batch)
        losses = None
        if self.person_head is not None and self.training:
            assert maps.slow is not None  # `build_person_head` refuses a network without
            losses = self.person_head.losses(maps.slow, batch.persons if batch.annotated is None else batch.annotated)
        return DetectorOutput(logits=self.classify(features, memory), features=features, person_losses=losses)

    @property
    def head(self) -> ActionHead:
        return cast(ActionHead, self.roi_heads["action"])  # what a ModuleDict holds has no type

    @property
    def needs_memory(self) -> bool:
        """Whether the head has M blocks, which look at the memory."""
        structure = self.head.feature_extractor.ia_structure
        return structure is not None and structure.needs_memory

    def extract(self, batch: ClipBatch) -> RoiFeatures:
        """Features of the persons' regions [R, C, 1, 1, 1] and, where the batch has object boxes, of the objects."""
        return self._pooled(self._maps(batch), batch)

    def find_persons(self, batch: ClipBatch) -> tuple[ClipBatch, RoiFeatures]:
        """The batch with the persons that the person head finds in it, and their features, from one backbone pass.

        Args:
            batch: on the model's device; its own persons and regions do not count.

        Returns:
            the batch with `persons` (maybe none in some clips), `regions` and `person_scores`, without labels;
            features as `extract` gives them.
        """
        if self.person_head is None:
            raise ValueError("find_persons: this model has no person head (MODEL.ROI_PERSON_HEAD.ACTIVE)")
        maps = self._maps(batch)
        assert maps.slow is not None
        found = self.person_head.find(maps.slow, batch.sizes)
        batch = replace(
            batch,
            persons=[clip.persons for clip in found],
            regions=[clip.persons.extend(self.person_head.extend_scale) for clip in found],
            person_scores=torch.cat([clip.scores for clip in found]),
            labels=None,
            annotated=None,
        )
        return batch, self._pooled(maps, batch)

    def _maps(self, batch: ClipBatch) -> FeatureMaps:
        slow, fast = network_clips(batch, self.pixel_mean, self.pixel_std)
        # In the model's own precision: that of the buffers, which follow `model.half()`.
        return self.backbone(*(None if x is None else x.to(self.pixel_mean.dtype) for x in (slow, fast)))

    def _pooled(self, maps: FeatureMaps, batch: ClipBatch) -> RoiFeatures:
        objects = batch.objects
        return RoiFeatures(
            person=self.pooler(maps, batch.regions),
            person_counts=[len(boxes) for boxes in batch.regions],
            object=None if objects is None else self.pooler(maps, objects),
            object_counts=None if objects is None else [len(boxes) for boxes in objects],
        )

    def classify(self, features: RoiFeatures, memory: MemoryWindow | None = None) -> Tensor:
        """Logits [R, K].

        Args:
            features: from `extract`.
            memory: the persons of the seconds around each clip, for heads with M blocks.
        """
        return self.head(features, memory)
