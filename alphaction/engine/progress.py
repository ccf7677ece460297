"""What the log says of a training run while it goes on."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Protocol

import torch

from alphaction.utils.meters import Meters

logger = logging.getLogger(__name__)


class ScalarWriter(Protocol):
    """Takes the figures of one iteration (TensorBoard, metrics.jsonl)."""

    def write(self, scalars: dict[str, float], iteration: int) -> None: ...


class Progress:
    """Running figures, told every so often.

    Args:
        writer: takes the same figures.
        max_iter: last iteration of the run.
        period: a log line every so many iterations, and after the last one.
        device: whose memory is told.
    """

    def __init__(self, writer: ScalarWriter, *, max_iter: int, period: int, device: torch.device) -> None:
        self._writer = writer
        self._max_iter = max_iter
        self._period = period
        self._device = device
        self._meters = Meters()

    def add(
        self, scalars: dict[str, float] | None, *, iteration: int, learning_rate: float, seconds: float, waited: float
    ) -> None:
        """After every iteration.

        Args:
            scalars: losses and metrics; None for an iteration without any.
            learning_rate: of the first parameter group, in this iteration.
            seconds: that the iteration took, with the wait for its batch.
            waited: seconds of it that passed before the batch was there.
        """
        self._meters.add((scalars or {}) | {"time": seconds, "data_time": waited})
        if iteration % self._period == 0 or iteration == self._max_iter:
            self._tell(iteration, learning_rate=learning_rate)

    def _tell(self, iteration: int, *, learning_rate: float) -> None:
        recent = self._meters.recent()
        seconds, waited = recent.pop("time"), recent.pop("data_time")
        left = timedelta(seconds=int(self._meters["time"].mean * (self._max_iter - iteration)))
        shown = [
            (name, value) for name, value in sorted(recent.items(), key=_loss_first) if not _is_only_part(name, recent)
        ]
        losses = "  ".join(f"{name} {value:.4f}" for name, value in shown)
        device = self._device
        memory = f"  memory {torch.cuda.max_memory_allocated(device) / 2**20:.0f} MiB" if device.type == "cuda" else ""
        logger.info(
            "iteration %d/%d  eta %s  %s  lr %.6g  %.3f s/it  data wait %.0f %%%s",
            iteration, self._max_iter, left, losses, learning_rate, seconds,
            100 * waited / max(seconds, 1e-9), memory,
        )  # fmt: skip
        scalars = recent | {"learning_rate": learning_rate, "time": seconds, "data_time": waited}
        self._writer.write(scalars, iteration)


def _is_only_part(name: str, figures: dict[str, float]) -> bool:
    """Whether `name` belongs to the model's only class group: the total beside it says the same."""
    kind = name.partition("_")[0]
    parts = [other for other in figures if other.startswith(f"{kind}_") and other != "loss_action"]
    return parts == [name]


def _loss_first(item: tuple[str, float]) -> tuple[bool, bool, str]:
    name = item[0]
    return (name != "loss_action", not name.startswith("loss"), name)
