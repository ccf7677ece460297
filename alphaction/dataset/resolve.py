"""Brings annotations and videos together: sizes, pixel boxes, and everything that cannot be used counted and named.

Shapes: N keyframes, P persons, B detected boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from alphaction.dataset.box_files import RawBoxes
from alphaction.dataset.keyframe_check import check_keyframes, describe_end
from alphaction.dataset.raw import RawAnnotations
from alphaction.dataset.report import EXAMPLES, DataReport
from alphaction.dataset.video_index import MovieFiles, VideoIndex
from alphaction.dataset.video_io import VideoInfo
from alphaction.errors import DataError, VideoError
from alphaction.structures import Annotations, PackedBoxes

ON_ERROR_KEY = "DATASETS.ON_ERROR"
NAMED = 20  # videos named in an error
CLIPPED = 0.01  # pixels: less is rounding, not a box outside the picture
SHAPE_TOLERANCE = 0.05  # difference of the shapes (height / width) of annotated and real frames that is worth a note


class Resolved(NamedTuple):
    """A split that can be read.

    Attributes:
        annotations: the usable keyframes, their boxes in pixels.
        report: what was used and what not.
        kept: int64 [N], row of each keyframe in the raw annotations.
        paths: for each of `annotations.movies` the video file or the folder of clips.
    """

    annotations: Annotations
    report: DataReport
    kept: np.ndarray
    paths: tuple[str, ...]


def resolve(raw: RawAnnotations, videos: VideoIndex, *, name: str, on_error: str = "raise") -> Resolved:
    """Keeps what can be used.

    Args:
        raw: the annotation file's content.
        videos: where the videos are.
        name: of the data set, for messages.
        on_error: "raise": one error that names every video that cannot be used; "skip": their keyframes are dropped
            and counted. Keyframes past the end of a video and faulty boxes are dropped and counted either way.

    Raises:
        VideoError: see `on_error`.
        DataError: no keyframe is left.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error: got {on_error!r}, expected 'raise' or 'skip'")
    report = DataReport(name=name, source=raw.source, classes=raw.classes, notes=list(raw.notes))
    for reason, (count, examples) in raw.dropped.items():
        report.drop(reason, count, examples)
    files = videos.find(raw.movies)
    report.notes += [entry.note for entry in files if entry.note][:EXAMPLES]
    check = check_keyframes(raw, files)
    late = [f"{raw.name_keyframe(i)} ({describe_end(files[int(raw.movie[i])])})" for i in check.past_end[:EXAMPLES]]
    report.drop("keyframes past the end of their video", len(check.past_end), late)
    if check.faults:
        num_dropped = int((~check.usable).sum()) - len(check.past_end)
        _report_faults(check.faults, videos, report, num_dropped=num_dropped, on_error=on_error)
    kept = np.flatnonzero(check.usable)
    if not len(kept):
        raise DataError(f"{raw.source}: no keyframe of data set {name} can be used. Dropped: {report.reasons()}")
    size = _frame_sizes(raw, check.infos, check.usable, report)
    annotations, paths = _pack(raw, files, kept, size, report)
    return Resolved(annotations, report, kept, paths)


def resolve_boxes(boxes: RawBoxes, resolved: Resolved, *, what: str, clip: bool) -> PackedBoxes:
    """Detected boxes of the usable keyframes.

    Args:
        what: "person" or "object", for the report.
        clip: limit boxes to the picture and drop those outside (persons); objects stay as they are (QUIRKS 15).
    """
    rank = np.full(max(int(resolved.kept[-1]), int(boxes.keyframe.max(initial=0))) + 1, -1, np.int64)
    rank[resolved.kept] = np.arange(len(resolved.kept))
    keyframe = rank[boxes.keyframe]
    here = keyframe >= 0
    keyframe, xywh, scores = keyframe[here], boxes.xywh[here], boxes.scores[here]
    annotations, report = resolved.annotations, resolved.report
    pixel = pixel_boxes(xywh, annotations.size[keyframe], normalised=False)
    keep = pixel.usable if clip else np.isfinite(xywh).all(axis=1)
    xyxy = pixel.clipped if clip else pixel.xyxy
    for reason, rows in (pixel.faults if clip else {"not a number": np.flatnonzero(~keep)}).items():
        names = [str(annotations.key(int(keyframe[i]))) for i in rows[:EXAMPLES]]
        report.drop(f"detected {what} boxes, {reason}", len(rows), names)
    report.drop(f"detected {what} boxes of images that are not annotated", boxes.unknown, list(boxes.unknown_images))
    over = f", {boxes.below} under the score threshold" if boxes.below else ""
    report.notes.append(f"{int(keep.sum())} detected {what} boxes from {boxes.source}{over}")
    return PackedBoxes.pack(keyframe[keep], xyxy[keep], len(annotations), scores[keep])


@dataclass(frozen=True)
class PixelBoxes:
    """Boxes in pixels and what is wrong with them. `xyxy` before and `clipped` after limiting to the picture."""

    xyxy: np.ndarray
    clipped: np.ndarray
    usable: np.ndarray
    faults: dict[str, np.ndarray]


def pixel_boxes(boxes: np.ndarray, size: np.ndarray, *, normalised: bool) -> PixelBoxes:
    """From `x, y, width, height` in pixels, or corners in 0..1 of `size` int [n, 2] (height, width).

    Either way x2 = x1 + width - 1 (`structures.boxes`), in float32 as the original computes it (QUIRKS 13, 14).
    """
    wh = size[:, ::-1].astype(np.float64)
    if normalised:
        boxes = np.concatenate([boxes[:, :2] * wh, (boxes[:, 2:] - boxes[:, :2]) * wh], axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        boxes = boxes.astype(np.float32)
        upper = boxes[:, :2] + np.maximum(boxes[:, 2:] - np.float32(1), np.float32(0))
    xyxy = np.concatenate([boxes[:, :2], upper], axis=1)
    limit = np.concatenate([wh, wh], axis=1).astype(np.float32) - 1
    clipped = np.clip(xyxy, 0, limit)
    number = np.isfinite(boxes).all(axis=1)
    with np.errstate(invalid="ignore"):
        area = number & (boxes[:, 2:] > 0).all(axis=1)
        large = area & (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)
        inside = large & (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    faults = {
        "not a number": np.flatnonzero(~number),
        "zero or negative size": np.flatnonzero(number & ~area),
        "one pixel wide or high, or less": np.flatnonzero(area & ~large),
        "outside the picture": np.flatnonzero(large & ~inside),
    }
    return PixelBoxes(xyxy, clipped, inside, faults)


def _report_faults(
    faults: dict[str, list[str]], videos: VideoIndex, report: DataReport, *, num_dropped: int, on_error: str
) -> None:
    lines = [f"{movie}: {'; '.join(problems)}" for movie, problems in faults.items()]
    if on_error == "skip":
        report.drop("videos that cannot be used", len(lines), lines)
        report.drop("keyframes whose video or clip cannot be used", num_dropped)
        return
    more = [f"... and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    listed = "".join(f"\n  {line}" for line in [*lines[:NAMED], *more])
    raise VideoError(
        f"data set {report.name}: {len(lines)} of its videos cannot be used (video folder {videos.root}):{listed}\n"
        f"Mend them, or set {ON_ERROR_KEY} skip to go on without their {num_dropped} keyframes."
    )


def _frame_sizes(
    raw: RawAnnotations, infos: dict[int, VideoInfo], usable: np.ndarray, report: DataReport
) -> np.ndarray:
    """(height, width) int32 [N] of the frames that the boxes refer to: as annotated, else as the video has it."""
    actual = np.zeros((len(raw.movies), 2), np.int32)
    for movie, info in infos.items():
        actual[movie] = info.height, info.width
    size = np.where((raw.size > 0).all(axis=1, keepdims=True), raw.size, actual[raw.movie])
    shown = actual[raw.movie]
    known = usable & (shown > 0).all(axis=1)
    ratio = np.ones(len(raw))
    ratio[known] = (size[known, 0] * shown[known, 1]) / (size[known, 1] * shown[known, 0])
    odd = np.flatnonzero(np.abs(np.log(ratio)) > SHAPE_TOLERANCE)
    if len(odd):
        row = int(odd[0])
        (height, width), (real_height, real_width) = size[row], shown[row]
        report.notes.append(
            f"{len(odd)} keyframes are annotated for a picture of another shape than their video's, for example "
            f"{raw.name_keyframe(row)}: annotated {width} x {height}, video {real_width} x {real_height}"
        )
    return size


def _pack(
    raw: RawAnnotations, files: list[MovieFiles], kept: np.ndarray, size: np.ndarray, report: DataReport
) -> tuple[Annotations, tuple[str, ...]]:
    """The annotations of the keyframes `kept` and the paths of their movies; fills the report."""
    rank = np.full(len(raw), -1, np.int64)
    rank[kept] = np.arange(len(kept))
    rows = np.flatnonzero(rank[raw.keyframe] >= 0)
    pixel = pixel_boxes(raw.boxes[rows], size[raw.keyframe[rows]], normalised=raw.normalised)
    for reason, wrong in pixel.faults.items():
        report.drop(f"boxes, {reason}", len(wrong), [raw.name_person(int(rows[i])) for i in wrong[:EXAMPLES]])
    moved = pixel.usable & (np.abs(pixel.clipped - pixel.xyxy).max(axis=1, initial=0) > CLIPPED)
    examples = [raw.name_person(int(rows[i])) for i in np.flatnonzero(moved)[:EXAMPLES]]
    report.change("boxes partly outside the picture, clipped", int(moved.sum()), examples)
    persons = rows[pixel.usable]
    movies, movie = np.unique(raw.movie[kept], return_inverse=True)
    annotations = Annotations(
        classes=raw.classes,
        movies=tuple(raw.movies[i] for i in movies.tolist()),
        movie=movie.astype(np.int32),
        time=raw.time[kept],
        size=size[kept].astype(np.int32),
        boxes=PackedBoxes.pack(rank[raw.keyframe[persons]], pixel.clipped[pixel.usable], len(kept)),
        labels=raw.labels[persons],
        person_id=raw.person_id[persons],
    )
    report.videos, report.keyframes, report.persons = len(movies), len(kept), len(persons)
    report.empty_keyframes = int((annotations.boxes.counts() == 0).sum())
    report.labels = annotations.labels.sum(axis=0)
    unlabelled = persons[~annotations.labels.any(axis=1)]
    if len(unlabelled):
        names = ", ".join(raw.name_person(row) for row in unlabelled[:EXAMPLES].tolist())
        report.notes.append(f"{len(unlabelled)} persons have no action ({names})")
    return annotations, tuple(files[i].path for i in movies.tolist())
