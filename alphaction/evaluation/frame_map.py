"""Frame mAP as AVA's official evaluation defines it (PASCAL VOC, continuous integral), on packed arrays.

A detection is compared only with the ground-truth box of its image and class that it overlaps best; it hits if the
overlap is at least the threshold and no detection of higher score took that box. AP is the area under the precision
recall curve with precision made monotone. Classes without ground truth have no AP (NaN) and are out of the mean;
classes with ground truth and no detection have AP 0.

Shapes: see `evaluation/matching.py`; T IoU thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from alphaction.evaluation.matching import (
    ROWS_AT_ONCE,
    Candidates,
    Detections,
    GroundTruth,
    Rows,
    arrange,
    best_rows_per_image,
    count_rows,
    find_candidates,
    hits,
    replay_heap,
)


@dataclass(frozen=True)
class Protocol:
    """What the official script leaves open, or changed over the years.

    Attributes:
        name: as TEST.PROTOCOL and every output name it.
        rows_per_image: only the best (box, class) rows of an image count; 0 = all.
        only_annotated_images: detections on images that were never annotated are ignored (else: false positives).
        heap_order: equal scores within an image are in the order of the official script's heap (else: of arrival).
        sort: numpy's sort for the ranking over all images. "stable" gives the same number everywhere;
            "quicksort" (numpy's default) is what the official script uses: where equal scores decide, its number
            depends on the processor, and so does ours then.
    """

    name: str
    rows_per_image: int = 0
    only_annotated_images: bool = False
    heap_order: bool = False
    sort: Literal["stable", "quicksort"] = "stable"


PROTOCOLS: dict[str, Protocol] = {
    # The numbers that the original published.
    "alphaction": Protocol("alphaction"),
    # The official script of today.
    "activitynet": Protocol(
        "activitynet", rows_per_image=50, only_annotated_images=True, heap_order=True, sort="quicksort"
    ),
}


@dataclass(frozen=True)
class FrameMap:
    """Result of `frame_map`.

    Attributes:
        protocol: name of the protocol.
        iou_thresholds: the T thresholds.
        ap: float64 [T, K]; NaN for classes without ground truth.
        num_ground_truth: int64 [K], boxes per class.
        num_detections: int64 [K], rows per class that took part.
        num_hits: int64 [T, K].
        ignored: rows that did not take part, by reason.
    """

    protocol: str
    iou_thresholds: tuple[float, ...]
    ap: np.ndarray
    num_ground_truth: np.ndarray
    num_detections: np.ndarray
    num_hits: np.ndarray
    ignored: dict[str, int]

    @property
    def mean(self) -> np.ndarray:
        """float64 [T], mean over the classes that have ground truth; NaN if none has."""
        counted = self.num_ground_truth > 0
        if not counted.any():
            return np.full(len(self.iou_thresholds), np.nan)
        return self.ap[:, counted].mean(axis=1)


def frame_map(
    detections: Detections,
    *,
    ground_truth: GroundTruth,
    num_classes: int,
    protocol: Protocol = PROTOCOLS["alphaction"],
    iou_thresholds: Sequence[float] = (0.5,),
    excluded_images: np.ndarray | None = None,
) -> FrameMap:
    """AP per class and IoU threshold.

    Args:
        detections: boxes and scores; boxes of zero (or negative) width or height are left out.
        ground_truth: annotated boxes in the same image indices and units.
        num_classes: K.
        protocol: which rows take part, see `Protocol`.
        iou_thresholds: each in (0, 1].
        excluded_images: indices of images that are out, with detections and ground truth.

    Raises:
        ValueError: inverted ground truth, labels or indices out of range, NaN.
    """
    by_ordinal = protocol.sort == "stable" and not protocol.heap_order  # the scores themselves are not needed
    matches = match_rows(
        detections,
        ground_truth=ground_truth,
        num_classes=num_classes,
        protocol=protocol,
        iou_thresholds=iou_thresholds,
        excluded_images=excluded_images,
        with_scores=not by_ordinal,
    )
    rows, hit, num_truth = matches.rows, matches.hit, matches.num_ground_truth
    num_rows = count_rows(rows.label, num_classes)
    ap = _average_precisions(rows, matches.candidates, hit, num_truth, num_rows, protocol)
    num_hits = np.stack([np.bincount(rows.label[found], minlength=num_classes) for found in hit])
    return FrameMap(protocol.name, tuple(iou_thresholds), ap, num_truth, num_rows, num_hits, matches.ignored)


@dataclass(frozen=True)
class Matches:
    """Which rows take part in an evaluation, and which of them hit a true box.

    Attributes:
        rows: the R rows that take part.
        candidates: those of them that overlap a true box of their class.
        hit: bool [T, R], by IoU threshold.
        num_ground_truth: int64 [K], boxes per class.
        ignored: rows that did not take part, by reason.
    """

    rows: Rows
    candidates: Candidates
    hit: np.ndarray
    num_ground_truth: np.ndarray
    ignored: dict[str, int]


def match_rows(
    detections: Detections,
    *,
    ground_truth: GroundTruth,
    num_classes: int,
    protocol: Protocol,
    iou_thresholds: Sequence[float],
    excluded_images: np.ndarray | None = None,
    with_scores: bool = True,
) -> Matches:
    """The first half of `frame_map`, whose arguments and errors it has.

    Args:
        with_scores: `rows.score` is there.
    """
    _check(detections, ground_truth, num_classes, iou_thresholds)
    annotated = ground_truth.annotated()
    excluded = np.zeros(0, np.int64) if excluded_images is None else np.asarray(excluded_images, np.int64)
    num_images = 1 + max((int(a.max()) for a in (annotated, detections.image, excluded) if len(a)), default=-1)
    truth = _without(ground_truth, excluded)

    rows = arrange(detections, num_images=num_images, with_scores=with_scores)
    arrived = rows if protocol.heap_order else None
    ignored: dict[str, int] = {}
    rows = _drop_boxes(rows, ~_mask(excluded, num_images)[detections.image], "excluded timestamp", ignored)
    if protocol.only_annotated_images:
        known = _mask(annotated, num_images)[detections.image]
        rows = _drop_boxes(rows, known, "image was never annotated", ignored)
    if protocol.rows_per_image and len(rows):
        keep = best_rows_per_image(rows, xyxy=detections.xyxy, limit=protocol.rows_per_image)
        rows = _drop(rows, keep, f"not among the {protocol.rows_per_image} best rows of its image", ignored)
    has_area = np.all(detections.xyxy[:, 2:] > detections.xyxy[:, :2], axis=1)
    rows = _drop_boxes(rows, has_area, "box without width or height", ignored)

    candidates = find_candidates(
        rows, xyxy=detections.xyxy, truth=truth, num_classes=num_classes, num_images=num_images
    )
    if arrived is not None:
        candidates = replay_heap(
            candidates,
            rows=rows,
            arrived=arrived,
            xyxy=detections.xyxy,
            limit=protocol.rows_per_image,
            lowest_iou=min(iou_thresholds),
        )
    hit = np.zeros((len(iou_thresholds), len(rows)), bool)
    for t, threshold in enumerate(iou_thresholds):
        hit[t, hits(candidates, rows=rows, iou_threshold=threshold)] = True
    num_truth = np.bincount(truth.label, minlength=num_classes)
    return Matches(rows, candidates, hit, num_truth, ignored)


def _check(detections: Detections, truth: GroundTruth, num_classes: int, iou_thresholds: Sequence[float]) -> None:
    if not len(iou_thresholds) or not all(0 < threshold <= 1 for threshold in iou_thresholds):
        raise ValueError(f"iou_thresholds: got {list(iou_thresholds)}, expected numbers above 0 and up to 1")
    for name, label in (("detections", detections.label), ("ground truth", truth.label)):
        if len(label) and not (label.min() >= 0 and label.max() < num_classes):
            raise ValueError(f"{name}: labels from {label.min()} to {label.max()}, expected 0 to {num_classes - 1}")
    if len(detections) and not np.isfinite([detections.score.min(), detections.score.max()]).all():
        raise ValueError("detections: a score is NaN or infinite")
    if not np.isfinite(detections.xyxy).all() or not np.isfinite(truth.xyxy).all():
        raise ValueError("detections, ground truth: a coordinate is NaN or infinite")
    inverted = np.flatnonzero((truth.xyxy[:, 2:] < truth.xyxy[:, :2]).any(axis=1))
    if len(inverted):
        raise ValueError(
            f"ground truth: {len(inverted)} boxes have x2 < x1 or y2 < y1, the first is row {inverted[0]}: "
            f"{truth.xyxy[inverted[0]].tolist()}"
        )


def _mask(images: np.ndarray, num_images: int) -> np.ndarray:
    mask = np.zeros(num_images, bool)
    mask[images] = True
    return mask


def _without(truth: GroundTruth, excluded: np.ndarray) -> GroundTruth:
    keep = ~np.isin(truth.image, excluded)
    return GroundTruth(truth.image[keep], truth.xyxy[keep], truth.label[keep])


def _drop_boxes(rows: Rows, keep: np.ndarray, reason: str, ignored: dict[str, int]) -> Rows:
    """`keep`: bool [B]."""
    return rows if keep.all() else _drop(rows, keep[rows.box], reason, ignored)


def _drop(rows: Rows, keep: np.ndarray, reason: str, ignored: dict[str, int]) -> Rows:
    dropped = len(keep) - int(np.count_nonzero(keep))
    if dropped:
        ignored[reason] = dropped
    return rows.take(keep)


def _average_precisions(
    rows: Rows,
    candidates: Candidates,
    hit: np.ndarray,
    num_truth: np.ndarray,
    num_rows: np.ndarray,
    protocol: Protocol,
) -> np.ndarray:
    """AP float64 [T, K]."""
    ap = np.where(num_truth > 0, 0.0, np.nan) * np.ones((len(hit), 1))
    by_class = np.argsort(rows.label, kind="stable")  # radix sort for 16-bit numbers
    ends = np.cumsum(num_rows)
    if protocol.sort == "stable" and not protocol.heap_order:
        keys, hit = _stable_keys(rows, hit)

        def ranking(members: np.ndarray) -> np.ndarray:
            return np.sort(keys[members]).astype(np.uint32)  # the cast keeps the low 32 bits: the place

    else:
        rank = rows.rank
        score = np.zeros(len(rows)) if rows.score is None else rows.score
        tie = -np.arange(len(rows), dtype=np.int64)
        tie[candidates.row] = candidates.tie

        def ranking(members: np.ndarray) -> np.ndarray:
            listed = members[np.lexsort((tie[members], ~rows.ordinal[members], rank[members]))]
            return listed[np.argsort(score[listed].astype(np.float64), kind=protocol.sort)[::-1]]

    for k in np.flatnonzero(num_truth > 0):
        order = ranking(by_class[ends[k - 1] if k else 0 : ends[k]])
        for t in range(len(hit)):
            ap[t, k] = average_precision(np.flatnonzero(hit[t, order]), int(num_truth[k]))
    return ap


def average_precision(positions: np.ndarray, num_truth: int) -> float:
    """Area under the monotone precision-recall curve; `positions` of the hits in the ranking, from 0."""
    precision = np.arange(1, len(positions) + 1) / (positions + 1)
    return float(np.maximum.accumulate(precision[::-1]).sum() / num_truth)


def _stable_keys(rows: Rows, hit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What an ascending stable sort, reversed, does with equal scores (twice: within an image, then over all).

    Later images come first, within an image the row that arrived first. Score and that place in one number can be
    sorted by numpy's quickest routine, many times as fast as a stable sort of the scores.

    Returns:
        uint64 [R] numbers to sort by, whose low 32 bits are a place; bool [T, R], `hit` by place.
    """
    rank_of_box = rows.rank_of_box
    count = np.zeros(int(rank_of_box.max(initial=-1)) + 1, np.int64)
    np.add.at(count, rank_of_box, count_rows(rows.box, len(rank_of_box)))
    ends = np.cumsum(count)
    shift = ((len(rows) - ends) - (ends - count)).astype(np.int32)[rank_of_box]
    keys = np.empty(len(rows), np.uint64)
    by_place = np.zeros_like(hit)
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(begin, begin + ROWS_AT_ONCE)
        place = shift[rows.box[part]]
        place += np.arange(begin, begin + len(place), dtype=np.int32)
        keys[part] = ~rows.ordinal[part]
        keys[part] <<= np.uint64(32)
        keys[part] |= place.view(np.uint32)
        for t in range(len(hit)):
            by_place[t, place[np.flatnonzero(hit[t, part])]] = True
    return keys, by_place
