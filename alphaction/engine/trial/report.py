"""The table of what a run will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import torch

from alphaction.engine.trial.times import BatchTime, Machine, seconds_per_batch


@dataclass(frozen=True)
class Plan:
    """What the configuration asks for.

    Attributes:
        start_iter, max_iter: the run makes the iterations between.
        videos_per_batch: clips of an iteration, over all processes.
        clips: of the training set.
        validations: how many on the way, with one before training if asked for.
        final_tests: 1, or 0 without; with both kinds of boxes 2.
        every_n: a validation takes so many times less than a test.
        checkpoints: periodic ones that are kept at the same time.
        keep_best: whether the weights of the best validation are kept, too.
        processes: that share a batch.
    """

    start_iter: int
    max_iter: int
    videos_per_batch: int
    clips: int
    validations: int
    final_tests: int
    checkpoints: int
    keep_best: bool
    processes: int = 1
    every_n: int = 1


@dataclass(frozen=True)
class ScoredSet:
    """A data set to validate and test on, and how long one of its batches takes."""

    name: str
    batches: int
    time: BatchTime


@dataclass(frozen=True)
class Sizes:
    """In bytes.

    Attributes:
        checkpoint: without the persons that are remembered.
        weights: of the network alone.
        waiting: batches that the readers hold ready.
        remembered: persons of the training set's memory when full; None = the model has none.
        remembered_in_test: features and memory of the largest test set, None = as above.
        free: room on the disk of OUTPUT_DIR.
    """

    checkpoint: int
    weights: int
    waiting: int
    remembered: int | None
    remembered_in_test: int | None
    free: int


@dataclass(frozen=True)
class Estimate:
    """What a run will take."""

    plan: Plan
    train: BatchTime
    tests: Sequence[ScoredSet]
    machine: Machine
    sizes: Sizes
    memory_so_far: str
    steps: int
    output_dir: str
    notes: Sequence[str] = field(default=())

    @property
    def iteration_seconds(self) -> float:
        return seconds_per_batch(self.train, self.machine)

    @property
    def waiting_share(self) -> float:
        """Of the time, for data."""
        return 1 - self.train.compute / max(self.iteration_seconds, 1e-9)

    @property
    def training_seconds(self) -> float:
        return self.iteration_seconds * (self.plan.max_iter - self.plan.start_iter)

    @property
    def test_seconds(self) -> float:
        """Of all data sets once."""
        return sum(seconds_per_batch(test.time, self.machine) * test.batches for test in self.tests)

    @property
    def total_seconds(self) -> float:
        return self.training_seconds + sum(self._shares_of_tests())

    def _shares_of_tests(self) -> tuple[float, float]:
        """Seconds of all validations, and of the final test."""
        plan = self.plan
        return self.test_seconds * plan.validations / plan.every_n, self.test_seconds * plan.final_tests

    @property
    def disk_bytes(self) -> int:
        """Of all checkpoints that are there at the same time, with the one that is being written."""
        whole = self.sizes.checkpoint + (self.sizes.remembered or 0)
        final = self.sizes.checkpoint
        return whole * (self.plan.checkpoints + 1) + final + self.sizes.weights * self.plan.keep_best

    def table(self) -> str:
        """For the log."""
        rows = [*self._time_rows(), *self._memory_rows(), *self._disk_rows()]
        width = max(len(name) for name, _ in rows)
        head = f"Dry run: ESTIMATE of what the whole run will take, from {self.steps} training steps:"
        lines = [f"  {name:<{width}}  {text}" for name, text in rows]
        return "\n".join([head, *lines, *self.notes])

    def _time_rows(self) -> list[tuple[str, str]]:
        plan, train, machine = self.plan, self.train, self.machine
        left = plan.max_iter - plan.start_iter
        passes = left * plan.videos_per_batch / plan.clips
        start = f", from iteration {plan.start_iter}" if plan.start_iter else ""
        shared = f" in {plan.processes} processes" if plan.processes > 1 else ""
        readers = f"{machine.workers} worker(s)" if machine.workers else "the training process itself (NUM_WORKERS 0)"
        rows = [
            (
                "training",
                f"{left} iterations of {plan.videos_per_batch} clips{shared}{start}: "
                f"{passes:.1f} passes (epochs) over {plan.clips} clips",
            ),
            (
                "one iteration",
                f"{self.iteration_seconds:.3f} s; computing {train.compute:.3f} s, reading {train.read:.3f} s by "
                f"{readers}; the first took {train.first:.2f} s (warm-up, not counted)",
            ),
            ("data wait", f"{100 * self.waiting_share:.0f} % of the time"),
            ("time for training", shown_time(self.training_seconds)),
        ]
        for test in self.tests:
            one = seconds_per_batch(test.time, machine)
            rows.append(
                (f"test on {test.name}", f"{shown_time(one * test.batches)}: {test.batches} batches, {one:.3f} s each")
            )
        if self.tests:
            both = self._shares_of_tests()
            part = f", each of 1 of {plan.every_n} keyframes" if plan.every_n > 1 else ""
            rows.append(("time for validations", f"{shown_time(both[0])}: {plan.validations} of them{part}"))
            rows.append(("time for final test", shown_time(both[1]) if plan.final_tests else "none (skipped)"))
        rows.append(("time of the whole run", shown_time(self.total_seconds)))
        return rows

    def _memory_rows(self) -> list[tuple[str, str]]:
        sizes = self.sizes
        rows = [("memory so far", self.memory_so_far or "this system does not tell")]
        if sizes.waiting:
            rows.append(("batches held ready", f"up to {shown_bytes(sizes.waiting)} in the workers' queues"))
        if sizes.remembered is not None:
            rows.append(("remembered persons", f"{shown_bytes(sizes.remembered)} when full, in training"))
        if sizes.remembered_in_test is not None:
            rows.append(("", f"{shown_bytes(sizes.remembered_in_test)} in a test: features and memory"))
        return rows

    def _disk_rows(self) -> list[tuple[str, str]]:
        plan, sizes = self.plan, self.sizes
        whole = sizes.checkpoint + (sizes.remembered or 0)
        best = ", 1 of the best weights" if plan.keep_best else ""
        short = "  NOT ENOUGH" if self.disk_bytes > sizes.free else ""
        return [
            ("a checkpoint", shown_bytes(whole)),
            (
                "disk for all of them",
                f"{shown_bytes(self.disk_bytes)} of {shown_bytes(sizes.free)} free at {self.output_dir}: "
                f"{plan.checkpoints} periodic, 1 final{best}, room to write one{short}",
            ),
        ]


def count_between(period: int, first: int, last: int) -> int:
    """How many multiples of `period` (0 = none) lie in first + 1 .. last."""
    return max(0, last // period - first // period) if period else 0


def tensor_bytes(content: object) -> int:
    """Of all tensors in nested dicts, lists and tuples; one that stands there twice counts once."""
    seen: dict[int, int] = {}

    def visit(value: object) -> None:
        if isinstance(value, torch.Tensor):
            seen[value.data_ptr() or id(value)] = value.numel() * value.element_size()
        elif isinstance(value, Mapping):
            for inner in value.values():
                visit(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                visit(inner)

    visit(content)
    return sum(seen.values())


def shown_time(seconds: float) -> str:
    """Rounded to what an estimate can say."""
    return str(timedelta(seconds=round(seconds))) if seconds >= 1 else f"{seconds:.1f} s"


def shown_bytes(count: float) -> str:
    """In the unit that suits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
