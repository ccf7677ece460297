"""Why is the mAP so low? What is left after each step from annotated keyframes to hits, and what stopped the rest.

Shapes: B predicted boxes, R rows (a box with one class and its score), G true rows (a box with one class), K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alphaction.evaluation.matching import Detections, GroundTruth, best_overlaps
from alphaction.structures import ClassList

LOW = 0.05  # mAP below which an explanation is worth reading
_FLAT = 1e-3  # range of the scores that no trained model has
_ENOUGH = 20  # true rows that are found, from which their scores tell something
_MOST_LOST = 0.2  # share that is left of a step from which its cause is told
_TELLING = 0.5  # share of true boxes that a wrong reading of the boxes must match to be named


@dataclass(frozen=True)
class Stage:
    """One step of the funnel.

    Attributes:
        what: what is counted.
        count: how many are left.
        cause: why it may be empty, and what to do.
    """

    what: str
    count: int
    cause: str


@dataclass(frozen=True)
class Funnel:
    """What is left after each step.

    Attributes:
        stages: in their order.
        broken: the first empty one; None if none is.
        remarks: what else was seen (range of the scores, classes without ground truth, ...).
    """

    stages: tuple[Stage, ...]
    remarks: tuple[str, ...]

    @property
    def broken(self) -> Stage | None:
        return next((stage for stage in self.stages if not stage.count), None)

    def text(self) -> str:
        """Several lines: the stages, the remarks, and the likely cause."""
        width = max(len(str(stage.count)) for stage in self.stages)
        broken = self.broken
        lines = []
        for stage in self.stages:
            lines.append(
                f"  {stage.count:>{width}}  {stage.what}" + ("  <-- nothing is left" if stage is broken else "")
            )
            if stage is broken:
                break
        lines += [f"  {remark}" for remark in self.remarks]
        if broken is not None:
            lines.append(f"  Likely cause: {broken.cause}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _RowTable:
    """Finds the row of a box and a class."""

    keys: np.ndarray  # int64 [R], ascending: box x classes + class
    order: np.ndarray | None  # row of each key; None = they are in order already
    num_classes: int

    @staticmethod
    def of(detections: Detections) -> _RowTable:
        num_classes = int(detections.label.max(initial=0)) + 1
        keys = detections.box.astype(np.int64) * num_classes + detections.label
        if (keys[1:] >= keys[:-1]).all():
            return _RowTable(keys, None, num_classes)
        order = np.argsort(keys, kind="stable")
        return _RowTable(keys[order], order, num_classes)

    def rows(self, box: np.ndarray, label: np.ndarray) -> np.ndarray:
        """The rows of those pairs that have one, int64."""
        inside = (label >= 0) & (label < self.num_classes)
        wanted = box[inside] * self.num_classes + label[inside]
        if not len(self.keys):
            return np.zeros(0, np.int64)
        place = np.searchsorted(self.keys, wanted).clip(max=len(self.keys) - 1)
        place = place[self.keys[place] == wanted]
        return place if self.order is None else self.order[place]


def explain(
    detections: Detections,
    *,
    truth: GroundTruth,
    classes: ClassList,
    keys: Sequence[tuple[str, str]],
    excluded: np.ndarray,
    num_predicted: int,
    iou_threshold: float = 0.5,
    action_threshold: float = 0.0,
    uses_detections: bool = False,
) -> Funnel:
    """The funnel of an evaluation; cheap (no AP is computed).

    Args:
        detections: the rows that were evaluated; corners in the same unit as the true ones.
        truth: the annotated boxes of the evaluated classes.
        classes: the K classes.
        keys: (video, second) of every image.
        excluded: images that do not count.
        num_predicted: predicted boxes before rows below `action_threshold` were dropped.
        iou_threshold: overlap from which a box counts as found.
        action_threshold: TEST.ACTION_THRESH.
        uses_detections: the predicted boxes are a detector's, not the annotated ones.
    """
    annotated = np.setdiff1d(truth.annotated(), excluded)
    counted = np.flatnonzero(np.isin(truth.image, annotated))
    scored = np.zeros(len(detections.xyxy), bool)  # boxes with a row
    scored[detections.box] = True
    predicted = np.unique(detections.image[scored])
    common = np.intersect1d(truth.image[counted], predicted)
    compared = scored & np.isin(detections.image, common)
    boxes, rows = np.flatnonzero(compared), np.flatnonzero(compared[detections.box])
    table = _RowTable.of(detections)
    overlap, place = _overlaps(detections, truth, counted, boxes)
    found = overlap >= iou_threshold
    right = table.rows(place[found], truth.label[counted[found]])
    given = np.flatnonzero(np.bincount(detections.label[rows], minlength=len(classes)))
    labels = np.intersect1d(truth.label[counted], given)
    stages = (
        Stage("annotated keyframes", len(annotated), _NO_TRUTH),
        Stage("true rows (a box with a class) of the evaluated classes on them", len(counted), _NO_CLASS),
        Stage("predicted boxes", num_predicted, _NO_DETECTIONS if uses_detections else _NO_PREDICTIONS),
        Stage(
            f"rows (a box with a class) with a score of at least TEST.ACTION_THRESH {action_threshold:g}",
            len(detections),
            "TEST.ACTION_THRESH is above every score: lower it (0 counts all).",
        ),
        Stage("keyframes with true and with predicted boxes", len(common), _other_keys(keys, truth, predicted)),
        Stage(
            f"true rows that a predicted box overlaps by {iou_threshold:g} or more",
            int(found.sum()),
            _other_boxes(detections, truth, counted, boxes, iou_threshold),
        ),
        Stage("classes in common", len(labels), _other_classes(given, truth, classes, counted)),
        Stage("true rows whose class the overlapping box has", len(right), _NO_RIGHT_CLASS),
    )
    on_common = int(np.isin(truth.image[counted], common).sum())
    remarks = _loss_remarks(stages, truth, counted, on_common=on_common) + _class_remarks(truth, counted, classes)
    remarks += _score_remarks(detections, right, rows)
    if found.sum() >= _ENOUGH:
        remarks += _shift_remarks(detections, table, truth.label[counted[found]], place[found])
    return Funnel(stages, tuple(remarks))


_NO_TRUTH = (
    "the ground truth is empty, or the exclusion file lists all of it. Check 'evaluation' in the data set's entry."
)
_NO_CLASS = (
    "no annotated box has an evaluated class: the ids of the ground truth and of the label map (or class list) differ."
)
_NO_PREDICTIONS = "no clip could be read, or no keyframe of the data set has an annotated person."
_NO_DETECTIONS = (
    "no detected person has a score of at least TEST.BOX_THRESH: lower it, or test with TEST.BOXES ground_truth."
)
_NO_RIGHT_CLASS = (
    "no box is scored for its true class (scores below TEST.ACTION_THRESH are not counted): lower TEST.ACTION_THRESH, "
    "or compare the class list with that of training."
)


def _overlaps(
    detections: Detections, truth: GroundTruth, counted: np.ndarray, boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(best overlap of each counted true row with a predicted box, that box or -1)."""
    order = boxes[np.argsort(detections.image[boxes], kind="stable")]
    overlap, place = best_overlaps(
        truth.image[counted],
        xyxy=truth.xyxy[counted],
        other_image=detections.image[order],
        other=detections.xyxy[order],
    )
    return overlap, np.where(place >= 0, order[place], -1) if len(order) else place


def _other_keys(keys: Sequence[tuple[str, str]], truth: GroundTruth, predicted: np.ndarray) -> str:
    """Examples of both kinds of keyframes, and whether it is the videos or the seconds that differ."""
    if not len(predicted) or not len(truth.image):
        return "nothing was predicted or annotated."
    ours, theirs = ([keys[i] for i in np.unique(rows).tolist()] for rows in (predicted, truth.image))
    if not set(ours).isdisjoint(theirs):
        return "the others have no predicted box. Are these the predictions of the whole split?"
    shared = {movie for movie, _ in ours} & {movie for movie, _ in theirs}
    what = "the seconds of the keyframes differ" if shared else "the videos have other names"
    examples = f"predicted {', '.join(ours[0])}; annotated {', '.join(theirs[0])}"
    return f"{what} ({examples}). Is csv_gt_file that of this split?"


def _other_boxes(
    detections: Detections, truth: GroundTruth, counted: np.ndarray, boxes: np.ndarray, threshold: float
) -> str:
    """Looks for a wrong reading of the predicted boxes that would match."""
    told = "the predicted boxes are in other units or of another picture: compare them in the pictures of the results."
    if not len(boxes) or not len(counted):
        return told
    what, share = _best_reading(detections, truth, counted, boxes, threshold)
    if share >= _TELLING:
        return f"the predicted boxes are not where the true ones are; {what}."
    low, high = np.nanmin(detections.xyxy[boxes]), np.nanmax(detections.xyxy[boxes])
    return f"{told} Predicted corners run from {low:.3g} to {high:.3g}, true ones to {truth.xyxy[counted].max():.3g}."


def other_reading(detections: Detections, *, truth: GroundTruth, excluded: np.ndarray, iou_threshold: float) -> str:
    """How the predicted boxes would have to be read to match far better than they do; "" if no reading does.

    Args:
        detections: corners in the same unit as the true ones, 0..1.
        truth: the annotated boxes.
        excluded: images that do not count.
        iou_threshold: overlap from which a box counts as found.
    """
    common = np.setdiff1d(np.intersect1d(truth.image, detections.image), excluded)
    counted = np.flatnonzero(np.isin(truth.image, common))
    boxes = np.flatnonzero(np.isin(detections.image, common))
    if not len(counted):
        return ""
    found = (_overlaps(detections, truth, counted, boxes)[0] >= iou_threshold).mean()
    if found >= _TELLING:
        return ""
    what, share = _best_reading(detections, truth, counted, boxes, iou_threshold)
    told = f"{what} ({share:.0%} of the true boxes are found so, {found:.0%} as they are)"
    return told if share >= max(_TELLING, 2 * found) else ""


def _best_reading(
    detections: Detections, truth: GroundTruth, counted: np.ndarray, boxes: np.ndarray, threshold: float
) -> tuple[str, float]:
    """The reading of the boxes that matches best, in words, and the share of true boxes that it finds."""
    x1, y1, x2, y2 = detections.xyxy[boxes].T
    readings = {
        "they match when mirrored: the boxes or the clips were mirrored alone": (1 - x2, y1, 1 - x1, y2),
        "they match with x and y exchanged": (y1, x1, y2, x2),
        "they match with x2, y2 read as width and height: they are x, y, width, height": (x1, y1, x1 + x2, y1 + y2),
        "they match with width and height read as x2, y2: they were corners already": (x1, y1, x2 - x1, y2 - y1),
    }
    best = ("", -1.0)
    for what, corners in readings.items():
        xyxy = detections.xyxy.astype(np.float64, copy=True)
        xyxy[boxes] = np.stack(corners, axis=1)
        read = Detections(detections.image, xyxy, detections.box, detections.label, detections.score)
        with np.errstate(divide="ignore", invalid="ignore"):
            overlap = np.nan_to_num(_overlaps(read, truth, counted, boxes)[0])
        share = float((overlap >= threshold).mean())
        if share > best[1]:
            best = (what, share)
    return best


def _other_classes(given: np.ndarray, truth: GroundTruth, classes: ClassList, counted: np.ndarray) -> str:
    ours = [str(classes.ids[i]) for i in given[:5].tolist()]
    theirs = [str(classes.ids[i]) for i in np.unique(truth.label[counted])[:5].tolist()]
    return f"predicted class ids ({', '.join(ours)}, ...) and annotated ones ({', '.join(theirs)}, ...) differ."


def _loss_remarks(stages: Sequence[Stage], truth: GroundTruth, counted: np.ndarray, *, on_common: int) -> list[str]:
    """The causes of steps that lose most but not all; `on_common`: true rows on keyframes that have predicted boxes."""
    by_cause = {
        "keyframes": (stages[4], len(np.unique(truth.image[counted]))),
        "true rows on keyframes with predicted boxes": (stages[5], on_common),
    }
    return [
        f"Only {stage.count} of {before} {what}: {stage.cause}"
        for what, (stage, before) in by_cause.items()
        if 0 < stage.count < _MOST_LOST * before
    ]


def _class_remarks(truth: GroundTruth, counted: np.ndarray, classes: ClassList) -> list[str]:
    present = len(np.unique(truth.label[counted]))
    return [f"{present} of {len(classes)} classes have ground truth."] if present < len(classes) else []


def _score_remarks(detections: Detections, right: np.ndarray, rows: np.ndarray) -> list[str]:
    """The range of the scores, and whether true classes are scored higher than others."""
    if not len(detections):
        return []
    scores = np.asarray(detections.score, np.float64)
    remarks = [f"Scores: {scores.min():.4g} to {scores.max():.4g}, median {np.median(scores):.4g}."]
    if scores.max() - scores.min() < _FLAT:
        remarks.append("All scores are the same: the weights were not loaded, or the training diverged.")
    elif len(right) >= _ENOUGH:
        others = np.zeros(len(scores), bool)
        others[rows] = True
        others[right] = False
        true, other = scores[np.unique(right)].mean(), scores[others].mean() if others.any() else 0.0
        if true <= other:
            remarks.append(
                f"True classes score {true:.4g} on average, others {other:.4g}: the model has not learnt, its head was "
                "not loaded (--no-head?), or its classes are in another order."
            )
    return remarks


def _shift_remarks(detections: Detections, table: _RowTable, label: np.ndarray, box: np.ndarray) -> list[str]:
    """Whether class ids are off by one: the neighbouring class scores much higher than the true one."""
    means = {}
    for shift in (0, 1, -1):
        rows = table.rows(box, label + shift)
        means[shift] = float(np.mean(detections.score[rows])) if len(rows) else 0.0
    best = max(means, key=lambda shift: means[shift])
    if best and means[best] > 2 * means[0] and means[best] > 0.1:
        side = "above" if best > 0 else "below"
        return [f"The class one {side} the true one scores {means[best]:.3g}, the true one {means[0]:.3g}: off by one?"]
    return []
