"""What learns, as the configuration says: network, optimizer, schedule, step, and where they start from."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer
from yacs.config import CfgNode

from alphaction.checkpoint import Checkpointer, LoadedState, last_checkpoint
from alphaction.checkpoint.state import AVERAGED, SCALER
from alphaction.config.other_projects import warn_if_unlike
from alphaction.dataset import ActionDataset
from alphaction.engine.memory import PersonMemory
from alphaction.engine.startup.agreement import check_agreement
from alphaction.engine.startup.build import Run
from alphaction.engine.step import Criterion, StepOptions, TrainStep
from alphaction.engine.testing.build import build_memory
from alphaction.errors import ConfigError
from alphaction.modeling import build_criterion, build_detection_model, build_person_criterion
from alphaction.modeling.detector import ActionDetector
from alphaction.solver import AveragedWeights, build_averaged, build_optimizer, build_scaler, build_scheduler
from alphaction.solver.lr_schedule import WarmupSchedule
from alphaction.utils.device import has_bfloat16
from alphaction.utils.distributed import Processes
from alphaction.utils.logging import alike_in_all
from alphaction.utils.seed import seed_rank

logger = alike_in_all(logging.getLogger(__name__))


@dataclass(frozen=True)
class TrainFlags:
    """The flags of train_net.py (its --help says what each does)."""

    transfer: bool = False
    no_head: bool = False
    adjust_lr: bool = False
    tensorboard: bool = False
    skip_validation: bool = False
    skip_final_test: bool = False
    seed: int = 2
    dry_run: bool = False


@dataclass(frozen=True)
class Learner:
    """All that learns.

    Attributes:
        parts: what a step changes besides weights and optimizer (`build_parts`).
        memory: of the training set; None for a model without M blocks.
        start: where the run goes on from.
    """

    model: ActionDetector
    optimizer: Optimizer
    scheduler: WarmupSchedule
    parts: Mapping[str, Any]
    checkpointer: Checkpointer
    memory: PersonMemory | None
    step: TrainStep
    start: LoadedState


def build_learner(run: Run, flags: TrainFlags, train_set: ActionDataset) -> Learner:
    """Everything at the iteration that the run goes on from."""
    cfg, device, processes = run.cfg, run.device, run.processes
    model = build_detection_model(cfg)
    if cfg.MODEL.BACKBONE.SYNC_BN:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.to(device)
    logger.info("Model %s: %.1f million parameters, on %s", cfg.MODEL.BACKBONE.CONV_BODY, _millions(model), device)
    criterion = build_training_criterion(cfg, train_set)
    optimizer = build_optimizer(cfg, model)
    scheduler = build_scheduler(cfg, optimizer)
    parts = build_parts(cfg, model, device)
    checkpointer = Checkpointer(
        cfg.OUTPUT_DIR,
        model,
        optimizer=optimizer,
        scheduler=scheduler,
        parts=parts,
        class_names=train_set.annotations.classes.names,
        class_ids=train_set.annotations.classes.ids,
        class_counts=train_set.class_counts().tolist(),
        rows_by_name=cfg.MODEL.ROI_ACTION_HEAD.COPY_ROWS_BY_NAME,
        config_text=cfg.dump(),
        facts={
            "clips": len(train_set),
            "videos_per_batch": cfg.SOLVER.VIDEOS_PER_BATCH,
            "seed": flags.seed,
            "processes": processes.size,
        },
        keep=cfg.SOLVER.KEEP_CHECKPOINTS,
        processes=processes,
    )
    start = _start(cfg, flags, checkpointer, processes)
    memory = build_memory(cfg, model, train_set, device, processes=processes)
    if memory is not None and start.resumed:
        memory.load(start.extra)
    step = build_step(cfg, model, criterion, optimizer, device=device, memory=memory, processes=processes, parts=parts)
    return Learner(model, optimizer, scheduler, parts, checkpointer, memory, step, start)


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
    if _autocast(cfg) is torch.bfloat16 and not has_bfloat16(device):
        raise ConfigError(
            f"SOLVER.PRECISION: got bfloat16, which {torch.cuda.get_device_name(device)} cannot do; expected float16 "
            "or float32"
        )
    parts = {AVERAGED: build_averaged(cfg, model), SCALER: build_scaler(cfg, device)}
    return {name: part for name, part in parts.items() if part is not None}


def tested_model(model: ActionDetector, parts: Mapping[str, Any]) -> ActionDetector:
    """What validations and tests look at: the mean of the weights, where there is one."""
    averaged = parts.get(AVERAGED)
    return cast(ActionDetector, averaged.model) if isinstance(averaged, AveragedWeights) else model  # a copy of it


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
        person_criterion=build_person_criterion(cfg),
    )


def _autocast(cfg: CfgNode) -> torch.dtype | None:
    return None if cfg.SOLVER.PRECISION == "float32" else getattr(torch, cfg.SOLVER.PRECISION)


def _start(cfg: CfgNode, flags: TrainFlags, checkpointer: Checkpointer, processes: Processes) -> LoadedState:
    """Brings model, optimizer, schedule and random generators to where the run starts, the same in all processes."""
    start = checkpointer.resume_or_load(
        cfg.MODEL.WEIGHT, transfer=flags.transfer, no_head=flags.no_head, adjust_lr=flags.adjust_lr
    )
    check_agreement(start.source, start.iteration, processes)
    if start.report is not None:
        warn_if_unlike(cfg, start.project, source=start.source, with_head=start.report.has_head)
    seed_rank(flags.seed, processes.rank)
    by_weight = last_checkpoint.named_file(pathlib.Path(cfg.OUTPUT_DIR)) is None  # else --transfer would not count
    if start.resumed and by_weight and start.iteration >= cfg.SOLVER.MAX_ITER:
        logger.warning(
            "%s is resumed, and its run has come to iteration %d already (SOLVER.MAX_ITER %d): nothing will be "
            "trained. To start a new run from its weights add --transfer.",
            start.source, start.iteration, cfg.SOLVER.MAX_ITER,
        )  # fmt: skip
    if start.source is None and cfg.MODEL.BACKBONE.FROZEN_BN:
        logger.warning(
            "MODEL.BACKBONE.FROZEN_BN is True and there are no weights to start from: batch norms that never saw data "
            "normalise nothing, and the loss will likely explode. Give MODEL.WEIGHT, or set FROZEN_BN False."
        )
    return start


def _millions(model: nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6
