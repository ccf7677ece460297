"""What lies behind an AP: precision and recall along the ranking, classes taken for others, boxes that were not found.

Shapes: T true persons, P predicted boxes, R rows (a box with one class and its score), K evaluated classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alphaction.evaluation.frame_map import Protocol, match_rows
from alphaction.evaluation.matching import Detections, GroundTruth, best_overlaps

_POINTS = 100  # of a drawn curve


@dataclass(frozen=True)
class TruePersons:
    """Annotated boxes with all their classes: the rows of a ground truth that share a box are one person.

    Attributes:
        image: int64 [T], ascending.
        xyxy: float64 [T, 4].
        labels: bool [T, K].
    """

    image: np.ndarray
    xyxy: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    @staticmethod
    def of(truth: GroundTruth, *, num_classes: int, excluded: np.ndarray) -> TruePersons:
        """Those of images that are not `excluded`."""
        counted = np.flatnonzero(~np.isin(truth.image, excluded))
        keys = np.column_stack([truth.image[counted], truth.xyxy[counted]]).astype(np.float64).reshape(-1, 5)
        persons, owner = np.unique(keys, axis=0, return_inverse=True)
        labels = np.zeros((len(persons), num_classes), bool)
        labels[owner.reshape(-1), truth.label[counted]] = True
        return TruePersons(persons[:, 0].astype(np.int64), persons[:, 1:], labels)


def boxes_of(persons: TruePersons, *, image: np.ndarray, xyxy: np.ndarray, iou_threshold: float = 0.5) -> np.ndarray:
    """For each true person the predicted box that overlaps it best, -1 where none does by `iou_threshold`.

    Args:
        image: int [P], of the predicted boxes `xyxy` float64 [P, 4].

    Returns:
        int64 [T], row in `xyxy`.
    """
    order = np.argsort(image, kind="stable")
    overlap, place = best_overlaps(persons.image, xyxy=persons.xyxy, other_image=image[order], other=xyxy[order])
    found = (place >= 0) & (overlap >= iou_threshold)
    out = np.full(len(persons), -1, np.int64)
    out[found] = order[place[found]]
    return out


@dataclass(frozen=True)
class Judged:
    """The rows of an evaluation and which of them hit.

    Attributes:
        image: int [R].
        box: int [R], row in `Detections.xyxy`.
        label: int [R].
        score: float [R].
        hit: bool [R].
        num_truth: int64 [K], true boxes of each class.
    """

    image: np.ndarray
    box: np.ndarray
    label: np.ndarray
    score: np.ndarray
    hit: np.ndarray
    num_truth: np.ndarray


def judge(
    detections: Detections,
    *,
    truth: GroundTruth,
    num_classes: int,
    protocol: Protocol,
    iou_threshold: float,
    excluded: np.ndarray,
) -> Judged:
    """Which rows hit a true box, as `frame_map` counts."""
    matches = match_rows(
        detections,
        ground_truth=truth,
        num_classes=num_classes,
        protocol=protocol,
        iou_thresholds=(iou_threshold,),
        excluded_images=excluded,
    )
    rows, score = matches.rows, matches.rows.score
    if score is None:
        raise ValueError("rows: got no scores")
    return Judged(rows.image, rows.box, rows.label, score, matches.hit[0], matches.num_ground_truth)


@dataclass(frozen=True)
class Curve:
    """Precision over recall of one class, best scores first; both float64 [n]."""

    recall: np.ndarray
    precision: np.ndarray

    @property
    def area(self) -> float:
        """The AP: area under the curve with precision made monotone (of all points; fewer are drawn)."""
        best = np.maximum.accumulate(self.precision[::-1])[::-1]
        return float((np.diff(self.recall, prepend=0.0) * best).sum())

    def thinned(self) -> Curve:
        """At most `_POINTS` + 1 points, the last one among them."""
        if len(self.recall) <= _POINTS:
            return self
        keep = np.unique(np.linspace(0, len(self.recall) - 1, _POINTS).astype(np.int64))
        return Curve(self.recall[keep], self.precision[keep])


def curves(judged: Judged) -> list[Curve | None]:
    """A curve per class, with a point for each hit; None for a class without true boxes."""
    out: list[Curve | None] = []
    by_class = np.argsort(judged.label, kind="stable")
    ends = np.cumsum(np.bincount(judged.label, minlength=len(judged.num_truth)))
    for k, total in enumerate(judged.num_truth.tolist()):
        if not total:
            out.append(None)
            continue
        members = by_class[ends[k - 1] if k else 0 : ends[k]]
        ranked = judged.hit[members[np.argsort(-judged.score[members], kind="stable")]]
        place = np.flatnonzero(ranked)
        found = np.arange(1, len(place) + 1)
        out.append(Curve(found / total, found / (place + 1)))
    return out


@dataclass(frozen=True)
class Confusion:
    """Which class was taken for which.

    Every true class of a person whose box was found is compared with the classes of its group that the person does not
    have. If all of these score lower (or as high), it was told right; else it was taken for the one that scores
    highest. So a person with several actions is never wrong for having them, and no score threshold is needed.

    Attributes:
        taken: int64 [K, K], true class (row) taken for a class (column); the diagonal counts those told right.
        no_box: int64 [K], true boxes that no predicted box overlaps enough.
        groups: the classes that compete with each other.
        is_missed: bool [T, K], true classes that were taken for another one, or whose box was not found.
        score: float64 [T, K], of the box that was found; NaN without.
        rival: int64 [T, K], the class that each true class was taken for; -1 = none.
    """

    taken: np.ndarray
    no_box: np.ndarray
    groups: tuple[np.ndarray, ...]
    is_missed: np.ndarray
    score: np.ndarray
    rival: np.ndarray

    def pairs(self) -> list[tuple[int, int, int]]:
        """(true class, class it was taken for, how often), the most frequent first."""
        wrong = self.taken.copy()
        np.fill_diagonal(wrong, 0)
        true, other = np.nonzero(wrong)
        order = np.argsort(-wrong[true, other], kind="stable")
        return [(int(true[i]), int(other[i]), int(wrong[true[i], other[i]])) for i in order]


def confusion(
    persons: TruePersons, *, box: np.ndarray, scores: np.ndarray, groups: Sequence[np.ndarray] = ()
) -> Confusion:
    """See `Confusion`.

    Args:
        box: int64 [T], the predicted box of each true person, -1 = none (`boxes_of`).
        scores: float [P, K], of every predicted box.
        groups: class indices of each group; classes that are in none form one more.
    """
    num_classes = persons.labels.shape[1]
    left = np.setdiff1d(np.arange(num_classes), np.concatenate([np.zeros(0, np.int64), *groups]))
    groups = tuple(group for group in (*groups, left) if len(group))
    found = np.flatnonzero(box >= 0)
    taken = np.zeros((num_classes, num_classes), np.int64)
    score = np.full(persons.labels.shape, np.nan)
    score[found] = scores[box[found]]
    is_missed = persons.labels & (box < 0)[:, None]
    rivals = np.full(persons.labels.shape, -1, np.int64)
    for group in groups:
        labels, said = persons.labels[np.ix_(found, group)], score[np.ix_(found, group)]
        false = np.where(labels, -np.inf, said)
        rival, best = false.argmax(axis=1), false.max(axis=1)
        person, true = np.nonzero(labels)
        wrong = best[person] > said[person, true]
        np.add.at(taken, (group[true], np.where(wrong, group[rival[person]], group[true])), 1)
        is_missed[found[person[wrong]], group[true[wrong]]] = True
        rivals[found[person[wrong]], group[true[wrong]]] = group[rival[person[wrong]]]
    return Confusion(taken, persons.labels[box < 0].sum(axis=0), groups, is_missed, score, rivals)
