"""--dry-run: a few steps and test batches of the run that the configuration describes, and what all of it will take."""

from __future__ import annotations

import logging
import pathlib
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from alphaction.dataset import ActionDataset, build_loader
from alphaction.engine.data_wait import usable_cores
from alphaction.engine.memory import PersonMemory
from alphaction.engine.predict import predict, predict_with_memory
from alphaction.engine.testing.build import build_memory
from alphaction.engine.trial.report import Estimate, Plan, ScoredSet, Sizes, count_between, tensor_bytes
from alphaction.engine.trial.times import (
    STEPS,
    BatchTime,
    Machine,
    slowest,
    time_reading,
    time_steps,
    time_test,
)
from alphaction.modeling import build_postprocess
from alphaction.modeling.detector import ActionDetector
from alphaction.structures import ClipBatch
from alphaction.utils.distributed import ALONE, Processes
from alphaction.utils.launch import processes_of_this_machine
from alphaction.utils.peak_memory import largest, peak_memory, shown_memory

logger = logging.getLogger(__name__)

#: Batches of each test set: the first warms up.
_TEST_BATCHES = 2
_PREFETCHED = 2  # batches that each of PyTorch's workers holds ready


class Saved(Protocol):
    """A part of a checkpoint."""

    def state_dict(self) -> dict[str, object]: ...


class Step(Protocol):
    """A training step."""

    def __call__(self, batch: ClipBatch | None, *, iteration: int) -> object: ...


def try_out(
    cfg: CfgNode,
    model: ActionDetector,
    step: Step,
    *,
    train_set: ActionDataset,
    test_sets: Sequence[ActionDataset],
    saved: Sequence[Saved],
    memory: PersonMemory | None,
    device: torch.device,
    start_iter: int,
    seed: int,
    validates: bool,
    tests_at_end: bool,
    processes: Processes = ALONE,
) -> Estimate:
    """Makes the first steps of the run and tests the first batches, and logs what the whole run will take.

    Writes no file. The weights change, of course.

    Args:
        step: the run's own.
        saved: what checkpoints hold, besides the memory.
        memory: of the training set.
        start_iter: iteration that the run goes on from.
        validates, tests_at_end: whether the run validates on the way, and tests after training.

    Raises:
        UserError: as in the run itself.
    """
    trial = _Trial(cfg, model, device, seed, processes)
    logger.info("Dry run: the first steps. Nothing is written to %s.", cfg.OUTPUT_DIR)
    train, steps, waiting = trial.train(step, train_set, start_iter)
    tested = [trial.test(dataset) for dataset in test_sets]
    used = largest(processes.gather(largest([trial.memory, peak_memory(device)])))
    estimate = Estimate(
        plan=_plan(cfg, train_set, start_iter, validates=validates, tests_at_end=tests_at_end, processes=processes),
        train=train,
        tests=tested,
        machine=trial.machine,
        sizes=Sizes(
            checkpoint=tensor_bytes([part.state_dict() for part in saved]),
            weights=tensor_bytes(model.state_dict()),
            waiting=waiting,
            remembered=None if memory is None else _remembered(train_set, memory),
            remembered_in_test=None if memory is None or not test_sets else max(map(_features(cfg), test_sets)),
            free=shutil.disk_usage(existing_part(cfg.OUTPUT_DIR)).free,
        ),
        memory_so_far=shown_memory(used).removeprefix("memory "),
        steps=steps,
        output_dir=cfg.OUTPUT_DIR,
        notes=_notes(cfg),
    )
    logger.info("%s", estimate.table())
    if estimate.disk_bytes > estimate.sizes.free:
        logger.warning("The disk of %s will be full before the run ends: see SOLVER.KEEP_CHECKPOINTS.", cfg.OUTPUT_DIR)
    return estimate


class _Trial:
    """The parts of the run that are timed."""

    def __init__(
        self, cfg: CfgNode, model: ActionDetector, device: torch.device, seed: int, processes: Processes
    ) -> None:
        self._cfg = cfg
        self._model = model
        self._device = device
        self._seed = seed
        self._processes = processes
        self.machine = _machine(cfg, device)
        self.memory: dict[str, float] = {}  # peak while the workers were there

    def train(self, step: Step, dataset: ActionDataset, start_iter: int) -> tuple[BatchTime, int, int]:
        """(Times of an iteration, number of steps made, bytes of the batches that workers hold ready)."""
        self._model.train()
        batches = self._loader(dataset, train=True, first=start_iter, workers=self.machine.workers)
        times, steps = time_steps(
            lambda batch, iteration: step(batch, iteration=iteration),
            batches,
            start_iter=start_iter,
            device=self._device,
            processes=self._processes,
        )
        self.memory = peak_memory(self._device)
        del batches
        rest = iter(self._loader(dataset, train=True, first=start_iter + STEPS))
        reading, read = time_reading(rest, STEPS, as_worker=self.machine.workers > 0)
        waiting = self.machine.workers * _PREFETCHED * max(map(_clip_bytes, read))
        return slowest(times.with_reading(reading), self._processes), steps, waiting

    def test(self, dataset: ActionDataset) -> ScoredSet:
        """Tests the first batches, in two passes where the model has a memory."""
        cfg, model, device, processes = self._cfg, self._model, self._device, self._processes
        postprocess = build_postprocess(cfg)
        memory = build_memory(cfg, model, dataset, device, processes=processes)
        loader = self._loader(dataset, train=False)
        longest = max(processes.gather(len(loader)))  # shares may differ by a batch, and all predict as often
        reading, batches = time_reading(iter(loader), min(_TEST_BATCHES, longest), as_worker=self.machine.workers > 0)

        passes = predict if memory is None else partial(predict_with_memory, memory=memory)
        finds = dataset.finds_persons

        def predicted(part: Sequence[ClipBatch | None]) -> None:
            passes(model, part, postprocess, device, finds_persons=finds, progress=False, processes=processes)

        times = time_test(predicted, batches, device=device).with_reading(reading)
        return ScoredSet(dataset.name, longest, slowest(times, processes))

    def _loader(self, dataset: ActionDataset, *, train: bool, first: int = 0, workers: int = 0) -> DataLoader:
        """The run's own batches, in training just two of them, read by so many workers."""
        part = self._cfg.clone()
        part.defrost()
        part.SOLVER.MAX_ITER = first + STEPS
        part.DATALOADER.NUM_WORKERS = workers
        processes = self._processes
        return build_loader(
            part,
            dataset,
            train=train,
            start_iter=first,
            seed=self._seed,
            rank=processes.rank,
            world_size=processes.size,
        )


def _machine(cfg: CfgNode, device: torch.device) -> Machine:
    threads = torch.get_num_threads() if device.type == "cpu" else 0
    cores = max(1.0, usable_cores() / processes_of_this_machine())
    return Machine(workers=cfg.DATALOADER.NUM_WORKERS, cores=cores, threads=threads)


def _plan(
    cfg: CfgNode,
    train_set: ActionDataset,
    start_iter: int,
    *,
    validates: bool,
    tests_at_end: bool,
    processes: Processes,
) -> Plan:
    solver = cfg.SOLVER
    last = solver.MAX_ITER
    on_the_way = count_between(solver.EVAL_PERIOD, start_iter, last - 1)  # the last one is left to the final test
    before = int(cfg.TEST.EVAL_AT_START and start_iter == 0)
    checkpoints = count_between(solver.CHECKPOINT_PERIOD, 0, last)  # those of an earlier start lie there, too
    return Plan(
        start_iter=min(start_iter, last),
        max_iter=last,
        videos_per_batch=min(solver.VIDEOS_PER_BATCH, len(train_set)),  # a set may fill no batch
        clips=len(train_set),
        validations=(on_the_way + before) * validates,
        final_tests=(2 if cfg.TEST.BOXES == "both" else 1) * tests_at_end,
        every_n=cfg.TEST.EVERY_N,
        checkpoints=min(checkpoints, solver.KEEP_CHECKPOINTS or checkpoints),
        keep_best=solver.KEEP_BEST,
        processes=processes.size,
    )


def _remembered(dataset: ActionDataset, memory: PersonMemory) -> int:
    """Bytes of the memory when it is full."""
    size = int(dataset.person_counts().sum()) * memory.store.row_bytes
    return min(size, memory.store.max_bytes) if memory.store.max_bytes else size


def _features(cfg: CfgNode) -> Callable[[ActionDataset], int]:
    """Bytes that the two passes of a test hold: each person's feature twice."""
    return lambda dataset: 2 * 4 * cfg.MODEL.IA_STRUCTURE.DIM_IN * int(dataset.person_counts().sum())


def _clip_bytes(batch: ClipBatch | None) -> int:
    return 0 if batch is None else batch.frame_bytes


def _notes(cfg: CfgNode) -> list[str]:
    notes = [
        "Not counted: the evaluation after a test (mAP, pictures), writing checkpoints, a disk that is still cold."
    ]
    if cfg.DATALOADER.NUM_WORKERS > STEPS:
        notes.append(
            f"Memory was seen with {STEPS} workers at most, DATALOADER.NUM_WORKERS is {cfg.DATALOADER.NUM_WORKERS}."
        )
    if cfg.DATALOADER.REPEAT_THRESHOLD:
        notes.append(
            "DATALOADER.REPEAT_THRESHOLD: clips of rare classes come several times, so there are fewer passes."
        )
    if cfg.SOLVER.EARLY_STOP_PATIENCE:
        notes.append("SOLVER.EARLY_STOP_PATIENCE may end the run earlier.")
    return notes


def existing_part(folder: str) -> pathlib.Path:
    """The folder, or the nearest above it that exists."""
    path = pathlib.Path(folder).absolute()
    return next(part for part in (path, *path.parents) if part.exists())
