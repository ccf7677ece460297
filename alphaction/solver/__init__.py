"""Optimizer with the original's parameter groups, learning rate schedules, mean of the weights."""

from alphaction.solver.build import build_averaged, build_optimizer, build_scaler, build_scheduler, scale_to_batch
from alphaction.solver.ema import AveragedWeights
from alphaction.solver.lr_schedule import HalfPeriodCosine, Warmup, WarmupMultiStep
from alphaction.solver.optimizer import parameter_groups

__all__ = [
    "AveragedWeights",
    "HalfPeriodCosine",
    "Warmup",
    "WarmupMultiStep",
    "build_averaged",
    "build_optimizer",
    "build_scaler",
    "build_scheduler",
    "parameter_groups",
    "scale_to_batch",
]
