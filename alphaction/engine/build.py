"""Builds a run from the configuration, step by step: the scripts' work, and the engine's only file that reads cfg."""

from __future__ import annotations

import logging
import os
import pathlib
import platform
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import av
import cv2
import numpy as np
import torch
import torchvision
from torch import nn
from yacs.config import CfgNode

import alphaction
from alphaction.checkpoint import Checkpointer
from alphaction.config import load_config, validate
from alphaction.config.generate import ensure_generated
from alphaction.config.paths_catalog import DatasetCatalog
from alphaction.dataset import ActionDataset, build_datasets, build_loader, set_num_classes
from alphaction.engine.evaluate import EvalResult, check_evaluation_files, evaluate_dataset, result_folder
from alphaction.engine.memory import PersonMemory, check_memory
from alphaction.engine.predict import predict, predict_with_memory
from alphaction.engine.scalars import ScalarLog
from alphaction.engine.train import VALIDATED, TrainOptions, train
from alphaction.errors import ConfigError
from alphaction.modeling import action_groups, build_criterion, build_detection_model, build_postprocess
from alphaction.modeling.detector import ActionDetector
from alphaction.solver import build_optimizer, build_scheduler
from alphaction.structures import FeatureMemory, MemorySpan
from alphaction.utils.atomic import write_text
from alphaction.utils.device import resolve_device
from alphaction.utils.logging import setup_logging
from alphaction.utils.seed import seed_all

logger = logging.getLogger(__name__)


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


def train_from_config(config_file: str, opts: Sequence[str], flags: TrainFlags) -> None:
    """Trains as the configuration says, validates on the way and tests at the end.

    Raises:
        UserError: anything the user can mend; everything about configuration and data is found before training.
    """
    is_tested = not (flags.skip_validation and flags.skip_final_test)
    keys = ("DATASETS.TRAIN", "DATASETS.TEST") if is_tested else ("DATASETS.TRAIN",)
    cfg, device = _start(config_file, opts, keys=keys, log_name="log.txt")
    seed_all(flags.seed)
    train_set, test_sets = _datasets_for_training(cfg, is_tested=is_tested)
    cfg.freeze()

    model = build_detection_model(cfg).to(device)
    logger.info("Model %s: %.1f million parameters, on %s", cfg.MODEL.BACKBONE.CONV_BODY, _millions(model), device)
    optimizer = build_optimizer(cfg, model)
    scheduler = build_scheduler(cfg, optimizer)
    checkpointer = Checkpointer(
        cfg.OUTPUT_DIR,
        model,
        optimizer=optimizer,
        scheduler=scheduler,
        class_names=train_set.annotations.classes.names,
        class_ids=train_set.annotations.classes.ids,
        rows_by_name=cfg.MODEL.ROI_ACTION_HEAD.COPY_ROWS_BY_NAME,
        config_text=cfg.dump(),
    )
    state = checkpointer.resume_or_load(
        cfg.MODEL.WEIGHT, transfer=flags.transfer, no_head=flags.no_head, adjust_lr=flags.adjust_lr
    )
    if state.source is None and cfg.MODEL.BACKBONE.FROZEN_BN:
        logger.warning(
            "MODEL.BACKBONE.FROZEN_BN is True and there are no weights to start from: batch norms that never saw data "
            "normalise nothing, and the loss will likely explode. Give MODEL.WEIGHT, or set FROZEN_BN False."
        )
    memory = _build_memory(cfg, model, train_set, device)
    if memory is not None and state.resumed:
        memory.load(state.extra)
    _save_config(cfg)  # not before all is read: a refused run must not touch the files of an earlier one
    tester = _Tester(cfg, model, device)
    writer = ScalarLog(pathlib.Path(cfg.OUTPUT_DIR), tensorboard=flags.tensorboard, start_iter=state.iteration)

    def validate_at(iteration: int) -> dict[str, float]:
        scores = {result.name: result.mAP for result in (tester.run(dataset, quiet=True) for dataset in test_sets)}
        writer.write({f"{name}_mAP_{cfg.TEST.IOU_THRESH:g}IOU": value for name, value in scores.items()}, iteration)
        checkpointer.note_validation(scores, iteration=iteration)
        return scores

    before: dict[str, float] = {}
    if cfg.TEST.EVAL_AT_START and state.iteration == 0 and not flags.skip_validation:
        logger.info("Validation before training:")
        before = validate_at(0)
    loader = build_loader(cfg, train_set, train=True, start_iter=state.iteration, seed=flags.seed)
    checkpointer.restore_random_state()
    train(
        model,
        build_criterion(cfg),
        loader,
        optimizer,
        scheduler,
        checkpointer,
        device=device,
        options=TrainOptions(
            max_iter=cfg.SOLVER.MAX_ITER,
            checkpoint_period=cfg.SOLVER.CHECKPOINT_PERIOD,
            eval_period=cfg.SOLVER.EVAL_PERIOD,
            log_period=cfg.SOLVER.LOG_PERIOD,
        ),
        start_iter=state.iteration,
        validate=None if flags.skip_validation or not test_sets else validate_at,
        writer=writer,
        validated=int(state.extra.get(VALIDATED, 0)),
        memory=memory,
    )
    _tell_unreadable(train_set)
    del memory, state  # the final test fills a memory of its own
    if not flags.skip_final_test:
        for dataset in test_sets:
            result = tester.run(dataset)
            writer.write({f"{dataset.name}_mAP_{cfg.TEST.IOU_THRESH:g}IOU": result.mAP}, cfg.SOLVER.MAX_ITER)
            if dataset.name in before:
                logger.info("%s: mAP %.4f before training, %.4f now", dataset.name, before[dataset.name], result.mAP)
    writer.close()
    logger.info("Done. Everything of this run lies in %s", cfg.OUTPUT_DIR)


def test_from_config(config_file: str, opts: Sequence[str]) -> list[EvalResult]:
    """Tests on every data set of DATASETS.TEST and writes the results to OUTPUT_DIR/inference.

    Raises:
        UserError: anything the user can mend.
    """
    cfg, device = _start(config_file, opts, keys=("DATASETS.TEST",), log_name="test_log.txt")
    seed_all(0)
    test_sets = _test_sets(cfg)
    set_num_classes(cfg, test_sets)
    cfg.freeze()
    model = build_detection_model(cfg).to(device)
    from_command_line = "MODEL.WEIGHT" in opts[::2]
    Checkpointer(cfg.OUTPUT_DIR, model).load_for_test(
        command_line=cfg.MODEL.WEIGHT if from_command_line else "", config=cfg.MODEL.WEIGHT
    )
    tester = _Tester(cfg, model, device)
    return [tester.run(dataset) for dataset in test_sets]


class _Tester:
    """Runs the model over a data set and evaluates what it said."""

    def __init__(self, cfg: CfgNode, model: ActionDetector, device: torch.device) -> None:
        self._cfg = cfg
        self._model = model
        self._device = device
        self._postprocess = build_postprocess(cfg)

    def run(self, dataset: ActionDataset, *, quiet: bool = False) -> EvalResult:
        """Predicts, evaluates, writes the result files; `quiet` leaves out the table and the pictures."""
        cfg = self._cfg
        loader = build_loader(cfg, dataset, train=False)
        memory = _build_memory(cfg, self._model, dataset, self._device)
        if memory is None:
            predictions = predict(self._model, loader, self._postprocess, self._device)
        else:
            predictions = predict_with_memory(self._model, loader, self._postprocess, self._device, memory=memory)
        result = evaluate_dataset(
            predictions,
            dataset,
            pathlib.Path(cfg.OUTPUT_DIR),
            protocol=cfg.TEST.PROTOCOL,
            iou_threshold=cfg.TEST.IOU_THRESH,
            action_threshold=cfg.TEST.ACTION_THRESH,
            groups=action_groups(cfg),
            num_pictures=0 if quiet else cfg.TEST.NUM_PICTURES,
        )
        logger.info("%s", result.summary() if quiet else result.table())
        _tell_unreadable(dataset)
        if not quiet:
            folder = result_folder(cfg.OUTPUT_DIR, dataset.name)
            logger.info("Table, scores and rows: %s", folder)
            if cfg.TEST.NUM_PICTURES:
                logger.info("Pictures with predicted and true boxes: %s", folder / "pictures")
        return result


def _build_memory(
    cfg: CfgNode, model: ActionDetector, dataset: ActionDataset, device: torch.device
) -> PersonMemory | None:
    """An empty memory for the persons of a data set; None for a model without M blocks.

    Raises:
        ConfigError: the data set has nothing to remember, or (when testing) it does not fit.
    """
    if not model.needs_memory:
        return None
    node, training = cfg.MODEL.IA_STRUCTURE, dataset.is_training
    before, after = node.LENGTH
    span = MemorySpan(before=before, after=after, rate=node.MEMORY_RATE, persons=node.MAX_PER_SEC)
    store = FeatureMemory(
        node.DIM_IN,
        step=node.MEMORY_STEP,
        dtype=getattr(torch, node.MEMORY_DTYPE) if training else torch.float32,
        max_bytes=node.MEMORY_LIMIT_MB * 2**20,
    )
    check_memory(dataset, store, span)
    return PersonMemory(
        store,
        span,
        key_of=dataset.annotations.key,
        device=device,
        penalty=training and node.PENALTY,
        random_choice=training or cfg.QUIRKS.RANDOM_CHOICE_IN_TEST,
    )


def _start(
    config_file: str, opts: Sequence[str], *, keys: Sequence[str], log_name: str
) -> tuple[CfgNode, torch.device]:
    """Reads and checks the configuration, opens the run's folder and its log, makes generated data sets.

    Args:
        keys: those of the data sets that will be used; the first must name one.
    """
    cfg = load_config(config_file, opts)
    validate(cfg)
    device = resolve_device(cfg.MODEL.DEVICE)
    _refuse_processes()
    named = {"DATASETS.TRAIN": cfg.DATASETS.TRAIN, "DATASETS.TEST": cfg.DATASETS.TEST}
    if not named[keys[0]]:
        raise ConfigError(
            f"{keys[0]} is empty: name a data set, e.g. {keys[0]} \"('my/dataset.yaml:split',)\" at the end of the line"
        )
    names = dict.fromkeys(name for key in keys for name in named[key])
    entries = [DatasetCatalog.get(name) for name in names]
    output_dir = _writable(cfg.OUTPUT_DIR)
    setup_logging(output_dir / log_name)
    logger.info("%s", _environment(device))
    logger.info("Configuration %s %s\n%s", config_file, shlex.join(opts), cfg.dump())
    for entry in entries:
        ensure_generated(entry)
    return cfg, device


def _datasets_for_training(cfg: CfgNode, *, is_tested: bool) -> tuple[ActionDataset, list[ActionDataset]]:
    """The training set and the sets to validate and test on (none when neither will happen)."""
    [train_set] = build_datasets(cfg, "train")
    test_sets = _test_sets(cfg) if is_tested else []
    if is_tested and not test_sets:
        logger.warning("DATASETS.TEST is empty: there will be no validation and no final test.")
    set_num_classes(cfg, [train_set, *test_sets])
    return train_set, test_sets


def _test_sets(cfg: CfgNode) -> list[ActionDataset]:
    """The sets of DATASETS.TEST; what their evaluation needs is read once, so that its faults show up now."""
    test_sets = build_datasets(cfg, "test")
    names = [dataset.name for dataset in test_sets]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"DATASETS.TEST: two of the data sets are called {twice}, so that one's results would overwrite the "
            "other's. Give them different names ('name' in the dataset.yaml)."
        )
    for dataset in test_sets:
        check_evaluation_files(dataset)
    return test_sets


def _refuse_processes() -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}: this version trains and tests with one process. "
            "Start it with plain `python train_net.py ...` (or --nproc_per_node=1)."
        )


def _tell_unreadable(dataset: ActionDataset) -> None:
    """The total; each clip was named when it was met."""
    if dataset.num_unreadable:
        logger.warning(
            "%s: %d of %d clips could not be read and were left out (DATASETS.ON_ERROR skip)",
            dataset.name, dataset.num_unreadable, len(dataset),
        )  # fmt: skip


def _writable(output_dir: str) -> pathlib.Path:
    """OUTPUT_DIR, made if need be, after a file was written to it for a try."""
    folder = pathlib.Path(output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"OUTPUT_DIR {output_dir}: cannot be written to ({error.strerror}). "
            "Give another folder at the end of the line: OUTPUT_DIR path/to/folder"
        ) from error
    return folder


def _environment(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    versions = {
        "alphaction": alphaction.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "av": av.__version__,
    }
    return f"Device {device} ({name}); " + ", ".join(f"{key} {value}" for key, value in versions.items())


def _save_config(cfg: CfgNode) -> None:
    """The run's whole configuration, for people and for `--config-file`."""
    write_text(pathlib.Path(cfg.OUTPUT_DIR) / "config.yaml", text=cfg.dump())


def _millions(model: nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6
