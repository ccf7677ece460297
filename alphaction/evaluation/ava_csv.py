"""Reads AVA's CSV rows into arrays: `video,second,x1,y1,x2,y2,class[,score or person]`, corners in 0..1 of the frame.

There is a quick way (numpy on the bytes, for files as programs write them) and a patient one (row by row). The quick
way gives up at the first thing it does not know; the patient one then reads the file, or names the line.
"""

from __future__ import annotations

import codecs
import csv
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alphaction.errors import DataError
from alphaction.formats.ava_columns import NEEDED, header_columns

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 4 << 20


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


class _UnusualError(Exception):
    """The quick reader met something that the patient one has to look at."""


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
        self.box.append((box + self.num_boxes).astype(np.int32))
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
    except (_UnusualError, UnicodeDecodeError):
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
        np.array(image, np.int32), boxes, np.arange(len(image)), np.array(label, np.int32), np.array(score, float)
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
    """("FILE, line N", fields without blanks around them) for each line that is not empty."""
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
        raise _UnusualError
    index_of = np.full(max(numbers, default=0) + 2, -1, np.int32)  # the last entry stays -1: for larger ids
    index_of[list(numbers)] = list(numbers.values())
    columns = 0
    for chunk in _chunks(path):
        lines = _split(chunk, columns)
        columns = lines.columns
        new = _new_boxes(chunk, lines)
        fields = [_text(chunk, lines.start[i], lines.comma[i, 5]).split(",") for i in np.flatnonzero(new)]
        try:
            image = np.array([image_index(row[0].strip(), row[1]) for row in fields], np.int32)
            xyxy = np.array([row[2:] for row in fields]).astype(np.float64)
        except ValueError as error:
            raise _UnusualError from error
        if not np.isfinite(xyxy).all() or not (inverted_boxes or (xyxy[:, 2:] >= xyxy[:, :2]).all()):
            raise _UnusualError
        label_end = lines.comma[:, 6] if columns == 8 else lines.end
        ids = _whole_numbers(chunk, lines.comma[:, 5] + 1, label_end)
        label = index_of[np.minimum(ids, len(index_of) - 1)]
        score = np.ones(len(label))
        if with_scores and columns == 8:
            score = _decimals(chunk, lines.comma[:, 6] + 1, lines.end)
        parts.images.update(dict.fromkeys(image.tolist()))
        known = label >= 0
        if not known.all():
            for class_id, count in zip(*np.unique(ids[~known], return_counts=True), strict=True):
                parts.unknown[str(class_id)] = parts.unknown.get(str(class_id), 0) + int(count)
        parts.without_score += int(known.sum()) if with_scores and columns == 7 else 0
        parts.add(image, xyxy, (np.cumsum(new) - 1)[known], label[known], score[known])
    return parts


def _chunks(path: Path) -> Iterator[np.ndarray]:
    """The file's bytes, uint8, cut at line ends."""
    with open(path, "rb") as file:
        while block := file.read(_CHUNK_BYTES):
            block += file.readline()
            if b'"' in block or block.startswith(codecs.BOM_UTF8) or len(block) < 8:  # `_new_boxes` reads 8 bytes
                raise _UnusualError
            if not block.endswith(b"\n"):
                block += b"\n"
            yield np.frombuffer(block, np.uint8)


@dataclass(frozen=True)
class _Lines:
    """Where the n lines of a chunk and their c - 1 commas are: int64 [n], [n], [n, c - 1] positions."""

    start: np.ndarray
    end: np.ndarray
    comma: np.ndarray

    @property
    def columns(self) -> int:
        return self.comma.shape[1] + 1


def _split(chunk: np.ndarray, columns: int) -> _Lines:
    feeds = np.flatnonzero(chunk == ord("\n"))
    start = np.concatenate([[0], feeds[:-1] + 1])
    end = feeds - (chunk[feeds - 1] == ord("\r"))
    commas = np.flatnonzero(chunk == ord(","))
    per_line, rest = divmod(len(commas), len(feeds))
    if rest or per_line not in (6, 7) or columns not in (0, per_line + 1):
        raise _UnusualError
    comma = commas.reshape(-1, per_line)
    if not ((comma[:, 0] >= start).all() and (comma[:, -1] < end).all()):
        raise _UnusualError
    return _Lines(start, end, comma)


def _new_boxes(chunk: np.ndarray, lines: _Lines) -> np.ndarray:
    """bool [n]: lines whose first six fields differ from those of the line before."""
    end = lines.comma[:, 5]
    length = end - lines.start
    new = np.ones(len(length), bool)
    new[1:] = length[1:] != length[:-1]
    new |= length < 8
    # Eight bytes at a time, at every position of the chunk, aligned or not; the last eight overlap those before.
    words = np.ndarray((len(chunk) - 7,), np.uint64, buffer=chunk, strides=(1,))
    for offset in range(0, int(length.max()), 8):
        word = words[np.maximum(np.minimum(lines.start + offset, end - 8), 0)]
        new[1:] |= word[1:] != word[:-1]
    return new


def _text(chunk: np.ndarray, start: int, end: int) -> str:
    return chunk[start:end].tobytes().decode("utf-8")


def _field(chunk: np.ndarray, start: np.ndarray, end: np.ndarray, widest: int) -> np.ndarray:
    """uint8 [n, w]: the bytes of a field, right-aligned, filled with '0' at the left."""
    width = end - start
    if width.min() < 1 or width.max() > widest:
        raise _UnusualError
    column = np.arange(-int(width.max()), 0)
    bytes_ = chunk[np.maximum(end[:, None] + column, 0)]
    return np.where(column >= -width[:, None], bytes_, np.uint8(ord("0")))


def _whole_numbers(chunk: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    digits = _field(chunk, start, end, 9) - np.uint8(ord("0"))
    if (digits > 9).any():
        raise _UnusualError
    value = np.zeros(len(digits), np.int64)
    for column in digits.T:
        value *= 10
        value += column
    return value


def _decimals(chunk: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Numbers like 0.12345, exactly as `float` reads them; others one by one."""
    text = _field(chunk, start, end, 32)
    point = text == ord(".")
    digits = np.where(point, np.uint8(ord("0")), text) - np.uint8(ord("0"))
    plain = (digits <= 9).all(axis=1) & (point.sum(axis=1) <= 1) & (end - start <= 16)
    value = np.zeros(len(text), np.int64)
    if (point == point[0]).all():  # one format in all lines, as a rule
        for column in np.flatnonzero(~point[0]):
            value *= 10
            value += digits[:, column]
    else:
        for column in range(text.shape[1]):
            value = np.where(point[:, column], value, value * 10 + digits[:, column])
    behind = np.where(point.any(axis=1), text.shape[1] - 1 - point.argmax(axis=1), 0)
    # Up to 15 digits and 10**15 are exact in float64, so their quotient is the nearest float64, as `float` gives it.
    number = value / 10.0 ** np.minimum(behind, 22)
    for i in np.flatnonzero(~plain):
        try:
            number[i] = float(_text(chunk, start[i], end[i]))
        except ValueError as error:
            raise _UnusualError from error
    if not np.isfinite(number).all():
        raise _UnusualError
    return number
