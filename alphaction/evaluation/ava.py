"""Predictions and AVA's files (ground truth, detections, exclusions) as the arrays of `frame_map`.

Keyframes are named "<video>,<second>": whole seconds have four digits, as in AVA ("0902"), others are exact decimals
("12.5"). Corners are in 0..1 of the frame with five decimals, so a number equals that of the written `result.csv`.

Shapes: N keyframes, P predicted boxes, R rows (box x class), K classes of the model.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alphaction.errors import DataError, UserError
from alphaction.evaluation.ava_csv import CsvTable, class_text, csv_lines, first_line, read_rows
from alphaction.evaluation.matching import Detections, GroundTruth
from alphaction.evaluation.result_csv import UNITS, write_rows
from alphaction.structures import Annotations, ClassList, Predictions

logger = logging.getLogger(__name__)

_MOST_UNITS = 2  # a box may reach beyond the frame, but not this far


def second_text(second: float | str) -> str:
    """902 -> "0902", "902.0" -> "0902", 12.5 -> "12.5", 0.1 + 0.2 -> "0.3" (microseconds at most).

    Raises:
        ValueError: not a finite number.
    """
    value = float(second)
    if not math.isfinite(value):
        raise ValueError(f"second: got {second}, expected a finite number")
    text = f"{value:.6f}"
    whole, fraction = text.split(".")
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else f"{int(whole):04d}"


class ImageIndex:
    """Numbers the keyframes of all files alike: the same video and second have the same index."""

    def __init__(self) -> None:
        self.keys: list[tuple[str, str]] = []
        self._index: dict[tuple[str, str], int] = {}
        self._texts: dict[str | float, str] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def __call__(self, movie: str, second: float | str) -> int:
        """The index of a keyframe; a new one if it was not known."""
        text = self._texts.get(second)
        if text is None:
            text = self._texts[second] = second_text(second)
        key = (movie, text)
        index = self._index.get(key)
        if index is None:
            index = self._index[key] = len(self.keys)
            self.keys.append(key)
        return index

    @classmethod
    def of(cls, annotations: Annotations) -> tuple[ImageIndex, np.ndarray]:
        """The index of a set's keyframes; int64 [N], the image of each (equal to its position unless repeated)."""
        images = cls()
        pairs = zip(annotations.movie.tolist(), annotations.time.tolist(), strict=True)
        rows = [images(annotations.movies[movie], time) for movie, time in pairs]
        return images, np.array(rows, np.int64)


def read_exclusions(path: str | Path, *, images: ImageIndex) -> np.ndarray:
    """Keyframes that are left out, one `video,second` a line; returns their indices, int64.

    Raises:
        DataError: the file cannot be read, or a line is something else.
    """
    excluded = []
    for where, row in csv_lines(path):
        if len(row) != 2:
            raise DataError(f"{where}: {len(row)} columns, expected 2 (video, second)")
        try:
            excluded.append(images(row[0], row[1]))
        except ValueError:
            raise DataError(f"{where}: the second column is {row[1]!r}, expected a number of seconds") from None
    return np.array(excluded, np.int64)


def read_ground_truth(
    path: str | Path, *, images: ImageIndex, classes: ClassList
) -> tuple[GroundTruth, dict[str, int]]:
    """Reads an AVA ground-truth CSV.

    Returns:
        the boxes of `classes`; class id -> rows, of ids that are not among them (left out).
    """
    table = read_rows(
        path, image_index=images, class_index=_class_index(classes), with_scores=False, inverted_boxes=False
    )
    _check_unit_square(table, path)
    truth = GroundTruth(table.image[table.box].astype(np.int64), table.xyxy[table.box], table.label, table.images)
    return truth, table.unknown


def read_detections(path: str | Path, *, images: ImageIndex, classes: ClassList) -> tuple[Detections, dict[str, int]]:
    """Reads a CSV of detections in AVA's format (any detector's).

    Returns:
        the rows of `classes`; class id -> rows, of ids that are not among them (left out).
    """
    table = detection_table(path, images=images, classes=classes)
    if table.without_score:
        logger.warning("%s: %d rows have no score; they count with score 1", path, table.without_score)
    return Detections(table.image, table.xyxy, table.box, table.label, table.score), table.unknown


def detection_table(path: str | Path, *, images: ImageIndex, classes: ClassList) -> CsvTable:
    """The rows of `read_detections` with what is to be told of them."""
    table = read_rows(
        path, image_index=images, class_index=_class_index(classes), with_scores=True, inverted_boxes=True
    )
    _check_unit_square(table, path)
    return table


def _class_index(classes: ClassList) -> dict[str, int]:
    return {class_text(str(class_id)): i for i, class_id in enumerate(classes.ids)}


def _check_unit_square(table: CsvTable, path: str | Path) -> None:
    if len(table.xyxy) and table.xyxy.max() > _MOST_UNITS:
        raise DataError(
            f"{first_line(path, above=_MOST_UNITS)}: coordinates up to {table.xyxy.max():g}, expected 0..1 of the "
            "frame's width and height (divide pixels by them)"
        )


def normalised_corners(xyxy: np.ndarray, *, box_size: np.ndarray, image_size: np.ndarray) -> np.ndarray:
    """Pixel boxes as AVA writes them.

    Args:
        xyxy: [P, 4] pixels of a picture of `box_size`, inclusive corners.
        box_size: [P, 2] (height, width) that the boxes refer to.
        image_size: [P, 2] (height, width) of the annotated frame: corners are scaled to it, then the right and the
            bottom one are moved by one pixel, to the far edge.

    Returns:
        int32 [P, 4], x1, y1, x2, y2 in units of 1e-5 of the frame's width and height, clipped to 0..100000.
    """
    ratio = np.tile((image_size / box_size)[:, ::-1], 2)
    extent = np.tile(image_size[:, ::-1].astype(np.float64), 2)
    corners = (xyxy.astype(np.float64) * ratio + [0, 0, 1, 1]) / extent
    return np.rint(np.clip(corners, 0, 1) * UNITS).astype(np.int32)


def ground_truth_of(annotations: Annotations, *, image: np.ndarray, classes: ClassList) -> GroundTruth:
    """A set's own annotations as ground truth.

    Args:
        annotations: boxes and labels. Keyframes with a labelled box, of whatever class, count as annotated: those that
            an AVA CSV of the same annotations would name.
        image: int [N], index of each keyframe.
        classes: those that count.
    """
    keyframe = np.repeat(np.arange(len(annotations)), np.diff(annotations.boxes.first))
    size = annotations.size[keyframe]
    corners = normalised_corners(annotations.boxes.xyxy, box_size=size, image_size=size)
    box, column = np.nonzero(annotations.labels)
    annotated = np.unique(image[keyframe[box]])
    label = label_of_column(annotations.classes, classes)[column]
    box, label = box[label >= 0], label[label >= 0]
    return GroundTruth(image[keyframe[box]], corners[box] / UNITS, label, annotated)


def label_of_column(of: ClassList, among: ClassList) -> np.ndarray:
    """int64 [K]: position of each class of `of` in `among`, -1 where it is not evaluated."""
    index = _class_index(among)
    return np.array([index.get(class_text(str(class_id)), -1) for class_id in of.ids], np.int64)


@dataclass(frozen=True)
class ResultRows:
    """Predictions as the rows of `result.csv`.

    Attributes:
        image: int64 [P], index of the image.
        corners: int32 [P, 4], units of 1e-5.
        box: int32 [R], row in `corners`.
        label: uint16 [R], class index of the model.
        score: int32 [R], units of 1e-5.
    """

    image: np.ndarray
    corners: np.ndarray
    box: np.ndarray
    label: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.box)

    def detections(self, label_of_column: np.ndarray) -> Detections:
        """The rows of the evaluated classes (int [K] as `label_of_column` gives them), with the numbers as written."""
        box, label, score = self.box, self.label, self.score
        if not np.array_equal(label_of_column, np.arange(len(label_of_column))):
            label = label_of_column.astype(np.int32)[label]
            keep = label >= 0
            box, label, score = box[keep], label[keep].astype(np.uint16), score[keep]
        score = score.astype(np.float32)
        score /= UNITS
        return Detections(self.image, self.corners / UNITS, box, label, score)

    def write(self, path: str | Path, *, images: ImageIndex, class_ids: Sequence[int | str]) -> None:
        """Writes `result.csv`."""
        with self.writing(path, images=images, class_ids=class_ids):
            pass

    @contextmanager
    def writing(self, path: str | Path, *, images: ImageIndex, class_ids: Sequence[int | str]) -> Iterator[None]:
        """Writes `result.csv` beside the work of the block, which goes on on another core; whole when the block ends.

        Raises:
            UserError: at the end of the block: the file cannot be written.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="result.csv") as pool:
            # A copy of the keys: the block may read further files with the same index.
            written = pool.submit(self._write, path, list(images.keys), class_ids)
            yield
            written.result()

    def _write(self, path: str | Path, keys: list[tuple[str, str]], class_ids: Sequence[int | str]) -> None:
        write_rows(
            path,
            images=keys,
            image=self.image,
            corners=self.corners,
            box=self.box,
            label=self.label,
            score=self.score,
            class_ids=class_ids,
        )


def result_rows(
    predictions: Predictions, *, annotations: Annotations, image: np.ndarray, action_threshold: float = 0.0
) -> ResultRows:
    """Rows of all scores that reach `action_threshold`, in the order keyframe, box, class.

    Args:
        predictions: boxes in pixels of the resized clips.
        annotations: gives the size of the annotated frames.
        image: int [N], index of each keyframe.
        action_threshold: lowest score that is written.

    Raises:
        UserError: a score is NaN (the weights have diverged) or outside 0..1.
    """
    scores = predictions.scores
    if scores.size:
        low, high = float(scores.min()), float(scores.max())  # NaN if any is
        if not (low >= 0 and high <= 1):
            bad = np.flatnonzero(~((scores >= 0) & (scores <= 1)).all(axis=1))
            movie, time = annotations.key(int(predictions.keyframe[bad[0]]))
            raise UserError(
                f"predictions: scores of {len(bad)} of {len(scores)} persons are NaN or outside 0..1, the first in "
                f"video {movie} at second {time:g}. The weights have diverged: take an earlier checkpoint, or train "
                "with a lower SOLVER.BASE_LR"
            )
    size = annotations.size[predictions.keyframe]
    corners = normalised_corners(predictions.boxes, box_size=predictions.clip_size, image_size=size)
    num_classes = scores.shape[1]
    if action_threshold <= 0:
        box = np.repeat(np.arange(len(scores), dtype=np.int32), num_classes)
        label = np.tile(np.arange(num_classes, dtype=np.uint16), len(scores))
        kept = scores.reshape(-1)
    else:
        rows, columns = np.nonzero(scores.astype(np.float64) >= action_threshold)
        box, label, kept = rows.astype(np.int32), columns.astype(np.uint16), scores[rows, columns]
    return ResultRows(image[predictions.keyframe], corners, box, label, _units(kept))


def _units(score: np.ndarray) -> np.ndarray:
    """Scores in units of 1e-5, int32: the decimals that "%.5f" gives (the product is exact for float32 scores)."""
    units = np.empty(len(score), np.int32)
    for begin in range(0, len(score), 1 << 20):
        part = slice(begin, begin + (1 << 20))
        units[part] = np.rint(score[part].astype(np.float64) * UNITS)
    return units
