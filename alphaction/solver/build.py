"""Builds the optimizer and the schedule from the configuration."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, Optimizer
from yacs.config import CfgNode

from alphaction.errors import ConfigError
from alphaction.solver.lr_schedule import HalfPeriodCosine, Warmup, WarmupMultiStep, WarmupSchedule
from alphaction.solver.optimizer import parameter_groups


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """SGD with momentum and one group per trainable parameter (`SOLVER.*`)."""
    solver = cfg.SOLVER
    groups = parameter_groups(
        model,
        base_lr=float(solver.BASE_LR),
        weight_decay=float(solver.WEIGHT_DECAY),
        bias_lr_factor=float(solver.BIAS_LR_FACTOR),
        weight_decay_bias=float(solver.WEIGHT_DECAY_BIAS),
        weight_decay_bn=float(solver.WEIGHT_DECAY_BN),
        interaction_lr_factor=float(solver.IA_LR_FACTOR),
    )
    if not groups:
        raise ConfigError("the model has no trainable parameter, there is nothing to train")
    return SGD(groups, lr=float(solver.BASE_LR), momentum=float(solver.MOMENTUM))


def build_scheduler(cfg: CfgNode, optimizer: Optimizer) -> WarmupSchedule:
    """The schedule named by `SOLVER.SCHEDULER`, to be stepped once per iteration.

    Raises:
        ConfigError: an unknown schedule or numbers that make no schedule.
    """
    solver = cfg.SOLVER
    schedules = {
        WarmupMultiStep.kind: lambda warmup: WarmupMultiStep(
            optimizer, milestones=solver.STEPS, gamma=solver.GAMMA, warmup=warmup
        ),
        HalfPeriodCosine.kind: lambda warmup: HalfPeriodCosine(optimizer, max_iter=solver.MAX_ITER, warmup=warmup),
    }
    if solver.SCHEDULER not in schedules:
        raise ConfigError(f"SOLVER.SCHEDULER: got {solver.SCHEDULER!r}, expected one of {', '.join(schedules)}")
    try:
        warmup = Warmup(
            factor=float(solver.WARMUP_FACTOR),
            iters=int(solver.WARMUP_ITERS) if solver.WARMUP_ON else 0,
            method=solver.WARMUP_METHOD,
        )
        return schedules[solver.SCHEDULER](warmup)
    except ValueError as error:
        raise ConfigError(
            f"SOLVER (STEPS {tuple(solver.STEPS)}, MAX_ITER {solver.MAX_ITER}, WARMUP_METHOD {solver.WARMUP_METHOD!r}, "
            f"WARMUP_ITERS {solver.WARMUP_ITERS}): {error}"
        ) from error
