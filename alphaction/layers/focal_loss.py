"""Focal losses (Lin et al., 2017) over independent and over exclusive classes.

Shapes: R rows (persons), K classes.

With p the probability of what is true, both are -w * (1 - p)^gamma * log(p); gamma = 0 is the cross entropy. `alpha`
weighs positives against negatives, a negative value switches the weights off. log(p) stops at the smallest normal
float32 (the loss saturates at 87.34) but the gradient does not vanish there: a hopeless row still learns. This is why
the gradients are written out instead of left to autograd. Everything is computed in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_TINY = torch.finfo(torch.float32).tiny


def sigmoid_focal_loss(logits: Tensor, targets: Tensor, *, gamma: float = 2.0, alpha: float = -1.0) -> Tensor:
    """Focal loss of independent yes/no classes.

    Args:
        logits: [R, K].
        targets: [R, K], 1 (or True) where the class is present, 0 where it is not.
        gamma: how strongly well classified entries are damped, >= 0.
        alpha: weight of positives, 1 - alpha of negatives; negative = all weights 1.

    Returns:
        float32 [R, K].
    """
    return _SigmoidFocalLoss.apply(logits.float(), targets.bool(), gamma, alpha)


def softmax_focal_loss(logits: Tensor, labels: Tensor, *, gamma: float = 2.0, alpha: float = -1.0) -> Tensor:
    """Focal loss of exclusive classes.

    Args:
        logits: [R, K].
        labels: int64 [R], class index, or -1 for a row that does not count (loss and gradient 0).
        gamma: as in `sigmoid_focal_loss`.
        alpha: weight of rows with label >= 1, 1 - alpha of those with label 0 (the original takes class 0 for a
            background class, which AVA does not have); negative = all weights 1.

    Returns:
        float32 [R].
    """
    return _SoftmaxFocalLoss.apply(logits.float(), labels, gamma, alpha)


class _SigmoidFocalLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, positive: Tensor, gamma: float, alpha: float) -> Tensor:
        p = logits.sigmoid()
        log_yes = p.clamp(min=_TINY).log()
        log_no = F.logsigmoid(-logits)
        weight_yes, weight_no = (1.0, 1.0) if alpha < 0 else (alpha, 1.0 - alpha)
        ctx.save_for_backward(p, log_yes, log_no, positive)
        ctx.constants = gamma, weight_yes, weight_no
        return torch.where(positive, -weight_yes * (1 - p) ** gamma * log_yes, -weight_no * p**gamma * log_no)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        p, log_yes, log_no, positive = ctx.saved_tensors
        gamma, weight_yes, weight_no = ctx.constants
        yes = -weight_yes * (1 - p) ** gamma * (1 - p - gamma * p * log_yes)
        no = weight_no * p**gamma * (p - gamma * (1 - p) * log_no)
        return grad * torch.where(positive, yes, no), None, None, None


class _SoftmaxFocalLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, gamma: float, alpha: float) -> Tensor:
        probabilities = logits.softmax(dim=1)
        rows = labels.clamp(min=0).unsqueeze(1)
        p = probabilities.gather(1, rows).squeeze(1)
        log_p = p.clamp(min=_TINY).log()
        weight = (labels >= 0).to(p.dtype)
        if alpha >= 0:
            weight = weight * torch.where(labels >= 1, alpha, 1.0 - alpha)
        ctx.save_for_backward(probabilities, rows, p, log_p, weight)
        ctx.gamma = gamma
        return -weight * (1 - p) ** gamma * log_p

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        probabilities, rows, p, log_p, weight = ctx.saved_tensors
        gamma, rest = ctx.gamma, 1 - p
        # (1 - p)^(gamma - 1) * log(p) as (1 - p)^gamma * log(p) / (1 - p): at p = 1 this is 0, its limit, where the
        # first form is infinity times zero for gamma < 1.
        slope = rest**gamma * (gamma * p * log_p / rest.clamp(min=_TINY) - 1)
        is_label = torch.zeros_like(probabilities).scatter_(1, rows, 1.0)
        return (grad * weight * slope).unsqueeze(1) * (is_label - probabilities), None, None, None
