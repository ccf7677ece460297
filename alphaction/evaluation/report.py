"""What an evaluation found: a table for people, `metrics.json` for programs.

Shapes: K evaluated classes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alphaction.evaluation.analysis import Curve
from alphaction.evaluation.files import result_file

ANNOTATED_BOXES = "ground-truth boxes (upper bound)"
DETECTED_BOXES = "detected boxes"
FOUND_BOXES = "boxes of the person head"


@dataclass(frozen=True)
class EvalResult:
    """Average precision of a data set.

    Attributes:
        name: the data set's name.
        protocol: name of the evaluation protocol.
        iou_threshold: overlap from which a detection hits.
        boxes: where the boxes that were classified came from.
        mAP: mean over the classes with ground truth; NaN if none has.
        class_ids, class_names: the K classes.
        ap: float64 [K]; NaN without ground truth.
        num_ground_truth, num_detections, num_hits: int64 [K], annotated boxes, scored boxes, annotated boxes found.
        mAP_by_iou: IoU threshold -> mAP, all that were asked for.
        mAP_by_group: name of a class group -> mean over its classes with ground truth.
        counts: keyframes, rows and the like.
        notes: what the reader has to know, a sentence each.
        explanation: why the mAP is low, several lines (`explain`); "" where it is not.
        more: further entries of `metrics.json`, plain numbers and texts (COCO's metrics).
        more_text: the same as lines of the table.
        every_n: 1, or N for a quick look at every N-th keyframe.
        detector_recall: share of the true boxes that a detected one overlaps by half or more; None without detections.
        person_ap: average precision of the detected boxes as persons, whatever they do, at IoU 0.5, ranked by their own
            scores; None without detections.
        num_training: int64 [K], persons of each class in the training set; None where that is unknown.
        curves: precision over recall of each class, few points; () where none were drawn.
        upper: the same weights on the annotated boxes, where both were asked for.
    """

    name: str
    protocol: str
    iou_threshold: float
    boxes: str
    mAP: float
    class_ids: tuple[int | str, ...]
    class_names: tuple[str, ...]
    ap: np.ndarray
    num_ground_truth: np.ndarray
    num_detections: np.ndarray
    num_hits: np.ndarray
    mAP_by_iou: dict[float, float]
    mAP_by_group: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    explanation: str = ""
    more: dict[str, object] = field(default_factory=dict)
    more_text: str = ""
    every_n: int = 1
    detector_recall: float | None = None
    person_ap: float | None = None
    num_training: np.ndarray | None = None
    curves: tuple[Curve | None, ...] = ()
    upper: EvalResult | None = None

    @property
    def label(self) -> str:
        """The name, with what a quick look left out: its mAP is not that of the set."""
        return self.name if self.every_n == 1 else f"{self.name}_every{self.every_n}"

    @property
    def mean_over_iou(self) -> float:
        """Mean of the mAPs at all the IoU thresholds."""
        return float(np.mean(list(self.mAP_by_iou.values())))

    @property
    def per_class(self) -> dict[str, float]:
        """Class name -> AP, NaN without ground truth; a name that is not unique is followed by its id."""
        return dict(zip(self._unique_names(), self.ap.tolist(), strict=True))

    def _per_class(self) -> Iterator[tuple[int | str, str, float, int, int, int]]:
        """(id, name, AP, true boxes, found, detections) of each class."""
        numbers = (self.ap, self.num_ground_truth, self.num_hits, self.num_detections)
        return zip(self.class_ids, self.class_names, *(column.tolist() for column in numbers), strict=True)

    def _unique_names(self) -> list[str]:
        names = list(self.class_names)
        return [
            name if names.count(name) == 1 else f"{name} ({class_id})"
            for name, class_id in zip(names, self.class_ids, strict=True)
        ]

    def table(self) -> str:
        """AP per class in the order of the classes, then the means and the notes."""
        header = ("class", "AP", "true boxes", "found", "detections")
        rows = [
            (f"{class_id} {name}" if str(class_id) != name else name, number(ap), f"{truth}", f"{hits}", f"{rows}")
            for class_id, name, ap, truth, hits, rows in self._per_class()
        ]
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
        lines = [f"{self.label}: average precision per class at IoU >= {self.iou_threshold:g}", ""]
        lines += [_line(row, widths) for row in (header, tuple("-" * width for width in widths), *rows)]
        lines += ["", *self._means(), *(f"note: {note}" for note in self.notes)]
        if self.more_text:
            lines += ["", self.more_text]
        if self.explanation:
            lines += ["", "Why the mAP is low, what is left after each step:", self.explanation]
        return "\n".join(lines)

    def summary(self) -> str:
        """The means alone, one line per IoU threshold and class group."""
        return "\n".join(f"{self.label}: {line.strip()}" for line in self._means())

    def _means(self) -> list[str]:
        counted = int((self.num_ground_truth > 0).sum())
        lines = [
            f"mAP@{threshold:g} = {number(mean)}   (protocol {self.protocol}, {self.boxes}; "
            f"{counted} of {len(self.ap)} classes have ground truth)"
            for threshold, mean in self.mAP_by_iou.items()
        ]
        if len(self.mAP_by_iou) > 1:
            low, *_, high = sorted(self.mAP_by_iou)
            lines.append(
                f"mAP@{low:g}:{high:g} = {number(self.mean_over_iou)}   (mean of these {len(self.mAP_by_iou)} lines)"
            )
        width = max(map(len, self.mAP_by_group), default=0)
        lines += [f"  {name:<{width}}  {number(mean)}" for name, mean in self.mAP_by_group.items()]
        if self.every_n > 1:
            lines.append(f"quick look at 1 of {self.every_n} keyframes (TEST.EVERY_N): not the mAP of the whole set")
        if self.detector_recall is not None:
            lines.append(f"detector recall at IoU 0.5: {number(self.detector_recall)} of the true boxes")
        if self.person_ap is not None:
            lines.append(f"AP of the persons at IoU 0.5: {number(self.person_ap)}, whatever they do")
        if self.upper is not None:
            lines.append(
                f"on the true boxes: mAP@{self.iou_threshold:g} = {number(self.upper.mAP)}; "
                f"{number(self.upper.mAP - self.mAP)} of it is lost with the detected ones"
            )
        return lines

    def figures(self) -> dict[str, float]:
        """Name -> number, for TensorBoard: mAP, that of each group, and what is known about the detector."""
        name = f"{self.label}_mAP_{self.iou_threshold:g}IOU"
        out = {name: self.mAP}
        if len(self.mAP_by_group) > 1:
            out |= {f"{name}_{group}": mean for group, mean in self.mAP_by_group.items()}
        if self.detector_recall is not None:
            out[f"{self.label}_detector_recall"] = self.detector_recall
        if self.person_ap is not None:
            out[f"{self.label}_person_AP"] = self.person_ap
        if self.upper is not None:
            out |= self.upper.figures()
        return out

    def as_dict(self) -> dict[str, object]:
        """Plain numbers for `metrics.json`; null where there is no AP."""
        classes = [
            {
                "id": class_id,
                "name": name,
                "ap": nullable(ap),
                "ground_truth": truth,
                "found": hits,
                "detections": rows,
            }
            for class_id, name, ap, truth, hits, rows in self._per_class()
        ]
        if self.num_training is not None:
            for one, count in zip(classes, self.num_training.tolist(), strict=True):
                one["training"] = count
        return {
            "dataset": self.name,
            "protocol": self.protocol,
            "iou_threshold": self.iou_threshold,
            "boxes": self.boxes,
            "mAP": nullable(self.mAP),
            "mAP_by_iou": {f"{threshold:g}": nullable(mean) for threshold, mean in self.mAP_by_iou.items()},
            "mAP_mean_over_iou": nullable(self.mean_over_iou),
            "mAP_by_group": {name: nullable(mean) for name, mean in self.mAP_by_group.items()},
            "per_class": {name: nullable(ap) for name, ap in self.per_class.items()},
            "classes": classes,
            "counts": self.counts,
            "notes": list(self.notes),
            "explanation": self.explanation,
            **self._whence(),
            **self.more,
        }

    def _whence(self) -> dict[str, object]:
        """What is known only of some tests."""
        out: dict[str, object] = {} if self.every_n == 1 else {"every_n": self.every_n}
        if self.detector_recall is not None:
            out["detector_recall"] = nullable(self.detector_recall)
        if self.person_ap is not None:
            out["person_AP"] = nullable(self.person_ap)
        if self.upper is not None:
            whole = self.upper.as_dict()
            out["true_boxes"] = {name: whole[name] for name in ("mAP", "mAP_by_iou", "mAP_by_group", "per_class")}
            out["lost_with_detected_boxes"] = nullable(self.upper.mAP - self.mAP)
        return out

    def write(self, folder: str | Path) -> None:
        """Writes `result.log` (the table) and `metrics.json` into a folder."""
        texts = {
            "result.log": self.table(),
            "metrics.json": json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False),
        }
        for name, text in texts.items():
            with result_file(Path(folder) / name, text=True) as file:
                file.write(text + "\n")


def number(value: float) -> str:
    """Four decimals; "n/a" for NaN."""
    return "n/a" if math.isnan(value) else f"{value:.4f}"


def nullable(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return None if math.isnan(value) else float(value)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    """First column to the left, numbers to the right."""
    first, *rest = zip(cells, widths, strict=True)
    return "  ".join([f"{first[0]:<{first[1]}}", *(f"{cell:>{width}}" for cell, width in rest)]).rstrip()
