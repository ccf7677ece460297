"""Builds a run from the configuration, step by step: the scripts' work, and the engine's only file that reads cfg."""

from __future__ import annotations

import logging
import pathlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn
from yacs.config import CfgNode

from alphaction.checkpoint import Checkpointer
from alphaction.dataset import ActionDataset, build_datasets, build_loader, set_num_classes
from alphaction.engine.batch_statistics import share_statistics
from alphaction.engine.best import BestValidation
from alphaction.engine.data_wait import DataWaitHint
from alphaction.engine.evaluate import EvalResult, check_evaluation_files
from alphaction.engine.milestones import BEST, FINAL, VALIDATED, Milestones, Periods
from alphaction.engine.progress import Progress
from alphaction.engine.run_facts import facts, note_start
from alphaction.engine.scalars import open_scalars
from alphaction.engine.startup.agreement import check_agreement
from alphaction.engine.startup.build import Run, open_run, save_config
from alphaction.engine.testing.build import Tester, build_memory, tell_unreadable
from alphaction.engine.train import TrainOptions, train
from alphaction.engine.training.build import build_parts, build_step, build_training_criterion, tested_model
from alphaction.engine.trial.build import try_out
from alphaction.errors import ConfigError
from alphaction.modeling import build_detection_model
from alphaction.solver import build_optimizer, build_scheduler, scale_to_batch
from alphaction.utils.seed import seed_all, seed_rank
from alphaction.utils.stop import StopRequest, telling

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
    dry_run: bool = False


def train_from_config(config_file: str, opts: Sequence[str], flags: TrainFlags) -> None:
    """Trains as the configuration says, validates on the way and tests at the end.

    Raises:
        UserError: anything the user can mend; everything about configuration and data is found before training.
    """
    is_tested = not (flags.skip_validation and flags.skip_final_test)
    keys = ("DATASETS.TRAIN", "DATASETS.TEST") if is_tested else ("DATASETS.TRAIN",)
    with open_run(config_file, opts, keys=keys, log_name=None if flags.dry_run else "log.txt") as run:
        _train(run, opts, flags, is_tested=is_tested)


def _train(run: Run, opts: Sequence[str], flags: TrainFlags, *, is_tested: bool) -> None:
    cfg, device, processes = run.cfg, run.device, run.processes
    scale_to_batch(cfg, given=opts[::2])
    seed_all(flags.seed)
    train_set, test_sets = _datasets_for_training(cfg, is_tested=is_tested)
    cfg.freeze()

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
    state = checkpointer.resume_or_load(
        cfg.MODEL.WEIGHT, transfer=flags.transfer, no_head=flags.no_head, adjust_lr=flags.adjust_lr
    )
    check_agreement(state.source, state.iteration, processes)
    seed_rank(flags.seed, processes.rank)
    if state.source is None and cfg.MODEL.BACKBONE.FROZEN_BN:
        logger.warning(
            "MODEL.BACKBONE.FROZEN_BN is True and there are no weights to start from: batch norms that never saw data "
            "normalise nothing, and the loss will likely explode. Give MODEL.WEIGHT, or set FROZEN_BN False."
        )
    memory = build_memory(cfg, model, train_set, device, processes=processes)
    if memory is not None and state.resumed:
        memory.load(state.extra)
    step = build_step(cfg, model, criterion, optimizer, device=device, memory=memory, processes=processes, parts=parts)
    if flags.dry_run:
        try_out(
            cfg,
            model,
            step,
            train_set=train_set,
            test_sets=test_sets,
            saved=[model, optimizer, *parts.values()],
            memory=memory,
            device=device,
            start_iter=state.iteration,
            seed=flags.seed,
            validates=not flags.skip_validation,
            tests_at_end=not flags.skip_final_test,
            processes=processes,
        )
        return
    if processes.is_main:
        save_config(cfg)  # not before all is read: a refused run must not touch the files of an earlier one
    start = facts(
        device=device, num_processes=processes.size, iteration=state.iteration, weights=str(state.source or "")
    )
    if processes.is_main:
        note_start(pathlib.Path(cfg.OUTPUT_DIR), start)
    tested = tested_model(model, parts)
    tester = Tester(cfg, tested, device, processes=processes)
    writer = open_scalars(
        pathlib.Path(cfg.OUTPUT_DIR),
        tensorboard=flags.tensorboard,
        start_iter=state.iteration,
        is_main=processes.is_main,
    )

    best = BestValidation(patience=cfg.SOLVER.EARLY_STOP_PATIENCE)
    best.load(state.extra)
    with StopRequest() as stop:

        def test(*, quiet: bool) -> Iterator[EvalResult]:
            share_statistics(tested, processes)
            for dataset in test_sets:
                yield tester.run(dataset, quiet=quiet, should_stop=lambda: stop.number)

        def validate_at(iteration: int) -> dict[str, float]:
            scores = {result.name: result.mAP for result in test(quiet=True)}
            writer.write({f"{name}_mAP_{cfg.TEST.IOU_THRESH:g}IOU": value for name, value in scores.items()}, iteration)
            checkpointer.note_validation(scores, iteration=iteration)
            return scores

        before: dict[str, float] = {}
        if cfg.TEST.EVAL_AT_START and state.iteration == 0 and not flags.skip_validation:
            logger.info("Validation before training:")
            with telling("stopped before training; nothing is saved yet. The same command begins again."):
                before = validate_at(0)
        loader = build_loader(
            cfg,
            train_set,
            train=True,
            start_iter=state.iteration,
            seed=flags.seed,
            rank=processes.rank,
            world_size=processes.size,
        )
        checkpointer.restore_random_state()
        finished = train(
            model,
            step,
            loader,
            optimizer,
            scheduler,
            milestones=Milestones(
                model,
                checkpointer,
                None if flags.skip_validation or not test_sets else validate_at,
                periods=Periods(
                    max_iter=cfg.SOLVER.MAX_ITER,
                    checkpoint=cfg.SOLVER.CHECKPOINT_PERIOD,
                    validation=cfg.SOLVER.EVAL_PERIOD,
                ),
                validated=int(state.extra.get(VALIDATED, 0)),
                memory=memory,
                best=best,
                keep_best=cfg.SOLVER.KEEP_BEST,
                final_is_written=state.source == pathlib.Path(cfg.OUTPUT_DIR) / f"{FINAL}.pth",
                stop=stop,
                processes=processes,
            ),
            progress=Progress(
                writer,
                max_iter=cfg.SOLVER.MAX_ITER,
                period=cfg.SOLVER.LOG_PERIOD,
                device=device,
                processes=processes,
                hint=DataWaitHint(num_workers=cfg.DATALOADER.NUM_WORKERS),
            ),
            options=TrainOptions(max_iter=cfg.SOLVER.MAX_ITER, shows_bar=processes.is_main),
            start_iter=state.iteration,
        )
        tell_unreadable(train_set, processes=processes)
        del memory, state, loader, step  # the final test fills a memory of its own
        over = (
            f"stopped in the final test. Training is complete, {FINAL}.pth holds it: the same command makes the test."
        )
        with telling(over):
            for result in test(quiet=False) if not flags.skip_final_test else ():
                writer.write({f"{result.name}_mAP_{cfg.TEST.IOU_THRESH:g}IOU": result.mAP}, finished)
                if result.name in before:
                    logger.info("%s: mAP %.4f before training, %.4f now", result.name, before[result.name], result.mAP)
    writer.close()
    if cfg.SOLVER.KEEP_BEST and best.is_known:
        logger.info(
            "Best validation: %s. Its weights are tested by: python test_net.py --config-file %s MODEL.WEIGHT %s",
            best.describe(), shlex.quote(f"{cfg.OUTPUT_DIR}/config.yaml"), shlex.quote(f"{cfg.OUTPUT_DIR}/{BEST}.pth"),
        )  # fmt: skip
    logger.info("Done. Everything of this run lies in %s", cfg.OUTPUT_DIR)


def test_from_config(config_file: str, opts: Sequence[str]) -> list[EvalResult]:
    """Tests on every data set of DATASETS.TEST and writes the results to OUTPUT_DIR/inference.

    Raises:
        UserError: anything the user can mend.
    """
    with open_run(config_file, opts, keys=("DATASETS.TEST",), log_name="test_log.txt") as run:
        return _test(run, opts)


def _test(run: Run, opts: Sequence[str]) -> list[EvalResult]:
    cfg, device, processes = run.cfg, run.device, run.processes
    seed_all(0)
    test_sets = _test_sets(cfg)
    set_num_classes(cfg, test_sets)
    cfg.freeze()
    model = build_detection_model(cfg).to(device)
    from_command_line = "MODEL.WEIGHT" in opts[::2]
    Checkpointer(cfg.OUTPUT_DIR, model, processes=processes).load_for_test(
        command_line=cfg.MODEL.WEIGHT if from_command_line else "", config=cfg.MODEL.WEIGHT
    )
    tester = Tester(cfg, model, device, processes=processes)
    with StopRequest() as stop:
        return [tester.run(dataset, should_stop=lambda: stop.number) for dataset in test_sets]


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


def _millions(model: nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6
