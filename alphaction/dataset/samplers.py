"""Order of the samples and how they form batches.

Training: every pass over the data is shuffled by a seed of its own, cut into one share per process, and each share into
batches of clips of one aspect (portrait or landscape), so that little is padded. Testing: plain order, every clip once.
Nothing here draws from the global random generators.

Words: a *pass* goes once over the data, an *iteration* takes one batch per process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

from alphaction.errors import DataError

logger = logging.getLogger(__name__)

_SEED_RANGE = 2**32  # torch's CPU generator uses the low 32 bits of a seed
_SEED_STRIDE = 2654435761  # keeps the passes of run seeds 0, 1, 2, ... apart


def aspect_group_ids(sizes: np.ndarray) -> np.ndarray:
    """Group of each sample: 1 for portrait and square (height >= width), 0 for landscape; int64 [N].

    Args:
        sizes: [N, 2], (height, width) in pixels.
    """
    sizes = np.asarray(sizes).reshape(-1, 2)
    return (sizes[:, 0] >= sizes[:, 1]).astype(np.int64)


def pass_order(length: int, *, seed: int, shuffle: bool = True, rank: int = 0, world_size: int = 1) -> np.ndarray:
    """Sample indices of one pass for one process; int64 [ceil(length / world_size)].

    The shuffled indices are repeated from their start until every process gets the same number.
    """
    if shuffle:
        generator = torch.Generator()
        generator.manual_seed(seed)
        order = torch.randperm(length, generator=generator).numpy()
    else:
        order = np.arange(length)
    share = -(-length // world_size)
    return np.resize(order, share * world_size)[rank * share : (rank + 1) * share]


def group_batches(
    order: np.ndarray, *, batch_size: int, group_ids: np.ndarray | None = None, drop_uneven: bool = False
) -> list[list[int]]:
    """Cuts `order` into batches of samples of one group.

    Within a group the samples keep their order; the batches come in the order of their first samples.

    Args:
        order: sample indices, int64 [n].
        batch_size: samples per batch; a group's last batch may hold fewer.
        group_ids: group of each sample of the data set, int64 [N]; None = one group.
        drop_uneven: leave out batches that are not full.
    """
    order = np.asarray(order, dtype=np.int64)
    groups = np.zeros(len(order), dtype=np.int64) if group_ids is None else np.asarray(group_ids)[order]
    batches: list[tuple[int, list[int]]] = []
    for group in np.unique(groups):
        places = np.flatnonzero(groups == group)
        members = order[places].tolist()
        end = len(members) - len(members) % batch_size if drop_uneven else len(members)
        batches += [(int(places[i]), members[i : i + batch_size]) for i in range(0, end, batch_size)]
    batches.sort(key=lambda batch: batch[0])
    return [batch for _, batch in batches]


class TrainBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of `(pass, index)` for a number of iterations, pass after pass.

    The number of the pass (0, 1, 2, ...) lets the data set augment a clip differently in each pass.

    The order of a pass is drawn with the number of the iteration at which it starts, counted from `origin`: a function
    of the arguments alone. A run resumed at `start_iter` therefore gets exactly the batches that the uninterrupted run
    would have got from there on.

    Args:
        length: samples in the data set.
        batch_size: clips per batch of this process.
        num_iterations: iterations of the whole run.
        start_iter: finished iterations; their batches are left out.
        group_ids: aspect group of each sample, int64 [N]; None = batches of any aspects.
        drop_uneven: leave out batches that are not full. A pass without any full batch gives its uneven ones.
        seed: of the run; 0 gives the original's order.
        origin: iteration at which the first pass starts. A resumed run of the original: its start.
        rank, world_size: this process and the number of processes.

    Raises:
        DataError: the data set is empty.
    """

    def __init__(
        self,
        length: int,
        *,
        batch_size: int,
        num_iterations: int,
        start_iter: int = 0,
        group_ids: np.ndarray | None = None,
        drop_uneven: bool = True,
        seed: int = 0,
        origin: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _check(length, batch_size=batch_size, group_ids=group_ids, rank=rank, world_size=world_size)
        if length == 0:
            raise DataError("the training set is empty: there is no clip with an annotated person to train on")
        self._length = length
        self._batch_size = batch_size
        self._num_iterations = num_iterations
        self._start_iter = start_iter
        self._group_ids = None if group_ids is None else np.asarray(group_ids)
        self._drop_uneven = drop_uneven
        self._seed = seed
        self._origin = origin
        self._rank = rank
        self._world_size = world_size
        self._warned = False

    def __len__(self) -> int:
        """Batches that are still to come."""
        return max(self._num_iterations - max(self._start_iter, self._origin), 0)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for number, start, batches in self.passes():
            for index in range(max(self._start_iter - start, 0), len(batches)):
                yield [(number, sample) for sample in batches[index]]

    def passes(self) -> Iterator[tuple[int, int, list[list[int]]]]:
        """(number of the pass, iteration at which it starts, its batches), the finished ones too.

        The batches of a pass that was finished before `start_iter` are not made: they are an empty list. The last
        pass ends with the last iteration.
        """
        number, start = 0, self._origin
        while start < self._num_iterations:
            order = pass_order(
                self._length,
                seed=(start + self._seed * _SEED_STRIDE) % _SEED_RANGE,
                rank=self._rank,
                world_size=self._world_size,
            )
            count = self._count(order)
            drop_uneven = self._drop_uneven and count > 0
            if not count:
                self._warn_uneven(len(order))
                count = self._count(order, drop_uneven=False)
            batches: list[list[int]] = []
            if start + count > self._start_iter:
                batches = group_batches(
                    order, batch_size=self._batch_size, group_ids=self._group_ids, drop_uneven=drop_uneven
                )
            yield number, start, batches[: self._num_iterations - start]
            number, start = number + 1, start + count

    def _count(self, order: np.ndarray, *, drop_uneven: bool | None = None) -> int:
        """Batches that `order` gives, without making them."""
        sizes = np.array([len(order)])
        if self._group_ids is not None:
            _, sizes = np.unique(self._group_ids[order], return_counts=True)
        drop_uneven = self._drop_uneven if drop_uneven is None else drop_uneven
        return int((sizes // self._batch_size if drop_uneven else -(-sizes // self._batch_size)).sum())

    def _warn_uneven(self, samples: int) -> None:
        if not self._warned:
            logger.warning(
                "%d training clips do not fill a batch of %d%s: smaller batches are used. "
                "Lower SOLVER.VIDEOS_PER_BATCH if this is not wanted.",
                samples,
                self._batch_size,
                "" if self._group_ids is None else " of one aspect (portrait or landscape)",
            )
            self._warned = True


class TestBatchSampler(Sampler[list[int]]):
    """Batches of indices in plain order, every sample exactly once over all processes.

    Each process takes a connected share of the data set, so that neighbouring keyframes of a video are read by one
    process. Shares differ by one sample at most; a process may get none.

    Args:
        length: samples in the data set.
        batch_size: clips per batch of this process; the last batch of a group may hold fewer.
        group_ids: aspect group of each sample, int64 [N]; None = batches of any aspects.
        rank, world_size: this process and the number of processes.
    """

    __test__ = False  # not a test class, whatever pytest makes of the name

    def __init__(
        self,
        length: int,
        *,
        batch_size: int,
        group_ids: np.ndarray | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _check(length, batch_size=batch_size, group_ids=group_ids, rank=rank, world_size=world_size)
        share = np.arange(length * rank // world_size, length * (rank + 1) // world_size)
        self._batches = group_batches(share, batch_size=batch_size, group_ids=group_ids)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)


def _check(length: int, *, batch_size: int, group_ids: np.ndarray | None, rank: int, world_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected 1 or more")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank: got {rank}, expected 0 to {world_size - 1} (world_size {world_size})")
    if group_ids is not None and len(group_ids) != length:
        raise ValueError(f"group_ids: got {len(group_ids)} entries for {length} samples")
