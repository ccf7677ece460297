"""Builds the optimizer and the schedule from the configuration."""

from __future__ import annotations

import logging
from collections.abc import Collection

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import SGD, AdamW, Optimizer
from yacs.config import CfgNode

from alphaction.errors import ConfigError
from alphaction.solver.ema import AveragedWeights
from alphaction.solver.lr_schedule import HalfPeriodCosine, Warmup, WarmupMultiStep, WarmupSchedule
from alphaction.solver.optimizer import parameter_groups
from alphaction.solver.scaling import ITERATIONS, RATES, scale, table

logger = logging.getLogger(__name__)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """SGD with momentum, or AdamW, with one group per trainable parameter (`SOLVER.*`).

    Raises:
        ConfigError: an unknown optimizer, or nothing to train.
    """
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
    if solver.OPTIMIZER == "sgd":
        return SGD(groups, lr=float(solver.BASE_LR), momentum=float(solver.MOMENTUM))
    if solver.OPTIMIZER == "adamw":
        first, second = solver.ADAMW_BETAS
        return AdamW(groups, lr=float(solver.BASE_LR), betas=(float(first), float(second)))
    raise ConfigError(f"SOLVER.OPTIMIZER: got {solver.OPTIMIZER!r}, expected 'sgd' or 'adamw'")


def build_scaler(cfg: CfgNode, device: torch.device) -> GradScaler | None:
    """The loss scale of float16, whose smallest numbers are larger than many gradients; None with other precisions."""
    return GradScaler(device.type) if cfg.SOLVER.PRECISION == "float16" else None


def build_averaged(cfg: CfgNode, model: nn.Module) -> AveragedWeights | None:
    """The running mean of the weights (`SOLVER.EMA_DECAY`); None where it is off."""
    decay = float(cfg.SOLVER.EMA_DECAY)
    return AveragedWeights(model, decay=decay) if decay else None


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


def scale_to_batch(cfg: CfgNode, *, given: Collection[str] = ()) -> None:
    """With SOLVER.AUTO_SCALE: changes the schedule to suit VIDEOS_PER_BATCH, and logs old and new values.

    Afterwards REFERENCE_BATCH is VIDEOS_PER_BATCH, since that is what the numbers are meant for now: the configuration,
    saved and given back, is not scaled a second time.

    Args:
        cfg: as `load_config` returns it, not frozen.
        given: keys that the user gave on the command line; they stay as they are.
    """
    solver = cfg.SOLVER
    batch, reference = solver.VIDEOS_PER_BATCH, solver.REFERENCE_BATCH or solver.VIDEOS_PER_BATCH
    if not solver.AUTO_SCALE:
        return
    if batch == reference:
        logger.info("SOLVER.AUTO_SCALE: the schedule is meant for a batch of %d clips already.", batch)
    else:
        values = {key: solver[key] for key in (*RATES, *ITERATIONS)}
        changes = scale(values, batch=batch, reference=reference, kept={key.removeprefix("SOLVER.") for key in given})
        logger.info("%s", table(changes, batch=batch, reference=reference, optimizer=solver.OPTIMIZER))
        for change in changes:
            solver[change.key] = change.new
    solver.REFERENCE_BATCH = batch
