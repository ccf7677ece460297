"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from alphaction.engine.milestones import Milestones
from alphaction.engine.progress import Progress
from alphaction.engine.step import TrainingError
from alphaction.structures import ClipBatch
from alphaction.utils.watch import beat, note


@dataclass(frozen=True)
class TrainOptions:
    """Lengths, in iterations.

    Attributes:
        max_iter: the run ends after this iteration.
        max_empty_batches: so many batches in a row without any readable clip or person end the run.
        shows_bar: a progress bar on a terminal.
    """

    max_iter: int
    max_empty_batches: int = 100
    shows_bar: bool = True


class Step(Protocol):
    """What happens with a batch; None when there was nothing to train on."""

    def __call__(self, batch: ClipBatch | None, *, iteration: int) -> dict[str, float] | None: ...


def train(
    model: nn.Module,
    step: Step,
    loader: Iterable[ClipBatch | None],
    optimizer: Optimizer,
    scheduler: LRScheduler,
    *,
    milestones: Milestones,
    progress: Progress,
    options: TrainOptions,
    start_iter: int,
) -> int:
    """Trains from `start_iter` to `options.max_iter`, or until the milestones say that it is enough.

    Args:
        loader: yields the batches of the iterations `start_iter + 1 .. max_iter`; None = no clip was readable.

    Returns:
        The last iteration.

    Raises:
        TrainingError: the loss is not finite, or no batch holds anything to train on.
        Interrupted: the run is asked to stop; all of it is saved.
    """
    iteration = start_iter
    if not milestones.resume(start_iter):
        return iteration
    empty = 0
    model.train()
    for iteration, batch, waited in _timed(loader, start_iter, options):
        started = time.perf_counter()
        learning_rate = optimizer.param_groups[0]["lr"]
        scalars = step(batch, iteration=iteration)
        empty = 0 if scalars is not None else empty + 1
        if empty >= options.max_empty_batches:
            raise TrainingError(
                f"{empty} batches in a row (up to iteration {iteration}) held no readable clip with a person. "
                "Look at the warnings above and at the data report in log.txt."
            )
        scheduler.step()
        seconds = time.perf_counter() - started + waited
        progress.add(scalars, iteration=iteration, learning_rate=learning_rate, seconds=seconds, waited=waited)
        if not milestones.reached(iteration):
            break
    return iteration


def _timed(
    loader: Iterable[ClipBatch | None], start_iter: int, options: TrainOptions
) -> Iterator[tuple[int, ClipBatch | None, float]]:
    """(iteration, batch, seconds waited for the batch), with a progress bar on a terminal."""
    waited_from = time.perf_counter()
    disable = None if options.shows_bar else True
    with tqdm(total=options.max_iter, initial=start_iter, desc="train", unit="it", disable=disable, leave=False) as bar:
        note(f"data of iteration {start_iter + 1}")
        for iteration, batch in enumerate(loader, start_iter + 1):
            beat(f"iteration {iteration}")
            yield iteration, batch, time.perf_counter() - waited_from
            note(f"data of iteration {iteration + 1}")
            bar.update()
            waited_from = time.perf_counter()
