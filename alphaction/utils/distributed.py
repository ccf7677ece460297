"""The processes of a run, and what they tell each other. With one process everything here is trivial.

Nothing but `Processes` speaks to other processes, besides DistributedDataParallel. Every method is a collective: all
processes call it, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

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
        dist.all_reduce(tensor)
        return tensor.tolist()

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean of each value over all processes."""
        return [value / self.size for value in self.sum(values)]

    def gather(self, value: T) -> list[T]:
        """Every process's value, by rank: plain Python values and small tensors on the CPU."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def gather_rows(self, rows: Tensor) -> Tensor:
        """The rows [R, ...] of all processes, R may differ, one below the other by rank; on the device of `rows`."""
        if self.size == 1:
            return rows
        counts = [int(count) for count in self.gather(len(rows))]
        longest = max(counts)
        padded = rows.new_zeros((longest, *rows.shape[1:]), device=self.device)
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded.contiguous())
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]).to(rows.device)

    def from_main(self, value: T) -> T:
        """Process 0's value, in every process."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def on_main(self, work: Callable[[], T]) -> T:
        """Lets process 0 alone do `work` and tells all its result; if it fails, all fail.

        Raises:
            Exception: whatever `work` raised, in every process.
        """
        if self.size == 1:
            return work()
        result, error = None, None
        if self.is_main:
            try:
                result = work()
            except Exception as raised:  # told to the others, which would wait for ever
                error = raised
        result, error = self.from_main((result, error))
        if error is not None:
            raise error
        return result

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


#: A run of one process.
ALONE = Processes()
