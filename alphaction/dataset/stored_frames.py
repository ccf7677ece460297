"""The frame indices of a data set's videos in one file, so that no process needs to read a video through to find them.

`frame_index.npz` lies in the folder of the data set. A video is found by its place relative to that folder, and its
entry counts only while the file has the size and the time of change that it had then; any other video is read through
when it is opened, as without this file. Videos without usable time stamps are not stored.

Arrays of the file (V videos, D steps between frames, K key frames; plain numbers, no pickles):
    version int64 [3]: `VERSION` and the version of the library that read the videos.
    name uint64 [V], ascending: hash of the path. stamp int64 [V, 2]: size in bytes and time of change in ns.
    tick float64 [V], first int64 [V], count int64 [V]: unit in seconds, first time stamp, number of frames.
    step int64 [V]: units from frame to frame; 0 where they differ. Then they stand in
    steps int64 [D], those of video v from steps_first[v] on; steps_first int64 [V + 1].
    keys int64 [K], keys_first int64 [V + 1]: time stamps of the key frames.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import av
import numpy as np

from alphaction.dataset.frame_index import FrameIndex, stamped_index
from alphaction.utils.atomic import atomic_write
from alphaction.utils.logging import alike_in_all

logger = alike_in_all(logging.getLogger(__name__))

FILE_NAME = "frame_index.npz"
VERSION = 1
Stamp = tuple[int, int]

_ADVICE = "Videos are read through when they are opened; python tools/index_videos.py makes it anew"


class _Unusable(Exception):
    """Why a file of indices is not used."""


@dataclass(frozen=True)
class _Table:
    name: np.ndarray
    stamp: np.ndarray
    tick: np.ndarray
    first: np.ndarray
    count: np.ndarray
    step: np.ndarray
    steps: np.ndarray
    steps_first: np.ndarray
    keys: np.ndarray
    keys_first: np.ndarray

    def check(self) -> None:
        videos = len(self.name)
        rows = (self.stamp, self.tick, self.first, self.count, self.step)
        if any(len(array) != videos for array in rows) or self.stamp.shape != (videos, 2):
            raise _Unusable("its arrays do not belong together")
        for first, whole in ((self.steps_first, self.steps), (self.keys_first, self.keys)):
            if len(first) != videos + 1 or first[0] != 0 or first[-1] != len(whole) or (np.diff(first) < 0).any():
                raise _Unusable("its arrays do not belong together")
        steps = np.where(self.step == 0, self.count - 1, 0)
        if (self.count < 1).any() or (self.step < 0).any() or not np.array_equal(np.diff(self.steps_first), steps):
            raise _Unusable("its arrays do not belong together")
        if (self.name[1:] <= self.name[:-1]).any() or (self.steps <= 0).any() or not (self.tick > 0).all():
            raise _Unusable("its numbers are not in order")

    def index(self, row: int) -> FrameIndex:
        count, step = int(self.count[row]), int(self.step[row])
        if step:
            pts = self.first[row] + step * np.arange(count, dtype=np.int64)
        else:
            steps = self.steps[self.steps_first[row] : self.steps_first[row + 1]]
            pts = self.first[row] + np.concatenate([np.zeros(1, np.int64), np.cumsum(steps)])
        keys = self.keys[self.keys_first[row] : self.keys_first[row + 1]].copy()
        return stamped_index(pts, tick=float(self.tick[row]), keys=keys)


class StoredFrames:
    """The indices of one or several files. Reads them at the first use; what travels to a new process is their paths.

    Args:
        files: paths of `frame_index.npz` files. One that is missing, damaged, or made by another version is left out
            with a warning.
        advice: the end of that warning.
    """

    def __init__(self, files: Sequence[str], *, advice: str = _ADVICE) -> None:
        self.files, self._advice = tuple(files), advice
        self._tables: list[tuple[str, _Table]] | None = None

    def __getstate__(self) -> dict[str, tuple[str, ...]]:
        return {"files": self.files}

    def __setstate__(self, state: Mapping[str, tuple[str, ...]]) -> None:
        self.files, self._advice, self._tables = state["files"], _ADVICE, None

    def __len__(self) -> int:
        return sum(len(table.name) for _, table in self._load())

    @staticmethod
    def joined(parts: Iterable[StoredFrames | None]) -> StoredFrames | None:
        """The files of all parts together; None when there are none."""
        files = [file for part in parts if part is not None for file in part.files]
        return StoredFrames(list(dict.fromkeys(files))) if files else None

    def find(self, path: str, stamp: Stamp) -> FrameIndex | None:
        """The index of the video at `path`, None if it is not stored or the file has changed since."""
        for folder, table in self._load():
            row = _row(table, _name(path, folder))
            if row is not None and _stamp(table, row) == stamp:
                return table.index(row)
        return None

    @property
    def is_usable(self) -> bool:
        """Whether any of the files can be read."""
        return bool(self._load())

    def _load(self) -> list[tuple[str, _Table]]:
        if self._tables is None:
            self._tables = []
            for file in self.files:
                try:
                    self._tables.append((os.path.dirname(file), _read(file)))
                except _Unusable as error:
                    _tell_once(file, str(error), self._advice)
        return self._tables


def stored_frames_of(folder: str) -> StoredFrames | None:
    """The indices stored in a data set's folder, None if there are none.

    A file that cannot be used is found out at once: this process tells of it, and no reading process does again.
    """
    file = os.path.join(folder, FILE_NAME)
    stored = StoredFrames([file]) if os.path.isfile(file) else None
    return stored if stored is not None and stored.is_usable else None


@lru_cache(maxsize=64)
def _tell_once(file: str, reason: str, advice: str) -> None:
    """A run's data sets often have the same file."""
    logger.warning("%s is not used: %s. %s", file, reason, advice)


def write_stored_frames(
    file: str | os.PathLike[str],
    indices: Mapping[str, tuple[Stamp, FrameIndex]],
    *,
    folder: str = "",
) -> None:
    """Writes a file of indices, whole or not at all.

    Args:
        file: to create or replace.
        indices: (stamp, index) by the path of the video.
        folder: the folder that the file will lie in when it is used; "" = that of `file`.
    """
    folder = folder or os.path.dirname(os.fspath(file))
    named = {_name(path, folder): entry for path, entry in indices.items()}
    order = sorted(named)
    frames = [named[name][1] for name in order]
    stamps = [index.pts for index in frames if index.pts is not None]
    if len(stamps) < len(frames):
        raise ValueError("indices: got one without time stamps, which cannot be stored")
    gaps = [np.diff(pts) for pts in stamps]
    even = [int(gap[0]) if len(gap) and (gap == gap[0]).all() else 0 if len(gap) else 1 for gap in gaps]
    steps = [gap if step == 0 else gap[:0] for gap, step in zip(gaps, even, strict=True)]
    arrays: dict[str, Any] = {
        "version": _version(),
        "name": np.array(order, np.uint64),
        "stamp": np.array([named[name][0] for name in order], np.int64).reshape(-1, 2),
        "tick": np.array([index.tick for index in frames], np.float64),
        "first": np.array([pts[0] for pts in stamps], np.int64),
        "count": np.array([len(index) for index in frames], np.int64),
        "step": np.array(even, np.int64),
        **_packed("steps", steps),
        **_packed("keys", [index.keys for index in frames]),
    }
    with atomic_write(file) as out:
        np.savez_compressed(out, **arrays)


def _packed(name: str, parts: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    first = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    return {name: np.concatenate([np.zeros(0, np.int64), *parts]), f"{name}_first": first}


def _version() -> np.ndarray:
    return np.array([VERSION, *av.library_versions["libavformat"][:2]], np.int64)


def _read(file: str) -> _Table:
    try:
        with np.load(file, allow_pickle=False) as content:
            if not np.array_equal(content["version"], _version()):
                raise _Unusable(f"it was made by another version ({content['version']}, this is {_version()})")
            table = _Table(**{name: content[name] for name in _Table.__dataclass_fields__})
        table.check()
    except _Unusable:
        raise
    except Exception as error:  # unpacking a damaged file can raise anything
        raise _Unusable(f"it cannot be read ({error})") from None
    return table


def _stamp(table: _Table, row: int) -> Stamp:
    size, changed = table.stamp[row].tolist()
    return size, changed


def _row(table: _Table, name: int) -> int | None:
    row = int(np.searchsorted(table.name, np.uint64(name)))
    return row if row < len(table.name) and int(table.name[row]) == name else None


def _name(path: str, folder: str) -> int:
    """64 bits of a hash of the video's place relative to `folder`, after all links: both may move together."""
    real, start = os.path.realpath(path), os.path.realpath(folder or ".")
    try:
        place = os.path.relpath(real, start).replace(os.sep, "/")
    except ValueError:  # another drive
        place = real.replace(os.sep, "/")
    return int.from_bytes(hashlib.blake2b(place.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")
