"""Video mAP on packed arrays: boxes of keyframes are linked into tubes, and tubes are compared in space and time.

The linking is the greedy online one of Singh et al., "Online Real-time Multiple Spatiotemporal Action Localisation and
Prediction", ICCV 2017 (arXiv 1611.08563), section 3.3, on keyframes instead of all frames and without its temporal
trimming: a tube ends where its boxes end. Overlap and AP are those of papers on JHMDB, UCF101-24 and MultiSports.

Shapes: R rows (a box with one class), T tubes, S boxes of all tubes, K classes, I thresholds. Coordinates may have any
unit, continuous (width = x2 - x1). A step is the number of a keyframe within its video, see `keyframe_steps`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from alphaction.evaluation.frame_map import average_precision
from alphaction.evaluation.matching import box_iou

LINK_IOU = 0.3  # a box that overlaps a tube's last one less does not continue it
MOST_MISSED = 1  # keyframes in succession that a tube may lack
THRESHOLDS = (0.2, *(round(0.5 + 0.05 * i, 2) for i in range(10)))
_PAIRS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Tubes:
    """Boxes over time, one tube after the other.

    Attributes:
        video: int64 [T].
        label: int64 [T], class index.
        score: float64 [T], mean of the scores of its boxes; 1 for true tubes.
        first: int64 [T + 1]; the boxes of tube i are rows first[i]:first[i + 1], at least one.
        step: int64 [S], ascending within a tube; keyframes may be missing in between.
        xyxy: float64 [S, 4].
    """

    video: np.ndarray
    label: np.ndarray
    score: np.ndarray
    first: np.ndarray
    step: np.ndarray
    xyxy: np.ndarray

    def __len__(self) -> int:
        return len(self.video)

    def starts(self) -> np.ndarray:
        """int64 [T], step of each tube's first box."""
        return self.step[self.first[:-1]]

    def ends(self) -> np.ndarray:
        """int64 [T], step of each tube's last box."""
        return self.step[self.first[1:] - 1]

    def lengths(self) -> np.ndarray:
        """int64 [T], keyframe steps from the first to the last box, both counted."""
        return self.ends() - self.starts() + 1


@dataclass(frozen=True)
class TubeScores:
    """Result of `video_map`.

    Attributes:
        thresholds: the I overlaps.
        ap: float64 [I, K]; NaN for classes without a true tube.
        num_truth, num_tubes: int64 [K], true and predicted tubes.
        num_hits: int64 [I, K], true tubes that were found.
    """

    thresholds: tuple[float, ...]
    ap: np.ndarray
    num_truth: np.ndarray
    num_tubes: np.ndarray
    num_hits: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """float64 [I], mean over the classes with true tubes; NaN if none has."""
        counted = self.num_truth > 0
        return self.ap[:, counted].mean(axis=1) if counted.any() else np.full(len(self.thresholds), np.nan)


def keyframe_steps(video: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Numbers the keyframes of each video from 0; a pause counts as many steps as keyframes would fit in.

    A step lasts as long as the video's median distance of successive keyframes (the lower one of two medians). Two
    keyframes are at least a step apart, however close they are.

    Args:
        video: int [N], the video of each keyframe.
        time: float [N], seconds; keyframes of a video at the same time have the same step.

    Returns:
        int64 [N].
    """
    steps = np.zeros(len(video), np.int64)
    order = np.lexsort((time, video))
    for rows in np.split(order, np.flatnonzero(np.diff(video[order])) + 1):
        gaps = np.diff(time[rows])
        if not (gaps > 0).any():
            continue
        usual = np.percentile(gaps[gaps > 0], 50, method="lower")
        steps[rows[1:]] = np.cumsum(np.where(gaps > 0, np.maximum(np.rint(gaps / usual), 1), 0))
    return steps


def true_tubes(
    *,
    video: np.ndarray,
    step: np.ndarray,
    person: np.ndarray,
    label: np.ndarray,
    xyxy: np.ndarray,
    most_missed: int = MOST_MISSED,
) -> Tubes:
    """The annotated tubes: boxes of the same video, person and class.

    More than `most_missed` keyframes in succession without such a box end a tube; the next box starts another one. Of
    several boxes of one person, class and step the first counts.

    Args:
        video, step, person, label: int [R].
        xyxy: float64 [R, 4].
    """
    order = np.lexsort((step, label, person, video))
    group = np.stack([video, person, label])[:, order]
    other = np.ones(len(order), bool)
    other[1:] = (group[:, 1:] != group[:, :-1]).any(axis=0)
    again = np.zeros(len(order), bool)
    again[1:] = ~other[1:] & (np.diff(step[order]) == 0)
    order, other = order[~again], other[~again]
    other[1:] |= np.diff(step[order]) > most_missed + 1
    start = np.flatnonzero(other)
    head = order[start]
    return Tubes(
        video[head].astype(np.int64),
        label[head].astype(np.int64),
        np.ones(len(head)),
        np.append(start, len(order)),
        step[order].astype(np.int64),
        xyxy[order],
    )


def linked_tubes(
    *,
    video: np.ndarray,
    step: np.ndarray,
    label: np.ndarray,
    score: np.ndarray,
    xyxy: np.ndarray,
    link_iou: float = LINK_IOU,
    most_missed: int = MOST_MISSED,
) -> Tubes:
    """Links scored boxes into tubes, each class of each video by itself, keyframe after keyframe.

    At every keyframe the tubes that are still open choose in the order of their score so far (of equal ones the older
    first). A tube takes, among the boxes nobody took that overlap its last box by at least `link_iou`, the one of the
    highest score (of equal ones the first of the input); without such a box it misses this keyframe. Boxes that are
    left start tubes. A tube that missed more than `most_missed` keyframes in succession is closed. The score of a tube
    is the mean of its boxes' scores.

    Args:
        video, step, label: int [R].
        score: float [R].
        xyxy: float64 [R, 4], of positive width and height.
    """
    order = np.lexsort((-score.astype(np.float64), step, label, video))
    video, step, label, score, xyxy = video[order], step[order], label[order], score[order], xyxy[order]
    start = np.ones(len(order), bool)
    start[1:] = (np.diff(video) != 0) | (np.diff(label) != 0)
    group = np.cumsum(start) - 1
    before, after = _links(group, step, xyxy, link_iou=link_iou, most_missed=most_missed)
    tube = _choose(before, after, group=group, step=step, score=score)
    rows = np.argsort(tube, kind="stable")
    count = np.bincount(tube)
    first = np.append(0, np.cumsum(count))
    head = rows[first[:-1]]
    mean = np.bincount(tube, weights=score) / count
    return Tubes(video[head].astype(np.int64), label[head].astype(np.int64), mean, first, step[rows], xyxy[rows])


def _links(
    group: np.ndarray, step: np.ndarray, xyxy: np.ndarray, *, link_iou: float, most_missed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows (earlier, later), ordered by the later, that overlap enough and are near enough in time."""
    span = int(step.max(initial=0)) + most_missed + 2
    place = group * span + step  # ascending; further than any link from the next group's
    low = np.searchsorted(place, place - most_missed - 1, side="left")
    count = np.searchsorted(place, place, side="left") - low
    found = []
    for rows in _portions(count):
        later, earlier = _expand(rows, low[rows], count[rows])
        keep = box_iou(xyxy[earlier], xyxy[later]) >= link_iou
        found.append((earlier[keep], later[keep]))
    none = np.zeros(0, np.int64)
    return (
        np.concatenate([none, *(pair[0] for pair in found)]),
        np.concatenate([none, *(pair[1] for pair in found)]),
    )


def _portions(count: np.ndarray) -> Iterator[np.ndarray]:
    """Successive rows whose counts add up to about `_PAIRS_AT_ONCE`."""
    part = np.cumsum(count) // _PAIRS_AT_ONCE
    yield from np.split(np.arange(len(count)), np.flatnonzero(np.diff(part)) + 1)


def _expand(rows: np.ndarray, low: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row beside each of low, low + 1, .., low + count - 1."""
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(rows, count), np.repeat(low, count) + within


def _choose(
    before: np.ndarray, after: np.ndarray, *, group: np.ndarray, step: np.ndarray, score: np.ndarray
) -> np.ndarray:
    """int64 [R], the tube of each row; tubes are numbered in the order of their first rows.

    Rows are by group, step and descending score, links (`before`, `after`) by the later row.
    """
    tube = np.full(len(step), -1, np.int64)
    last: list[int] = []  # row of each tube's last box
    total: list[float] = []
    length: list[int] = []
    change = np.ones(len(step), bool)
    change[1:] = (np.diff(group) != 0) | (np.diff(step) != 0)
    begins = np.flatnonzero(change)
    ends = np.append(begins, len(step))[1:]
    bounds = np.searchsorted(after, np.append(begins, len(step)))
    scores = score.astype(np.float64).tolist()
    for i, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
        choices: dict[int, list[int]] = {}  # open tube -> rows here that may continue it, best first
        for link in range(bounds[i], bounds[i + 1]):
            owner = int(tube[before[link]])
            if last[owner] == before[link]:
                choices.setdefault(owner, []).append(int(after[link]))
        for owner in sorted(choices, key=lambda t: (-total[t] / length[t], t)):
            row = next((row for row in choices[owner] if tube[row] < 0), None)
            if row is not None:
                tube[row] = owner
                last[owner] = row
                total[owner] += scores[row]
                length[owner] += 1
        for row in range(begin, end):
            if tube[row] < 0:
                tube[row] = len(last)
                last.append(row)
                total.append(scores[row])
                length.append(1)
    return tube


def tube_overlaps(tubes: Tubes, truth: Tubes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spatio-temporal IoU of all pairs of one video and class that share a box's keyframe.

    It is the IoU of the two spans of keyframe steps, times the mean IoU of the boxes over the keyframes at which both
    tubes have one. All other pairs have 0.

    Returns:
        tube int64 [n], true tube int64 [n] (ascending by tube, then true tube), overlap float64 [n].
    """
    here, there = _tube_of_boxes(tubes), _tube_of_boxes(truth)
    size = [
        1 + int(max(one.max(initial=0), other.max(initial=0)))
        for one, other in ((tubes.label, truth.label), (tubes.step, truth.step))
    ]
    key, other = _keys(tubes, here, size), _keys(truth, there, size)
    by_key = np.argsort(other, kind="stable")
    low = np.searchsorted(other[by_key], key, side="left")
    count = np.searchsorted(other[by_key], key, side="right") - low
    row, match = _expand(np.arange(len(key)), low, count)
    match = by_key[match]
    iou = box_iou(tubes.xyxy[row], truth.xyxy[match])
    pair, inverse, shared = np.unique(
        here[row] * max(len(truth), 1) + there[match], return_inverse=True, return_counts=True
    )
    mean = np.bincount(inverse.reshape(-1), weights=iou, minlength=len(pair)) / shared
    first, second = np.divmod(pair, max(len(truth), 1))
    common = np.minimum(tubes.ends()[first], truth.ends()[second]) + 1
    common -= np.maximum(tubes.starts()[first], truth.starts()[second])
    together = tubes.lengths()[first] + truth.lengths()[second] - common
    return first, second, mean * common / together


def _tube_of_boxes(tubes: Tubes) -> np.ndarray:
    return np.repeat(np.arange(len(tubes)), np.diff(tubes.first))


def _keys(tubes: Tubes, tube_of_box: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """int64 [S], a number per video, class and step."""
    return (tubes.video[tube_of_box] * size[0] + tubes.label[tube_of_box]) * size[1] + tubes.step


def video_map(tubes: Tubes, *, truth: Tubes, num_classes: int, thresholds: Sequence[float] = THRESHOLDS) -> TubeScores:
    """AP per class and overlap.

    Tubes choose in the order of their scores (of equal ones the first): each takes, of the true tubes of its video and
    class that are still free, the one it overlaps most; that is a hit if the overlap is at least the threshold. All
    others are false positives. AP is the area under the precision-recall curve with precision made monotone; 0 for a
    class with true tubes and no predicted one.

    Args:
        num_classes: K.
        thresholds: the I overlaps, each in (0, 1].
    """
    first, second, overlap = tube_overlaps(tubes, truth)
    best_first = np.lexsort((second, -overlap, first))
    first, second, overlap = first[best_first], second[best_first], overlap[best_first]
    bounds = np.searchsorted(first, np.arange(len(tubes) + 1))
    num_truth = np.bincount(truth.label, minlength=num_classes)
    hits = np.zeros((len(thresholds), len(tubes)), bool)
    order = np.argsort(-tubes.score, kind="stable")
    matched = order[bounds[order] < bounds[order + 1]].tolist()
    for i, threshold in enumerate(thresholds):
        taken = np.zeros(len(truth), bool)
        for tube in matched:
            for pair in range(bounds[tube], bounds[tube + 1]):
                if overlap[pair] < threshold:
                    break
                if not taken[second[pair]]:
                    taken[second[pair]] = hits[i, tube] = True
                    break
    ap = np.full((len(thresholds), num_classes), np.nan)
    label = tubes.label[order]
    for k in np.flatnonzero(num_truth):
        ranked = hits[:, order[label == k]]
        for i in range(len(thresholds)):
            ap[i, k] = average_precision(np.flatnonzero(ranked[i]), int(num_truth[k]))
    num_hits = np.stack([np.bincount(tubes.label[hit], minlength=num_classes) for hit in hits])
    return TubeScores(tuple(thresholds), ap, num_truth, np.bincount(tubes.label, minlength=num_classes), num_hits)
