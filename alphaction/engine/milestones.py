"""Checkpoints and validations on the way, and how a run ends: at its last iteration, early, or when asked to."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from alphaction.engine.best import BEST_MEAN, BestValidation
from alphaction.engine.memory import MEMORY, PersonMemory
from alphaction.utils.distributed import ALONE, Processes
from alphaction.utils.logging import alike_in_all
from alphaction.utils.stop import Interrupted, StopRequest

logger = alike_in_all(logging.getLogger(__name__))

#: Entry of a checkpoint: iteration of the last validation whose result is in it.
VALIDATED = "validated"
#: Names of checkpoints, besides `model_0000100`.
FINAL, BEST = "model_final", "model_best"


class Saver(Protocol):
    """What the loop asks of a checkpointer."""

    def save(self, name: str, *, iteration: int, extra: Mapping[str, object]) -> object: ...

    def save_weights(self, name: str, *, iteration: int) -> object: ...

    def current_random_state(self) -> Mapping[str, object]: ...

    def set_random_state(self, state: Mapping[str, object]) -> None: ...


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

    Args:
        validate: at an iteration -> mAP by data set; raises `Interrupted` if the run is asked to stop meanwhile.
        validated: iteration of the last validation that is finished.
        best: judges the validations.
        keep_best: the weights of the best one are kept as `model_best.pth`.
        final_is_written: the run was resumed from its own `model_final.pth`.
        stop: whether the run is asked to stop.
    """

    def __init__(
        self,
        model: nn.Module,
        checkpointer: Saver,
        validate: Callable[[int], Mapping[str, float]] | None,
        *,
        periods: Periods,
        validated: int,
        memory: PersonMemory | None,
        best: BestValidation | None = None,
        keep_best: bool = False,
        final_is_written: bool = False,
        stop: StopRequest | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self._model = model
        self._checkpointer = checkpointer
        self._validate = validate
        self._periods = periods
        self._validated = validated
        self._memory = memory
        self._best = best or BestValidation()
        self._keep_best = keep_best
        self._final_is_written = final_is_written
        self._stop = stop or StopRequest()
        self._processes = processes

    def resume(self, start_iter: int) -> bool:
        """Before the first iteration; returns whether there is anything left to train."""
        self._warn_of_keys()
        if self._is_due(start_iter) and self._validated < start_iter:
            logger.info("Validation at iteration %d, which has not been made yet:", start_iter)
            self._run_validation(start_iter, saved_as="")  # the run may come from another folder, or model_final.pth
        if start_iter < self._periods.max_iter and not self._best.is_exhausted:
            return True
        if start_iter < self._periods.max_iter:
            self._tell_early(start_iter)
        else:
            logger.info("Nothing left to train: iteration %d of %d is done.", start_iter, self._periods.max_iter)
        if not self._final_is_written and start_iter > 0:
            self._save(FINAL, start_iter, with_memory=False)
        return False

    def reached(self, iteration: int) -> bool:
        """After every iteration; returns whether training goes on.

        Raises:
            Interrupted: the run is asked to stop; all of it is saved.
        """
        name = f"model_{iteration:07d}" if iteration % self._periods.checkpoint == 0 else ""
        if name:
            self._save(name, iteration)
        if iteration == self._periods.max_iter:
            self._save(FINAL, iteration, with_memory=False)
            return False
        self._leave_if_asked(iteration, saved_as=name)
        if not self._is_due(iteration):
            return True
        self._run_validation(iteration, saved_as=name)
        if name:
            self._save(name, iteration)
        if self._best.is_exhausted:
            self._tell_early(iteration)
            self._save(FINAL, iteration, with_memory=False)
            return False
        return True

    def _warn_of_keys(self) -> None:
        """Keys that have no effect in a run without any validation."""
        keys = ["SOLVER.EARLY_STOP_PATIENCE"] * (self._best.patience > 0) + ["SOLVER.KEEP_BEST"] * self._keep_best
        if keys and not self._is_due(self._periods.validation):
            logger.warning(
                "%s: has no effect without any validation before the last iteration (SOLVER.EVAL_PERIOD, "
                "SOLVER.MAX_ITER %d, DATASETS.TEST, --skip-val-in-train).",
                " and ".join(keys), self._periods.max_iter,
            )  # fmt: skip

    def _is_due(self, iteration: int) -> bool:
        period = self._periods.validation
        return (
            self._validate is not None
            and period > 0
            and iteration % period == 0
            and 0 < iteration < self._periods.max_iter
        )

    def _run_validation(self, iteration: int, *, saved_as: str) -> None:
        if self._validate is None:
            return
        before = self._checkpointer.current_random_state()
        try:
            scores = self._validate(iteration)
        except Interrupted as asked:
            # What the half validation drew does not count: the resumed run makes it from its beginning.
            self._checkpointer.set_random_state(before)
            note = " It then makes up for the validation of this iteration."
            raise self._left(iteration, asked.signal, saved_as=saved_as, note=note) from asked
        self._model.train()
        self._validated = iteration
        if self._best.note(scores, iteration=iteration) and self._keep_best:
            self._checkpointer.save_weights(BEST, iteration=iteration)

    def _leave_if_asked(self, iteration: int, *, saved_as: str) -> None:
        if self._stop.agreed(self._processes):
            raise self._left(iteration, self._stop.number, saved_as=saved_as)

    def _left(self, iteration: int, number: int, *, saved_as: str, note: str = "") -> Interrupted:
        """Saves what is not saved, and says what to say at the end."""
        if not saved_as:
            self._save(f"model_{iteration:07d}", iteration)
        return Interrupted(
            f"{signal.Signals(number).name}: stopped after iteration {iteration} of {self._periods.max_iter}, of which "
            f"model_{iteration:07d}.pth holds everything. The same command goes on from there.{note}",
            signal=number,
        )

    def _tell_early(self, iteration: int) -> None:
        logger.info(
            "Training ends early, at iteration %d of %d: no validation was better than %s "
            "(SOLVER.EARLY_STOP_PATIENCE; 0 trains to the end).",
            iteration, self._periods.max_iter, self._best.describe(),
        )  # fmt: skip

    def _save(self, name: str, iteration: int, *, with_memory: bool = True) -> None:
        extra: dict[str, object] = {VALIDATED: self._validated, BEST_MEAN: self._best.state_dict()}
        if self._memory is not None and with_memory:
            logger.info("Memory: %s", self._memory.describe())
            extra[MEMORY] = self._memory.state_dict()
        self._checkpointer.save(name, iteration=iteration, extra=extra)
