"""What the log says of a training run while it goes on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol

import torch

from alphaction.engine.data_wait import DataWaitHint
from alphaction.modeling.losses import PERSON_LOSSES
from alphaction.utils.distributed import ALONE, Processes
from alphaction.utils.meters import Means
from alphaction.utils.peak_memory import largest, peak_memory, shown_memory

logger = logging.getLogger(__name__)

#: Figures of a step of which the last value is told, not the mean.
_STATES = ("skipped_batches", "skipped_steps", "loss_scale")
#: Batches without a readable clip or person.
EMPTY = "empty_batches"


class ScalarWriter(Protocol):
    """Takes the figures of one iteration (TensorBoard, metrics.jsonl)."""

    def write(self, scalars: dict[str, float], iteration: int) -> None: ...


class Progress:
    """Running figures, told every so often: means over the iterations since the last line.

    Args:
        writer: takes the same figures.
        max_iter: last iteration of the run.
        period: a log line every so many iterations, and after the last one.
        device: whose memory is told.
        processes: of several, times and memory are the largest of any one.
        hint: told the share of the time that was spent waiting for data.
    """

    def __init__(
        self,
        writer: ScalarWriter,
        *,
        max_iter: int,
        period: int,
        device: torch.device,
        processes: Processes = ALONE,
        hint: DataWaitHint | None = None,
    ) -> None:
        self._writer = writer
        self._max_iter = max_iter
        self._period = period
        self._device = device
        self._processes = processes
        self._hint = hint
        self._means = Means()
        self._states: dict[str, float] = {}
        self._empty = 0
        self._seconds, self._count = 0.0, 0
        self._since = 0

    def add(
        self,
        scalars: Mapping[str, float] | None,
        *,
        iteration: int,
        learning_rate: float,
        seconds: float,
        waited: float,
    ) -> None:
        """After every iteration, in every process.

        Args:
            scalars: losses and metrics; None for an iteration without any.
            learning_rate: of the first parameter group, in this iteration.
            seconds: that the iteration took, with the wait for its batch.
            waited: seconds of it that passed before the batch was there.
        """
        self._since = self._since or iteration
        self._empty += scalars is None
        figures = dict(scalars or {})
        self._states |= {name: figures.pop(name) for name in _STATES if name in figures}
        self._means.add(figures | {"time": seconds, "data_time": waited})
        self._seconds, self._count = self._seconds + seconds, self._count + 1
        if iteration % self._period == 0 or iteration == self._max_iter:
            self._tell(iteration, learning_rate=learning_rate)
            self._since = 0

    def _tell(self, iteration: int, *, learning_rate: float) -> None:
        figures = self._means.take()
        own = {name: figures.pop(name) for name in ("time", "data_time")} | peak_memory(self._device)
        # The slowest process sets the pace, the fullest one fails first.
        costs = largest(self._processes.gather(own))
        states = self._states | ({EMPTY: float(self._empty)} if self._empty else {})
        self._writer.write(figures | states | {"learning_rate": learning_rate} | costs, iteration)
        share = costs["data_time"] / max(costs["time"], 1e-9)
        left = timedelta(seconds=int(self._seconds / self._count * (self._max_iter - iteration)))
        parts = [
            f"iteration {iteration}/{self._max_iter}",
            f"eta {left}",
            *shown_figures(figures),
            f"lr {learning_rate:.6g}",
            *shown_states(states),
            f"{costs['time']:.3f} s/it",
            f"data wait {100 * share:.0f} %",
            shown_memory(costs),
        ]
        logger.info("%s", "  ".join(filter(None, parts)))
        if self._hint is not None:
            self._hint.look(share, first=self._since, last=iteration)


def shown_figures(figures: Mapping[str, float]) -> list[str]:
    """Losses, accuracies, then the rest; the parts of a total in brackets behind it."""
    rest = {name: value for name, value in figures.items() if name not in PERSON_LOSSES}
    persons = [f"{name} {value:.4f}" for name, value in figures.items() if name in PERSON_LOSSES]
    shown = []
    for total, prefix in (("loss_action", "loss_"), ("accuracy", "accuracy_")):
        value = rest.pop(total, None)
        parts = {name: rest.pop(name) for name in figures if name.startswith(prefix) and name in rest}
        if value is None:
            continue
        # A model with one class group has one part, which says the same as the total.
        inside = ", ".join(f"{name.removeprefix(prefix)} {part:.4f}" for name, part in parts.items())
        shown.append(f"{total} {value:.4f}" + (f" ({inside})" if len(parts) > 1 else ""))
    return shown + persons + [f"{name} {value:.4g}" for name, value in rest.items()]


def shown_states(states: Mapping[str, float]) -> list[str]:
    """Counts that are not 0, and the loss scale."""
    words = {
        "skipped_batches": "skipped {:.0f}",
        "skipped_steps": "skipped steps {:.0f}",  # the loss scale was too high, and fell
        EMPTY: "empty {:.0f}",
        "loss_scale": "loss scale {:g}",
    }
    return [words[name].format(value) for name, value in states.items() if value]
