"""One iteration of training: from a batch to changed weights."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from alphaction.engine.memory import PersonMemory
from alphaction.errors import UserError
from alphaction.structures import ClipBatch, DetectorOutput
from alphaction.utils.distributed import ALONE, Processes


class TrainingError(UserError):
    """Training cannot go on: the loss is not finite."""


class Criterion(Protocol):
    def __call__(self, logits: Tensor, labels: Tensor, num_boxes: float) -> LossOutput: ...


class LossOutput(Protocol):
    losses: dict[str, Tensor]
    total: Tensor
    metrics: dict[str, Tensor]


class TrainStep:
    """What happens with a batch.

    Args:
        model: returns a `DetectorOutput` for a `ClipBatch` on `device` and, if there is one, a window of the memory.
        criterion: `(logits, labels, num_boxes) -> losses, weighted total, metrics`.
        memory: of the training set, for a model with M blocks.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Criterion,
        optimizer: Optimizer,
        *,
        device: torch.device,
        memory: PersonMemory | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self._model = model
        self._criterion = criterion
        self._optimizer = optimizer
        self._device = device
        self._memory = memory
        self._processes = processes

    def __call__(self, batch: ClipBatch | None, *, iteration: int) -> dict[str, float] | None:
        """One update; returns the losses and metrics by their logged names, None without any person in the batch."""
        if batch is None or batch.num_persons == 0:
            return None
        batch = batch.to(self._device, non_blocking=True)
        around = () if self._memory is None else (self._memory.window(batch.keys),)
        output: DetectorOutput = self._model(batch, *around)
        result = self._criterion(output.logits, batch.labels, num_boxes=float(batch.num_persons))
        total = result.total.item()
        if not math.isfinite(total):
            raise _not_finite(total, result, batch, iteration)
        self._optimizer.zero_grad(set_to_none=True)
        result.total.backward()
        self._optimizer.step()
        if self._memory is not None:
            self._memory.update(batch, output.features, loss=total)
        scalars = {name: value.item() for name, value in (result.losses | result.metrics).items()}
        scalars["loss_action"] = total
        if result.metrics:
            scalars["accuracy"] = sum(value.item() for value in result.metrics.values()) / len(result.metrics)
        return scalars


def _not_finite(total: float, result: LossOutput, batch: ClipBatch, iteration: int) -> TrainingError:
    clips = ", ".join(f"{key.movie} at {key.time:g} s" for key in batch.keys)
    parts = ", ".join(f"{name} {value.item():g}" for name, value in result.losses.items())
    return TrainingError(
        f"the loss is {total} in iteration {iteration} ({parts}); clips of this batch: {clips}. "
        "Lower SOLVER.BASE_LR or lengthen SOLVER.WARMUP_ITERS; the last checkpoint is still good."
    )
