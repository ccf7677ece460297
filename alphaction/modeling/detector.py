"""The whole network, from clips and boxes to logits.

        clips ── normalise ── SlowFast ── pool one feature per box ── action head ── logits
                 └────────────────── extract ───────────────────┘    └── classify ──┘

Shapes: N clips, T frames, H x W pixels, R persons over all clips, O objects over all clips, C channels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from alphaction.modeling.head import ActionHead
from alphaction.modeling.pooler import RoiPooler3d
from alphaction.modeling.slowfast import SlowFast
from alphaction.structures import ClipBatch, DetectorOutput, RoiFeatures
from alphaction.structures.batch import normalize_clips


class ActionDetector(nn.Module):
    """Action scores of the persons in a batch of clips.

    `forward` is `extract` (dear) and then `classify` (cheap); the result is the same in training and in testing.
    Weights are named as in the released files.

    Args:
        backbone: from clips to feature maps.
        pooler: from feature maps and boxes to features.
        head: from features to logits.
        pixel_mean, pixel_std: per channel of the clip, on the scale 0..255.
    """

    def __init__(
        self,
        *,
        backbone: SlowFast,
        pooler: RoiPooler3d,
        head: ActionHead,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooler = pooler
        self.roi_heads = nn.ModuleDict({"action": head})
        # Not in the state dict: the released weight files do not hold them.
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).reshape(-1, 1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).reshape(-1, 1, 1, 1), persistent=False)

    def forward(self, batch: ClipBatch, memory: Tensor | None = None) -> DetectorOutput:
        """Logits [R, K] of the batch's persons and the features they come from.

        Args:
            batch: on the model's device.
            memory: as in `classify`.
        """
        features = self.extract(batch)
        return DetectorOutput(logits=self.classify(features, memory), features=features)

    @property
    def needs_memory(self) -> bool:
        """Whether the head has M blocks, which look at the memory."""
        structure = self.roi_heads["action"].feature_extractor.ia_structure
        return structure is not None and structure.needs_memory

    def extract(self, batch: ClipBatch) -> RoiFeatures:
        """Features of the persons' regions [R, C, 1, 1, 1] and, where the batch has object boxes, of the objects."""
        maps = self.backbone(self._normalise(batch.slow, batch), self._normalise(batch.fast, batch))
        objects = batch.objects
        return RoiFeatures(
            person=self.pooler(maps, batch.regions),
            person_counts=[len(boxes) for boxes in batch.regions],
            object=None if objects is None else self.pooler(maps, objects),
            object_counts=None if objects is None else [len(boxes) for boxes in objects],
        )

    def classify(self, features: RoiFeatures, memory: Tensor | None = None) -> Tensor:
        """Logits [R, K].

        Args:
            features: from `extract`.
            memory: person features [N, S, Q, C] of the seconds around each clip, for heads with M blocks.
        """
        return self.roi_heads["action"](features, memory)

    def _normalise(self, clips: Tensor | None, batch: ClipBatch) -> Tensor | None:
        if clips is None:
            return None
        # In the model's own precision: that of the buffers, which follow `model.half()`.
        return normalize_clips(clips, batch.sizes, self.pixel_mean, self.pixel_std).to(self.pixel_mean.dtype)
