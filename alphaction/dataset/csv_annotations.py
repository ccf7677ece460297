"""Reads annotation files in AVA's CSV form.

`video_id, timestamp, x1, y1, x2, y2, action_id[, person_id]`: corners in 0..1 of the frame's width and height, a row
per action of a person; rows with the same keyframe, box and person id are one person. A row with only the first two
columns is a keyframe without persons; a box without an action is left out and counted. A header line may name the
columns, in any order.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alphaction.dataset.faults import STRICT, Faults
from alphaction.dataset.json_annotations import ChooseClasses
from alphaction.dataset.raw import (
    ClassIndex,
    KeyframeTable,
    RawAnnotations,
    count_names,
    person_ids,
    remark_repeats,
)
from alphaction.errors import DataError
from alphaction.formats.ava_columns import NEEDED, header_columns, parse_time

_ORDER = (*NEEDED, "person")
_EXPECTED = "video_id,timestamp,x1,y1,x2,y2,action_id,person_id (person_id may be left out)"


@dataclass
class _Persons:
    """Columns of the persons read so far; `seen` finds the person that a further row belongs to."""

    seen: dict[tuple, int] = field(default_factory=dict)
    entry: list[int] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    action_person: list[int] = field(default_factory=list)
    action_line: list[int] = field(default_factory=list)
    without_action: list[str] = field(default_factory=list)

    def add(self, key: tuple, action: str, line: int) -> None:
        person = self.seen.setdefault(key, len(self.entry))
        if person == len(self.entry):
            self.entry.append(line)
        self.actions.append(action)
        self.action_person.append(person)
        self.action_line.append(line)


def read_csv_annotations(path: Path, choose_classes: ChooseClasses, faults: Faults = STRICT) -> RawAnnotations:
    source = str(path)
    table, persons = KeyframeTable(), _Persons()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            _read_rows(file, table, persons, source, faults)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{source}: the annotation file is neither JSON nor a CSV text ({error})") from None
    if not table.sizes:
        raise DataError(f"{source}: the annotation file has no usable rows; expected {_EXPECTED}")
    numbers = [int(text) for text in set(persons.actions) if text.isdecimal()]
    index = choose_classes(None, max(numbers, default=0))
    classes, unknown = index.table(persons.actions)
    if unknown:
        wrong = [i for i, action in enumerate(persons.actions) if action in unknown]
        for i in wrong:
            index.refuse(source, f"line {persons.action_line[i]}", persons.actions[i], len(wrong), faults)
    column = np.asarray([classes.get(action, -1) for action in persons.actions], np.int64)
    person = np.asarray(persons.action_person, np.int64)
    labels = np.zeros((len(persons.entry), len(index.classes)), dtype=bool)
    labels[person[column >= 0], column[column >= 0]] = True
    if faults.collecting:
        remark_repeats(person, column, [f"line {line}" for line in persons.action_line], source, faults)
    boxes = np.asarray([key[1:5] for key in persons.seen], np.float64).reshape(-1, 4)
    normalised = _are_fractions(boxes, persons, source, faults)
    if not normalised:
        boxes[:, 2:] -= boxes[:, :2]
    return _in_order(table, persons, boxes=boxes, normalised=normalised, labels=labels, index=index, source=source)


def _read_rows(file: Iterable[str], table: KeyframeTable, persons: _Persons, source: str, faults: Faults) -> None:
    columns: list[int] | None = None
    rows = csv.reader(file)
    for row in rows:
        if not row or not any(cell.strip() for cell in row) or row[0].lstrip().startswith("#"):
            continue
        row = [cell.strip() for cell in row]
        if columns is None:
            columns, header = _find_columns(row, source)
            if header:
                continue
        movie, time, *box, action, person = (row[i] if 0 <= i < len(row) else "" for i in columns)
        line = f"line {rows.line_num}"
        where = f"{source}: {line}"
        seconds = parse_time(time)
        if not movie or seconds is None:
            what = f"{where} has the video {movie!r} and the timestamp {time!r}, expected {_EXPECTED}"
            faults.refuse("bad-row", line, what)
            continue
        keyframe = table.add(movie, seconds)
        if not any(box) and not action:
            continue
        if len(row) <= max(columns[:-1]):
            what = f"{where} has {len(row)} columns, expected {_EXPECTED}; is the file cut off?"
            faults.refuse("bad-row", line, what)
            continue
        if not action:
            persons.without_action.append(line)
            faults.remark("no-action", line, f"{where} has a box but no action")
            continue
        try:
            corners = [float(value) for value in box]
        except ValueError:
            faults.refuse("bad-row", line, f"{where} has the box {','.join(box)!r}, expected x1,y1,x2,y2 in 0..1")
            continue
        persons.add((keyframe, *corners, person), action, rows.line_num)


def _find_columns(row: list[str], source: str) -> tuple[list[int], bool]:
    """(position of each column of `_ORDER`, whether `row` is a header line); -1 = no such column."""
    if len(row) >= 2 and parse_time(row[1]) is not None:
        if len(row) not in (2, 7, 8):
            raise DataError(f"{source}: the first row has {len(row)} columns, expected 7 or 8: {_EXPECTED}")
        return list(range(len(_ORDER))), False
    found = header_columns(row)
    missing = [key for key in NEEDED if key not in found]
    if not missing:
        return [found.get(key, -1) for key in _ORDER], True
    if len(missing) == len(NEEDED) and len(row) in (7, 8) and all(parse_time(cell) is None for cell in row):
        return list(range(len(_ORDER))), True  # a header in other words
    raise DataError(
        f"{source}: the first line is neither a row nor a header that names all columns; "
        f"missing: {', '.join(missing)}; expected {_EXPECTED}, got {','.join(row)!r}"
    )


def _are_fractions(boxes: np.ndarray, persons: _Persons, source: str, faults: Faults) -> bool:
    """Most boxes far beyond 1 means pixels, which would otherwise all be dropped as outside the picture."""
    far = (boxes > 2).any(axis=1)
    if far.sum() * 2 <= len(boxes):
        return True
    first = int(np.argmax(far))
    line = f"line {persons.entry[first]}"
    what = (
        f"{source}: boxes look like pixels ({line}: {boxes[first].tolist()}), "
        "expected x1,y1,x2,y2 as fractions 0..1 of the frame's width and height"
    )
    faults.refuse("pixel-boxes", line, what)
    return False


def _in_order(
    table: KeyframeTable,
    persons: _Persons,
    *,
    boxes: np.ndarray,
    normalised: bool,
    labels: np.ndarray,
    index: ClassIndex,
    source: str,
) -> RawAnnotations:
    """Keyframes by movie (in the order of appearance) and time, persons by keyframe."""
    movie, time, size = table.arrays()
    order = np.lexsort((time, movie))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    keyframe = rank[np.asarray([key[0] for key in persons.seen], np.int64)]
    by_keyframe = np.argsort(keyframe, kind="stable")
    return RawAnnotations(
        source=source,
        classes=index.classes,
        numbered=index.numbered,
        movies=tuple(table.movies),
        movie=movie[order],
        time=time[order],
        size=size[order],
        image_rows={},
        keyframe=keyframe[by_keyframe],
        boxes=boxes[by_keyframe],
        normalised=normalised,
        labels=labels[by_keyframe],
        person_id=person_ids([key[5] for key in persons.seen])[by_keyframe],
        entry=[persons.entry[i] for i in by_keyframe.tolist()],
        entry_name="line",
        dropped={"boxes without an action": count_names(persons.without_action)} if persons.without_action else {},
    )
