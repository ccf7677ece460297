"""Says what to change when the network waits for its data."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from alphaction.utils.launch import processes_of_this_machine

logger = logging.getLogger(__name__)

#: Above this share of the time, waiting is worth a word.
SHARE = 0.3
#: Seconds until it is said again.
AGAIN_AFTER = 3600.0
#: Fewer iterations say little; lines that stand closer are looked at together.
LEAST = 10


class DataWaitHint:
    """Looks at the share of each log line.

    Args:
        num_workers: DATALOADER.NUM_WORKERS, of each training process.
        num_processes: training processes on this machine; None = what the launcher says.
        cores: of this machine that may be used; None = ask the system.
        clock: seconds.
        least: iterations that are looked at together, at least.
        device_could_transform: the reading processes resize and recolour, which a GPU could do as well
            (INPUT.TRANSFORM).
    """

    def __init__(
        self,
        *,
        num_workers: int,
        num_processes: int | None = None,
        cores: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        least: int = LEAST,
        device_could_transform: bool = True,
    ) -> None:
        self._num_workers = num_workers
        self._num_processes = processes_of_this_machine() if num_processes is None else num_processes
        self._cores = usable_cores() if cores is None else cores
        self._clock = clock
        self._least = least
        self._device_could_transform = device_could_transform
        self._first, self._count, self._waited = 0, 0, 0.0
        self._is_warm = False
        self._said: float | None = None

    def look(self, share: float, *, first: int, last: int) -> None:
        """After each log line.

        Args:
            share: of the time that was spent waiting, in the iterations `first` to `last`. The first look does not
                count: the workers were starting.
        """
        self._first = self._first or first
        self._count += last - first + 1
        self._waited += share * (last - first + 1)
        if self._count < self._least:
            return
        first, share = self._first, self._waited / self._count
        self._first, self._count, self._waited = 0, 0, 0.0
        warm, self._is_warm = self._is_warm, True
        if not warm or share <= SHARE:
            return
        now = self._clock()
        if self._said is None or now - self._said >= AGAIN_AFTER:
            self._said = now
            logger.info(
                "%s",
                hint(
                    share,
                    first,
                    last,
                    self._num_workers,
                    num_processes=self._num_processes,
                    cores=self._cores,
                    device_could_transform=self._device_could_transform,
                ),
            )


def hint(
    share: float,
    first: int,
    last: int,
    num_workers: int,
    *,
    num_processes: int,
    cores: int,
    device_could_transform: bool = True,
) -> str:
    """What helps, in the order of effort."""
    machine = f"this machine has {cores} cores" + (f" for {num_processes} processes" if num_processes > 1 else "")
    if num_workers * num_processes >= cores:
        workers = f"DATALOADER.NUM_WORKERS is {num_workers}, and {machine}: more will hardly help"
    elif num_workers:
        workers = f"more processes that read (DATALOADER.NUM_WORKERS is {num_workers}; {machine})"
    else:
        workers = f"processes of their own that read (DATALOADER.NUM_WORKERS is 0; {machine})"
    device = "INPUT.TRANSFORM device (these processes only decode, the rest is computed on the GPU); "
    device = device if device_could_transform else ""
    return (
        f"The network waited {100 * share:.0f} % of the time for its data (iterations {first} to {last}). What helps: "
        f"{workers}; {device}videos of fewer pixels, with a key frame every second or "
        "two, on a local NVMe disk. python benchmarks/data.py --config-file FILE --own measures where the time goes."
    )


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
