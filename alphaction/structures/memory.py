"""The memory: features of the persons seen at other moments of the same videos (paper, section 3.3).

Time is cut into slots of `step` seconds. A slot remembers the persons of one keyframe, of several in it the one nearest
to its middle. Features lie row by row in one block, or a few; a table says which rows belong to which slot, so that an
AVA-sized memory is a handful of arrays and one dict entry per slot.

Shapes: N clips, R persons over all clips, C channels, S slots of a window, Q persons of a slot that a window has room
for, E remembered slots, P persons of the fullest slot.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alphaction.structures.memory_window import MemorySpan, MemoryWindow
from alphaction.structures.saved_memory import SavedMemory

Choose = Callable[[int, int], Tensor]  # (persons, places) -> int64 [places], the persons that stay
Weigh = Callable[[np.ndarray], np.ndarray]  # losses [n] that features are tagged with -> their factors [n]

_BLOCK_BYTES = 2**26
_LOAD_ENTRIES = 1024
_FIELDS = {"movie": np.int32, "slot": np.int64, "time": np.float64, "loss": np.float64, "age": np.int64, "count": int}


class FeatureMemory:
    """Person features by video and slot.

    Args:
        channels: C.
        step: seconds per slot; a keyframe belongs to the slot whose middle, a multiple of `step`, is nearest.
        dtype: float32, or float16 for half the size (values beyond its range are cut off).
        max_bytes: most memory for features, 0 = no bound. When it is full the slots that were written longest ago
            are forgotten.
        block_bytes: size of a block, unless `reserve` asks for more; it is occupied as it fills.
    """

    def __init__(
        self,
        channels: int,
        *,
        step: float = 1.0,
        dtype: torch.dtype = torch.float32,
        max_bytes: int = 0,
        block_bytes: int = _BLOCK_BYTES,
    ) -> None:
        if not 0 < step < math.inf:
            raise ValueError(f"step: got {step}, expected seconds above 0")
        if dtype not in (torch.float32, torch.float16):
            raise ValueError(f"dtype: got {dtype}, expected torch.float32 or torch.float16")
        self.channels = channels
        self.step = step
        self.dtype = dtype
        self.max_bytes = max_bytes
        self.row_bytes = channels * dtype.itemsize
        self._max_rows = max(1, max_bytes // self.row_bytes) if max_bytes else sys.maxsize
        self._rows_per_block = max(1, block_bytes // self.row_bytes)
        self._expected_rows = 0
        self._clear()

    def _clear(self) -> None:
        self._index: dict[str, dict[int, int]] = {}  # video -> slot -> entry
        self._names: list[str] = []
        self._number: dict[str, int] = {}
        self._entries = {name: np.zeros(0, dtype) for name, dtype in _FIELDS.items()}
        self._rows = np.zeros((0, 0), np.int32)  # [E, P], the first `count` of each count
        self._blocks: list[Tensor] = []
        self._starts = np.zeros(1, np.int64)  # first row of each block, and how many rows all have
        self._next_row = 0
        self._free_rows: list[int] = []
        self._next_entry = 0
        self._free_entries: list[int] = []
        self._clock = 0
        self._num_forgotten = 0

    def __len__(self) -> int:
        """E."""
        return self._next_entry - len(self._free_entries)

    def __contains__(self, key: tuple[str, float]) -> bool:
        return self._find(key) is not None

    @property
    def num_persons(self) -> int:
        return self._next_row - len(self._free_rows)

    @property
    def num_bytes(self) -> int:
        """Of the remembered features."""
        return self.num_persons * self.row_bytes

    @property
    def num_forgotten(self) -> int:
        """Slots that had to make room so far."""
        return self._num_forgotten

    def reserve(self, persons: int) -> None:
        """Says how many persons there will be. They then lie in one block, from which windows are gathered fastest."""
        self._expected_rows = persons

    def slot(self, time: float) -> int:
        """The slot of a moment in seconds."""
        return math.floor(time / self.step + 0.5)

    def get(self, key: tuple[str, float]) -> Tensor:
        """Features [persons, C] of the slot of (video, seconds), in `dtype`; of a slot without entry none."""
        entry = self._find(key)
        rows = np.zeros(0, np.int64) if entry is None else self._rows[entry, : self._entries["count"][entry]]
        return self._gather(rows)

    def put(
        self,
        keys: Sequence[tuple[str, float]],
        features: Tensor,
        counts: Sequence[int],
        *,
        losses: Sequence[float] | None = None,
    ) -> None:
        """Remembers a copy of the persons of some clips instead of what their slots held.

        A keyframe does not displace another one of its slot that is nearer to the slot's middle, nor does one without
        persons displace any but itself.

        Args:
            keys: video and keyframe time in seconds of each clip.
            features: [R, C] or [R, C, 1, 1, 1], on any device.
            counts: persons of each clip.
            losses: tag of each clip; by default 0.
        """
        features = features.detach().flatten(1)
        losses = [0.0] * len(keys) if losses is None else losses
        if features.shape != (sum(counts), self.channels):
            raise ValueError(f"features: got {tuple(features.shape)}, expected ({sum(counts)}, {self.channels})")
        if not all(math.isfinite(value) for _, value in keys) or not all(map(math.isfinite, losses)):
            raise ValueError("keys, losses: expected finite times and losses")
        sources, targets, first = [], [], 0
        for key, count, loss in zip(keys, counts, losses, strict=True):
            rows = self._claim(key, count, float(loss))
            sources.append(np.arange(first, first + len(rows)))
            targets.append(rows)
            first += count
        if targets:
            self._write(np.concatenate(targets), features, np.concatenate(sources))

    def window(
        self,
        keys: Sequence[tuple[str, float]],
        span: MemorySpan,
        *,
        weigh: Weigh | None = None,
        choose: Choose | None = None,
        device: torch.device | str = "cpu",
    ) -> MemoryWindow:
        """What is remembered around some clips, on `device`.

        Args:
            keys: video and keyframe time in seconds of each clip.
            span: which moments.
            weigh: scales each slot's features by its loss; None: as they are.
            choose: of a slot with more than Q persons those that are shown, by default the first.
        """
        entries = np.array([self._around(key, span) for key in keys], np.int64)  # [N, S]
        clips, moments = np.nonzero(entries >= 0)
        entries = entries[clips, moments]
        rows = self._rows[entries]
        counts = self._entries["count"][entries]
        if choose is not None:
            for i in np.flatnonzero(counts > span.persons):
                rows[i, : span.persons] = rows[i, choose(int(counts[i]), span.persons).numpy()]
        rows = rows[:, : span.persons]
        counts = np.minimum(counts, span.persons)
        shown = np.arange(rows.shape[1]) < counts[:, None]
        factors = None if weigh is None else np.repeat(weigh(self._entries["loss"][entries]), counts)
        clips, moments = np.repeat(clips, counts), np.repeat(moments, counts)
        persons = np.bincount(clips, minlength=len(keys))
        features = self._padded(rows[shown], persons, factors, device)
        table = np.full(features.shape[:2], span.moments)
        table[np.arange(table.shape[1]) < persons[:, None]] = moments
        return MemoryWindow(features, torch.from_numpy(table), span)

    def state_dict(self) -> dict[str, object]:
        """Everything, as tensors, numbers and texts. Features are not copied: the state shows later changes."""
        entries = np.flatnonzero(self._entries["count"])
        entries = entries[np.argsort(self._entries["age"][entries])]
        blocks = list(self._blocks)
        if blocks:
            # Through numpy, for a storage that ends with the last row: torch.save writes whole storages.
            blocks[-1] = torch.from_numpy(blocks[-1].numpy()[: self._next_row - self._starts[-2]])
        return {
            "step": float(self.step),
            "movies": list(self._names),
            "rows": torch.from_numpy(self._rows[entries]),
            "blocks": blocks,
        } | {name: torch.from_numpy(values[entries]) for name, values in self._entries.items() if name != "age"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave, instead of what is remembered now.

        Of a memory of the same kind the blocks are taken as they are, not copied: those of a file that is mapped are
        there at once, and read as they are used. They belong to this memory from then on. The other memory may also
        have had another `step`, `dtype` or bound.

        Raises:
            KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError: it is no such state.
        """
        saved = SavedMemory.of(state, channels=self.channels)
        self._clear()
        if saved.dtype == self.dtype and saved.step == self.step and len(saved) <= self._max_rows:
            self._adopt(saved)
            return
        for first in range(0, len(saved.count), _LOAD_ENTRIES):
            part = slice(first, first + _LOAD_ENTRIES)
            keys = [(saved.movies[i], time) for i, time in zip(saved.movie[part], saved.time[part], strict=True)]
            features = _take(saved.blocks, saved.starts, saved.used_rows(part))
            self.put(keys, features, saved.count[part].tolist(), losses=saved.loss[part].tolist())

    def _adopt(self, saved: SavedMemory) -> None:
        """Makes the blocks and tables of a checkpoint those of this memory, which is empty."""
        self._blocks, self._starts = list(saved.blocks), saved.starts
        self._next_row = len(saved)
        self._free_rows = np.setdiff1d(np.arange(len(saved)), saved.used_rows(slice(None))).tolist()
        self._names = list(saved.movies)
        self._number = {name: i for i, name in enumerate(self._names)}
        self._rows = saved.rows.copy()
        self._clock = self._next_entry = len(saved.count)
        fields = {"movie": saved.movie, "slot": saved.slot, "time": saved.time, "loss": saved.loss}
        fields |= {"age": np.arange(1, self._clock + 1), "count": saved.count}
        self._entries = {name: values.astype(_FIELDS[name]) for name, values in fields.items()}
        for entry, (movie, slot) in enumerate(zip(saved.movie.tolist(), saved.slot.tolist(), strict=True)):
            self._index.setdefault(self._names[movie], {})[slot] = entry

    def _find(self, key: tuple[str, float]) -> int | None:
        movie, time = key
        return self._index.get(movie, {}).get(self.slot(time))

    def _around(self, key: tuple[str, float], span: MemorySpan) -> list[int]:
        """The S entries around a clip; -1 where there is none, and for the clip's own moment."""
        movie, time = key
        slots = self._index.get(movie, {})
        entries = [slots.get(slot, -1) for slot in span.slots(self.slot(time))]
        entries[span.before] = -1
        return entries

    def _claim(self, key: tuple[str, float], count: int, loss: float) -> np.ndarray:
        """Makes the entry of a clip; the rows for its persons, none if the slot keeps what it holds."""
        movie, time = key
        slot = self.slot(time)
        entry = self._find(key)
        entries = self._entries
        if entry is not None:
            known = float(entries["time"][entry])
            middle = slot * self.step
            if (abs(time - middle), time) > (abs(known - middle), known) or (count == 0 and time != known):
                return np.zeros(0, np.int32)
        if count == 0:
            if entry is not None:
                self._forget(entry)
            return np.zeros(0, np.int32)
        if entry is None:
            entry = self._new_entry(movie, slot)
        self._clock += 1
        entries = self._entries
        entries["time"][entry], entries["loss"][entry], entries["age"][entry] = time, loss, self._clock
        return self._resize(entry, min(count, self._max_rows))

    def _new_entry(self, movie: str, slot: int) -> int:
        if movie not in self._number:
            self._number[movie] = len(self._names)
            self._names.append(movie)
        if self._free_entries:
            entry = self._free_entries.pop()
        else:
            entry = self._next_entry
            self._next_entry += 1
            if entry == len(self._rows):
                grown = max(64, 2 * entry)
                self._rows = _grown(self._rows, grown, self._rows.shape[1])
                self._entries = {name: _grown(values, grown) for name, values in self._entries.items()}
        self._entries["movie"][entry], self._entries["slot"][entry] = self._number[movie], slot
        self._index.setdefault(movie, {})[slot] = entry
        return entry

    def _resize(self, entry: int, count: int) -> np.ndarray:
        """Gives an entry `count` rows."""
        counts = self._entries["count"]
        have = int(counts[entry])
        if count > self._rows.shape[1]:
            self._rows = _grown(self._rows, len(self._rows), count)
        if have > count:
            self._free_rows += self._rows[entry, count:have].tolist()
        for place in range(have, count):
            self._rows[entry, place] = self._free_row()
            counts[entry] = place + 1
        counts[entry] = count
        return self._rows[entry, :count].copy()

    def _free_row(self) -> int:
        if not self._free_rows and self._next_row == self._max_rows:
            ages = np.where(self._entries["count"] > 0, self._entries["age"], np.iinfo(np.int64).max)
            self._forget(int(ages.argmin()))
            self._num_forgotten += 1
        if self._free_rows:
            return self._free_rows.pop()
        self._next_row += 1
        if self._next_row > self._starts[-1]:
            self._add_block()
        return self._next_row - 1

    def _add_block(self) -> None:
        have = int(self._starts[-1])
        rows = min(max(self._rows_per_block, self._expected_rows - have), self._max_rows - have)
        with torch.inference_mode(False):  # else a memory made there could not be written to elsewhere
            self._blocks.append(torch.empty(rows, self.channels, dtype=self.dtype))
        self._starts = np.append(self._starts, have + rows)

    def _forget(self, entry: int) -> None:
        movie = self._names[self._entries["movie"][entry]]
        del self._index[movie][int(self._entries["slot"][entry])]
        if not self._index[movie]:
            del self._index[movie]
        self._free_rows += self._rows[entry, : self._entries["count"][entry]].tolist()
        self._entries["count"][entry] = 0
        self._free_entries.append(entry)

    def _write(self, rows: np.ndarray, features: Tensor, sources: np.ndarray) -> None:
        """Copies features[sources] to the rows; of a row that is named twice the last counts."""
        rows, last = np.unique(rows[::-1], return_index=True)
        values = features.cpu()[torch.from_numpy(sources[::-1][last].copy())]
        values = in_range(values, self.dtype).to(self.dtype)
        places = np.searchsorted(self._starts, rows, side="right") - 1
        for block in np.unique(places):
            here = torch.from_numpy(np.flatnonzero(places == block))
            local = torch.from_numpy(rows[here.numpy()] - self._starts[block])
            self._blocks[block].index_copy_(0, local, values[here])

    def _gather(self, rows: np.ndarray) -> Tensor:
        if not self._blocks:
            return torch.zeros(len(rows), self.channels, dtype=self.dtype)
        return _take(self._blocks, self._starts, rows)

    def _padded(
        self, rows: np.ndarray, persons: np.ndarray, factors: np.ndarray | None, device: torch.device | str
    ) -> Tensor:
        """Rows that belong to clips, so many `persons` [N] to each, as float32 [N, L, C], scaled by `factors`."""
        longest = int(persons.max(initial=0))
        is_shown = np.arange(longest) < persons[:, None]
        source = np.zeros(is_shown.shape, np.int64)
        source[is_shown] = rows
        out = self._gather(source.reshape(-1)).to(device).float()
        if factors is not None:
            scale = np.zeros(is_shown.shape, np.float32)
            scale[is_shown] = factors
            out *= torch.from_numpy(scale).to(device).view(-1, 1)
        if not is_shown.all():
            # Also after scaling: the row that stands in for nobody may hold anything.
            out.index_fill_(0, torch.from_numpy(np.flatnonzero(~is_shown)).to(device), 0.0)
        return out.view(len(persons), longest, self.channels)


def in_range(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The values, those beyond the range of `dtype` cut off."""
    if values.dtype == dtype or dtype != torch.float16:
        return values
    limit = torch.finfo(dtype).max
    return values.clamp(-limit, limit)


def _take(blocks: Sequence[Tensor], starts: np.ndarray, rows: np.ndarray) -> Tensor:
    """Rows [n, C] of blocks of which each begins with the row that `starts` says."""
    rows = rows.astype(np.int64, copy=False)
    if len(blocks) == 1:
        return blocks[0].index_select(0, torch.from_numpy(rows))
    out = torch.empty(len(rows), blocks[0].shape[1], dtype=blocks[0].dtype)
    places = np.searchsorted(starts, rows, side="right") - 1
    for block in np.unique(places):
        here = np.flatnonzero(places == block)
        out[torch.from_numpy(here)] = blocks[block].index_select(0, torch.from_numpy(rows[here] - starts[block]))
    return out


def _grown(values: np.ndarray, *shape: int) -> np.ndarray:
    """`values` with zeros after them, up to `shape`."""
    return np.pad(values, [(0, new - old) for new, old in zip(shape, values.shape, strict=True)])
