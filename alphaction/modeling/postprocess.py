"""From logits to the probabilities that are reported."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from alphaction.structures.groups import ActionGroup


class Postprocess:
    """Soft-max within the groups of exclusive classes, sigmoid for the others."""

    def __init__(self, groups: Sequence[ActionGroup]) -> None:
        self.groups = tuple(groups)

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits [R, K] to probabilities float32 [R, K]."""
        logits = logits.float()
        scores = torch.empty_like(logits)
        for group in self.groups:
            part = logits[:, group.columns]
            scores[:, group.columns] = part.softmax(dim=1) if group.loss == "softmax" else part.sigmoid()
        return scores
