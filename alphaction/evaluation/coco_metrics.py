"""COCO's detection metrics, computed by pycocotools from the arrays of `frame_map`.

AP is the mean over the IoU thresholds 0.5, 0.55, .., 0.95 of the precision at 101 recalls, AR the mean of the highest
recalls, with 100 detections per image and class; areas are not told apart. A detection may match any free box, not its
best-overlapping one alone, so AP50 is close to, but not the same as, the frame mAP.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from alphaction.evaluation.matching import Detections, GroundTruth
from alphaction.structures import ClassList

MOST_ROWS = 2_000_000  # pycocotools keeps a dict of each: gigabytes and minutes for more
_PER_IMAGE = 100
_NAMES = ("AP", "AP50", "AP75", "AR")


@dataclass(frozen=True)
class CocoMetrics:
    """COCO's figures.

    Attributes:
        classes: the K classes.
        values: float64 [K, 4], AP, AP50, AP75, AR of each; NaN without ground truth.
        reason: why nothing was computed; "" if it was.
    """

    classes: ClassList
    values: np.ndarray
    reason: str = ""

    @property
    def means(self) -> dict[str, float]:
        """Name -> mean over the classes with ground truth."""
        counted = self.values[~np.isnan(self.values[:, 0])]
        means = counted.mean(axis=0) if len(counted) else np.full(len(_NAMES), np.nan)
        return dict(zip(_NAMES, means.tolist(), strict=True))

    def as_dict(self) -> dict[str, object]:
        """Plain numbers for `metrics.json`; null where there is no ground truth."""
        if self.reason:
            return {"not computed": self.reason}
        classes = [
            {"id": class_id, "name": name, **_plain(dict(zip(_NAMES, values, strict=True)))}
            for class_id, name, values in zip(self.classes.ids, self.classes.names, self.values.tolist(), strict=True)
        ]
        return {**_plain(self.means), "classes": classes}

    def text(self) -> str:
        """A table: the classes with ground truth, then the mean."""
        if self.reason:
            return f"COCO metrics: {self.reason}"
        labels = [
            f"{class_id} {name}" if str(class_id) != name else name
            for class_id, name in zip(self.classes.ids, self.classes.names, strict=True)
        ]
        rows = [(label, values) for label, values in zip(labels, self.values.tolist(), strict=True)]
        rows = [row for row in rows if not np.isnan(row[1][0])] + [("mean", list(self.means.values()))]
        width = max(len(label) for label, _ in rows)
        lines = ["COCO metrics (AP: mean over IoU 0.50:0.95)", f"{'':<{width}}" + "".join(f"{n:>8}" for n in _NAMES)]
        lines += [f"{label:<{width}}" + "".join(f"{value:8.4f}" for value in values) for label, values in rows]
        return "\n".join(lines)


def coco_metrics(
    detections: Detections,
    *,
    ground_truth: GroundTruth,
    classes: ClassList,
    num_images: int,
    excluded_images: np.ndarray | None = None,
) -> CocoMetrics:
    """COCO's metrics per class.

    Args:
        detections: boxes and scores; those on images without ground truth count as false.
        ground_truth: annotated boxes in the same image indices and units.
        classes: the K classes.
        num_images: images are numbered 0 .. num_images - 1.
        excluded_images: indices of images that are out.
    """
    values = np.full((len(classes), len(_NAMES)), np.nan)
    if len(detections) > MOST_ROWS:
        reason = (
            f"left out, pycocotools keeps a record of each of the {len(detections)} rows, more than {MOST_ROWS} are "
            "too many; leave out rows of low scores"
        )
        return CocoMetrics(classes, values, reason)
    keep = np.ones(num_images, bool)
    if excluded_images is not None:
        keep[excluded_images] = False
    truth = keep[ground_truth.image]
    shared = {
        "images": [{"id": image} for image in np.flatnonzero(keep).tolist()],
        "categories": [{"id": k} for k in range(len(classes))],
    }
    rows = np.flatnonzero(keep[detections.image[detections.box]])
    box = detections.box[rows]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        evaluation = COCOeval(
            _coco(shared, ground_truth.image[truth], ground_truth.xyxy[truth], ground_truth.label[truth]),
            _coco(shared, detections.image[box], detections.xyxy[box], detections.label[rows], detections.score[rows]),
            "bbox",
        )
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [_PER_IMAGE]
        evaluation.evaluate()
        evaluation.accumulate()
    if not evaluation.params.imgIds:
        return CocoMetrics(classes, values)
    precision = evaluation.eval["precision"][..., 0, 0]  # [thresholds, recalls, K], -1 without ground truth
    recall = evaluation.eval["recall"][..., 0, 0]  # [thresholds, K]
    counted = np.flatnonzero(np.bincount(ground_truth.label[truth], minlength=len(classes)))
    by_threshold = precision.mean(axis=1)
    for k in counted.tolist():
        values[k] = by_threshold[:, k].mean(), by_threshold[0, k], by_threshold[5, k], recall[:, k].mean()
    return CocoMetrics(classes, values)


def _coco(
    shared: dict[str, Any], image: np.ndarray, xyxy: np.ndarray, label: np.ndarray, score: np.ndarray | None = None
) -> COCO:
    extent = xyxy[:, 2:] - xyxy[:, :2]
    boxes = np.concatenate([xyxy[:, :2], extent], axis=1).tolist()
    columns = zip(image.tolist(), label.tolist(), boxes, extent.prod(axis=1).tolist(), strict=True)
    annotations: list[dict[str, Any]] = [
        {"id": i, "image_id": image_id, "category_id": k, "bbox": bbox, "area": area, "iscrowd": 0}
        for i, (image_id, k, bbox, area) in enumerate(columns, start=1)  # an id of 0 counts as no match
    ]
    if score is not None:
        for annotation, value in zip(annotations, score.tolist(), strict=True):
            annotation["score"] = value
    coco = COCO()
    coco.dataset = {**shared, "annotations": annotations}
    coco.createIndex()
    return coco


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else value for name, value in values.items()}
