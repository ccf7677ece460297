"""What the loops do with the memory: ask for the moments around a batch, and put in what the batch showed.

Shapes: N clips, R persons over all clips, C channels, S moments, Q persons per moment.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alphaction.dataset import ActionDataset
from alphaction.errors import CheckpointError, ConfigError
from alphaction.structures import ClipBatch, ClipKey, FeatureMemory, MemorySpan, MemoryWindow, RoiFeatures
from alphaction.structures.memory import in_range
from alphaction.structures.memory_window import random_ones
from alphaction.utils.logging import alike_in_all

logger = alike_in_all(logging.getLogger(__name__))

#: Entry of a checkpoint, and the one that the original writes instead.
MEMORY = "person_memory"
REFERENCE_MEMORY = "person_pool"

_HEAD_BYTES = 24  # three float64 before each feature


class PersonMemory:
    """The memory of one data set, for the M blocks of a model.

    In training, features were computed by a model that has learned since. With `penalty` they are scaled by how far the
    loss has moved: min(then / now, now / then), where "now" is the iteration before, and 0 as long as there is none.

    Args:
        store: holds the features.
        span: what a window shows.
        key_of: video and time of a keyframe of the data set, by its index.
        device: where windows are made.
        penalty: scale features as said above.
        random_choice: a moment with more persons than a window has room for shows a random choice of them, drawn from
            torch's generator, instead of the first ones.
        gather: joins the rows [R, bytes] of all processes, each process getting those of all.
    """

    def __init__(
        self,
        store: FeatureMemory,
        span: MemorySpan,
        *,
        key_of: Callable[[int], ClipKey],
        device: torch.device | str,
        penalty: bool,
        random_choice: bool,
        gather: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.store = store
        self._span = span
        self._key_of = key_of
        self._device = device
        self._penalty = penalty
        self._random_choice = random_choice
        self._gather = gather
        self._loss: float | None = None

    def window(self, keys: Sequence[ClipKey]) -> MemoryWindow:
        """The memory around the clips, as `ActionDetector.classify` takes it."""
        return self.store.window(
            keys,
            self._span,
            weigh=self._weigh if self._penalty else None,
            choose=random_ones if self._random_choice else None,
            device=self._device,
        )

    def update(self, batch: ClipBatch | None, features: RoiFeatures | None, *, loss: float) -> None:
        """Remembers the batch's persons. All processes call it; None for both: this one has none to add.

        Args:
            batch: this process's share; names the keyframes, by `indices`.
            features: of the share, as they were before the optimizer's step.
            loss: the batch's total loss, over all processes.
        """
        dtype = self.store.dtype
        if batch is None or features is None:
            rows = torch.zeros(0, _HEAD_BYTES + self.store.row_bytes, dtype=torch.uint8, device=self._device)
        else:
            rows = pack_rows(batch.indices, features, loss=loss, dtype=dtype)
        rows = rows if self._gather is None else self._gather(rows)
        indices, counts, losses, persons = unpack_rows(rows, dtype=dtype)
        self.store.put([self._key_of(index) for index in indices], persons, counts, losses=losses)
        self._loss = loss

    def state_dict(self) -> dict[str, object]:
        """For a checkpoint."""
        return self.store.state_dict() | {"last_loss": self._loss}

    def load(self, extra: Mapping[str, object]) -> None:
        """Goes on with the memory of a resumed checkpoint, ours or the original's, if it has one.

        Args:
            extra: the checkpoint's further entries, with `MEMORY` or `REFERENCE_MEMORY`.

        Raises:
            CheckpointError: the memory in it is damaged or of a network of another width.
        """
        ours, reference = extra.get(MEMORY), extra.get(REFERENCE_MEMORY)
        try:
            if isinstance(ours, Mapping):
                self.store.load_state_dict(ours)
                self._loss = ours["last_loss"]
            elif isinstance(reference, Mapping):
                put_reference(self.store, reference)
        except (KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"the memory in the checkpoint cannot be used ({type(error).__name__}: {error}). Take only its weights "
                "with --transfer and MODEL.WEIGHT in a new OUTPUT_DIR; the memory then fills again within an epoch."
            ) from error
        logger.info("The memory goes on with %s.", self.describe() if len(self.store) else "nothing: it fills anew")

    def describe(self) -> str:
        """How much it holds, for the log."""
        forgotten = f"; {self.store.num_forgotten} keyframes had to make room" if self.store.num_forgotten else ""
        return (
            f"{self.store.num_persons} persons of {len(self.store)} keyframes, "
            f"{self.store.num_bytes / 2**20:.1f} MiB{forgotten}"
        )

    def _weigh(self, losses: np.ndarray) -> np.ndarray:
        return penalty_factors(losses, self._loss)


def penalty_factors(then: np.ndarray, now: float | None) -> np.ndarray:
    """How much features count whose losses were `then`, [n] in 0..1; nothing as long as there is no loss `now`."""
    if now is None:
        return np.zeros(len(then))
    smaller, larger = np.minimum(then, now), np.maximum(then, now)
    return np.divide(smaller, larger, out=np.ones(len(then)), where=larger > 0)


def pack_rows(indices: Sequence[int], features: RoiFeatures, *, loss: float, dtype: torch.dtype) -> Tensor:
    """A batch's persons as bytes [R, 24 + C * size of dtype]: keyframe, number within the clip, loss; the feature.

    Features travel as they are stored, the three numbers as float64.
    """
    counts = torch.tensor(features.person_counts, dtype=torch.int64)
    persons = features.person.detach().flatten(1)
    head = torch.full((len(persons), 3), loss, dtype=torch.float64)
    head[:, 0] = torch.tensor(indices, dtype=torch.int64).repeat_interleave(counts)
    head[:, 1] = torch.cat([torch.arange(count) for count in features.person_counts])
    persons = in_range(persons, dtype).to(dtype)
    return torch.cat([head.view(torch.uint8).to(persons.device), persons.contiguous().view(torch.uint8)], dim=1)


def unpack_rows(rows: Tensor, *, dtype: torch.dtype) -> tuple[list[int], list[int], list[float], Tensor]:
    """(keyframe, number of persons and loss of each clip, persons [R, C] in `dtype`) of what `pack_rows` made."""
    rows = rows.cpu()
    head = rows[:, :_HEAD_BYTES].contiguous().view(torch.float64)
    starts = torch.nonzero(head[:, 1] == 0).flatten()
    ends = torch.cat([starts[1:], torch.tensor([len(rows)])])
    persons = rows[:, _HEAD_BYTES:].contiguous().view(dtype)
    return head[starts, 0].to(torch.int64).tolist(), (ends - starts).tolist(), head[starts, 2].tolist(), persons


def put_reference(store: FeatureMemory, pool: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> None:
    """Puts in the memory of one of the original's checkpoints: video -> second -> boxes with their attributes.

    Entries without persons or with numbers that are not finite (a loss of NaN stays in it for good) are left out.
    """
    dropped = 0
    for movie, seconds in pool.items():
        for second, boxes in seconds.items():
            fields = boxes.get("extra_fields", boxes)
            persons, loss = fields["pooled_feature"].flatten(1), float(fields.get("loss_tag", 0.0))
            if not math.isfinite(loss) or not persons.isfinite().all():
                dropped += 1
                continue
            store.put([(str(movie), float(second))], persons, [len(persons)], losses=[loss])
    if dropped:
        logger.warning("%d entries of the checkpoint's memory are not finite: left out.", dropped)


def check_memory(dataset: ActionDataset, store: FeatureMemory, span: MemorySpan) -> None:
    """Looks at whether a data set's keyframes can remember each other and fit in, and logs what to expect.

    The memory is told how many persons there are.

    Raises:
        ConfigError: no window will ever show anything (when testing only a warning), or a test set does not fit.
    """
    _check_size(dataset, store)
    annotations, name = dataset.annotations, dataset.name
    names, times = np.asarray(annotations.movies), annotations.time[dataset.keyframes]
    _, movie = np.unique(names[annotations.movie[dataset.keyframes]], return_inverse=True)
    slots = np.array([store.slot(time) for time in times.tolist()])
    pairs = np.unique(np.stack([movie, slots], axis=1), axis=0)
    shared = len(np.unique(np.stack([movie, times], axis=1), axis=0)) - len(pairs)
    if span.moments > 1 and not _any_neighbours(pairs, span):
        alone = len(np.unique(movie)) == len(pairs)
        reason = "every video has keyframes at one moment only" if alone else "its keyframes are too far apart"
        message = (
            f"MODEL.IA_STRUCTURE.I_BLOCK_LIST has an 'M' block, but data set {name} has nothing to remember: {reason}. "
            f"Remembered are {span.before} moments before and {span.after} after a clip, {span.rate * store.step:g} s "
            "apart (MODEL.IA_STRUCTURE.LENGTH, MEMORY_RATE times MEMORY_STEP). Give the annotations the keyframes' "
            "times, change these keys, or leave the 'M' blocks out."
        )
        if dataset.is_training:
            raise ConfigError(message)
        logger.warning("%s", message)
    elif shared:
        logger.warning(
            "Data set %s: %d of its keyframes share a slot of %g s with a nearer one and will not be remembered. "
            "MODEL.IA_STRUCTURE.MEMORY_STEP should be the time from one keyframe to the next.",
            name,
            shared,
            store.step,
        )


def _check_size(dataset: ActionDataset, store: FeatureMemory) -> None:
    persons = int(dataset.person_counts().sum())
    store.reserve(persons)
    size = persons * store.row_bytes
    text = f"{persons} persons of {len(dataset)} keyframes, {size / 2**20:.1f} MiB ({str(store.dtype)[6:]})"
    if not store.max_bytes or size <= store.max_bytes:
        logger.info("Memory of %s: up to %s", dataset.name, text)
        return
    limit = f"MODEL.IA_STRUCTURE.MEMORY_LIMIT_MB {store.max_bytes // 2**20}"
    if not dataset.is_training:
        raise ConfigError(
            f"{limit}: the memory of data set {dataset.name} has {text}, and testing needs all of it. Raise the limit "
            "(0 = none)."
        )
    logger.warning("Memory of %s: %s, but %s: the oldest will be forgotten.", dataset.name, text, limit)


def _any_neighbours(pairs: np.ndarray, span: MemorySpan) -> bool:
    """Whether any of the (video, slot) pairs [n, 2], sorted, lies in the window of another."""
    reach = max(span.before, span.after)
    for movie in np.unique(pairs[:, 0]):
        slots = pairs[pairs[:, 0] == movie, 1]
        if any(np.isin(slots + k * span.rate, slots).any() for k in range(1, reach + 1)):
            return True
    return False
