"""Measures a few batches, and says from that how long a batch takes in a long run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import cv2
import torch

from alphaction.errors import DataError
from alphaction.structures import ClipBatch
from alphaction.utils.distributed import ALONE, Processes

#: Training steps that are made at least; with short ones more, of the same batches, up to so many or so many seconds.
STEPS, MOST_STEPS, ENOUGH_SECONDS = 2, 6, 3.0


@dataclass(frozen=True)
class BatchTime:
    """Of one batch, in seconds.

    Attributes:
        compute: once the batch is there.
        read: of one process that reads it.
        first: of the very first one, with waiting and warming up.
    """

    compute: float
    read: float
    first: float = 0.0

    def with_reading(self, seconds: float) -> BatchTime:
        return replace(self, read=seconds)


@dataclass(frozen=True)
class Machine:
    """What one training process has.

    Attributes:
        workers: processes that read for it; 0 = it reads itself.
        cores: its share of the machine's.
        threads: that compute on cores; 0 when a GPU computes.
    """

    workers: int
    cores: float
    threads: int


def seconds_per_batch(batch: BatchTime, machine: Machine) -> float:
    """How long a batch takes once everything runs: the slower one of computing and reading.

    Reading goes on beside computing in as many processes as there are workers, if there are cores for them. Where the
    network, too, computes on the cores, they have to do both.
    """
    if not machine.workers:
        return batch.compute + batch.read
    free = machine.cores if machine.threads else max(1.0, machine.cores - 1)
    reading = batch.read / min(machine.workers, max(1.0, free))
    together = (batch.compute * machine.threads + batch.read) / machine.cores if machine.threads else 0.0
    return max(batch.compute, reading, together)


def time_steps(
    step: Callable[[ClipBatch | None, int], object],
    loader: Iterable[ClipBatch | None],
    *,
    start_iter: int,
    device: torch.device,
    processes: Processes = ALONE,
) -> tuple[BatchTime, int]:
    """Makes the steps of the loader's batches; (times without reading, number of steps made).

    The first step warms up. Of the others the middle one counts.

    Args:
        step: `(batch, iteration)`.

    Raises:
        DataError: no batch holds a person.
    """
    batches: list[ClipBatch | None] = []
    seconds: list[float] = []
    begun = time.perf_counter()
    for batch in loader:
        batches.append(batch)
        seconds.append(_timed(lambda: step(batch, start_iter + len(batches)), device))  # noqa: B023 (called at once)
        if len(batches) == 1:
            first = time.perf_counter() - begun
    held = max(processes.gather(sum(batch.num_persons for batch in batches if batch is not None)))
    if not held:
        raise DataError(
            f"the first {len(batches)} batches of the training set hold no readable clip with a person. Look at the "
            "warnings above and at the data report."
        )
    while len(seconds) < MOST_STEPS and max(processes.gather(sum(seconds[1:]))) < ENOUGH_SECONDS:
        batch = batches[len(seconds) % len(batches)]
        seconds.append(_timed(lambda: step(batch, start_iter + len(seconds) + 1), device))  # noqa: B023
    return BatchTime(compute=statistics.median(seconds[1:] or seconds), read=0.0, first=first), len(seconds)


def time_reading(
    batches: Iterator[ClipBatch | None], count: int, *, as_worker: bool
) -> tuple[float, list[ClipBatch | None]]:
    """(Seconds that one process takes for a batch, the first `count` batches).

    Args:
        batches: read in this process; None when there are no more.
        as_worker: read with one thread, as the loader's processes do.
    """
    seconds: list[float] = []
    read: list[ClipBatch | None] = []
    with _one_thread() if as_worker else nullcontext():
        for _ in range(count):
            begun = time.perf_counter()
            read.append(next(batches, None))
            seconds.append(time.perf_counter() - begun)
    return statistics.median_low(seconds), read


def time_test(
    test: Callable[[Sequence[ClipBatch | None]], object], batches: Sequence[ClipBatch | None], *, device: torch.device
) -> BatchTime:
    """Tests the batches one by one, of which the first warms up; times without reading."""
    seconds = [_timed(lambda: test([batch]), device) for batch in batches]  # noqa: B023 (called at once)
    return BatchTime(compute=statistics.median(seconds[1:] or seconds), read=0.0, first=seconds[0])


def slowest(batch: BatchTime, processes: Processes) -> BatchTime:
    """Of each time the longest of all processes: they wait for each other."""
    every = processes.gather((batch.compute, batch.read, batch.first))
    compute, read, first = (max(times) for times in zip(*every, strict=True))
    return replace(batch, compute=compute, read=read, first=first)


def _timed(work: Callable[[], object], device: torch.device) -> float:
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


@contextmanager
def _one_thread() -> Iterator[None]:
    threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv2_threads)
