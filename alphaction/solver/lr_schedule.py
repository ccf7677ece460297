"""Learning rate schedules, one step per iteration.

The rate is a function of the number of finished iterations alone, so a resumed run has exactly the rates of an
uninterrupted one. The first iteration runs with the rate of epoch 0: call `scheduler.step()` after `optimizer.step()`.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

WARMUP_METHODS = ("linear", "constant")


@dataclass(frozen=True)
class Warmup:
    """How the first iterations' rates are lowered.

    Attributes:
        factor: the first rate as a fraction of the full one.
        iters: length in iterations; 0 = no warm-up.
        method: "linear" rises from `factor` to 1, "constant" stays at `factor`.
    """

    factor: float = 1.0
    iters: int = 0
    method: str = "linear"

    def __post_init__(self) -> None:
        if self.method not in WARMUP_METHODS:
            raise ValueError(f"warm-up method: got {self.method!r}, expected one of {', '.join(WARMUP_METHODS)}")
        if self.iters < 0:
            raise ValueError(f"warm-up iterations: got {self.iters}, expected 0 or more")

    def at(self, epoch: int) -> float:
        """Fraction of the full rate after `epoch` finished iterations."""
        if epoch >= self.iters:
            return 1.0
        if self.method == "constant":
            return self.factor
        done = epoch / self.iters
        return self.factor * (1 - done) + done


class WarmupSchedule(LRScheduler):
    """What the schedules share: the warm-up, a state of plain numbers, and moving to any iteration.

    `state_dict` uses the names of the original's files (`base_lrs`, `last_epoch`, `milestones`, `gamma`,
    `warmup_factor`, `warmup_iters`, `warmup_method`), so schedules travel both ways.
    """

    kind = ""

    def __init__(self, optimizer: Optimizer, *, warmup: Warmup = Warmup()) -> None:  # noqa: B008 (frozen)
        self.warmup = warmup
        super().__init__(optimizer)

    def step(self, epoch: int | None = None) -> None:
        """After every iteration, also after one that was left out: PyTorch would warn of that if it is the first."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            super().step(epoch)

    def factor(self, epoch: int) -> float:
        """Fraction of the base rates after `epoch` finished iterations."""
        raise NotImplementedError

    @property
    def end(self) -> int | None:
        """After so many finished iterations every rate is 0 for good; None = never."""
        return None

    def rate(self, epoch: int) -> float:
        """Of the first parameter group, after `epoch` finished iterations."""
        return float(self.base_lrs[0]) * self.factor(epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The rate of every group at `last_epoch`; called by `step()`."""
        factor = self.factor(self.last_epoch)
        return [base_lr * factor for base_lr in self.base_lrs]

    def set_epoch(self, epoch: int) -> None:
        """Moves this schedule, with its own base rates, to `epoch` finished iterations; sets the optimizer's rates."""
        self.last_epoch = epoch
        self._step_count = epoch + 1
        for group, base_lr, rate in zip(self.optimizer.param_groups, self.base_lrs, self.get_lr(), strict=True):
            group["initial_lr"] = base_lr
            group["lr"] = rate
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def settings(self) -> dict[str, Any]:
        """The schedule without its position: kind, warm-up and the numbers of the kind. Plain values."""
        return {
            "schedule": self.kind,
            "warmup_factor": self.warmup.factor,
            "warmup_iters": self.warmup.iters,
            "warmup_method": self.warmup.method,
        }

    def state_dict(self) -> dict[str, Any]:
        """Settings, base rates and position. Plain values only."""
        return self.settings() | {
            "base_lrs": [float(rate) for rate in self.base_lrs],
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
            "_last_lr": [float(rate) for rate in self._last_lr],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over a saved schedule, the original's too: base rates, milestones, gamma, warm-up and position.

        The optimizer's present rates stay as they are: they come with the optimizer's own state.

        Raises:
            ValueError: the state is of another kind of schedule, or of another number of parameter groups.
        """
        kind = state_dict.get("schedule", "warmup_multi_step" if "milestones" in state_dict else "half_period_cosine")
        if kind != self.kind:
            raise ValueError(f"the saved schedule is {kind!r}, this one {self.kind!r}")
        base_lrs = [float(rate) for rate in state_dict["base_lrs"]]
        if len(base_lrs) != len(self.optimizer.param_groups):
            raise ValueError(
                f"the saved schedule has {len(base_lrs)} parameter groups, "
                f"this optimizer {len(self.optimizer.param_groups)}"
            )
        self._load_settings(state_dict)
        self.base_lrs = [*base_lrs]
        self.last_epoch = int(state_dict["last_epoch"])
        self._step_count = int(state_dict.get("_step_count", self.last_epoch + 1))
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
        for group, base_lr in zip(self.optimizer.param_groups, base_lrs, strict=True):
            group["initial_lr"] = base_lr

    def _load_settings(self, state: Mapping[str, Any]) -> None:
        self.warmup = Warmup(
            factor=float(state.get("warmup_factor", self.warmup.factor)),
            iters=int(state.get("warmup_iters", self.warmup.iters)),
            method=str(state.get("warmup_method", self.warmup.method)),
        )


class WarmupMultiStep(WarmupSchedule):
    """Base rate, multiplied by `gamma` at each milestone; the warm-up factor comes on top.

    Args:
        milestones: numbers of finished iterations, ascending.
        gamma: factor at each milestone.
        warmup: see `Warmup`.
    """

    kind = "warmup_multi_step"

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        milestones: Sequence[int],
        gamma: float = 0.1,
        warmup: Warmup = Warmup(),  # noqa: B008 (frozen)
    ) -> None:
        if list(milestones) != sorted(milestones):
            raise ValueError(f"milestones: got {list(milestones)}, expected ascending numbers")
        self.milestones = [int(milestone) for milestone in milestones]
        self.gamma = float(gamma)
        super().__init__(optimizer, warmup=warmup)

    def factor(self, epoch: int) -> float:
        return self.warmup.at(epoch) * self.gamma ** bisect_right(self.milestones, epoch)

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"milestones": list(self.milestones), "gamma": self.gamma}

    def _load_settings(self, state: Mapping[str, Any]) -> None:
        super()._load_settings(state)
        self.milestones = [int(milestone) for milestone in state.get("milestones", self.milestones)]
        self.gamma = float(state.get("gamma", self.gamma))


class HalfPeriodCosine(WarmupSchedule):
    """Half a cosine from the base rate down to 0 at `max_iter`.

    As in the original the cosine does not know of the warm-up: after it the rate goes on from
    `0.5 * (cos(pi * iters / max_iter) + 1)`, a little below the base rate.

    Args:
        max_iter: length of the training in iterations.
        warmup: see `Warmup`.
    """

    kind = "half_period_cosine"

    def __init__(self, optimizer: Optimizer, *, max_iter: int, warmup: Warmup = Warmup()) -> None:  # noqa: B008 (frozen)
        if max_iter <= 0:
            raise ValueError(f"max_iter: got {max_iter}, expected more than 0")
        self.max_iter = int(max_iter)
        super().__init__(optimizer, warmup=warmup)

    def factor(self, epoch: int) -> float:
        if epoch < self.warmup.iters:
            return self.warmup.at(epoch)
        return 0.5 * (math.cos(math.pi * min(epoch, self.max_iter) / self.max_iter) + 1.0)

    @property
    def end(self) -> int | None:
        return max(self.max_iter, self.warmup.iters)

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"max_iter": self.max_iter}

    def _load_settings(self, state: Mapping[str, Any]) -> None:
        super()._load_settings(state)
        # The original's files spell it in the plural.
        self.max_iter = int(state.get("max_iter", state.get("max_iters", self.max_iter)))
