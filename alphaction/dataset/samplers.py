"""Order of the samples and how they form batches.

Training: every pass over the data is shuffled by a seed of its own and cut into batches of clips of one aspect
(portrait or landscape), so that little is padded; the processes share each batch. What is trained on in an iteration
therefore does not depend on the number of processes. Testing: plain order, every clip once. Nothing here draws from
the global random generators.

Words: a *pass* goes once over the data, an *iteration* takes one batch, the *copy* of a clip is 0, or counts on where
clips with rare classes come several times in a pass.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

from alphaction.errors import DataError
from alphaction.utils.logging import alike_in_all

logger = alike_in_all(logging.getLogger(__name__))

Item = tuple[int, int, int]  # (pass, index of the sample, copy)

_SEED_RANGE = 2**32  # torch's CPU generator uses the low 32 bits of a seed
_SEED_STRIDE = 2654435761  # keeps the passes of run seeds 0, 1, 2, ... apart
_REPEATS = 1  # the second word of the seed of what `draw_repeats` draws


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


def repeat_factors(labels: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """How often clips should come in a pass so that rare classes are seen more (arXiv 1908.03195, appendix).

    A class in a share f of the clips has the factor max(1, root(threshold / f)), a clip that of its rarest class.

    Args:
        labels: the classes of each clip, bool [N, K].
        threshold: the share below which a class is rare, in [0, 1].

    Returns:
        The factors of the clips, float64 [N], and of the classes, float64 [K] (1 for a class without a clip).
    """
    shares = labels.sum(axis=0) / max(len(labels), 1)
    clips, classes = np.ones(len(labels)), np.ones(len(shares))
    for rare in np.flatnonzero((shares > 0) & (shares < threshold)):
        classes[rare] = np.sqrt(threshold / shares[rare])
        np.maximum(clips, classes[rare], out=clips, where=labels[:, rare])
    return clips, classes


def draw_repeats(factors: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The clips of a pass: each as often as its factor says, which is rounded up or down with the right mean.

    Args:
        factors: of each clip, float64 [N], at least 1.
        seed: of the pass.

    Returns:
        The clip and the copy (0, 1, ...) of each item, int64 [M], in the order of the clips.
    """
    chance = np.random.default_rng([seed, _REPEATS]).random(len(factors))
    counts = np.floor(factors + chance).astype(np.int64)
    firsts = np.cumsum(counts) - counts
    return np.repeat(np.arange(len(factors)), counts), np.arange(counts.sum()) - np.repeat(firsts, counts)


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


class TrainBatchSampler(Sampler[list[Item]]):
    """Batches of `(pass, index, copy)` for a number of iterations, pass after pass; this process's share of each.

    The number of the pass (0, 1, 2, ...) and the copy let the data set augment a clip differently each time.

    The order of a pass is drawn with the number of the iteration at which it starts, counted from `origin`: a function
    of the arguments alone. A run resumed at `start_iter` therefore gets exactly the batches that the uninterrupted run
    would have got from there on, also with another number of processes.

    A process gets a connected part of each batch; the parts in the order of the ranks are the batch. They differ by one
    clip at most, and may be empty where a batch is smaller than the number of processes.

    Args:
        length: samples in the data set.
        batch_size: clips per batch over all processes.
        num_iterations: iterations of the whole run.
        start_iter: finished iterations; their batches are left out.
        group_ids: aspect group of each sample, int64 [N]; None = batches of any aspects.
        factors: how often each sample should come in a pass, float64 [N], at least 1; None = once.
        drop_uneven: leave out batches that are not full. A pass without any full batch gives its uneven ones.
        seed: of the run; 0 gives the original's order.
        origin: iteration at which the first pass starts. A resumed run of the original: its start.
        share_each_pass: as the original: each process takes a connected share of the pass's order and cuts batches of
            its own from it, of batch_size / world_size clips.
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
        factors: np.ndarray | None = None,
        drop_uneven: bool = True,
        seed: int = 0,
        origin: int = 0,
        share_each_pass: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _check(length, batch_size=batch_size, group_ids=group_ids, rank=rank, world_size=world_size)
        if length == 0:
            raise DataError("the training set is empty: there is no clip with an annotated person to train on")
        if factors is not None and (len(factors) != length or not np.all(np.asarray(factors) >= 1)):
            raise ValueError(f"factors: expected {length} numbers of at least 1")
        if share_each_pass and batch_size % world_size:
            raise ValueError(f"batch_size: got {batch_size}, expected a multiple of world_size ({world_size})")
        self._length = length
        self._num_iterations = num_iterations
        self._start_iter = start_iter
        self._group_ids = None if group_ids is None else np.asarray(group_ids)
        self._factors = None if factors is None else np.asarray(factors, np.float64)
        self._drop_uneven = drop_uneven
        self._seed = seed
        self._origin = origin
        # Which share of a pass's order, batches of what size, and which part of each of them.
        self._pass_share = (rank, world_size) if share_each_pass else (0, 1)
        self._batch_size = batch_size // world_size if share_each_pass else batch_size
        self._batch_share = (0, 1) if share_each_pass else (rank, world_size)
        self._warned = False

    def __len__(self) -> int:
        """Batches that are still to come."""
        return max(self._num_iterations - max(self._start_iter, self._origin), 0)

    def __iter__(self) -> Iterator[list[Item]]:
        for number, start, batches in self.passes():
            for index in range(max(self._start_iter - start, 0), len(batches)):
                yield [(number, sample, copy) for sample, copy in batches[index]]

    def passes(self) -> Iterator[tuple[int, int, list[list[tuple[int, int]]]]]:
        """(number of the pass, iteration at which it starts, its batches of (index, copy)), the finished ones too.

        The batches of a pass that was finished before `start_iter` are not made: they are an empty list. The last
        pass ends with the last iteration.
        """
        number, start = 0, self._origin
        while start < self._num_iterations:
            seed = (start + self._seed * _SEED_STRIDE) % _SEED_RANGE
            samples, copies = np.arange(self._length), np.zeros(self._length, np.int64)
            if self._factors is not None:
                samples, copies = draw_repeats(self._factors, seed=seed)
            rank, world_size = self._pass_share
            order = pass_order(len(samples), seed=seed, rank=rank, world_size=world_size)
            groups = None if self._group_ids is None else self._group_ids[samples]
            count, drop_uneven = self._count(order, groups)
            batches: list[list[tuple[int, int]]] = []
            if start + count > self._start_iter:
                batches = [
                    list(zip(samples[part].tolist(), copies[part].tolist(), strict=True))
                    for part in self._parts(order, groups, drop_uneven=drop_uneven)
                ]
            yield number, start, batches[: self._num_iterations - start]
            number, start = number + 1, start + count

    def _parts(self, order: np.ndarray, groups: np.ndarray | None, *, drop_uneven: bool) -> Iterator[list[int]]:
        """This process's part of each batch of a pass."""
        for batch in group_batches(order, batch_size=self._batch_size, group_ids=groups, drop_uneven=drop_uneven):
            yield batch[_share(len(batch), *self._batch_share)]

    def _count(self, order: np.ndarray, groups: np.ndarray | None) -> tuple[int, bool]:
        """(batches that `order` gives, whether uneven ones are left out), without making them."""
        sizes = np.array([len(order)])
        if groups is not None:
            _, sizes = np.unique(groups[order], return_counts=True)
        full = int((sizes // self._batch_size).sum())
        if self._drop_uneven and full:
            return full, True
        if self._drop_uneven:
            self._warn_uneven(len(order))
        return int((-(-sizes // self._batch_size)).sum()), False

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
        share = np.arange(length)[_share(length, rank, world_size)]
        self._batches = group_batches(share, batch_size=batch_size, group_ids=group_ids)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)


def _share(length: int, rank: int, world_size: int) -> slice:
    """A process's connected share of `length` things; shares differ by one at most."""
    return slice(length * rank // world_size, length * (rank + 1) // world_size)


def _check(length: int, *, batch_size: int, group_ids: np.ndarray | None, rank: int, world_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected 1 or more")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank: got {rank}, expected 0 to {world_size - 1} (world_size {world_size})")
    if group_ids is not None and len(group_ids) != length:
        raise ValueError(f"group_ids: got {len(group_ids)} entries for {length} samples")
