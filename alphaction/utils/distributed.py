"""The processes of a run, and what they tell each other. With one process everything here is trivial.

Nothing but `Processes` speaks to other processes, besides DistributedDataParallel. Every method is a collective: all
processes call it, in the same order.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from alphaction.errors import UserError
from alphaction.utils.watch import waiting

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    Attributes:
        rank: number of this process, 0 .. size - 1.
        size: number of processes.
        local_rank: its number among those on this machine.
        device: where the tensors that travel are put: NCCL moves only the GPU's.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device = torch.device("cpu")

    @property
    def is_main(self) -> bool:
        """Whether this one writes the files and the log."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sum of each value over all processes, in float64."""
        if self.size == 1:
            return [float(value) for value in values]
        tensor = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        with waiting():
            dist.all_reduce(tensor)
            return tensor.tolist()

    def gather(self, value: T) -> list[T]:
        """Every process's value, by rank: plain Python values and small tensors on the CPU."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with waiting():
            dist.all_gather_object(values, value)
        return values

    def to_main(self, value: T) -> list[T]:
        """Every process's value, by rank, in process 0; none in the others."""
        if self.size == 1:
            return [value]
        values: list[Any] | None = [None] * self.size if self.is_main else None
        with waiting():
            dist.gather_object(value, values, dst=0)
        return values or []

    def gather_rows(self, rows: Tensor) -> Tensor:
        """The rows [R, ...] of all processes, R may differ, one below the other by rank; on the device of `rows`."""
        if self.size == 1:
            return rows
        own = torch.tensor([len(rows)], device=self.device)
        counts = [torch.empty_like(own) for _ in range(self.size)]
        with waiting():
            dist.all_gather(counts, own)
            numbers = torch.cat(counts).tolist()
        if not max(numbers):
            return rows
        padded = rows.new_zeros((max(numbers), *rows.shape[1:]), device=self.device)
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in numbers]
        with waiting():
            dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, numbers, strict=True)]).to(rows.device)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its mean over all processes; of one type, and of the same shapes everywhere."""
        if self.size == 1:
            return
        together = torch.cat([tensor.flatten() for tensor in tensors])
        with waiting():
            dist.all_reduce(together)
        together /= self.size
        for tensor, mean in zip(tensors, together.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def copy_from_main(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by process 0's; of the same shapes everywhere."""
        if self.size > 1:
            with waiting():
                for tensor in tensors:
                    dist.broadcast(tensor, src=0)

    def from_main(self, value: T) -> T:
        """Process 0's value, in every process."""
        if self.size == 1:
            return value
        values = [value]
        with waiting():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def on_main(self, work: Callable[[], T]) -> T:
        """Lets process 0 alone do `work` and tells all its result; if it fails, all fail.

        Raises:
            Exception: whatever `work` raised, in every process.
        """
        if self.size == 1:
            return work()
        result: Any = None
        error: Exception | None = None
        if self.is_main:
            try:
                result = work()
            except Exception as raised:  # told to the others, which would wait for ever
                error = raised
        if self.is_main:
            self.from_main((result, error and _portable(error)))
        else:
            result, error = self.from_main((None, None))
        _mark_as_told(error, elsewhere=not self.is_main)
        if error is not None:
            raise error
        return result

    def raise_first(self, error: Exception | None) -> None:
        """Raises in every process the error that the first of the processes with an error has met.

        For work of which each process does its share: without it the others would wait for the one that failed.

        Args:
            error: of this process; None = it is well.
        """
        errors = self.gather(None if error is None else _portable(error))
        raised = first_error([*errors[: self.rank], error, *errors[self.rank + 1 :]], self.rank)
        if raised is not None:
            raise raised

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            with waiting():
                dist.barrier(device_ids=None if self.device.type == "cpu" else [self.device.index])


def first_error(errors: Sequence[Exception | None], rank: int) -> Exception | None:
    """The error to raise in process `rank`: the first of those of all processes, by rank.

    Of an error that several processes have met only the first tells the user.
    """
    first = next((i for i, error in enumerate(errors) if error is not None), None)
    if first is None:
        return None
    _mark_as_told(errors[first], elsewhere=first != rank)
    return errors[first]


def _mark_as_told(error: Exception | None, *, elsewhere: bool) -> None:
    if isinstance(error, UserError):
        error.told_elsewhere = elsewhere


def _portable(error: Exception) -> Exception:
    """The error, or one that says the same if it cannot travel."""
    try:
        if str(pickle.loads(pickle.dumps(error))) == str(error):
            return error
    except Exception:  # whatever an exception class of others does when it is pickled
        pass
    return RuntimeError(f"{type(error).__name__}: {error}")


#: A run of one process.
ALONE = Processes()
