"""Reads AVA's CSV rows into arrays: `video,second,x1,y1,x2,y2,class[,score or person]`, corners in 0..1 of the frame.

There is a quick way (numpy on the bytes, for files as programs write them) and a patient one (row by row). The quick
way gives up at the first thing it does not know; the patient one then reads the file, or names the line.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alphaction.errors import DataError
from alphaction.evaluation.csv_bytes import UnusualError, chunks, decimals, differs_from_before, whole_numbers
from alphaction.formats.ava_columns import NEEDED, header_columns


@dataclass(frozen=True)
class CsvTable:
    """Rows of an AVA CSV; equal neighbouring boxes are stored once.

    Shapes: B boxes, R rows.

    Attributes:
        image: int32 [B], index of the image, as `image_index` gave it.
        xyxy: float64 [B, 4], 0..1.
        box: int32 [R], row in `xyxy`.
        label: int32 [R], class index.
        score: float64 [R]; 1 where the file has none.
        images: int64, every image that the file names.
        unknown: class id -> number of rows, for ids that are not evaluated (they are not in the arrays).
        without_score: rows without an eighth column.
    """

    image: np.ndarray
    xyxy: np.ndarray
    box: np.ndarray
    label: np.ndarray
    score: np.ndarray
    images: np.ndarray
    unknown: dict[str, int]
    without_score: int


@dataclass
class _Parts:
    """A table while it is being read."""

    image: list[np.ndarray] = field(default_factory=list)
    xyxy: list[np.ndarray] = field(default_factory=list)
    box: list[np.ndarray] = field(default_factory=list)
    label: list[np.ndarray] = field(default_factory=list)
    score: list[np.ndarray] = field(default_factory=list)
    images: dict[int, None] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    without_score: int = 0
    num_boxes: int = 0

    def add(self, image: np.ndarray, xyxy: np.ndarray, box: np.ndarray, label: np.ndarray, score: np.ndarray) -> None:
        """Adds boxes and the rows that refer to them; `box` counts from the first of these boxes."""
        self.image.append(image.astype(np.int32, copy=False))
        self.xyxy.append(xyxy)
        self.box.append(box + np.int32(self.num_boxes))
        self.label.append(label.astype(np.int32, copy=False))
        self.score.append(score)
        self.num_boxes += len(image)

    def table(self) -> CsvTable:
        def joined(parts: list[np.ndarray], empty: np.ndarray) -> np.ndarray:
            return np.concatenate([empty, *parts])

        return CsvTable(
            image=joined(self.image, np.zeros(0, np.int32)),
            xyxy=joined(self.xyxy, np.zeros((0, 4))),
            box=joined(self.box, np.zeros(0, np.int32)),
            label=joined(self.label, np.zeros(0, np.int32)),
            score=joined(self.score, np.zeros(0)),
            images=np.fromiter(self.images, np.int64, len(self.images)),
            unknown=self.unknown,
            without_score=self.without_score,
        )


def read_rows(
    path: str | Path,
    *,
    image_index: Callable[[str, str], int],
    class_index: Mapping[str, int],
    with_scores: bool,
    inverted_boxes: bool,
) -> CsvTable:
    """Reads a CSV of ground truth or detections.

    Args:
        path: the file; 7 or 8 columns, or 2 (video, second) for an image without boxes. A header line may name them.
        image_index: (video, second as written) -> index of the image; ValueError for a second that is not a number.
        class_index: class id as text -> class index.
        with_scores: the eighth column is a score (else it is not looked at: a person's number).
        inverted_boxes: whether x2 < x1 or y2 < y1 is let through.

    Raises:
        DataError: names the file and the line.
    """
    path = Path(path)
    try:
        parts = _read_quickly(path, image_index, class_index, with_scores, inverted_boxes)
    except (UnusualError, UnicodeDecodeError):
        parts = _read_patiently(path, image_index, class_index, with_scores, inverted_boxes)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return parts.table()


def _read_patiently(
    path: Path,
    image_index: Callable[[str, str], int],
    class_index: Mapping[str, int],
    with_scores: bool,
    inverted_boxes: bool,
) -> _Parts:
    parts = _Parts()
    image: list[int] = []
    xyxy: list[list[float]] = []
    label: list[int] = []
    score: list[float] = []
    columns: list[int] | None = None
    for where, row in csv_lines(path):
        if columns is None:
            columns = _header(row, with_scores)
            if columns:
                continue
        if columns:
            row = [row[i] if i < len(row) else "" for i in columns]
        if len(row) not in (2, 7, 8):
            raise DataError(
                f"{where}: {len(row)} columns, expected 7 or 8 (video, second, x1, y1, x2, y2, class[, score]), or 2 "
                "(video, second) for an image without boxes"
            )
        try:
            index = image_index(row[0], row[1])
        except ValueError as error:
            raise DataError(f"{where}: the second column is {row[1]!r}, expected a number of seconds") from error
        parts.images[index] = None
        if not any(row[2:]):
            continue
        corners = [_number(text, where, name) for text, name in zip(row[2:6], ("x1", "y1", "x2", "y2"), strict=True)]
        if not inverted_boxes and (corners[2] < corners[0] or corners[3] < corners[1]):
            raise DataError(f"{where}: box {', '.join(row[2:6])} has x2 < x1 or y2 < y1, expected x1, y1, x2, y2")
        known = class_index.get(class_text(row[6]))
        if known is None:
            parts.unknown[row[6]] = parts.unknown.get(row[6], 0) + 1
            continue
        scored = with_scores and len(row) == 8
        parts.without_score += with_scores and not scored
        image.append(index)
        xyxy.append(corners)
        label.append(known)
        score.append(_number(row[7], where, "score") if scored else 1.0)
    boxes = np.array(xyxy, np.float64).reshape(-1, 4)
    parts.add(
        np.array(image, np.int32),
        boxes,
        np.arange(len(image), dtype=np.int32),
        np.array(label, np.int32),
        np.array(score, float),
    )
    return parts


def _header(row: list[str], with_scores: bool) -> list[int]:
    """Places of the columns if the first line names them (in any order), else none."""
    named = header_columns(row)
    if any(key not in named for key in NEEDED):
        return []
    return [named[key] for key in NEEDED] + ([named["score"]] if with_scores and "score" in named else [])


def class_ids(path: str | Path) -> list[int | str]:
    """The class ids of a file, sorted; numbers before texts."""
    ids: set[str] = set()
    columns: list[int] | None = None
    for _, row in csv_lines(path):
        if columns is None:
            columns = _header(row, False)
            if columns:
                continue
        place = columns[6] if columns else 6
        if place < len(row) and row[place]:
            ids.add(class_text(row[place]))
    found = [int(text) if text.removeprefix("-").isdecimal() else text for text in ids]
    return sorted(found, key=lambda class_id: (isinstance(class_id, str), class_id))


def first_line(path: str | Path, *, above: float) -> str:
    """ "FILE, line N" of the first line with a larger coordinate, in a file that can be read."""
    columns: list[int] | None = None
    for where, row in csv_lines(path):
        if columns is None:
            columns = _header(row, False)
            if columns:
                continue
        corners = [row[i] for i in (columns or range(7))[2:6] if i < len(row) and row[i]]
        if any(float(text) > above for text in corners):
            return where
    return str(path)


def csv_lines(path: str | Path) -> Iterator[tuple[str, list[str]]]:
    """("FILE, line N", fields without blanks around them) for each line that is not empty.

    Raises:
        DataError: the file cannot be read, or is no text.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            for row in reader:
                fields = [text.strip() for text in row]
                if any(fields):
                    yield f"{path}, line {reader.line_num}", fields
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV text file ({error})") from error


def class_text(text: str) -> str:
    """A class id as text; whole numbers without leading zeros."""
    text = text.strip()
    try:
        return str(int(text))
    except ValueError:
        return text


def _number(text: str, where: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise DataError(f"{where}: {column} is {text!r}, expected a number") from None
    if not math.isfinite(value):
        raise DataError(f"{where}: {column} is {text}, expected a finite number")
    return value


def _read_quickly(
    path: Path,
    image_index: Callable[[str, str], int],
    class_index: Mapping[str, int],
    with_scores: bool,
    inverted_boxes: bool,
) -> _Parts:
    parts = _Parts()
    numbers = {int(text): index for text, index in class_index.items() if text.isdecimal()}
    if max(numbers, default=0) >= 1_000_000:  # ids are looked up in an array
        raise UnusualError
    index_of = np.full(max(numbers, default=0) + 2, -1, np.int32)  # the last entry stays -1: for larger ids
    index_of[list(numbers)] = list(numbers.values())
    for chunk in chunks(path):
        comma = chunk.comma
        new = np.flatnonzero(differs_from_before(chunk, chunk.start, comma[:, 5]))  # lines with another box
        start, comma_of_new = chunk.start[new], comma[new]
        other = differs_from_before(chunk, start, comma_of_new[:, 1])  # boxes of another image
        names = (line.split(",") for line in chunk.texts(start[other], comma_of_new[other, 1]))
        try:
            known_images = np.array([image_index(movie.strip(), second) for movie, second in names], np.int32)
        except ValueError as error:
            raise UnusualError from error
        xyxy = np.stack([decimals(chunk, comma_of_new[:, i] + 1, comma_of_new[:, i + 1]) for i in range(1, 5)], axis=1)
        if not (inverted_boxes or (xyxy[:, 2:] >= xyxy[:, :2]).all()):
            raise UnusualError
        has_score = chunk.columns == 8
        ids = whole_numbers(chunk, comma[:, 5] + 1, comma[:, 6] if has_score else chunk.end)
        label = index_of[np.minimum(ids, len(index_of) - 1)]
        scored = with_scores and has_score
        score = decimals(chunk, comma[:, 6] + 1, chunk.end) if scored else np.ones(len(label))
        box = np.zeros(len(label), np.int32)
        box[new[1:]] = 1
        np.cumsum(box, out=box)
        parts.images.update(dict.fromkeys(known_images.tolist()))
        known = label >= 0
        if not known.all():
            for class_id, count in zip(*np.unique(ids[~known], return_counts=True), strict=True):
                parts.unknown[str(class_id)] = parts.unknown.get(str(class_id), 0) + int(count)
            box, label, score = box[known], label[known], score[known]
        parts.without_score += len(label) if with_scores and not has_score else 0
        parts.add(known_images[np.cumsum(other) - 1], xyxy, box, label, score)
    return parts
