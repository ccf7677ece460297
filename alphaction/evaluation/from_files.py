"""Frame mAP of files in AVA's format, any detector's: what `tools/evaluate.py` does.

What does not count (class ids that are not evaluated, excluded seconds) or looks like a mistake (videos that the ground
truth does not know, rows without a score, another order of the corners) is counted and said in the notes; what cannot
be read is an error that names the file and the line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alphaction.errors import ConfigError, DataError
from alphaction.evaluation.ava import ImageIndex, detection_table, read_exclusions, read_ground_truth
from alphaction.evaluation.ava_csv import CsvTable, class_ids
from alphaction.evaluation.coco_metrics import coco_metrics
from alphaction.evaluation.explain import LOW, explain, other_reading
from alphaction.evaluation.frame_map import PROTOCOLS, FrameMap, frame_map
from alphaction.evaluation.matching import Detections, GroundTruth
from alphaction.evaluation.report import EvalResult
from alphaction.formats.label_files import read_classes
from alphaction.structures import ClassList

_SHOWN = 5  # class ids that a note lists


@dataclass(frozen=True)
class _Files:
    """What the files say.

    Attributes:
        classes: those that count.
        images: the keyframes of all files.
        num_annotated: the first so many of `images` are those of the ground truth.
        truth: true boxes.
        unknown_truth: class id -> rows of the ground truth that are left out.
        excluded: int64, images that do not count.
        table: the detections as read.
    """

    classes: ClassList
    images: ImageIndex
    num_annotated: int
    truth: GroundTruth
    unknown_truth: Mapping[str, int]
    excluded: np.ndarray
    table: CsvTable

    @property
    def detections(self) -> Detections:
        table = self.table
        return Detections(table.image, table.xyxy, table.box, table.label, table.score)


def evaluate_files(
    ground_truth: str | Path,
    detections: str | Path,
    *,
    labelmap: str | Path | None = None,
    exclusions: str | Path | None = None,
    protocol: str = "alphaction",
    iou_thresholds: Sequence[float] = (0.5,),
    with_coco: bool = False,
) -> EvalResult:
    """Evaluates one CSV file against another.

    Args:
        ground_truth: `video,second,x1,y1,x2,y2,class[,person]`, corners in 0..1.
        detections: `video,second,x1,y1,x2,y2,class,score`.
        labelmap: the classes that count; None: those of the ground truth.
        exclusions: `video,second` of keyframes that do not count.
        protocol: name in `PROTOCOLS`.
        iou_thresholds: the first is that of the table.
        with_coco: add COCO's metrics.

    Raises:
        UserError: a file is missing or wrong.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"protocol: got {protocol!r}, expected one of {', '.join(PROTOCOLS)}")
    files = _read(ground_truth, detections, labelmap, exclusions)
    scores = frame_map(
        files.detections,
        ground_truth=files.truth,
        num_classes=len(files.classes),
        protocol=PROTOCOLS[protocol],
        iou_thresholds=iou_thresholds,
        excluded_images=files.excluded,
    )
    counts = _counts(files)
    notes = [
        *_unknown_notes(ground_truth, files.unknown_truth, labelmap),
        *_unknown_notes(detections, files.table.unknown, labelmap),
        *_notes(str(detections), counts, scores),
    ]
    reading = other_reading(
        files.detections, truth=files.truth, excluded=files.excluded, iou_threshold=iou_thresholds[0]
    )
    if reading:
        notes.append(f"{detections}: the boxes are not where those of {ground_truth} are; {reading}")
    more: dict[str, object] = {}
    more_text = ""
    if with_coco:
        coco = coco_metrics(
            files.detections,
            ground_truth=files.truth,
            classes=files.classes,
            num_images=len(files.images),
            excluded_images=files.excluded,
        )
        more, more_text = {"coco": coco.as_dict()}, coco.text()
    return EvalResult(
        name=Path(detections).name,
        protocol=protocol,
        iou_threshold=iou_thresholds[0],
        boxes=f"boxes of {Path(detections).name}",
        mAP=float(scores.mean[0]),
        class_ids=files.classes.ids,
        class_names=files.classes.names,
        ap=scores.ap[0],
        num_ground_truth=scores.num_ground_truth,
        num_detections=scores.num_detections,
        num_hits=scores.num_hits[0],
        mAP_by_iou=dict(zip(iou_thresholds, scores.mean.tolist(), strict=True)),
        counts=counts | {f"rows ignored: {reason}": number for reason, number in scores.ignored.items()},
        notes=tuple(notes),
        explanation="" if scores.mean[0] >= LOW else _explained(files, iou_thresholds[0]),  # NaN is explained, too
        more=more,
        more_text=more_text,
    )


def _read(
    ground_truth: str | Path, detections: str | Path, labelmap: str | Path | None, exclusions: str | Path | None
) -> _Files:
    classes = read_classes(labelmap) if labelmap else _classes_of(ground_truth)
    images = ImageIndex()
    truth, unknown = read_ground_truth(ground_truth, images=images, classes=classes)
    if not len(truth.image):
        ids = ", ".join(map(str, list(unknown)[:_SHOWN]))
        reason = f"none of its class ids ({ids}, ...) is in {labelmap}" if unknown else "it has no box"
        raise DataError(f"{ground_truth}: nothing to compare with, {reason}")
    num_annotated = len(images)
    excluded = read_exclusions(exclusions, images=images) if exclusions else np.zeros(0, np.int64)
    table = detection_table(detections, images=images, classes=classes)
    return _Files(classes, images, num_annotated, truth, unknown, excluded, table)


def _classes_of(ground_truth: str | Path) -> ClassList:
    ids = class_ids(ground_truth)
    if not ids:
        raise DataError(f"{ground_truth}: nothing to compare with, it has no box")
    return ClassList(tuple(ids), tuple(map(str, ids)))


def _counts(files: _Files) -> dict[str, int]:
    table, keys = files.table, files.images.keys
    annotated, detected = np.arange(files.num_annotated), np.unique(table.images)
    movies = {movie for movie, _ in keys[: files.num_annotated]}
    strange = np.zeros(len(keys), bool)
    strange[[i for i in detected.tolist() if keys[i][0] not in movies]] = True
    missed = np.setdiff1d(files.truth.image, np.union1d(detected, files.excluded))
    return {
        "keyframes with ground truth": files.num_annotated,
        "keyframes with true boxes but no detection": len(missed),
        "keyframes with detections": len(detected),
        "keyframes with detections but no ground truth": len(
            np.setdiff1d(detected, np.union1d(annotated, files.excluded))
        ),
        "keyframes excluded": len(np.unique(files.excluded)),
        "true rows": len(files.truth.image),
        "true rows with a class id that is not evaluated": sum(files.unknown_truth.values()),
        "rows": len(table.box),
        "rows with a class id that is not evaluated": sum(table.unknown.values()),
        "rows without a score": table.without_score,
        "rows of videos without ground truth": int(strange[table.image[table.box]].sum()),
        "videos without ground truth": len({keys[i][0] for i in np.flatnonzero(strange).tolist()}),
    }


def _unknown_notes(path: str | Path, unknown: Mapping[str, int], labelmap: str | Path | None) -> list[str]:
    if not unknown:
        return []
    ids = ", ".join(f"{class_id} ({count} rows)" for class_id, count in list(unknown.items())[:_SHOWN])
    where = labelmap or "the ground truth"
    return [
        f"{path}: {sum(unknown.values())} rows do not count, their class ids are not in {where}: {ids}"
        + ", ..." * (len(unknown) > _SHOWN)
    ]


def _notes(detections: str, counts: Mapping[str, int], scores: FrameMap) -> list[str]:
    notes = []
    if not counts["rows"]:
        notes.append(f"{detections}: there is no detection of the evaluated classes; every true box is missed")
    if counts["rows without a score"]:
        notes.append(
            f"{detections}: {counts['rows without a score']} of {counts['rows']} rows have no score (an eighth "
            "column); they count with score 1"
        )
    if counts["videos without ground truth"]:
        ignored = "image was never annotated" in scores.ignored
        notes.append(
            f"{detections}: {counts['rows of videos without ground truth']} rows are of "
            f"{counts['videos without ground truth']} videos that the ground truth does not have; they "
            + ("do not count" if ignored else "count as false")
        )
    missed, annotated = (
        counts["keyframes with true boxes but no detection"],
        counts["keyframes with ground truth"],
    )
    if missed and counts["rows"]:
        notes.append(f"{missed} of {annotated} keyframes with ground truth have no detection; their boxes are missed")
    return notes + [f"{number} rows do not count: {reason}" for reason, number in scores.ignored.items()]


def _explained(files: _Files, iou_threshold: float) -> str:
    if not len(files.table.image):  # a note says so; what a data set's causes could be does not matter here
        return ""
    return explain(
        files.detections,
        truth=files.truth,
        classes=files.classes,
        keys=files.images.keys,
        excluded=files.excluded,
        num_predicted=len(files.table.image),
        iou_threshold=iou_threshold,
        uses_detections=True,
    ).text()
