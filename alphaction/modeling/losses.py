"""Losses and training metrics: functions of logits and labels, without weights or memory.

Shapes: R persons over all clips, K classes, k classes of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alphaction.layers import sigmoid_focal_loss, softmax_focal_loss
from alphaction.structures.groups import ActionGroup


@dataclass(frozen=True)
class LossOutput:
    """What the criterion returns; every value is a scalar.

    Attributes:
        losses: `loss_<group>`, unweighted, with their graph.
        total: weighted sum of the losses.
        metrics: `accuracy_<group>`, without graph.
    """

    losses: dict[str, Tensor]
    total: Tensor
    metrics: dict[str, Tensor]


class ActionCriterion:
    """Focal loss per group of classes.

    softmax group: focal loss of the labelled class (the first one, where a person has several).
    sigmoid group: focal loss of each class, mean over the classes.
    Both are summed over the persons and divided by `num_boxes`.

    Args:
        groups: the groups of classes.
        gamma, alpha: of the focal losses, see `layers.focal_loss`.
        unlabelled_is_first_class: in a softmax group a person without any label is trained as the group's first class,
            as in the original. False: such a person takes no part in the group's loss and accuracy.
    """

    def __init__(
        self,
        groups: Sequence[ActionGroup],
        *,
        gamma: float = 2.0,
        alpha: float = -1.0,
        unlabelled_is_first_class: bool = False,
    ) -> None:
        self.groups = tuple(groups)
        self.gamma = gamma
        self.alpha = alpha
        self.unlabelled_is_first_class = unlabelled_is_first_class

    def __call__(self, logits: Tensor, labels: Tensor, num_boxes: float) -> LossOutput:
        """Losses and metrics of a batch.

        Args:
            logits: [R, K].
            labels: bool [R, K].
            num_boxes: persons per rank, mean over the ranks; at least 1 is divided by, so that a batch without
                persons has loss 0 (with a graph).
        """
        if logits.shape != labels.shape:
            raise ValueError(f"labels: got shape {tuple(labels.shape)}, expected {tuple(logits.shape)} (of logits)")
        num_boxes = max(float(num_boxes), 1.0)
        losses, metrics = {}, {}
        total = logits.new_zeros((), dtype=torch.float32)
        for group in self.groups:
            term = self._softmax if group.loss == "softmax" else self._sigmoid
            loss, accuracy = term(logits[:, group.columns], labels[:, group.columns].bool(), num_boxes)
            losses[f"loss_{group.name}"] = loss
            metrics[f"accuracy_{group.name}"] = accuracy
            total = total + group.weight * loss
        return LossOutput(losses, total, metrics)

    def _softmax(self, logits: Tensor, labels: Tensor, num_boxes: float) -> tuple[Tensor, Tensor]:
        """Loss and share of persons whose best class is the labelled one; logits and labels are [R, k]."""
        target = labels.to(torch.uint8).argmax(dim=1)
        if not self.unlabelled_is_first_class:
            target = torch.where(labels.any(dim=1), target, -1)
        loss = softmax_focal_loss(logits, target, gamma=self.gamma, alpha=self.alpha).sum() / num_boxes
        correct = (logits.detach().argmax(dim=1) == target).sum()
        counted = num_boxes if self.unlabelled_is_first_class else (target >= 0).sum().clamp(min=1)
        return loss, correct / counted

    def _sigmoid(self, logits: Tensor, labels: Tensor, num_boxes: float) -> tuple[Tensor, Tensor]:
        """Loss and mean IoU of predicted (probability > 0.5) and labelled sets of classes; two empty sets agree."""
        loss = sigmoid_focal_loss(logits, labels, gamma=self.gamma, alpha=self.alpha).mean(dim=1).sum() / num_boxes
        predicted = logits.detach() > 0
        intersection = (predicted & labels).sum(dim=1)
        union = (predicted | labels).sum(dim=1)
        iou = torch.where(union > 0, intersection / union.clamp(min=1), 1.0)
        return loss, iou.sum() / num_boxes
