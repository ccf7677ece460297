"""The training loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from alphaction.engine.memory import MEMORY, PersonMemory
from alphaction.errors import UserError
from alphaction.structures import ClipBatch, DetectorOutput
from alphaction.utils.meters import Meters

logger = logging.getLogger(__name__)

#: Entry of a checkpoint: iteration of the last validation whose result is in it.
VALIDATED = "validated"


class TrainingError(UserError):
    """Training cannot go on: the loss is not finite."""


class Criterion(Protocol):
    def __call__(self, logits: Tensor, labels: Tensor, num_boxes: float) -> LossOutput: ...


class LossOutput(Protocol):
    losses: dict[str, Tensor]
    total: Tensor
    metrics: dict[str, Tensor]


class Saver(Protocol):
    """What the loop asks of a checkpointer."""

    def save(self, name: str, *, iteration: int, extra: Mapping[str, object]) -> object: ...


class ScalarWriter(Protocol):
    """Takes the figures of one iteration (TensorBoard, metrics.jsonl)."""

    def write(self, scalars: dict[str, float], iteration: int) -> None: ...


@dataclass(frozen=True)
class TrainOptions:
    """Lengths and periods, in iterations.

    Attributes:
        max_iter: the run ends after this iteration.
        checkpoint_period: a checkpoint `model_0000100.pth` every so often; `model_final.pth` at the end.
        eval_period: validation every so often; 0 = none.
        log_period: a log line every so often.
        max_empty_batches: so many batches in a row without any readable clip or person end the run.
    """

    max_iter: int
    checkpoint_period: int
    eval_period: int
    log_period: int
    max_empty_batches: int = 100


def train(
    model: nn.Module,
    criterion: Criterion,
    loader: Iterable[ClipBatch | None],
    optimizer: Optimizer,
    scheduler: LRScheduler,
    checkpointer: Saver,
    *,
    device: torch.device,
    options: TrainOptions,
    start_iter: int,
    validate: Callable[[int], object] | None,
    writer: ScalarWriter,
    validated: int = 0,
    memory: PersonMemory | None = None,
) -> None:
    """Trains from `start_iter` to `options.max_iter`.

    Args:
        model: returns a `DetectorOutput` for a `ClipBatch` on `device` and, if there is one, a window of the memory.
        criterion: `(logits, labels, num_boxes) -> losses, weighted total, metrics`.
        loader: yields the batches of the iterations `start_iter + 1 .. max_iter`; None = no clip was readable.
        validate: called with the iteration every `eval_period`, but not after the last iteration.
        validated: iteration of the last validation that the resumed checkpoint knows of (its entry `VALIDATED`).
        memory: of the training set, for a model with M blocks. Checkpoints on the way hold it, the final one does not.

    Raises:
        TrainingError: the loss is not finite, or no batch holds anything to train on.
    """
    if start_iter >= options.max_iter:
        logger.info("Nothing left to train: iteration %d of %d is done.", start_iter, options.max_iter)
    meters = Meters()
    empty = 0
    milestones = _Milestones(model, checkpointer, validate, options=options, validated=validated, memory=memory)
    milestones.resume(start_iter)
    model.train()
    for iteration, batch, data_time in _timed(loader, start_iter, options.max_iter):
        started = time.perf_counter()
        learning_rate = optimizer.param_groups[0]["lr"]
        if batch is None or batch.num_persons == 0:
            empty += 1
            if empty >= options.max_empty_batches:
                raise TrainingError(
                    f"{empty} batches in a row (up to iteration {iteration}) held no readable clip with a person. "
                    "Look at the warnings above and at the data report in log.txt."
                )
        else:
            empty = 0
            batch = batch.to(device, non_blocking=True)
            meters.add(_step(model, criterion, batch, optimizer, iteration=iteration, memory=memory))
        scheduler.step()
        meters.add({"time": time.perf_counter() - started + data_time, "data_time": data_time})

        done = iteration == options.max_iter
        if iteration % options.log_period == 0 or done:
            _report(meters, writer, iteration, options.max_iter, learning_rate=learning_rate, device=device)
        milestones.reached(iteration)


class _Milestones:
    """Checkpoints and validations, in an order that a run killed at any moment can take up again.

    A checkpoint is written before the validation of its iteration, which may take long, and once more after it, with
    the result. From the entry `VALIDATED` a resumed run knows whether it has to make up for the validation.
    """

    def __init__(
        self,
        model: nn.Module,
        checkpointer: Saver,
        validate: Callable[[int], object] | None,
        *,
        options: TrainOptions,
        validated: int,
        memory: PersonMemory | None,
    ) -> None:
        self._model = model
        self._checkpointer = checkpointer
        self._validate = validate
        self._options = options
        self._validated = validated
        self._memory = memory

    def resume(self, start_iter: int) -> None:
        """Before the first iteration."""
        if self._is_due(start_iter) and self._validated < start_iter:
            logger.info("Validation at iteration %d, which the interrupted run did not finish:", start_iter)
            self._run_validation(start_iter)

    def reached(self, iteration: int) -> None:
        """After every iteration."""
        name = f"model_{iteration:07d}" if iteration % self._options.checkpoint_period == 0 else ""
        if name:
            self._save(name, iteration)
        if iteration == self._options.max_iter:
            self._save("model_final", iteration, with_memory=False)
        if self._is_due(iteration):
            self._run_validation(iteration)
            if name:
                self._save(name, iteration)

    def _is_due(self, iteration: int) -> bool:
        period = self._options.eval_period
        return (
            self._validate is not None
            and period > 0
            and iteration % period == 0
            and 0 < iteration < self._options.max_iter
        )

    def _run_validation(self, iteration: int) -> None:
        self._validate(iteration)
        self._validated = iteration
        self._model.train()

    def _save(self, name: str, iteration: int, *, with_memory: bool = True) -> None:
        extra: dict[str, object] = {VALIDATED: self._validated}
        if self._memory is not None and with_memory:
            logger.info("Memory: %s", self._memory.describe())
            extra[MEMORY] = self._memory.state_dict()
        self._checkpointer.save(name, iteration=iteration, extra=extra)


def _timed(
    loader: Iterable[ClipBatch | None], start_iter: int, max_iter: int
) -> Iterator[tuple[int, ClipBatch | None, float]]:
    """(iteration, batch, seconds waited for the batch), with a progress bar on a terminal."""
    waited_from = time.perf_counter()
    with tqdm(total=max_iter, initial=start_iter, desc="train", unit="it", disable=None, leave=False) as bar:
        for iteration, batch in enumerate(loader, start_iter + 1):
            yield iteration, batch, time.perf_counter() - waited_from
            bar.update()
            waited_from = time.perf_counter()


def _step(
    model: nn.Module,
    criterion: Criterion,
    batch: ClipBatch,
    optimizer: Optimizer,
    *,
    iteration: int,
    memory: PersonMemory | None,
) -> dict[str, float]:
    """One update; returns the losses and metrics by their logged names."""
    around = () if memory is None else (memory.window(batch.keys),)
    output: DetectorOutput = model(batch, *around)
    result = criterion(output.logits, batch.labels, num_boxes=float(batch.num_persons))
    total = result.total.item()
    if not math.isfinite(total):
        clips = ", ".join(f"{key.movie} at {key.time:g} s" for key in batch.keys)
        parts = ", ".join(f"{name} {value.item():g}" for name, value in result.losses.items())
        raise TrainingError(
            f"the loss is {total} in iteration {iteration} ({parts}); clips of this batch: {clips}. "
            "Lower SOLVER.BASE_LR or lengthen SOLVER.WARMUP_ITERS; the last checkpoint is still good."
        )
    optimizer.zero_grad(set_to_none=True)
    result.total.backward()
    optimizer.step()
    if memory is not None:
        memory.update(batch, output.features, loss=total)
    scalars = {name: value.item() for name, value in (result.losses | result.metrics).items()}
    scalars["loss_action"] = total
    if result.metrics:
        scalars["accuracy"] = sum(value.item() for value in result.metrics.values()) / len(result.metrics)
    return scalars


def _report(
    meters: Meters, writer: ScalarWriter, iteration: int, max_iter: int, *, learning_rate: float, device: torch.device
) -> None:
    recent = meters.recent()
    seconds, waited = recent.pop("time"), recent.pop("data_time")
    left = timedelta(seconds=int(meters["time"].mean * (max_iter - iteration)))
    shown = [
        (name, value) for name, value in sorted(recent.items(), key=_loss_first) if not _is_only_part(name, recent)
    ]
    losses = "  ".join(f"{name} {value:.4f}" for name, value in shown)
    memory = f"  memory {torch.cuda.max_memory_allocated(device) / 2**20:.0f} MiB" if device.type == "cuda" else ""
    logger.info(
        "iteration %d/%d  eta %s  %s  lr %.6g  %.3f s/it  data wait %.0f %%%s",
        iteration, max_iter, left, losses, learning_rate, seconds, 100 * waited / max(seconds, 1e-9), memory,
    )  # fmt: skip
    scalars = recent | {"learning_rate": learning_rate, "time": seconds, "data_time": waited}
    writer.write(scalars, iteration)


def _is_only_part(name: str, figures: dict[str, float]) -> bool:
    """Whether `name` belongs to the model's only class group: the total beside it says the same."""
    kind = name.partition("_")[0]
    parts = [other for other in figures if other.startswith(f"{kind}_") and other != "loss_action"]
    return parts == [name]


def _loss_first(item: tuple[str, float]) -> tuple[bool, bool, str]:
    name = item[0]
    return (name != "loss_action", not name.startswith("loss"), name)
