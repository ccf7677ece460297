"""What `report.html` tells of an evaluation besides its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from alphaction.evaluation.analysis import TruePersons, boxes_of
from alphaction.evaluation.ava import ImageIndex
from alphaction.evaluation.findings import Evidence, find
from alphaction.evaluation.frame_map import Protocol, frame_map
from alphaction.evaluation.matching import Detections, GroundTruth
from alphaction.evaluation.report import EvalResult
from alphaction.evaluation.report_page import write_page
from alphaction.structures import Predictions
from alphaction.structures.groups import ActionGroup

_RECALL_AT = 0.5


@dataclass(frozen=True)
class ReportFacts:
    """What an evaluation cannot know by itself.

    Attributes:
        weights: the file that was tested.
        training: class id -> persons in the training set; empty where that is unknown.
        upper: the same weights on the annotated boxes.
    """

    weights: str = ""
    training: Mapping[int | str, int] = field(default_factory=dict)
    upper: EvalResult | None = None

    def training_counts(self, class_ids: Sequence[int | str]) -> np.ndarray | None:
        """int64 [K], None where it is unknown."""
        by_text = {str(class_id): count for class_id, count in self.training.items()}
        return np.array([by_text.get(str(class_id), 0) for class_id in class_ids], np.int64) if by_text else None


def detector_recall(detections: Detections, *, truth: GroundTruth, excluded: np.ndarray, num_classes: int) -> float:
    """Share of the true boxes that a predicted one overlaps by half or more; NaN without true boxes."""
    persons = TruePersons.of(truth, num_classes=num_classes, excluded=excluded)
    box = boxes_of(persons, image=detections.image, xyxy=detections.xyxy, iou_threshold=_RECALL_AT)
    return float((box >= 0).mean()) if len(persons) else float("nan")


def person_ap(
    detections: Detections,
    *,
    scores: np.ndarray,
    truth: GroundTruth,
    excluded: np.ndarray,
    num_classes: int,
    protocol: Protocol,
) -> float:
    """Average precision of the predicted boxes as persons at IoU 0.5; NaN without true boxes.

    Args:
        scores: float [P], that each of the predicted boxes is a person.
    """
    persons = TruePersons.of(truth, num_classes=num_classes, excluded=excluded)
    as_persons = Detections(
        detections.image, detections.xyxy, np.arange(len(scores)), np.zeros(len(scores), np.int64), scores
    )
    found = frame_map(
        as_persons,
        ground_truth=GroundTruth(persons.image, persons.xyxy, np.zeros(len(persons), np.int64)),
        num_classes=1,
        protocol=protocol,
        iou_thresholds=(_RECALL_AT,),
        excluded_images=excluded,
    )
    return float(found.mean[0])


def with_report(
    result: EvalResult,
    facts: ReportFacts,
    folder: Path,
    *,
    predictions: Predictions,
    detections: Detections,
    truth: GroundTruth,
    excluded: np.ndarray,
    images: ImageIndex,
    image: np.ndarray,
    column: np.ndarray,
    groups: Sequence[ActionGroup],
    keyframe_image: Callable[[int], np.ndarray],
    num_pictures: int,
) -> EvalResult:
    """Writes `report.html`.

    Args:
        result: of these predictions.
        detections: the evaluated rows.
        image: int [N], image of each keyframe.
        column: int [K of the model], position of its classes among the evaluated ones, -1 = not evaluated.
        groups: classes of the model that compete with each other.
        keyframe_image: position of a keyframe -> uint8 [h, w, 3] RGB.

    Returns:
        `result` with the curves that were drawn.
    """
    scores = np.full((len(predictions), len(result.ap)), -1.0, np.float32)  # of a class the model lacks
    scores[:, column[column >= 0]] = predictions.scores[:, column >= 0]
    drawable, keyframe = np.unique(image, return_index=True)
    keyframe_of = dict(zip(drawable.tolist(), keyframe.tolist(), strict=True))
    by_group = {group.name: column[group.columns][column[group.columns] >= 0] for group in groups}
    evidence = Evidence(
        detections=detections,
        truth=truth,
        excluded=excluded,
        scores=scores,
        groups={name: classes for name, classes in by_group.items() if len(classes)},
        keys=images.keys,
        picture=lambda i: keyframe_image(keyframe_of[i]),
        drawable=drawable,
    )
    findings = find(result, evidence, number=num_pictures)
    write_page(result, evidence, findings, folder, weights=facts.weights)
    return replace(result, curves=tuple(None if curve is None else curve.thinned() for curve in findings.curves))
