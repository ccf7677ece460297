"""detections.jsonl: every person at every moment, one JSON object per line. docs/PREDICT.md describes it.

K classes.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from alphaction.errors import DataError
from alphaction.prediction.line_file import LineFile
from alphaction.prediction.records import Moment, PersonRecord

logger = logging.getLogger(__name__)

SCHEMA = "alphaction.detections"
VERSION = 1

_TIME_DIGITS, _BOX_DIGITS, _SCORE_DIGITS = 6, 2, 6  # microseconds, hundredths of a pixel, millionths
_ROW = ("time", "track", "box", "person_score", "scores")


@dataclass(frozen=True)
class Header:
    """What the first line says of the whole file.

    Attributes:
        video: path or address of the source, as given.
        size: (height, width) of the frames as displayed, pixels.
        fps: frames per second; None = unknown.
        classes: names of the K actions, in the order of the scores.
        details: anything else, such as the checkpoint; values that JSON knows.
    """

    video: str
    size: tuple[int, int]
    fps: float | None
    classes: Sequence[str]
    details: Mapping[str, Any] = field(default_factory=dict)


class DetectionsWriter(LineFile):
    """Writes the header, then the moments one by one."""

    def __init__(self, path: str | Path, *, header: Header) -> None:
        super().__init__(path)
        self._header = header
        height, width = header.size
        first = {"schema": SCHEMA, "version": VERSION, "video": header.video, "width": width, "height": height}
        first |= {"fps": header.fps, "classes": list(header.classes), "details": dict(header.details)}
        self.write(_line(first))

    def add(self, moment: Moment) -> None:
        """Adds a line for each person, or one without a person, and hands them to the system at once."""
        if tuple(moment.size) != tuple(self._header.size):
            raise ValueError(f"moment of size {moment.size}, expected {self._header.size}, the size of the video")
        time = round(moment.time, _TIME_DIGITS)
        rows: list[tuple[Any, ...]] = [(time, None, None, None, None)]
        if moment.persons:
            rows = [(time, *self._person(person)) for person in moment.persons]
        self.write("".join(_line(dict(zip(_ROW, row, strict=True))) for row in rows))

    def _person(self, person: PersonRecord) -> tuple[int, list[float], float, list[float]]:
        classes = len(self._header.classes)
        if person.scores.shape != (classes,):
            raise ValueError(f"scores: got shape {person.scores.shape}, expected ({classes},)")
        box = [round(float(side), _BOX_DIGITS) for side in person.box]
        scores = [round(score, _SCORE_DIGITS) for score in person.scores.tolist()]
        return int(person.track), box, round(float(person.box_score), _SCORE_DIGITS), scores


def read_header(path: str | Path) -> Header:
    """What the first line says.

    Raises:
        DataError: no such file, or another kind or version of file.
    """
    return _first(Path(path), _lines(Path(path)))


def read_detections(path: str | Path) -> tuple[Header, list[Moment]]:
    """Reads the whole file; boxes, times and scores are rounded as they were written.

    A last line without a line end, which a run that was killed may leave, is passed over with a warning.

    Raises:
        DataError: no such file, another kind or version of file, or a wrong line, with its number.
    """
    path = Path(path)
    lines = _lines(path)
    header = _first(path, lines)
    return header, list(_moments(path, lines, header))


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and object of each line."""
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith("\n"):
                    logger.warning("%s: the last line, %d, is incomplete and is passed over", path, number)
                    return
                try:
                    entry = json.loads(line, parse_constant=_refuse)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{path}, line {number}: not JSON ({error})") from error
                if not isinstance(entry, dict):
                    raise DataError(f"{path}, line {number}: expected a JSON object, got {line.strip()[:60]!r}")
                yield number, entry
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def _first(path: Path, lines: Iterator[tuple[int, dict[str, Any]]]) -> Header:
    number, first = next(lines, (1, None))
    if first is None:
        raise DataError(f"{path}: empty, expected a file of {SCHEMA}")
    return _header(f"{path}, line {number}", first)


def _header(where: str, entry: Mapping[str, Any]) -> Header:
    if entry.get("schema") != SCHEMA:
        raise DataError(f"{where}: schema is {entry.get('schema')!r}, expected {SCHEMA!r}")
    if entry.get("version") != VERSION:
        raise DataError(f"{where}: version is {entry.get('version')!r}; this software reads version {VERSION}")
    for key in ("height", "width"):
        if not _is_whole(entry.get(key)) or entry[key] < 1:
            raise DataError(f"{where}: {key} is {entry.get(key)!r}, expected pixels")
    classes, fps, details = entry.get("classes"), entry.get("fps"), entry.get("details", {})
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise DataError(f"{where}: classes is not a list of names")
    if fps is not None and not (_is_number(fps) and fps > 0):
        raise DataError(f"{where}: fps is {fps!r}, expected a number or null")
    if not isinstance(details, dict) or not isinstance(entry.get("video"), str):
        raise DataError(f"{where}: expected video, a text, and details, an object")
    return Header(entry["video"], (entry["height"], entry["width"]), fps, tuple(classes), details)


def _moments(path: Path, lines: Iterable[tuple[int, dict[str, Any]]], header: Header) -> Iterator[Moment]:
    time: float | None = None
    persons: list[PersonRecord] = []
    for number, entry in lines:
        where = f"{path}, line {number}"
        if set(entry) != set(_ROW):
            raise DataError(f"{where}: keys are {', '.join(entry) or 'missing'}; expected {', '.join(_ROW)}")
        if not _is_number(entry["time"]) or (time is not None and entry["time"] < time):
            raise DataError(f"{where}: time is {entry['time']!r}, expected seconds, none before those of earlier lines")
        person = None if entry["track"] is None else _read_person(where, entry, len(header.classes))
        if time is not None and entry["time"] > time:
            yield Moment(time, header.size, tuple(persons))
            persons = []
        elif time is not None and (person is None or not persons or person.track in {p.track for p in persons}):
            raise DataError(f"{where}: track {entry['track']!r} does not fit to the lines before of the same time")
        time = entry["time"]
        persons += [] if person is None else [person]
    if time is not None:
        yield Moment(time, header.size, tuple(persons))


def _read_person(where: str, entry: Mapping[str, Any], classes: int) -> PersonRecord:
    if not _is_whole(entry["track"]) or entry["track"] < 0:
        raise DataError(f"{where}: track is {entry['track']!r}, expected a number from 0, or null for nobody")
    for key, length in (("box", 4), ("scores", classes)):
        if not (isinstance(entry[key], list) and len(entry[key]) == length and all(map(_is_number, entry[key]))):
            raise DataError(f"{where}: {key} is not a list of {length} numbers")
    if not _is_number(entry["person_score"]):
        raise DataError(f"{where}: person_score is {entry['person_score']!r}, expected a number")
    x1, y1, x2, y2 = map(float, entry["box"])
    scores = np.array(entry["scores"], np.float32)
    return PersonRecord(entry["track"], (x1, y1, x2, y2), float(entry["person_score"]), scores)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def _is_number(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))
