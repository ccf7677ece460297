"""Turns what a model said about a data set (`predict`) into mAP, tables, files and pictures.

Shapes: N keyframes, P predicted persons, K classes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from alphaction.engine.details import ReportFacts, detector_recall, person_ap, with_report
from alphaction.engine.predict import merge_predictions
from alphaction.errors import ConfigError, DataError
from alphaction.evaluation.ava import (
    ImageIndex,
    ground_truth_of,
    label_of_column,
    read_exclusions,
    read_ground_truth,
    result_rows,
)
from alphaction.evaluation.coco_metrics import CocoMetrics, coco_metrics
from alphaction.evaluation.explain import LOW, explain
from alphaction.evaluation.files import result_file
from alphaction.evaluation.frame_map import PROTOCOLS, FrameMap, frame_map
from alphaction.evaluation.matching import GroundTruth
from alphaction.evaluation.pictures import draw_pictures
from alphaction.evaluation.report import ANNOTATED_BOXES, DETECTED_BOXES, FOUND_BOXES, EvalResult
from alphaction.evaluation.video_map import VideoMap, has_person_ids, video_map_of
from alphaction.formats.label_files import read_classes
from alphaction.structures import Annotations, ClassList, Predictions
from alphaction.structures.groups import ActionGroup

__all__ = [
    "EvalResult",
    "EvalSet",
    "ReportFacts",
    "check_evaluation_files",
    "evaluate_dataset",
    "load_predictions",
    "result_folder",
]


class EvalSet(Protocol):
    """What an evaluation asks of a data set; `ActionDataset` has it."""

    name: str
    annotations: Annotations
    spec: Mapping[str, Any]
    uses_detections: bool

    @property
    def finds_persons(self) -> bool: ...

    def keyframe_image(self, i: int) -> np.ndarray:
        """uint8 [h, w, 3] RGB."""
        ...


def evaluate_dataset(
    predictions: Predictions,
    dataset: EvalSet,
    output_dir: str | Path,
    *,
    protocol: str = "alphaction",
    iou_threshold: float | Sequence[float] = 0.5,
    action_threshold: float = 0.0,
    groups: Sequence[ActionGroup] | None = None,
    num_pictures: int = 12,
    explained: bool = False,
    with_coco: bool = False,
    with_video_map: bool = False,
    every_n: int = 1,
    report: ReportFacts | None = None,
) -> EvalResult:
    """Computes the frame mAP and writes `output_dir`/inference/NAME.

    The folder gets `predictions.pth`, `result.csv`, `result.log`, `metrics.json`, `pictures/` and `report.html`.

    Args:
        predictions: of the whole set.
        dataset: names the ground truth: `spec["eval_file_paths"]` ("csv_gt_file", "labelmap_file", "exclusion_file",
            each optional), else its own annotations and all of its classes.
        output_dir: OUTPUT_DIR.
        protocol: name in `PROTOCOLS`.
        iou_threshold: one, or several of which the first is the one of the table.
        action_threshold: scores below it are not written and do not count.
        groups: class groups of the model, for a mean each.
        num_pictures: keyframes that are drawn; 0 = none.
        explained: say where predictions are lost even if the mAP is not below `LOW`.
        with_coco: compute COCO's metrics, too.
        with_video_map: compute the video mAP, too, where persons have ids; a note where it cannot be.
        every_n: only every N-th keyframe counts, a quick look; the folder's name says so.
        report: for `report.html`; None = it is not written.

    Raises:
        UserError: an evaluation file is wrong, the scores are NaN, or the folder cannot be written.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"TEST.PROTOCOL: got {protocol!r}, expected one of {', '.join(PROTOCOLS)}")
    thresholds = tuple(np.atleast_1d(np.asarray(iou_threshold, np.float64)).tolist())
    annotations = dataset.annotations
    if not len(predictions):  # the number of classes is unknown to a loader without any person
        predictions = merge_predictions([], num_classes=len(annotations.classes))
    _check_fit(predictions, annotations)
    folder = result_folder(output_dir, dataset.name if every_n == 1 else f"{dataset.name}_every{every_n}")
    _save_predictions(predictions, annotations, folder / "predictions.pth")

    if dataset.finds_persons:
        # The head may find a person twice: the surer box comes first.
        predictions = replace(predictions, scores=predictions.scores * predictions.box_scores[:, None])

    images, image = ImageIndex.of(annotations)
    rows = result_rows(predictions, annotations=annotations, image=image, action_threshold=action_threshold)
    notes: list[str] = []
    with rows.writing(folder / "result.csv", images=images, class_ids=annotations.classes.ids):
        classes, column, truth, excluded = _read_truth(dataset, images, image, notes)
        if every_n > 1:
            excluded = np.union1d(excluded, np.setdiff1d(np.arange(len(images)), image[::every_n]))
        detections = rows.detections(column)
        scores = frame_map(
            detections,
            ground_truth=truth,
            num_classes=len(classes),
            protocol=PROTOCOLS[protocol],
            iou_thresholds=thresholds,
            excluded_images=excluded,
        )
    further: dict[str, CocoMetrics | VideoMap] = {}
    if with_coco:
        further["coco"] = coco_metrics(
            detections, ground_truth=truth, classes=classes, num_images=len(images), excluded_images=excluded
        )
    if with_video_map and every_n > 1:
        notes.append("video mAP: not computed, a quick look (TEST.EVERY_N) leaves out keyframes of the tubes")
    elif with_video_map and not has_person_ids(annotations):
        notes.append("video mAP: not computed, no annotated person of the set has an id (person_id)")
    elif with_video_map:
        further["video_mAP"] = video_map_of(
            detections, annotations=annotations, image=image, classes=classes, excluded_images=excluded
        )
    recall = persons = None
    if dataset.uses_detections:
        recall = detector_recall(detections, truth=truth, excluded=excluded, num_classes=len(classes))
        persons = person_ap(
            detections,
            scores=predictions.box_scores,
            truth=truth,
            excluded=excluded,
            num_classes=len(classes),
            protocol=PROTOCOLS[protocol],
        )
    counts = _counts(predictions, truth, image, excluded, num_rows=len(rows))
    notes += _remarks(counts, scores, uses_detections=dataset.uses_detections)
    explanation = ""
    if explained or not scores.mean[0] >= LOW:  # NaN too
        explanation = explain(
            detections,
            truth=truth,
            classes=classes,
            keys=images.keys,
            excluded=excluded,
            num_predicted=len(predictions),
            iou_threshold=thresholds[0],
            action_threshold=action_threshold,
            uses_detections=dataset.uses_detections,
        ).text()
    result = EvalResult(
        name=dataset.name,
        protocol=protocol,
        iou_threshold=thresholds[0],
        boxes=_whence(dataset),
        mAP=float(scores.mean[0]),
        class_ids=classes.ids,
        class_names=classes.names,
        ap=scores.ap[0],
        num_ground_truth=scores.num_ground_truth,
        num_detections=scores.num_detections,
        num_hits=scores.num_hits[0],
        mAP_by_iou=dict(zip(thresholds, scores.mean.tolist(), strict=True)),
        mAP_by_group={group.name: _mean_of(scores.ap[0], column[group.columns]) for group in groups or ()},
        counts=counts | {f"rows ignored: {reason}": number for reason, number in scores.ignored.items()},
        notes=tuple(notes),
        explanation=explanation,
        more={name: part.as_dict() for name, part in further.items()},
        more_text="\n\n".join(part.text() for part in further.values()),
        every_n=every_n,
        detector_recall=recall,
        person_ap=persons,
        num_training=report.training_counts(classes.ids) if report else None,
        upper=report.upper if report else None,
    )
    result.write(folder)
    if num_pictures > 0:
        draw_pictures(
            predictions,
            annotations=annotations,
            keyframe_image=dataset.keyframe_image,
            folder=folder / "pictures",
            number=num_pictures,
        )
    if report is None:
        return result
    return with_report(
        result,
        report,
        folder,
        predictions=predictions,
        detections=detections,
        truth=truth,
        excluded=excluded,
        images=images,
        image=image,
        column=column,
        groups=groups or (),
        keyframe_image=dataset.keyframe_image,
        num_pictures=num_pictures,
    )


def check_evaluation_files(dataset: EvalSet) -> None:
    """Reads what the evaluation of `dataset` will need, so that its faults are known before hours of computing.

    Raises:
        UserError: an evaluation file is missing or wrong.
    """
    images, image = ImageIndex.of(dataset.annotations)
    _read_truth(dataset, images, image, [])


def result_folder(output_dir: str | Path, name: str) -> Path:
    """`output_dir`/inference/NAME; of a data set named by a path, such as "x/dataset.yaml:val", a name for a folder."""
    return Path(output_dir) / "inference" / (re.sub(r"[^\w.+-]+", "_", name).strip("._") or "dataset")


def _whence(dataset: EvalSet) -> str:
    """Where the classified boxes came from."""
    if dataset.finds_persons:
        return FOUND_BOXES
    return DETECTED_BOXES if dataset.uses_detections else ANNOTATED_BOXES


def _check_fit(predictions: Predictions, annotations: Annotations) -> None:
    if predictions.scores.shape[1] != len(annotations.classes):
        raise ConfigError(
            f"The model scores {predictions.scores.shape[1]} classes, the data set has {len(annotations.classes)}: "
            "set MODEL.ROI_ACTION_HEAD.NUM_CLASSES to the data set's number and use weights trained with it"
        )
    if len(predictions) and not 0 <= predictions.keyframe.min() <= predictions.keyframe.max() < len(annotations):
        raise ValueError(f"predictions: keyframes up to {predictions.keyframe.max()}, the set has {len(annotations)}")


class _Truth(NamedTuple):
    """The evaluated classes, the position of the model's classes among them, true boxes, images that do not count."""

    classes: ClassList
    column: np.ndarray
    boxes: GroundTruth
    excluded: np.ndarray


def _read_truth(dataset: EvalSet, images: ImageIndex, image: np.ndarray, notes: list[str]) -> _Truth:
    """From the files of `eval_file_paths`; what is not there, from the annotations."""
    annotations = dataset.annotations
    files = dict(dataset.spec.get("eval_file_paths") or {})
    classes, column = _evaluated_classes(annotations.classes, files.get("labelmap_file"), notes)
    truth = _ground_truth(annotations, classes, files.get("csv_gt_file"), images, image, notes)
    excluded = np.zeros(0, np.int64)
    if files.get("exclusion_file"):
        excluded = read_exclusions(files["exclusion_file"], images=images)
    return _Truth(classes, column, truth, excluded)


def _evaluated_classes(classes: ClassList, labelmap_file: str | None, notes: list[str]) -> tuple[ClassList, np.ndarray]:
    """The classes that count, and the position of each of the model's classes among them (-1: it does not count)."""
    if not labelmap_file:
        return classes, np.arange(len(classes))
    counted = read_classes(labelmap_file)
    column = label_of_column(classes, counted)
    known = int((column >= 0).sum())
    if known == 0:
        raise DataError(
            f"{labelmap_file}: none of its ids ({', '.join(map(str, counted.ids[:5]))}, ...) is a class id of the data "
            f"set ({', '.join(map(str, classes.ids[:5]))}, ...)"
        )
    if known < len(counted):
        notes.append(f"{len(counted) - known} classes of the label map are not among the model's classes: never found")
    return counted, column


def _ground_truth(
    annotations: Annotations,
    classes: ClassList,
    csv_gt_file: str | None,
    images: ImageIndex,
    image: np.ndarray,
    notes: list[str],
) -> GroundTruth:
    if not csv_gt_file:
        return ground_truth_of(annotations, image=image, classes=classes)
    truth, unknown = read_ground_truth(csv_gt_file, images=images, classes=classes)
    if unknown:
        ids = ", ".join(f"{class_id} ({count} rows)" for class_id, count in list(unknown.items())[:5])
        notes.append(
            f"{len(unknown)} class ids of {csv_gt_file} are not evaluated: {ids}{', ...' * (len(unknown) > 5)}"
        )
    annotated = truth.annotated()
    if len(annotated) and not np.isin(image, annotated).any() and len(image):
        notes.append(
            f"no keyframe of the data set is in {csv_gt_file}: the set's are like {','.join(images.keys[image[0]])!r}, "
            f"the file's like {','.join(images.keys[annotated[0]])!r}"
        )
    return truth


def _counts(
    predictions: Predictions, truth: GroundTruth, image: np.ndarray, excluded: np.ndarray, *, num_rows: int
) -> dict[str, int]:
    """Keyframes and rows, for the notes and `metrics.json`."""
    has_truth = np.setdiff1d(truth.image, excluded)
    predicted = np.unique(image[np.unique(predictions.keyframe)])
    return {
        "keyframes": len(image),
        "keyframes with predictions": len(predicted),
        "keyframes with true boxes": len(has_truth),
        "keyframes with true boxes but no prediction": len(np.setdiff1d(np.intersect1d(has_truth, image), predicted)),
        "keyframes with true boxes outside the data set": len(np.setdiff1d(has_truth, image)),
        "keyframes excluded": len(np.intersect1d(image, excluded)),
        "predicted boxes": len(predictions),
        "rows": num_rows,
    }


def _remarks(counts: Mapping[str, int], scores: FrameMap, *, uses_detections: bool) -> list[str]:
    remarks = []
    if not scores.num_ground_truth.any():
        remarks.append("there is no ground truth for any of the classes: no AP can be computed")
    missing, annotated = counts["keyframes with true boxes but no prediction"], counts["keyframes with true boxes"]
    if missing:
        reason = "no detected box, or the clip could not be read" if uses_detections else "the clip could not be read"
        remarks.append(
            f"{missing} of {annotated} keyframes with true boxes have no prediction ({reason}); their boxes are missed"
        )
    outside = counts["keyframes with true boxes outside the data set"]
    if outside:
        remarks.append(
            f"{outside} of {annotated} keyframes with true boxes are not in the data set (left out when it was read, "
            "or not part of it); their boxes are missed"
        )
    remarks += [f"{number} rows do not count: {reason}" for reason, number in scores.ignored.items()]
    if annotated and scores.num_detections.any() and not scores.num_hits.any():
        remarks.append("no predicted box overlaps a true one of its class enough: compare the boxes in the pictures")
    return remarks


def _mean_of(ap: np.ndarray, column: np.ndarray) -> float:
    """Mean AP of some columns of the model, over those that are evaluated and have ground truth."""
    values = ap[column[column >= 0]]
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _save_predictions(predictions: Predictions, annotations: Annotations, path: Path) -> None:
    """Plain tensors and texts, so that `torch.load(path, weights_only=True)` reads them without this software."""
    tensors = {name: torch.from_numpy(getattr(predictions, name)) for name in Predictions.__dataclass_fields__}
    content = tensors | {
        "class_ids": list(annotations.classes.ids),
        "class_names": list(annotations.classes.names),
        "movies": list(annotations.movies),
        "movie": torch.from_numpy(annotations.movie[predictions.keyframe]),
        "time": torch.from_numpy(annotations.time[predictions.keyframe]),
        "image_size": torch.from_numpy(annotations.size[predictions.keyframe]),
    }
    with result_file(path) as file:
        torch.save(content, file)


def load_predictions(path: str | Path) -> Predictions:
    """Reads a `predictions.pth`.

    Raises:
        DataError: missing, or of another kind.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return Predictions(**{name: content[name].numpy() for name in Predictions.__dataclass_fields__})
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # whatever torch.load raises for a file of another kind
        raise DataError(f"{path}: not a predictions.pth of this software ({type(error).__name__})") from error
