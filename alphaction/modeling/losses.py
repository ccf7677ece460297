"""Losses and training metrics: functions of logits and labels, without weights or memory.

Shapes: R persons over all clips, K classes, k classes of a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
        counted: persons that a metric is a mean over, where they are not `num_boxes`: needed to join the metrics of
            the parts of a batch.
    """

    losses: dict[str, Tensor]
    total: Tensor
    metrics: dict[str, Tensor]
    counted: dict[str, Tensor] = field(default_factory=dict)


#: Losses of the person head, by their logged names: is there a person at an anchor, where exactly, is there one in a
#: proposal, where exactly.
PERSON_LOSSES = ("loss_objectness", "loss_rpn_box", "loss_person", "loss_person_box")


class PersonCriterion:
    """Weighs the losses that the person head has computed.

    Args:
        weights: factor of each of `PERSON_LOSSES`.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        if set(weights) != set(PERSON_LOSSES):
            raise ValueError(f"weights: got those of {sorted(weights)}, expected {sorted(PERSON_LOSSES)}")
        self.weights = dict(weights)

    def __call__(self, losses: Mapping[str, Tensor], *, share: float) -> LossOutput:
        """The losses of a part of a batch.

        Args:
            losses: by name, means over the part's clips.
            share: clips of the part over those of the batch, so that the parts add up to the batch's mean.
        """
        shares = {name: losses[name] * share for name in PERSON_LOSSES}
        total = torch.stack([self.weights[name] * loss for name, loss in shares.items()]).sum()
        return LossOutput(losses=shares, total=total, metrics={})


class ActionCriterion:
    """Focal loss per group of classes.

    softmax group: focal loss of the labelled class (the first one, where a person has several).
    sigmoid group: focal loss of each class, mean over the classes.
    Both are summed over the persons and divided by `num_boxes`.

    Args:
        groups: the groups of classes.
        gamma, alpha: of the focal losses, see `layers.focal_loss`.
        class_weights: [K], factor of each class's loss: in a sigmoid group of its column, in a softmax group of the
            persons labelled with it. None: all 1.
        unlabelled_is_first_class: in a softmax group a person without any label is trained as the group's first class,
            as in the original. False: such a person takes no part in the group's loss and accuracy.
    """

    def __init__(
        self,
        groups: Sequence[ActionGroup],
        *,
        gamma: float = 2.0,
        alpha: float = -1.0,
        class_weights: Sequence[float] | None = None,
        unlabelled_is_first_class: bool = False,
    ) -> None:
        self.groups = tuple(groups)
        self.gamma = gamma
        self.alpha = alpha
        self.class_weights = None if class_weights is None else torch.tensor(list(class_weights), dtype=torch.float32)
        self.unlabelled_is_first_class = unlabelled_is_first_class

    def __call__(self, logits: Tensor, labels: Tensor, num_boxes: float) -> LossOutput:
        """Losses and metrics of a batch.

        Args:
            logits: [R, K].
            labels: bool [R, K].
            num_boxes: persons to divide by; at least 1 is divided by, so that a batch without persons has loss 0
                (with a graph).
        """
        if logits.shape != labels.shape:
            raise ValueError(f"labels: got shape {tuple(labels.shape)}, expected {tuple(logits.shape)} (of logits)")
        if self.class_weights is not None:
            self.class_weights = self.class_weights.to(logits.device)
        num_boxes = max(float(num_boxes), 1.0)
        losses, metrics, counted = {}, {}, {}
        total = logits.new_zeros((), dtype=torch.float32)
        for group in self.groups:
            columns = group.columns
            term = self._softmax if group.loss == "softmax" else self._sigmoid
            weights = None if self.class_weights is None else self.class_weights[columns]
            loss, accuracy, persons = term(logits[:, columns], labels[:, columns].bool(), weights, num_boxes)
            losses[f"loss_{group.name}"] = loss
            metrics[f"accuracy_{group.name}"] = accuracy
            if persons is not None:
                counted[f"accuracy_{group.name}"] = persons
            total = total + group.weight * loss
        return LossOutput(losses, total, metrics, counted)

    def _softmax(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None, num_boxes: float
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Loss, share of persons whose best class is the labelled one, and how many persons have a label; logits and
        labels are [R, k], weights [k]."""
        target = labels.to(torch.uint8).argmax(dim=1)
        if not self.unlabelled_is_first_class:
            target = torch.where(labels.any(dim=1), target, -1)
        loss = softmax_focal_loss(logits, target, gamma=self.gamma, alpha=self.alpha)
        if weights is not None:
            loss = loss * weights[target.clamp(min=0)]
        correct = (logits.detach().argmax(dim=1) == target).sum()
        if self.unlabelled_is_first_class:
            return loss.sum() / num_boxes, correct / num_boxes, None
        counted = (target >= 0).sum()
        return loss.sum() / num_boxes, correct / counted.clamp(min=1), counted

    def _sigmoid(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None, num_boxes: float
    ) -> tuple[Tensor, Tensor, None]:
        """Loss and mean IoU of predicted (probability > 0.5) and labelled sets of classes; two empty sets agree."""
        loss = sigmoid_focal_loss(logits, labels, gamma=self.gamma, alpha=self.alpha)
        if weights is not None:
            loss = loss * weights
        loss = loss.mean(dim=1).sum() / num_boxes
        predicted = logits.detach() > 0
        intersection = (predicted & labels).sum(dim=1)
        union = (predicted | labels).sum(dim=1)
        iou = torch.where(union > 0, intersection / union.clamp(min=1), 1.0)
        return loss, iou.sum() / num_boxes, None


def balanced_weights(counts: Sequence[int], groups: Sequence[ActionGroup], *, power: float) -> list[float]:
    """Weights that let rare classes count more, for `ActionCriterion`.

    A class with n persons gets (1 / n) ** power, scaled so that the mean over the classes of its group is 1. A class
    without any person has the weight 1: there is nothing of it to learn, and it must not take weight from the others.

    Args:
        counts: persons with each class, in class order.
        power: 0 = all weights 1, 1 = fully.
    """
    weights = [1.0] * len(counts)
    for group in groups:
        present = [i for i in range(group.start, group.start + group.size) if counts[i] > 0]
        raw = [counts[i] ** -power for i in present]
        for i, value in zip(present, raw, strict=True):
            weights[i] = value * len(raw) / sum(raw)
    return weights
