"""Checkpoints and validations on the way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from alphaction.engine.memory import MEMORY, PersonMemory

logger = logging.getLogger(__name__)

#: Entry of a checkpoint: iteration of the last validation whose result is in it.
VALIDATED = "validated"


class Saver(Protocol):
    """What the loop asks of a checkpointer."""

    def save(self, name: str, *, iteration: int, extra: Mapping[str, object]) -> object: ...


@dataclass(frozen=True)
class Periods:
    """When, in iterations.

    Attributes:
        max_iter: the run ends after this iteration.
        checkpoint: a checkpoint `model_0000100.pth` every so often; `model_final.pth` at the end.
        validation: every so often, but not after the last iteration; 0 = none.
    """

    max_iter: int
    checkpoint: int
    validation: int


class Milestones:
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
        periods: Periods,
        validated: int,
        memory: PersonMemory | None,
    ) -> None:
        self._model = model
        self._checkpointer = checkpointer
        self._validate = validate
        self._periods = periods
        self._validated = validated
        self._memory = memory

    def resume(self, start_iter: int) -> None:
        """Before the first iteration."""
        if self._is_due(start_iter) and self._validated < start_iter:
            logger.info("Validation at iteration %d, which the interrupted run did not finish:", start_iter)
            self._run_validation(start_iter)

    def reached(self, iteration: int) -> None:
        """After every iteration."""
        name = f"model_{iteration:07d}" if iteration % self._periods.checkpoint == 0 else ""
        if name:
            self._save(name, iteration)
        if iteration == self._periods.max_iter:
            self._save("model_final", iteration, with_memory=False)
        if self._is_due(iteration):
            self._run_validation(iteration)
            if name:
                self._save(name, iteration)

    def _is_due(self, iteration: int) -> bool:
        period = self._periods.validation
        return (
            self._validate is not None
            and period > 0
            and iteration % period == 0
            and 0 < iteration < self._periods.max_iter
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
