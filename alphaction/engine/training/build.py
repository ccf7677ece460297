"""The training step as the configuration says."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from yacs.config import CfgNode

from alphaction.checkpoint.state import AVERAGED, SCALER
from alphaction.dataset import ActionDataset
from alphaction.engine.memory import PersonMemory
from alphaction.engine.step import Criterion, StepOptions, TrainStep
from alphaction.errors import ConfigError
from alphaction.modeling import build_criterion
from alphaction.solver import AveragedWeights, build_averaged, build_scaler
from alphaction.utils.distributed import Processes

logger = logging.getLogger(__name__)


def build_training_criterion(cfg: CfgNode, train_set: ActionDataset) -> Criterion:
    """The losses, with the weights of the training set's classes."""
    return build_criterion(
        cfg, class_counts=train_set.class_counts().tolist(), class_names=train_set.annotations.classes.names
    )


def build_parts(cfg: CfgNode, model: nn.Module, device: torch.device) -> dict[str, Any]:
    """What a step changes besides weights and optimizer, by the name of its entry in a checkpoint.

    Raises:
        ConfigError: the device cannot compute in this precision.
    """
    if _autocast(cfg) is torch.bfloat16 and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigError(
            f"SOLVER.PRECISION: got bfloat16, which {torch.cuda.get_device_name(device)} cannot do; expected float16 "
            "or float32"
        )
    parts = {AVERAGED: build_averaged(cfg, model), SCALER: build_scaler(cfg, device)}
    return {name: part for name, part in parts.items() if part is not None}


def tested_model(model: nn.Module, parts: Mapping[str, Any]) -> nn.Module:
    """What validations and tests look at: the mean of the weights, where there is one."""
    averaged = parts.get(AVERAGED)
    return averaged.model if isinstance(averaged, AveragedWeights) else model


def build_step(
    cfg: CfgNode,
    model: nn.Module,
    criterion: Criterion,
    optimizer: Optimizer,
    *,
    device: torch.device,
    memory: PersonMemory | None,
    processes: Processes,
    parts: Mapping[str, Any],
) -> TrainStep:
    """What happens with each batch.

    Args:
        parts: from `build_parts`.
    """
    solver = cfg.SOLVER
    told = {
        "ACCUMULATION_STEPS": (solver.ACCUMULATION_STEPS, 1),
        "OPTIMIZER": (solver.OPTIMIZER, "sgd"),
        "PRECISION": (solver.PRECISION, "float32"),
        "MAX_GRAD_NORM": (solver.MAX_GRAD_NORM, 0),
        "ON_NONFINITE": (solver.ON_NONFINITE, "raise"),
        "EMA_DECAY": (solver.EMA_DECAY, 0),
    }
    changed = ", ".join(f"{key} {value}" for key, (value, default) in told.items() if value != default)
    if changed:
        logger.info("Training step: %s", changed)
    return TrainStep(
        model,
        criterion,
        optimizer,
        device=device,
        memory=memory,
        processes=processes,
        options=StepOptions(
            parts=solver.ACCUMULATION_STEPS,
            autocast=_autocast(cfg),
            max_grad_norm=float(solver.MAX_GRAD_NORM),
            skip_nonfinite=solver.ON_NONFINITE == "skip",
        ),
        scaler=parts.get(SCALER),
        averaged=parts.get(AVERAGED),
    )


def _autocast(cfg: CfgNode) -> torch.dtype | None:
    return None if cfg.SOLVER.PRECISION == "float32" else getattr(torch, cfg.SOLVER.PRECISION)
