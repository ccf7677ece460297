"""Reads person boxes of one video from a file: a table (CSV), the box files of data sets (JSON), or earlier results.

Shapes: B boxes of the file, M moments.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from alphaction.dataset.raw import parse_file_name
from alphaction.errors import DataError
from alphaction.prediction.boxes.persons import Seen
from alphaction.prediction.jsonl import read_detections

logger = logging.getLogger(__name__)

COLUMNS = ("time", "x1", "y1", "x2", "y2", "score", "track")
_FORMS = (
    "expected a table time,x1,y1,x2,y2[,score[,track]] (seconds and pixels), the detections.jsonl of an earlier "
    'prediction, or JSON: {"VIDEO/SECONDS.jpg": [{"bbox": [x, y, width, height], "score"}, ...]} or a list of '
    '{"image_id": "VIDEO/SECONDS", "bbox", "score"}'
)
_SAME = 1e-4  # seconds: times that differ by less are one moment
_EMPTY_STEP = 1.0  # seconds: moments without persons come at least as often
_LATE = 1.0  # seconds behind the last frame
_MOST_TRACK = 2**53


class FilePersons:
    """The persons that a file tells, at the moments of the file.

    Args:
        path: the file.
        video: name of the video without its suffix, for files that hold boxes of several.

    Raises:
        DataError: missing, of another form, a row is wrong, or it has no boxes of this video.
    """

    looks = False

    def __init__(self, path: str, *, video: str) -> None:
        rows = _read(Path(path), video)
        order = np.argsort(rows[:, 0], kind="stable")
        self._rows = rows[order]
        steps = np.diff(self._rows[:, 0], prepend=-math.inf)
        self._first = np.flatnonzero(steps > _SAME)
        self._times = self._rows[self._first, 0]
        self._path = path
        self._tracked = self._has_tracks()

    def find(self, time: float, image: np.ndarray | None = None) -> Seen:
        moment = int(np.searchsorted(self._times, time - _SAME))
        if moment == len(self._times) or abs(self._times[moment] - time) > _SAME:
            return Seen()
        ends = [*self._first[1:].tolist(), len(self._rows)]
        rows = self._rows[self._first[moment] : ends[moment]]
        tracks = rows[:, 6].astype(np.int64) if self._tracked else None
        return Seen(rows[:, 1:5].astype(np.float32), rows[:, 5].astype(np.float32), tracks)

    def times(self, start: float, end: float, rate: float) -> list[float]:
        """The file's moments, at least 1 / rate apart.

        Where the file has nothing for more than two of its usual steps, nobody is there: moments without persons begin
        one step after the last one and end one step before the next one. So it is before the first one and, with one
        such moment, after the last one.
        """
        inside = self._times[(self._times >= start - _SAME) & (self._times <= end + _SAME)]
        if not len(inside):
            logger.warning(
                "%s: its moments, %g s to %g s, do not lie within the video's, %g s to %g s: nobody is seen",
                *(self._path, self._times[0], self._times[-1], start, end),
            )
        chosen: list[float] = []
        for time in inside.tolist():
            if not chosen or time - chosen[-1] >= 1 / rate - _SAME:
                chosen.append(time)
        if not chosen:
            return []
        step = float(np.median(np.diff(chosen))) if len(chosen) > 1 else 1 / rate
        filled: list[float] = []
        last = start - step
        for time in chosen:
            if time - max(last, start) > 2 * step + _SAME:
                filled += [*np.arange(last + step, time - step - _SAME, max(step, _EMPTY_STEP)).tolist(), time - step]
            filled.append(time)
            last = time
        return filled if end - last <= 2 * step + _SAME else [*filled, last + step]

    def tell_late(self, length: float) -> None:
        """Warns where most moments lie behind the end of a video of `length` seconds, as numbers of frames do."""
        late = int((self._times > length + _LATE).sum())
        if 2 * late > len(self._times):
            logger.warning(
                "%s: %d of its %d moments lie behind the video's end, %.2f s: are they seconds, and of this video?",
                *(self._path, late, len(self._times), length),
            )

    def _has_tracks(self) -> bool:
        """Whether the file tells who is who.

        Raises:
            DataError: it does, but not in numbers that tell persons apart.
        """
        tracks = self._rows[:, 6]
        known = np.isfinite(tracks)
        if not known.all():
            if known.any():
                logger.warning("%s: some boxes have no track: who is who is found out for all", self._path)
            return False
        wrong = np.flatnonzero((tracks < 0) | (tracks != np.floor(tracks)) | (tracks >= _MOST_TRACK))
        if len(wrong):
            raise DataError(f"{self._path}: got track {tracks[wrong[0]]:g}, expected whole numbers from 0")
        moments = np.repeat(np.arange(len(self._first)), np.diff(self._first, append=len(tracks)))
        pairs, counts = np.unique(np.stack([moments, tracks], axis=1), axis=0, return_counts=True)
        twice = pairs[counts > 1]
        if len(twice):
            time, track = self._times[int(twice[0, 0])], int(twice[0, 1])
            raise DataError(f"{self._path}: track {track} has several boxes at {time:g} s, expected one box per person")
        return True


def _read(path: Path, video: str) -> np.ndarray:
    """float64 [B, 7] in the order of `COLUMNS`, NaN for an unknown track."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(
            f"--boxes: got {str(path)!r}, which is no file; expected auto, head, detector or a file of boxes"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the box file cannot be read ({error})") from None
    if path.suffix.lower() == ".jsonl":
        rows = list(_from_detections(path))
    elif text.lstrip()[:1] in ("{", "["):
        rows = _from_json(text, path, video)
    else:
        rows = list(_from_table(text, path))
    values = np.array(rows, np.float64).reshape(-1, len(COLUMNS))
    if not len(values):
        raise DataError(f"{path}: has no boxes; {_FORMS}")
    wrong = np.flatnonzero(~np.isfinite(values[:, :6]).all(axis=1) | (values[:, 0] < 0))
    if len(wrong):
        shown = ", ".join(f"{value:g}" for value in values[wrong[0], :6])
        raise DataError(f"{path}: box {wrong[0] + 1} is {shown}; expected numbers time,x1,y1,x2,y2,score, time >= 0")
    _check_corners(values[:, 1:5], path)
    return values


def _check_corners(corners: np.ndarray, path: Path) -> None:
    wrong = np.flatnonzero((corners[:, 2:] < corners[:, :2]).any(axis=1))
    if len(wrong):
        shown = ", ".join(f"{value:g}" for value in corners[wrong[0]])
        raise DataError(f"{path}: box {wrong[0] + 1} is {shown}; expected corners x1,y1,x2,y2 with x1 <= x2, y1 <= y2")
    if corners.min() >= 0 and corners.max() <= 1:
        raise DataError(f"{path}: all boxes lie within 0..1, as shares of the picture do; expected pixels")


def _from_table(text: str, path: Path) -> Iterable[list[float]]:
    lines = [(number, row) for number, row in enumerate(csv.reader(io.StringIO(text)), 1) if any(row)]
    if not lines:
        return
    columns: Sequence[str] = COLUMNS[: len(lines[0][1])]
    header = [name.strip().lower() for name in lines[0][1]]
    if "time" in header:
        columns, lines = header, lines[1:]
        missing = [name for name in COLUMNS[:5] if name not in header]
        if missing:
            raise DataError(f"{path}: the table has no column {missing[0]!r}, it has {', '.join(header)}. {_FORMS}")
    for number, row in lines:
        try:
            if len(row) < 5 or len(row) != len(columns):
                raise ValueError
            named = [(name, cell) for name, cell in zip(columns, row, strict=True) if name in COLUMNS]
            cells = {name: float(cell) if cell.strip() else math.nan for name, cell in named}
        except ValueError:
            raise DataError(f"{path}, line {number}: got {','.join(row)!r}; {_FORMS}") from None
        yield [cells.get(name, {"score": 1.0}.get(name, math.nan)) for name in COLUMNS]


def _from_detections(path: Path) -> Iterable[list[float]]:
    """Earlier results."""
    for moment in read_detections(path)[1]:
        for person in moment.persons:
            yield [moment.time, *person.box, person.box_score, person.track]


def _from_json(text: str, path: Path, video: str) -> list[list[float]]:
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: the box file is not valid JSON ({error})") from None
    if isinstance(content, Mapping):
        pairs = [(image, box) for image, boxes in content.items() if isinstance(boxes, list) for box in boxes]
    else:
        pairs = [(box.get("image_id") if isinstance(box, Mapping) else None, box) for box in content]
    by_video: dict[str, list[list[float]]] = {}
    for number, (image, box) in enumerate(pairs, 1):
        key = parse_file_name(image) if isinstance(image, str) else None
        if key is None:
            raise DataError(
                f"{path}: box {number} belongs to image {image!r}, which tells neither video nor second; {_FORMS}"
            )
        try:
            x, y, width, height = (float(value) for value in box["bbox"])
            row = [key[1], x, y, x + max(width - 1, 0), y + max(height - 1, 0), float(box.get("score", 1.0)), math.nan]
        except (ValueError, TypeError, KeyError, AttributeError):
            raise DataError(f"{path}: box {number} is {str(box)[:80]!r}; {_FORMS}") from None
        by_video.setdefault(key[0], []).append(row)
    if len(by_video) > 1 and video not in by_video:
        names = ", ".join(list(by_video)[:5])
        raise DataError(f"{path}: has boxes of {len(by_video)} videos ({names}, ...), but none of {video!r}")
    return by_video.get(video) or next(iter(by_video.values()), [])
