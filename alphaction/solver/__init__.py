"""Optimizer with the original's parameter groups, and learning rate schedules."""

from alphaction.solver.build import build_optimizer, build_scheduler, scale_to_batch
from alphaction.solver.lr_schedule import HalfPeriodCosine, Warmup, WarmupMultiStep
from alphaction.solver.optimizer import parameter_groups

__all__ = [
    "HalfPeriodCosine",
    "Warmup",
    "WarmupMultiStep",
    "build_optimizer",
    "build_scheduler",
    "parameter_groups",
    "scale_to_batch",
]
