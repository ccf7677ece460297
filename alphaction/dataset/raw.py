"""What the annotation readers return: the file's content in one schema, before any video has been looked at.

Shapes: N keyframes, P persons (boxes) over all keyframes, K classes.
"""

from __future__ import annotations

import gc
import math
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alphaction.dataset.faults import STRICT, Faults
from alphaction.formats.ava_columns import parse_time
from alphaction.structures import ClassList, ClipKey

NUM_CLASSES_KEY = "MODEL.ROI_ACTION_HEAD.NUM_CLASSES"
_PICTURE = re.compile(r"\.(jpe?g|png|bmp|webp|gif|tiff?|mp4|mkv|avi|webm|mov|m4v)$", re.IGNORECASE)


@dataclass(frozen=True)
class RawAnnotations:
    """Keyframes and persons as one annotation file has them.

    Attributes:
        source: path of the file.
        classes: the K classes.
        numbered: only their number is known (see `numbered_classes`).
        movies: ids of the videos.
        movie: int32 [N], row in `movies`.
        time: float64 [N], seconds.
        size: int32 [N, 2], (height, width) in pixels as the file says; 0 where it does not.
        image_rows: image id of the file -> keyframe; empty for files without image ids.
        keyframe: int64 [P], the keyframe of each person, ascending.
        boxes: float64 [P, 4]; `x, y, width, height` in pixels, or `x1, y1, x2, y2` in 0..1 if `normalised`.
        normalised: see `boxes`.
        labels: bool [P, K].
        person_id: int32 [P], -1 where unknown.
        entry: [P], the number by which the file knows the person: annotation id or line number.
        entry_name: "annotation" or "line".
        notes: remarks for the log.
        dropped: entries that were left out in reading, reason -> (count, first names).
    """

    source: str
    classes: ClassList
    numbered: bool
    movies: tuple[str, ...]
    movie: np.ndarray
    time: np.ndarray
    size: np.ndarray
    image_rows: Mapping[Hashable, int]
    keyframe: np.ndarray
    boxes: np.ndarray
    normalised: bool
    labels: np.ndarray
    person_id: np.ndarray
    entry: Sequence[object]
    entry_name: str
    notes: tuple[str, ...] = ()
    dropped: Mapping[str, tuple[int, list[str]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.movie)

    def name_keyframe(self, row: int) -> str:
        return str(ClipKey(self.movies[int(self.movie[row])], float(self.time[row])))

    def name_person(self, row: int) -> str:
        return f"{self.entry_name} {self.entry[row]}, {self.name_keyframe(int(self.keyframe[row]))}"

    def rows_by_key(self) -> dict[tuple[str, float], int]:
        """(movie, time in seconds rounded to microseconds) -> keyframe."""
        movies = [self.movies[i] for i in self.movie.tolist()]
        return {
            (movie, round(time, 6)): i for i, (movie, time) in enumerate(zip(movies, self.time.tolist(), strict=True))
        }


@dataclass
class KeyframeTable:
    """Collects keyframes; the same movie and time is the same keyframe."""

    movies: dict[str, int] = field(default_factory=dict)
    rows: dict[tuple[int, float], int] = field(default_factory=dict)
    sizes: list[tuple[int, int]] = field(default_factory=list)

    def add(self, movie: str, time: float, size: tuple[int, int] = (0, 0)) -> int:
        key = (self.movies.setdefault(movie, len(self.movies)), round(time, 6))
        row = self.rows.setdefault(key, len(self.sizes))
        if row == len(self.sizes):
            self.sizes.append(size)
        return row

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(movie int32 [N], time float64 [N], size int32 [N, 2])."""
        movie = np.fromiter((movie for movie, _ in self.rows), np.int32, len(self.rows))
        time = np.fromiter((time for _, time in self.rows), np.float64, len(self.rows))
        return movie, time, np.asarray(self.sizes, np.int32).reshape(-1, 2)


class ClassIndex:
    """Class id, as a file writes it, -> class index; also knows `"3"` for 3, and names.

    Attributes:
        classes: the class list.
        origin: where the list comes from, for messages.
        numbered: only the number of classes is known.
        by_name: the file's categories were matched by their names.
    """

    def __init__(
        self, classes: ClassList, *, origin: str, categories: ClassList | None = None, numbered: bool = False
    ) -> None:
        """`categories` are the file's own. Where they number the list's names differently, names decide."""
        self.classes = classes
        self.origin = origin
        self.numbered = numbered
        self._by_name = {name: i for i, name in enumerate(classes.names)}
        self._by_id: dict[Any, int] = classes.index()  # asked for whatever a file writes
        self.by_name = False
        if categories is not None:
            folded = {name.casefold(): i for name, i in self._by_name.items()}
            matches = {i: folded.get(n.casefold()) for i, n in zip(categories.ids, categories.names, strict=True)}
            named = {class_id: index for class_id, index in matches.items() if index is not None}
            # The same ids with other names are the same classes, spelt differently, unless all names are the list's.
            if named and (categories.ids != classes.ids or len(named) == len(classes)) and named != self._by_id:
                self._by_id, self.by_name = named, True

    def find(self, class_id: Hashable) -> int | None:
        if isinstance(class_id, str):
            text = class_id.strip()
            if text in self._by_id:
                return self._by_id[text]
            if re.fullmatch(r"-?\d+", text):
                return self._by_id.get(int(text))
            return self._by_name.get(text)
        found = self._by_id.get(class_id)
        return self._by_id.get(str(class_id)) if found is None else found

    def table(self, ids: Iterable[Hashable]) -> tuple[dict[Hashable, int], set[Hashable]]:
        """(id -> class index for those that are known, the unknown ones)."""
        found = {class_id: self.find(class_id) for class_id in set(ids)}
        unknown = {class_id for class_id, index in found.items() if index is None}
        return {class_id: index for class_id, index in found.items() if index is not None}, unknown

    def refuse(self, source: str, entry: str, class_id: object, count: int, faults: Faults = STRICT) -> None:
        """Tells of an id that is not in the list; `count` entries have this fault."""
        more = f" (and {count - 1} more entries with ids outside the list)" if count > 1 else ""
        more = "" if faults.collecting else more
        hint = ""
        if str(class_id).strip() == "0" and 0 not in self._by_id and 1 in self._by_id:
            hint = " Ids that begin at 0 need a class list that says so, such as classes: {0: name, 1: name}."
        what = (
            f"{source}: {entry} has the action id {class_id!r}, which is not in the class list: "
            f"{describe_ids(self.classes)} ({self.origin}){more}. Correct the annotation or add the class.{hint}"
        )
        faults.refuse("unknown-class", entry, what)


@contextmanager
def paused_gc() -> Iterator[None]:
    """No garbage collection inside: a file of AVA's size makes millions of small objects and no cycles, and looking
    through them again and again takes as long as reading."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def describe_ids(classes: ClassList) -> str:
    """For messages: `8 classes, ids 1 to 8`."""
    ids = classes.ids
    if isinstance(ids[0], int) and list(ids) == list(range(ids[0], ids[0] + len(ids))) and len(ids) > 1:
        return f"{len(ids)} classes, ids {ids[0]} to {ids[-1]}"
    shown = ", ".join(str(i) for i in ids[:20]) + (", ..." if len(ids) > 20 else "")
    return f"{len(ids)} {'class' if len(ids) == 1 else 'classes'}, ids {shown}"


def numbered_classes(count: int) -> ClassList:
    """Classes of which only the number is known: ids 1..count, named by their ids."""
    ids = range(1, count + 1)
    return ClassList(tuple(ids), tuple(str(i) for i in ids))


def count_names(names: Sequence[str]) -> tuple[int, list[str]]:
    """(how many, the first five): what `RawAnnotations.dropped` holds per reason."""
    return len(names), list(names[:5])


def parse_file_name(name: str) -> tuple[str, float] | None:
    """(movie, seconds) from `movie_id/frame_id.jpg`; only the last two parts of the path count."""
    parts = [part for part in name.replace("\\", "/").split("/") if part]
    if len(parts) < 2:
        return None
    time = parse_time(_PICTURE.sub("", parts[-1]))
    return None if time is None else (parts[-2], time)


def remark_repeats(person: np.ndarray, column: np.ndarray, names: Sequence[str], source: str, faults: Faults) -> None:
    """Remarks every entry that gives a person an action which an earlier entry gave it already.

    Args:
        person: int64 [L], the person of each label.
        column: int64 [L], its class index, -1 for an unknown class.
        names: [L], where each label stands in the file.
    """
    known = np.flatnonzero(column >= 0)
    pair = person[known] * (int(column.max(initial=0)) + 1) + column[known]
    _, first, group = np.unique(pair, return_index=True, return_inverse=True)
    for i in np.flatnonzero(first[group] != np.arange(len(pair))).tolist():
        entry, earlier = names[known[i]], names[known[first[group[i]]]]
        faults.remark("duplicate-row", entry, f"{source}: {entry} repeats {earlier}: the same person and action")


def parse_boxes(bboxes: list[Any], *, names: Iterable[str], source: str, faults: Faults = STRICT) -> np.ndarray:
    """float64 [n, 4] from lists of four numbers; null counts as NaN (dropped later, counted)."""
    try:
        boxes = np.asarray(bboxes, dtype=np.float64)
        if boxes.ndim == 2 and boxes.shape[1] == 4:
            return boxes
    except (TypeError, ValueError):
        pass
    rows: list[list[float]] = []
    for name, bbox in zip(names, bboxes, strict=True):
        try:
            row = [math.nan if value is None else float(value) for value in bbox]
        except (TypeError, ValueError):
            row = []
        if len(row) != 4:
            what = f"{source}: {name} has the bbox {bbox!r}, expected four numbers [x, y, width, height]"
            faults.refuse("bad-row", name, what)
            row = [math.nan] * 4
        rows.append(row)
    return np.asarray(rows, dtype=np.float64).reshape(-1, 4)


def find_row(rows: Mapping[Hashable, int], image_id: object) -> int | None:
    """Keyframe of an image id; 7 and "7" are the same id."""
    if not isinstance(image_id, Hashable):
        return None
    row = rows.get(image_id)
    if row is None and isinstance(image_id, str):
        text = image_id.strip()
        row = rows.get(int(text)) if re.fullmatch(r"-?\d+", text) else None
    elif row is None and isinstance(image_id, int):
        row = rows.get(str(image_id))
    return row


def person_ids(values: Sequence[Any]) -> np.ndarray:
    """int32 [P]; numbers as they are, other identities numbered in the order of appearance, -1 for none."""
    try:
        return np.asarray([-1 if value is None or value == "" else int(value) for value in values], np.int32)
    except (TypeError, ValueError, OverflowError):
        numbers: dict[str, int] = {}
        known = [None if value is None or value == "" else str(value) for value in values]
        return np.asarray([-1 if text is None else numbers.setdefault(text, len(numbers)) for text in known], np.int32)
