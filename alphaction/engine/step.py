"""One iteration of training: from a batch to changed weights.

A batch is shared by the processes, and each process's share may be cut into parts that are computed one after the
other. Losses, metrics and gradients are those of the whole batch: every part divides by the persons of all parts of all
processes, and what the parts give is added up.
"""

from __future__ import annotations

import inspect
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from alphaction.engine.batch_statistics import BatchStatistics
from alphaction.engine.figures import TOTAL, WHOLE, Figures, LossOutput, joined, logged
from alphaction.engine.memory import PersonMemory
from alphaction.errors import UserError
from alphaction.solver import AveragedWeights
from alphaction.structures import ClipBatch, DetectorOutput, RoiFeatures
from alphaction.utils.distributed import ALONE, Processes
from alphaction.utils.logging import alike_in_all

logger = alike_in_all(logging.getLogger(__name__))

_ADVICE = (
    "Lower SOLVER.BASE_LR, lengthen SOLVER.WARMUP_ITERS or set SOLVER.MAX_GRAD_NORM; SOLVER.ON_NONFINITE skip leaves "
    "such batches out. The last checkpoint is still good."
)


class TrainingError(UserError):
    """Training cannot go on: the loss is not finite."""


class Criterion(Protocol):
    def __call__(self, logits: Tensor, labels: Tensor, num_boxes: float) -> LossOutput: ...


class PersonCriterion(Protocol):
    def __call__(self, losses: Mapping[str, Tensor], *, share: float) -> LossOutput: ...


@dataclass(frozen=True)
class StepOptions:
    """How a step is made.

    Attributes:
        parts: a process's share of the batch is computed in so many parts.
        autocast: arithmetic of the forward pass; None = float32.
        max_grad_norm: longer gradients are shortened to this norm; 0 = off.
        skip_nonfinite: a batch whose loss is not finite is left out, instead of ending the run.
        max_skipped: so many batches in a row that are left out end the run.
    """

    parts: int = 1
    autocast: torch.dtype | None = None
    max_grad_norm: float = 0.0
    skip_nonfinite: bool = False
    max_skipped: int = 100


@dataclass
class _Work:
    """What a process's parts of a batch have in common.

    Attributes:
        num_boxes: persons of the whole batch.
        num_clips: clips of the whole batch, those of parts without persons not counted.
        figures, features: of the parts so far; features only for a memory.
    """

    num_boxes: float
    num_clips: float
    figures: Figures = field(default_factory=Figures)
    features: list[RoiFeatures] = field(default_factory=list)


class TrainStep:
    """What happens with a batch.

    Args:
        model: returns a `DetectorOutput` for a `ClipBatch` on `device` and, if there is one, a window of the memory.
        criterion: `(logits, labels, num_boxes) -> losses, weighted total, metrics`.
        memory: of the training set, for a model with M blocks.
        processes: those that share each batch.
        scaler: of the loss, for float16.
        averaged: mean of the model's weights, updated after each step.
        person_criterion: `(losses, share) -> the same for the batch, weighted total`, for a model with a person head.
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
        options: StepOptions | None = None,
        scaler: GradScaler | None = None,
        averaged: AveragedWeights | None = None,
        person_criterion: PersonCriterion | None = None,
    ) -> None:
        self._model = model
        # Adds up the gradients of all processes in the backward pass of each process's last part; those before add
        # theirs to it, past this wrapper. Statistics of batch norms stay each process's own: see `share_statistics`.
        self._network = model if processes.size == 1 else _shared(model)
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._criterion = criterion
        self._optimizer = optimizer
        self._device = device
        self._memory = memory
        self._processes = processes
        self._options = options or StepOptions()
        self._scaler = scaler
        self._averaged = averaged
        self._person_criterion = person_criterion
        self._statistics = BatchStatistics(model)
        self._skipped = self._skipped_steps = self._skipped_in_a_row = 0

    def __call__(self, batch: ClipBatch | None, *, iteration: int) -> dict[str, float] | None:
        """One update. All processes call it for each iteration, those without a readable clip with None.

        Returns:
            Losses and metrics of the whole batch by their logged names, the same in every process; None if it has no
            person. Of a batch that was left out only the count of those so far.

        Raises:
            TrainingError: the loss or the gradients are not finite; the same in every process.
        """
        parts = self._parts(batch)
        counts = [sum(part.num_persons for part in parts), sum(map(len, parts)), float(bool(parts))]
        persons, clips, busy = self._processes.sum(counts)
        everyone = busy == self._processes.size
        if not persons or not self._can_run(parts):
            return None
        self._optimizer.zero_grad(set_to_none=True)
        if self._options.skip_nonfinite:
            self._statistics.keep()
        work = _Work(num_boxes=persons, num_clips=clips)
        for part in parts[:-1]:
            self._backward(self._forward(self._model, part, work))
        loss = None
        if parts:
            loss = self._forward(self._network if everyone else self._model, parts[-1], work)
        values = work.figures.read()
        sums = joined(values, self._processes, everyone=everyone)
        finite = math.isfinite(sums[WHOLE])
        # DistributedDataParallel waits for the backward pass of each forward pass.
        if loss is not None and (finite or self._network is not self._model):
            self._backward(loss)
        if not finite:
            return self._leave_out(f"the loss is {sums[WHOLE]}", _causes(parts, values), iteration)
        if not everyone:
            self._average_gradients()
        changed = self._update()
        if changed is None:
            return self._leave_out("the gradients are not finite", _causes(parts), iteration)
        if self._memory is not None:
            known = None if batch is None or not parts else _joined_features(batch, work.features)
            self._memory.update(batch, known, loss=sums[TOTAL])
        return logged(sums) | changed | self._counts()

    def _parts(self, batch: ClipBatch | None) -> list[ClipBatch]:
        """This process's parts that have persons."""
        if batch is None:
            return []
        parts = [batch] if self._options.parts == 1 else batch.split(self._options.parts)
        return [part for part in parts if part.num_persons]

    def _can_run(self, parts: Sequence[ClipBatch]) -> bool:
        """Synchronised batch norms speak to each other in every forward pass: all processes must make as many."""
        if self._processes.size == 1 or not self._statistics.are_synchronised:
            return True
        counts = self._processes.gather(len(parts))
        if len(set(counts)) == 1:
            return True
        logger.warning("A batch is left out: with SYNC_BN every process needs clips with persons, got %s.", counts)
        return False

    def _forward(self, network: nn.Module, part: ClipBatch, work: _Work) -> Tensor:
        """The part's share of the loss; notes its figures and, for the memory, its features."""
        part = part.to(self._device, non_blocking=True)
        around = () if self._memory is None else (self._memory.window(part.keys),)
        kind = self._options.autocast
        with nullcontext() if kind is None else torch.autocast(self._device.type, dtype=kind):
            output: DetectorOutput = network(part, *around)
        assert part.labels is not None  # training sets have them
        result = self._criterion(output.logits, part.labels, num_boxes=work.num_boxes)
        persons = None
        if self._person_criterion is not None and output.person_losses is not None:
            persons = self._person_criterion(output.person_losses, share=len(part) / work.num_clips)
        if self._memory is not None:
            work.features.append(output.features)
        return work.figures.add(result, persons)

    def _backward(self, loss: Tensor) -> None:
        if self._processes.size > 1:
            loss = loss * self._processes.size  # the mean over the processes makes a sum of it again
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    def _average_gradients(self) -> None:
        """What DistributedDataParallel does, by hand: it cannot do with a process that has nothing."""
        for parameter in self._parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._processes.average([parameter.grad for parameter in self._parameters if parameter.grad is not None])

    def _update(self) -> dict[str, float] | None:
        """Changes the weights; returns figures, None if the gradients are not finite and nothing was changed."""
        figures: dict[str, float] = {}
        if self._options.max_grad_norm:
            if self._scaler is not None:
                self._scaler.unscale_(self._optimizer)
            norm = clip_grad_norm_(self._parameters, self._options.max_grad_norm).item()
            if math.isfinite(norm):
                figures["grad_norm"] = norm
            elif self._scaler is None:
                return None
        if self._scaler is None:
            self._optimizer.step()
        elif not self._scaled_step(self._scaler, figures):
            return figures
        self._skipped_in_a_row = 0
        if self._averaged is not None:
            self._averaged.update()
        return figures

    def _scaled_step(self, scaler: GradScaler, figures: dict[str, float]) -> bool:
        """Whether the weights were changed: the scaler skips steps whose gradients are not finite, and adapts."""
        before = scaler.get_scale()
        scaler.step(self._optimizer)
        scaler.update()
        figures["loss_scale"] = scaler.get_scale()
        if figures["loss_scale"] >= before:
            return True
        self._skipped_steps += 1
        self._count_in_a_row("gradients that are not finite at any loss scale")
        return False

    def _leave_out(self, problem: str, causes: Sequence[tuple[str, str]], iteration: int) -> dict[str, float]:
        """Ends the run, or counts the batch and goes on as if it had not been."""
        places = []
        for rank, told in enumerate(self._processes.gather(list(causes))):
            where = f" (process {rank})" if self._processes.size > 1 else ""
            places += [f"{losses}clips of this batch{where}: {clips}" for losses, clips in told]
        message = f"{problem} in iteration {iteration} {'; '.join(places)}"
        if not self._options.skip_nonfinite:
            self._processes.raise_first(TrainingError(f"{message}. {_ADVICE}"))
        self._optimizer.zero_grad(set_to_none=True)
        self._statistics.restore()
        self._skipped += 1
        logger.warning("Left out (SOLVER.ON_NONFINITE skip): %s", message)
        self._count_in_a_row(f"a loss that is not finite (up to iteration {iteration})")
        return self._counts()

    def _count_in_a_row(self, what: str) -> None:
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= self._options.max_skipped:
            self._processes.raise_first(
                TrainingError(
                    f"{self._skipped_in_a_row} batches in a row had {what}: the weights themselves are spoiled. Go on "
                    "from an earlier checkpoint with a lower SOLVER.BASE_LR."
                )
            )

    def _counts(self) -> dict[str, float]:
        counts = {"skipped_batches": self._skipped, "skipped_steps": self._skipped_steps}
        return {name: float(count) for name, count in counts.items() if count}


def _shared(model: nn.Module) -> DistributedDataParallel:
    """The model with gradients that are the mean over the processes; buffers stay each process's own."""
    # Of kernels of 1 x 1 x 1, for which all strides mean the same.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters:
        return DistributedDataParallel(model, forward_sync_buffers=False)
    return DistributedDataParallel(model, broadcast_buffers=False)  # the name before torch 2.15, which warns of it


def _joined_features(batch: ClipBatch, parts: Sequence[RoiFeatures]) -> RoiFeatures:
    """Of all clips; parts without persons have no rows."""
    person = torch.cat([features.person.detach() for features in parts])
    return RoiFeatures(person=person, person_counts=[len(boxes) for boxes in batch.regions])


def _causes(parts: Sequence[ClipBatch], values: Sequence[dict[str, float]] | None = None) -> list[tuple[str, str]]:
    """(losses, clips) of the parts whose loss in `values` is not finite; without `values` of all parts."""
    causes = []
    for part, figures in zip(parts, values or [{}] * len(parts), strict=True):
        if math.isfinite(figures.get(WHOLE, math.nan)):
            continue
        losses = [f"{name} {value:g}" for name, value in figures.items() if name.startswith("loss_") and name != TOTAL]
        clips = ", ".join(f"{key.movie} at {key.time:g} s" for key in part.keys)
        causes.append((f"({', '.join(losses)}); " if losses else "in ", clips))
    return causes
