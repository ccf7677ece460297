"""Everything that a report tells beyond the numbers of an `EvalResult`, found out from what was evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alphaction.evaluation.analysis import Confusion, Curve, TruePersons, boxes_of, confusion, curves, judge
from alphaction.evaluation.frame_map import PROTOCOLS
from alphaction.evaluation.matching import Detections, GroundTruth
from alphaction.evaluation.mistakes import Mistake, worst_false, worst_misses
from alphaction.evaluation.report import EvalResult


@dataclass(frozen=True)
class Evidence:
    """What an evaluation looked at. Shapes: P predicted boxes, K evaluated classes.

    Attributes:
        detections: the rows that were evaluated, with all P boxes; corners are shares of the frame.
        truth: the true boxes.
        excluded: images that do not count.
        scores: float [P, K], before low ones were dropped.
        groups: name and class indices of each group that competes.
        keys: (video, second) of every image.
        picture: image -> uint8 [h, w, 3] RGB; a UserError where there is none.
        drawable: int, images that have a picture.
    """

    detections: Detections
    truth: GroundTruth
    excluded: np.ndarray
    scores: np.ndarray
    groups: Mapping[str, np.ndarray]
    keys: Sequence[tuple[str, str]]
    picture: Callable[[int], np.ndarray]
    drawable: np.ndarray


@dataclass(frozen=True)
class Findings:
    """What the page shows of an `Evidence`."""

    curves: Sequence[Curve | None]
    confusion: Confusion
    num_persons: int
    false: Sequence[Mistake]
    missed: Sequence[Mistake]


def find(result: EvalResult, evidence: Evidence, *, number: int) -> Findings:
    """Curves, confusion and the worst `number` mistakes of each kind."""
    detections, num_classes = evidence.detections, len(result.ap)
    judged = judge(
        detections,
        truth=evidence.truth,
        num_classes=num_classes,
        protocol=PROTOCOLS[result.protocol],
        iou_threshold=result.iou_threshold,
        excluded=evidence.excluded,
    )
    persons = TruePersons.of(evidence.truth, num_classes=num_classes, excluded=evidence.excluded)
    box = boxes_of(persons, image=detections.image, xyxy=detections.xyxy, iou_threshold=result.iou_threshold)
    confused = confusion(persons, box=box, scores=evidence.scores, groups=list(evidence.groups.values()))
    false = worst_false(
        judged, detections=detections, persons=persons, iou_threshold=result.iou_threshold, number=number
    )
    missed = worst_misses(persons, confused, box=box, xyxy=detections.xyxy, drawable=evidence.drawable, number=number)
    return Findings(curves(judged), confused, len(persons), false, missed)
