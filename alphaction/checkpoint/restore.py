"""Gives a saved optimizer, learning rate schedule and other parts back to a run."""

from __future__ import annotations

import copy
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor
from torch.optim import Optimizer

from alphaction.checkpoint.state import AVERAGED, PARTS, SCALER, entry
from alphaction.errors import CheckpointError
from alphaction.utils.logging import alike_in_all

logger = alike_in_all(logging.getLogger(__name__))

#: What the order of the clips depends on, by the entry's name in a checkpoint, as a user knows it.
FACTS = {
    "clips": "training clips",
    "videos_per_batch": "SOLVER.VIDEOS_PER_BATCH",
    "seed": "--seed",
    "processes": "processes",
}
# Parts: what they are called, and the key that turns them on.
_PART_NAMES = {AVERAGED: ("averaged weights", "SOLVER.EMA_DECAY"), SCALER: ("loss scale", "SOLVER.PRECISION float16")}
_POSITION = ("last_epoch", "_step_count", "_last_lr")
_OPTIMIZER_SETTINGS = ("momentum", "betas", "weight_decay")


class Schedule(Protocol):
    """What is asked of a learning rate schedule (see `solver/lr_schedule.py`)."""

    @property
    def end(self) -> int | None: ...

    def rate(self, epoch: int) -> float: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None: ...

    def set_epoch(self, epoch: int) -> None: ...


class Part(Protocol):
    """Something else with a state of its own: averaged weights, a gradient scaler."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> object: ...


def restore_optimizer(optimizer: Optimizer, saved: Any, *, source: pathlib.Path, advice: str) -> None:
    """Takes over buffers, rates, decays and momentum of the file.

    Raises:
        CheckpointError: the state is of other parameters; `advice` says what to do.
    """
    problem = _misfit(optimizer, saved)
    if problem:
        raise CheckpointError(f"{source}: its optimizer does not fit this run's ({problem}). {advice}")
    configured = {name: [group.get(name) for group in optimizer.param_groups] for name in _OPTIMIZER_SETTINGS}
    # The file's tensors are mapped into memory: the optimizer gets copies of its own to update.
    optimizer.load_state_dict(copy.deepcopy(saved))
    restored = {name: [group.get(name) for group in optimizer.param_groups] for name in _OPTIMIZER_SETTINGS}
    changed = [_difference(name, configured[name], restored[name]) for name in configured]
    if any(changed):
        logger.warning(
            "The optimizer continues as saved in %s; the configuration's settings are not used: %s.",
            source,
            ", ".join(filter(None, changed)),
        )


def restore_schedule(
    scheduler: Schedule, saved: Any, *, source: pathlib.Path, iteration: int, adjust_lr: bool, advice: str
) -> None:
    """Takes over the file's schedule, or with `adjust_lr` moves the configured one to the file's iteration.

    To be called after `restore_optimizer`, which brings the file's rates.

    Raises:
        CheckpointError: the file's schedule is of another kind or of other parameters, or its rate comes to 0 before
            the configured one's does; `advice` says what else can be done.
    """
    if not isinstance(saved, Mapping):
        logger.warning("%s holds no schedule: the configuration's goes on at iteration %d.", source, iteration)
        scheduler.set_epoch(iteration)
        return
    if adjust_lr:
        scheduler.set_epoch(int(saved.get("last_epoch", iteration)))
        return
    configured, end, rate = scheduler.state_dict(), scheduler.end, scheduler.rate(iteration)
    try:
        scheduler.load_state_dict(saved)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{source}: its learning rate schedule cannot be continued ({error}). Add --adjust-lr to go on with the "
            f"configuration's schedule. {advice}".rstrip()
        ) from error
    if end is not None and scheduler.end is not None and scheduler.end < end:
        raise CheckpointError(
            f"{source}: SOLVER.MAX_ITER is {end}, but the learning rate of its schedule falls to 0 at iteration "
            f"{scheduler.end}: the iterations after that would learn nothing. Add --adjust-lr to go on with the "
            f"configuration's schedule (rate {rate:g} at iteration {iteration}), or set SOLVER.MAX_ITER "
            f"{scheduler.end}. {advice}".rstrip()
        )
    restored = scheduler.state_dict()
    changed = [_difference(key, configured[key], restored[key]) for key in configured if key not in _POSITION]
    if any(changed):
        logger.warning(
            "The learning rate schedule continues as saved in %s; the configuration's is not used: %s. "
            "Add --adjust-lr to use the configuration's.",
            source,
            ", ".join(filter(None, changed)),
        )


def restore_parts(parts: Mapping[str, Part], content: Mapping[str, Any], *, source: pathlib.Path) -> None:
    """Takes over the other parts' states, as far as file and run have them, and tells where only one of them has.

    Raises:
        CheckpointError: a state does not fit.
    """
    for name in PARTS:
        called, key = _PART_NAMES[name]
        if name in parts and name not in content:
            logger.warning("%s holds no %s: they begin here.", source, called)
        elif name in content and name not in parts:
            logger.warning("%s holds %s, which this run does not go on with (%s is off).", source, called, key)
        elif name in parts:
            try:
                parts[name].load_state_dict(copy.deepcopy(dict(entry(content, name))))
            except (RuntimeError, ValueError, KeyError, TypeError) as error:
                reason = " ".join(str(error).split())
                raise CheckpointError(
                    f"{source}: its {called} cannot be continued ({reason}). Go on without ({key}), or start a new run "
                    "from its weights with --transfer in another OUTPUT_DIR."
                ) from error


def tell_changed_facts(facts: Mapping[str, int], content: Mapping[str, Any], *, source: pathlib.Path) -> None:
    """Warns of other clips, another batch or seed, or another number of processes than in the interrupted run."""
    saved = entry(content, "data")
    changed = [
        f"{text} {facts[name]} (saved: {saved[name]})"
        for name, text in FACTS.items()
        if name in facts and name in saved and facts[name] != saved[name]
    ]
    if changed:
        logger.warning(
            "The run that wrote %s was another one in this: %s. It goes on soundly, but from here on clips may come in "
            "another order and dropout may draw other numbers: its weights will not be exactly those of a run that "
            "was never interrupted.",
            source,
            ", ".join(changed),
        )


def _difference(name: str, configured: object, restored: object) -> str:
    """Both values, of lists over the parameter groups the first that differ; "" if they agree."""
    if configured == restored:
        return ""
    if name not in ("milestones",) and isinstance(configured, list) and isinstance(restored, list):
        pairs = zip(configured, restored, strict=False)
        configured, restored = next((pair for pair in pairs if pair[0] != pair[1]), (configured, restored))
    return f"{name} {configured} (saved: {restored})"


def _misfit(optimizer: Optimizer, saved: object) -> str:
    """Why a saved optimizer state cannot be loaded; "" if it can."""
    if not isinstance(saved, Mapping) or not {"state", "param_groups"} <= set(saved):
        return "it is not the state of an optimizer"
    kinds = [_kind(groups) for groups in (saved["param_groups"], optimizer.param_groups)]
    if kinds[0] != kinds[1]:
        return f"it is of SOLVER.OPTIMIZER {kinds[0]}, this run's is {kinds[1]}"
    theirs = [group["params"] for group in saved["param_groups"]]
    ours = [group["params"] for group in optimizer.param_groups]
    if [len(group) for group in theirs] != [len(group) for group in ours]:
        return f"{sum(map(len, theirs))} parameters in the file, {sum(map(len, ours))} to train in this model"
    for key, parameter in zip(sum(theirs, []), sum(ours, []), strict=True):
        for name, value in (saved["state"].get(key) or {}).items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                return f"{name} of shape {list(value.shape)} for a parameter of shape {list(parameter.shape)}"
    return ""


def _kind(groups: Sequence[Mapping[str, Any]]) -> str:
    """What SOLVER.OPTIMIZER calls an optimizer with these groups; their states have nothing in common."""
    return "adamw" if any("betas" in group for group in groups) else "sgd"
