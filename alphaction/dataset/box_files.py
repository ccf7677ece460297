"""Reads files of detected boxes: persons to classify in testing, objects for the interaction blocks.

Two forms of JSON: the original's list of `{"image_id", "bbox": [x, y, width, height], "score"}`, and the fine-tuning
guide's `{"movie_id/0012.jpg": [{"bbox", "score"}, ...]}`. Boxes are in pixels of the annotated frame. A set without
image ids (CSV) is addressed by "<movie>/<timestamp>".
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from alphaction.dataset.raw import RawAnnotations, find_row, parse_boxes, parse_file_name, paused_gc
from alphaction.errors import DataError

_FORMS = (
    'expected a list of {"image_id", "bbox": [x, y, width, height], "score"}, '
    'or an object {"movie_id/0012.jpg": [{"bbox", "score"}, ...]}'
)


@dataclass(frozen=True)
class RawBoxes:
    """Detected boxes as a file has them, by keyframe.

    Attributes:
        source: path of the file.
        keyframe: int64 [B], ascending rows of the raw annotations; file order within a keyframe.
        xywh: float64 [B, 4], pixels of the annotated frame.
        scores: float64 [B].
        unknown: how many boxes belong to images that the annotation file does not have.
        unknown_images: the first few of those images.
        below: how many boxes lie under the score threshold.
    """

    source: str
    keyframe: np.ndarray
    xywh: np.ndarray
    scores: np.ndarray
    unknown: int
    unknown_images: tuple[str, ...]
    below: int


def read_boxes(box_file: str | os.PathLike, raw: RawAnnotations, *, min_score: float | None = None) -> RawBoxes:
    """Reads a box file for the keyframes of `raw`.

    Args:
        min_score: only boxes with at least this score; None takes all.

    Raises:
        DataError: missing, of another form, an entry is wrong, or no box belongs to an image of `raw`.
    """
    with paused_gc():
        return _read_boxes(Path(box_file), raw, min_score)


def _read_boxes(path: Path, raw: RawAnnotations, min_score: float | None) -> RawBoxes:
    images, entries = _load(path)
    rows = _keyframes(images, raw)
    scores = _scores(entries, images, path)
    boxes = parse_boxes(
        [entry.get("bbox") for entry in entries],
        names=(f"the box of image {image!r} (entry {i})" for i, image in enumerate(images)),
        source=str(path),
    )
    known = rows >= 0
    if len(entries) and not known.any():
        raise DataError(
            f"{path}: none of its {len(entries)} boxes belongs to an image of {raw.source}: this box file has images "
            f"such as {images[0]!r}, the annotation file such as {_example_image(raw)}. "
            "Is it the box file of another split?"
        )
    above = known if min_score is None else known & (scores >= min_score)
    chosen = np.flatnonzero(above)
    chosen = chosen[np.argsort(rows[chosen], kind="stable")]
    unknown_images = dict.fromkeys(str(images[i]) for i in np.flatnonzero(~known)[:1000].tolist())
    return RawBoxes(
        source=str(path),
        keyframe=rows[chosen],
        xywh=boxes[chosen],
        scores=scores[chosen],
        unknown=int((~known).sum()),
        unknown_images=tuple(unknown_images)[:5],
        below=int(known.sum() - above.sum()),
    )


def _load(path: Path) -> tuple[list[object], list[dict]]:
    """(image of each box, box) over the whole file."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: the box file does not exist") from None
    except OSError as error:
        raise DataError(f"{path}: the box file cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: the box file is not valid JSON ({error})") from None
    if isinstance(content, dict):
        wrong = next((key for key, boxes in content.items() if not isinstance(boxes, list)), None)
        if wrong is not None:
            raise DataError(f"{path}: {_FORMS}; got an object whose {wrong!r} is not a list")
        images: list[object] = [image for image, boxes in content.items() for _ in boxes]
        entries = list(chain.from_iterable(content.values()))
    elif isinstance(content, list):
        entries = content
        images = [entry.get("image_id") if isinstance(entry, dict) else None for entry in entries]
    else:
        raise DataError(f"{path}: {_FORMS}; got a {type(content).__name__}")
    for position, (image, entry) in enumerate(zip(images, entries, strict=True)):
        if not isinstance(entry, dict) or not isinstance(image, (int, float, str)):
            raise DataError(f"{path}: {_FORMS}; entry {position} is {entry!r}")
    return images, entries


def _keyframes(images: list[object], raw: RawAnnotations) -> np.ndarray:
    """Row in `raw` of every image, -1 for unknown ones, int64 [B]."""
    by_key = raw.rows_by_key()
    found: dict[object, int] = {}
    for image in set(images):
        row = find_row(raw.image_rows, image)
        if row is None and isinstance(image, str):
            key = parse_file_name(image)
            row = None if key is None else by_key.get((key[0], round(key[1], 6)))
        found[image] = -1 if row is None else row
    return np.fromiter((found[image] for image in images), np.int64, len(images))


def _scores(entries: list[dict], images: list[object], path: Path) -> np.ndarray:
    scores = [entry.get("score") for entry in entries]
    for position, score in enumerate(scores):
        if isinstance(score, bool) or not isinstance(score, (int, float)) or math.isnan(score):
            raise DataError(f"{path}: entry {position} (image {images[position]!r}) has the score {score!r}")
    return np.asarray(scores, np.float64)


def _example_image(raw: RawAnnotations) -> str:
    movie, time = raw.movies[int(raw.movie[0])], raw.time[0]
    key = f"'{movie}/{time:g}'"
    return f"{next(iter(raw.image_rows))!r} ({key})" if raw.image_rows else key
