"""Builds a run from the configuration, step by step: the scripts' work, and the engine's only file that reads cfg."""

from __future__ import annotations

import logging
import pathlib
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence

from yacs.config import CfgNode

from alphaction.checkpoint import Checkpointer, LoadedState
from alphaction.config.other_projects import warn_if_unlike
from alphaction.config.schedule import warn_of_schedule
from alphaction.dataset import ActionDataset, build_datasets, build_loader, set_num_classes
from alphaction.engine.batch_statistics import share_statistics
from alphaction.engine.best import BestValidation
from alphaction.engine.data_wait import DataWaitHint
from alphaction.engine.evaluate import EvalResult, ReportFacts, check_evaluation_files
from alphaction.engine.milestones import BEST, FINAL, VALIDATED, Milestones, Periods
from alphaction.engine.progress import Progress
from alphaction.engine.run_facts import facts, note_start
from alphaction.engine.scalars import NoScalars, ScalarLog, open_scalars
from alphaction.engine.startup.build import Run, open_run, save_config
from alphaction.engine.testing.build import Tester, tell_unreadable
from alphaction.engine.train import TrainOptions, train
from alphaction.engine.training.build import Learner, TrainFlags, build_learner, tested_model
from alphaction.engine.trial.build import try_out
from alphaction.errors import ConfigError
from alphaction.modeling import build_detection_model
from alphaction.solver import scale_to_batch
from alphaction.utils.logging import alike_in_all
from alphaction.utils.seed import seed_all
from alphaction.utils.stop import StopRequest, telling

logger = alike_in_all(logging.getLogger(__name__))


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
    cfg = run.cfg
    scale_to_batch(cfg, given=opts[::2])
    warn_of_schedule(cfg, validates=bool(cfg.DATASETS.TEST) and not flags.skip_validation)
    seed_all(flags.seed)
    train_set, test_sets = _datasets_for_training(cfg, is_tested=is_tested)
    cfg.freeze()
    learner = build_learner(run, flags, train_set)
    if flags.dry_run:
        _try_out(run, flags, learner, train_set, test_sets)
        return
    if run.processes.is_main:
        _note_start(run, learner.start)
    best = BestValidation(patience=cfg.SOLVER.EARLY_STOP_PATIENCE)
    best.load(learner.start.extra)
    best_file = pathlib.Path(cfg.OUTPUT_DIR) / f"{BEST}.pth"
    if cfg.SOLVER.KEEP_BEST and best.is_known and not best_file.is_file():
        logger.warning(
            "SOLVER.KEEP_BEST: the best validation so far, %s, is not in %s: %s will be the next one that is better.",
            best.describe(), cfg.OUTPUT_DIR, best_file.name,
        )  # fmt: skip
    writer = open_scalars(
        pathlib.Path(cfg.OUTPUT_DIR),
        tensorboard=flags.tensorboard,
        start_iter=learner.start.iteration,
        is_main=run.processes.is_main,
    )
    with StopRequest() as stop:
        counts = dict(zip(train_set.annotations.classes.ids, train_set.class_counts().tolist(), strict=True))
        tests = _Tests(run, learner, test_sets, writer, stop, training=counts)
        if cfg.TEST.EVAL_AT_START and learner.start.iteration == 0 and not flags.skip_validation:
            tests.before_training()
        validate = None if flags.skip_validation or not test_sets else tests.validate
        finished = _learn(run, flags, learner, train_set, validate=validate, best=best, writer=writer, stop=stop)
        tell_unreadable(train_set, processes=run.processes)
        del learner  # the final test fills a memory of its own
        if not flags.skip_final_test:
            tests.after_training(finished)
    writer.close()
    if cfg.SOLVER.KEEP_BEST and best.is_known and best_file.is_file():
        logger.info(
            "Best validation: %s. Its weights are tested by: python test_net.py --config-file %s MODEL.WEIGHT %s",
            best.describe(), shlex.quote(f"{cfg.OUTPUT_DIR}/config.yaml"), shlex.quote(str(best_file)),
        )  # fmt: skip
    logger.info("Done. Everything of this run lies in %s", cfg.OUTPUT_DIR)


def _try_out(
    run: Run, flags: TrainFlags, learner: Learner, train_set: ActionDataset, test_sets: Sequence[ActionDataset]
) -> None:
    try_out(
        run.cfg,
        learner.model,
        learner.step,
        train_set=train_set,
        test_sets=test_sets,
        saved=[learner.model, learner.optimizer, *learner.parts.values()],
        memory=learner.memory,
        device=run.device,
        start_iter=learner.start.iteration,
        seed=flags.seed,
        validates=not flags.skip_validation,
        tests_at_end=not flags.skip_final_test,
        processes=run.processes,
    )


def _note_start(run: Run, start: LoadedState) -> None:
    """The run's files on what it is made with: not before all is read, since a refused run touches none of them."""
    save_config(run.cfg)
    note_start(
        pathlib.Path(run.cfg.OUTPUT_DIR),
        facts(
            device=run.device,
            num_processes=run.processes.size,
            iteration=start.iteration,
            weights=str(start.source or ""),
        ),
    )


class _Tests:
    """The tests of a training run: before it, on the way and after it. Their mAP goes to the figures of the run."""

    def __init__(
        self,
        run: Run,
        learner: Learner,
        test_sets: Sequence[ActionDataset],
        writer: ScalarLog | NoScalars,
        stop: StopRequest,
        *,
        training: Mapping[int | str, int],
    ) -> None:
        self._processes = run.processes
        self._model = tested_model(learner.model, learner.parts)
        self._checkpointer = learner.checkpointer
        self._test_sets = test_sets
        self._writer = writer
        self._stop = stop
        facts = ReportFacts(weights=str(pathlib.Path(run.cfg.OUTPUT_DIR) / f"{FINAL}.pth"), training=training)
        self._tester = Tester(run.cfg, self._model, run.device, facts=facts, processes=run.processes)
        self._before: dict[str, float] = {}

    def before_training(self) -> None:
        logger.info("Validation before training:")
        with telling("stopped before training; nothing is saved yet. The same command begins again."):
            self._before = self.validate(0)

    def validate(self, iteration: int) -> dict[str, float]:
        """mAP by data set; it goes into the next checkpoint."""
        results = list(self._results(quiet=True))
        scores = {result.label: result.mAP for result in results}
        self._writer.write({name: value for result in results for name, value in result.figures().items()}, iteration)
        self._checkpointer.note_validation(scores, iteration=iteration)
        return scores

    def after_training(self, iteration: int) -> None:
        """With tables, files and pictures."""
        with telling(
            f"stopped in the final test. Training is complete, {FINAL}.pth holds it: the same command makes the test."
        ):
            for result in self._results(quiet=False):
                self._writer.write(result.figures(), iteration)
                if result.label in self._before:
                    before = self._before[result.label]
                    logger.info("%s: mAP %.4f before training, %.4f now", result.name, before, result.mAP)

    def _results(self, *, quiet: bool) -> Iterator[EvalResult]:
        share_statistics(self._model, self._processes)
        for dataset in self._test_sets:
            yield self._tester.run(dataset, quiet=quiet, should_stop=lambda: self._stop.number)


def _learn(
    run: Run,
    flags: TrainFlags,
    learner: Learner,
    train_set: ActionDataset,
    *,
    validate: Callable[[int], Mapping[str, float]] | None,
    best: BestValidation,
    writer: ScalarLog | NoScalars,
    stop: StopRequest,
) -> int:
    """The training itself, from the first iteration that is left; returns the last one."""
    cfg, processes, start = run.cfg, run.processes, learner.start
    loader = build_loader(
        cfg,
        train_set,
        train=True,
        start_iter=start.iteration,
        seed=flags.seed,
        rank=processes.rank,
        world_size=processes.size,
    )
    milestones = Milestones(
        learner.model,
        learner.checkpointer,
        validate,
        periods=Periods(
            max_iter=cfg.SOLVER.MAX_ITER,
            checkpoint=cfg.SOLVER.CHECKPOINT_PERIOD,
            validation=cfg.SOLVER.EVAL_PERIOD,
        ),
        validated=int(start.extra.get(VALIDATED, 0)),
        memory=learner.memory,
        best=best,
        keep_best=cfg.SOLVER.KEEP_BEST,
        final_is_written=start.source == pathlib.Path(cfg.OUTPUT_DIR) / f"{FINAL}.pth",
        stop=stop,
        processes=processes,
    )
    progress = Progress(
        writer,
        max_iter=cfg.SOLVER.MAX_ITER,
        period=cfg.SOLVER.LOG_PERIOD,
        device=run.device,
        processes=processes,
        hint=DataWaitHint(
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            device_could_transform=cfg.INPUT.TRANSFORM == "exact" and run.device.type != "cpu",
        ),
    )
    learner.checkpointer.restore_random_state()  # last: what was built may have drawn from the generators
    return train(
        learner.model,
        learner.step,
        loader,
        learner.optimizer,
        learner.scheduler,
        milestones=milestones,
        progress=progress,
        options=TrainOptions(max_iter=cfg.SOLVER.MAX_ITER, shows_bar=processes.is_main),
        start_iter=start.iteration,
    )


def test_from_config(config_file: str, opts: Sequence[str], *, explained: bool = False) -> list[EvalResult]:
    """Tests on every data set of DATASETS.TEST and writes the results to OUTPUT_DIR/inference.

    Args:
        explained: say where predictions are lost, however high the mAP is.

    Raises:
        UserError: anything the user can mend.
    """
    with open_run(config_file, opts, keys=("DATASETS.TEST",), log_name="test_log.txt") as run:
        return _test(run, opts, explained=explained)


def _test(run: Run, opts: Sequence[str], *, explained: bool) -> list[EvalResult]:
    cfg, device, processes = run.cfg, run.device, run.processes
    seed_all(0)
    test_sets = _test_sets(cfg)
    set_num_classes(cfg, test_sets)
    cfg.freeze()
    model = build_detection_model(cfg).to(device)
    from_command_line = "MODEL.WEIGHT" in opts[::2]
    state = Checkpointer(cfg.OUTPUT_DIR, model, processes=processes).load_for_test(
        command_line=cfg.MODEL.WEIGHT if from_command_line else "", config=cfg.MODEL.WEIGHT
    )
    if state.report is not None:
        warn_if_unlike(cfg, state.project, source=state.source, with_head=state.report.has_head)
    training = dict(zip(state.class_ids, state.class_counts, strict=False))
    facts = ReportFacts(weights=str(state.source), training=training)
    tester = Tester(cfg, model, device, facts=facts, processes=processes)
    with StopRequest() as stop:
        return [tester.run(dataset, explained=explained, should_stop=lambda: stop.number) for dataset in test_sets]


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
