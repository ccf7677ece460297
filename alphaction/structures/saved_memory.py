"""The state of a memory as a checkpoint holds it, looked at before it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class SavedMemory:
    """E entries, the one that was written first in the first place, and the features that they point to.

    Attributes:
        step: seconds per slot.
        movies: names.
        movie, slot, time, loss, count: [E]; movie is an index of `movies`, count says how many persons.
        rows: [E, P], of each entry the first `count` are its persons' rows.
        blocks: features [rows, C], all of one type.
        starts: first row of each block, and how many rows all have.
    """

    step: float
    movies: Sequence[str]
    movie: np.ndarray
    slot: np.ndarray
    time: np.ndarray
    loss: np.ndarray
    count: np.ndarray
    rows: np.ndarray
    blocks: Sequence[Tensor]
    starts: np.ndarray

    @classmethod
    def of(cls, state: Mapping[str, Any], *, channels: int) -> SavedMemory:
        """Reads what `FeatureMemory.state_dict` gave.

        Raises:
            KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError: it is no such state.
        """
        fields = {name: state[name].numpy() for name in ("movie", "slot", "time", "loss", "count", "rows")}
        blocks = list(state["blocks"])
        starts = np.cumsum([0, *map(len, blocks)]).astype(np.int64)
        saved = cls(float(state["step"]), list(state["movies"]), **fields, blocks=blocks, starts=starts)
        saved._check(channels)
        return saved

    def __len__(self) -> int:
        """Rows of all blocks."""
        return int(self.starts[-1])

    @property
    def dtype(self) -> torch.dtype | None:
        """Of the features; None if there are none."""
        return self.blocks[0].dtype if self.blocks else None

    def used_rows(self, part: slice) -> np.ndarray:
        """Rows of the persons of some entries, one after the other."""
        return self.rows[part][np.arange(self.rows.shape[1]) < self.count[part, None]]

    def _check(self, channels: int) -> None:
        """A damaged state must be found now, not in the middle of an epoch."""
        entries = len(self.count)
        for block in self.blocks:
            if block.ndim != 2 or block.shape[1] != channels or block.dtype != self.dtype:
                raise ValueError(
                    f"blocks: got {list(block.shape)}, {block.dtype}, expected [..., {channels}] of one type"
                )
        lengths = {name: len(getattr(self, name)) for name in ("movie", "slot", "time", "loss", "rows")}
        if any(length != entries for length in lengths.values()):
            raise ValueError(f"entries: got {lengths}, expected {entries} of each")
        if not entries:
            return
        if self.movie.min() < 0 or self.movie.max() >= len(self.movies):
            raise ValueError(f"movie: expected 0 .. {len(self.movies) - 1}")
        if self.count.min() < 1 or self.count.max() > self.rows.shape[1]:
            raise ValueError(f"count: expected 1 .. {self.rows.shape[1]}")
        used = self.used_rows(slice(None))
        if used.min() < 0 or used.max() >= len(self) or len(np.unique(used)) < len(used):
            raise ValueError(f"rows: expected each of 0 .. {len(self) - 1} at most once")
        if not (np.isfinite(self.time).all() and np.isfinite(self.loss).all()):
            raise ValueError("time, loss: expected finite numbers")
        if (np.floor(self.time / self.step + 0.5) != self.slot).any():
            raise ValueError("slot: does not fit the times")
        if len(np.unique(np.stack([self.movie, self.slot]), axis=1).T) < entries:
            raise ValueError("slot: expected each one of a movie at most once")
