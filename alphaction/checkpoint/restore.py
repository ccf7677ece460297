"""Gives a saved optimizer and learning rate schedule back to a run."""

from __future__ import annotations

import copy
import logging
import pathlib
from collections.abc import Mapping
from typing import Protocol

from torch import Tensor
from torch.optim import Optimizer

from alphaction.errors import CheckpointError

logger = logging.getLogger(__name__)

_POSITION = ("last_epoch", "_step_count", "_last_lr")
_OPTIMIZER_SETTINGS = ("momentum", "weight_decay")


class Schedule(Protocol):
    """What is asked of a learning rate schedule (see `solver/lr_schedule.py`)."""

    def state_dict(self) -> dict[str, object]: ...

    def load_state_dict(self, state_dict: Mapping[str, object]) -> None: ...

    def set_epoch(self, epoch: int) -> None: ...


def restore_optimizer(optimizer: Optimizer, saved: object, *, source: pathlib.Path, advice: str) -> None:
    """Takes over buffers, rates, decays and momentum of the file.

    Raises:
        CheckpointError: the state is of other parameters; `advice` says what to do.
    """
    problem = _misfit(optimizer, saved)
    if problem:
        raise CheckpointError(f"{source}: its optimizer does not fit this model ({problem}). {advice}")
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
    scheduler: Schedule, saved: object, *, source: pathlib.Path, iteration: int, adjust_lr: bool
) -> None:
    """Takes over the file's schedule, or with `adjust_lr` moves the configured one to the file's iteration.

    To be called after `restore_optimizer`, which brings the file's rates.

    Raises:
        CheckpointError: the file's schedule is of another kind or of other parameters.
    """
    if not isinstance(saved, Mapping):
        logger.warning("%s holds no schedule: the configuration's goes on at iteration %d.", source, iteration)
        scheduler.set_epoch(iteration)
        return
    if adjust_lr:
        scheduler.set_epoch(int(saved.get("last_epoch", iteration)))
        return
    configured = scheduler.state_dict()
    try:
        scheduler.load_state_dict(saved)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{source}: its learning rate schedule cannot be continued ({error}). Add --adjust-lr to go on with the "
            "configuration's schedule."
        ) from error
    restored = scheduler.state_dict()
    changed = [_difference(key, configured[key], restored[key]) for key in configured if key not in _POSITION]
    if any(changed):
        logger.warning(
            "The learning rate schedule continues as saved in %s; the configuration's is not used: %s. "
            "Add --adjust-lr to use the configuration's.",
            source,
            ", ".join(filter(None, changed)),
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
    theirs = [group["params"] for group in saved["param_groups"]]
    ours = [group["params"] for group in optimizer.param_groups]
    if [len(group) for group in theirs] != [len(group) for group in ours]:
        return f"{sum(map(len, theirs))} parameters in the file, {sum(map(len, ours))} to train in this model"
    for key, parameter in zip(sum(theirs, []), sum(ours, []), strict=True):
        for name, value in (saved["state"].get(key) or {}).items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                return f"{name} of shape {list(value.shape)} for a parameter of shape {list(parameter.shape)}"
    return ""
