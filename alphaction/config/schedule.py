"""Numbers of the training schedule that are allowed, but have no effect within the run's length."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from yacs.config import CfgNode

from alphaction.utils.logging import alike_in_all

logger = alike_in_all(logging.getLogger(__name__))

#: Runs of fewer iterations are made to try something out: nobody expects them to learn.
TRIAL = 50


def warn_of_schedule(cfg: CfgNode, *, validates: bool) -> None:
    """One warning with the remarks of `schedule_remarks`, if there are any. Nothing of runs shorter than `TRIAL`.

    Args:
        cfg: with the numbers that the run will take (after SOLVER.AUTO_SCALE).
        validates: the run validates on the way.
    """
    remarks = list(schedule_remarks(cfg, validates=validates))
    if remarks and cfg.SOLVER.MAX_ITER >= TRIAL:
        lines = "\n  ".join(remarks)
        logger.warning("Not all of the schedule happens within SOLVER.MAX_ITER %d:\n  %s", cfg.SOLVER.MAX_ITER, lines)


def schedule_remarks(cfg: CfgNode, *, validates: bool) -> Iterator[str]:
    """What will not happen, one line for each key."""
    solver = cfg.SOLVER
    length, warmup, decay = solver.MAX_ITER, solver.WARMUP_ITERS if solver.WARMUP_ON else 0, solver.EMA_DECAY
    if warmup >= length:
        highest = solver.BASE_LR * _last_factor(solver)
        yield (
            f"SOLVER.WARMUP_ITERS {warmup}: the run never leaves its warm-up; its highest learning rate is {highest:g}"
            f", not SOLVER.BASE_LR {solver.BASE_LR:g}"
        )
    late = [step for step in solver.STEPS if step >= length]
    if late and solver.SCHEDULER == "warmup_multi_step":
        never = "the learning rate never falls" if len(late) == len(solver.STEPS) else f"{late[0]} is not reached"
        yield f"SOLVER.STEPS {tuple(solver.STEPS)}: {never}"
    period, every = solver.CHECKPOINT_PERIOD, solver.EVAL_PERIOD
    if period > length:
        yield f"SOLVER.CHECKPOINT_PERIOD {period}: no checkpoint before the end; a run that is killed begins anew"
    if every > length and validates:
        yield f"SOLVER.EVAL_PERIOD {every}: no validation on the way, only the test at the end"
    if decay and 1 / (1 - decay) > length:
        share = decay**length
        yield f"SOLVER.EMA_DECAY {decay:g}: the mean that is tested is made of the weights at the start to {share:.0%}"


def _last_factor(solver: CfgNode) -> float:
    """Fraction of the full rate in the last iteration of a run that is all warm-up."""
    if solver.WARMUP_METHOD == "constant":
        return solver.WARMUP_FACTOR
    done = (solver.MAX_ITER - 1) / solver.WARMUP_ITERS
    return solver.WARMUP_FACTOR * (1 - done) + done
