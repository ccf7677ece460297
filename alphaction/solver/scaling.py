"""The linear scaling rule: a schedule that was written for one batch size, for another.

With a batch k times as large the rate is k times as high, and there are k times fewer iterations: as many clips are
seen in the whole, and each moves the weights as far as before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction

#: Multiplied by k. A rate.
RATES = ("BASE_LR",)
#: Divided by k: numbers of iterations. LOG_PERIOD is none of them: it says how often a person wants to look.
ITERATIONS = ("MAX_ITER", "STEPS", "WARMUP_ITERS", "CHECKPOINT_PERIOD", "EVAL_PERIOD")

Value = float | int | tuple[int, ...]


@dataclass(frozen=True)
class Change:
    """One key of the schedule.

    Attributes:
        kept: the user gave this very value, so that it was not scaled.
    """

    key: str
    old: Value
    new: Value
    kept: bool = False


def scale(values: Mapping[str, Value], *, batch: int, reference: int, kept: Collection[str] = ()) -> list[Change]:
    """What becomes of a schedule for `reference` clips per batch when a batch has `batch` clips.

    Args:
        values: of each of `RATES` and `ITERATIONS`.
        kept: keys that stay as they are.
    """
    if batch < 1 or reference < 1:
        raise ValueError(f"batch, reference: got {batch} and {reference}, expected 1 or more")
    factor = Fraction(batch, reference)
    changes = []
    for key in (*RATES, *ITERATIONS):
        old = values[key]
        if key in kept:
            changes.append(Change(key, old, old, kept=True))
        elif isinstance(old, tuple):
            changes.append(Change(key, old, tuple(scale_iterations(step, factor) for step in old)))
        elif key in RATES:
            changes.append(Change(key, old, scale_rate(old, factor)))
        else:
            changes.append(Change(key, old, scale_iterations(int(old), factor)))
    return changes


def scale_rate(rate: float, factor: Fraction) -> float:
    """`rate` times k, without the dust of binary fractions: 0.0004 times 1/8 is 0.00005."""
    return float(Fraction(str(rate)) * factor)


def scale_iterations(count: int, factor: Fraction) -> int:
    """`count` divided by k, rounded, at least 1; none stay none."""
    return max(1, round(count / factor)) if count else 0


def table(changes: Collection[Change], *, batch: int, reference: int, optimizer: str) -> str:
    """Old and new values, for the log."""
    factor = Fraction(batch, reference)
    lines = [
        f"SOLVER.AUTO_SCALE: a batch of {batch} clips instead of {reference}: rates times {_times(factor)}, "
        f"iterations times {_times(1 / factor)}" + (" (linear for adamw, too)" if optimizer == "adamw" else "")
    ]
    width = max(len(change.key) for change in changes) + len("SOLVER.")
    olds = [_shown(change.old) for change in changes]
    for change, old in zip(changes, olds, strict=True):
        new = "kept: given on the command line" if change.kept else f"-> {_shown(change.new)}"
        lines.append(f"  {'SOLVER.' + change.key:<{width}}  {old:>{max(map(len, olds))}}  {new}")
    return "\n".join(lines)


def _times(factor: Fraction) -> str:
    return str(factor) if factor.denominator <= 64 else f"{float(factor):.4g}"


def _shown(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
