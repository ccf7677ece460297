"""Video mAP of a data set whose persons have ids: its annotations and the rows of `frame_map` as tubes.

Shapes: K evaluated classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alphaction.evaluation.ava import ground_truth_of, label_of_column
from alphaction.evaluation.matching import Detections
from alphaction.evaluation.report import nullable, number
from alphaction.evaluation.tubes import (
    LINK_IOU,
    MOST_MISSED,
    Tubes,
    TubeScores,
    keyframe_steps,
    linked_tubes,
    true_tubes,
    video_map,
)
from alphaction.structures import Annotations, ClassList

_FIGURES = {"0.2": slice(0, 1), "0.5": slice(1, 2), "0.5:0.95": slice(1, None)}  # of `tubes.THRESHOLDS`


@dataclass(frozen=True)
class VideoMap:
    """Video mAP and what it was computed from.

    Attributes:
        classes: the K classes.
        scores: AP and counts.
        mean_length: keyframe steps per (true, predicted) tube; NaN without a tube.
        without_id: annotated rows (a box with one class) that are in no tube, since their person has no id.
    """

    classes: ClassList
    scores: TubeScores
    mean_length: tuple[float, float]
    without_id: int

    @property
    def means(self) -> dict[str, float]:
        """Overlap as papers name it -> video mAP; NaN without true tubes."""
        return {name: float(self.scores.mean[part].mean()) for name, part in _FIGURES.items()}

    def as_dict(self) -> dict[str, object]:
        """Plain numbers for `metrics.json`; null where there is no true tube."""
        scores = self.scores
        ap = {name: scores.ap[part].mean(axis=0).tolist() for name, part in _FIGURES.items()}
        classes = [
            {
                "id": self.classes.ids[k],
                "name": self.classes.names[k],
                **{name: nullable(values[k]) for name, values in ap.items()},
                "true_tubes": int(scores.num_truth[k]),
                "tubes": int(scores.num_tubes[k]),
            }
            for k in range(len(self.classes))
        ]
        return {
            **{name: nullable(value) for name, value in self.means.items()},
            "true_tubes": int(scores.num_truth.sum()),
            "tubes": int(scores.num_tubes.sum()),
            "mean_length_of_true_tubes": nullable(self.mean_length[0]),
            "mean_length_of_tubes": nullable(self.mean_length[1]),
            "true_rows_without_person_id": self.without_id,
            "link_iou": LINK_IOU,
            "most_missed_keyframes": MOST_MISSED,
            "classes": classes,
        }

    def text(self) -> str:
        """Lines of the table."""
        scores = self.scores
        lines = [f"video mAP@{name} = {number(value)}" for name, value in self.means.items()]
        for name, count, length in zip(
            ("true", "predicted"), (scores.num_truth.sum(), scores.num_tubes.sum()), self.mean_length, strict=True
        ):
            lines.append(f"  {count} {name} tubes" + (f", {length:.1f} keyframes long on average" if count else ""))
        if self.without_id:
            lines.append(f"  {self.without_id} annotated rows are in no true tube: their persons have no id")
        return "\n".join(lines)


def has_person_ids(annotations: Annotations) -> bool:
    """Whether any annotated person has an id."""
    return bool((annotations.person_id >= 0).any())


def video_map_of(
    detections: Detections,
    *,
    annotations: Annotations,
    image: np.ndarray,
    classes: ClassList,
    excluded_images: np.ndarray | None = None,
) -> VideoMap:
    """Links the detections and compares them with the annotated tubes.

    Args:
        detections: on the images of `annotations`; boxes without width or height are left out.
        annotations: the true boxes and persons, and the times of the keyframes.
        image: int [N], index of each keyframe of `annotations`.
        classes: those that count.
        excluded_images: indices of images that are out, with detections and ground truth.
    """
    num_images = 1 + int(image.max(initial=-1))
    movies = np.unique(np.array(annotations.movies, dtype=np.str_), return_inverse=True)[1].reshape(-1)
    video, step = np.zeros(num_images, np.int64), np.zeros(num_images, np.int64)
    video[image] = movies[annotations.movie]
    step[image] = keyframe_steps(video[image], annotations.time)
    counts = np.ones(num_images, bool)
    if excluded_images is not None:
        counts[excluded_images[excluded_images < num_images]] = False

    truth, without_id = _true_tubes(annotations, image, classes, video=video, step=step, counts=counts)
    has_area = (detections.xyxy[:, 2:] > detections.xyxy[:, :2]).all(axis=1)
    rows = np.flatnonzero((has_area & counts[detections.image])[detections.box])
    box = detections.box[rows]
    tubes = linked_tubes(
        video=video[detections.image[box]],
        step=step[detections.image[box]],
        label=detections.label[rows].astype(np.int64),
        score=detections.score[rows],
        xyxy=detections.xyxy[box],
    )
    scores = video_map(tubes, truth=truth, num_classes=len(classes))
    return VideoMap(classes, scores, (_mean_length(truth), _mean_length(tubes)), without_id)


def _true_tubes(
    annotations: Annotations,
    image: np.ndarray,
    classes: ClassList,
    *,
    video: np.ndarray,
    step: np.ndarray,
    counts: np.ndarray,
) -> tuple[Tubes, int]:
    """The annotated tubes; number of rows that have no person id."""
    truth = ground_truth_of(annotations, image=image, classes=classes)
    box, column = np.nonzero(annotations.labels)  # the rows of `truth`, before classes are left out
    person = annotations.person_id[box[label_of_column(annotations.classes, classes)[column] >= 0]]
    known = (person >= 0) & counts[truth.image]
    tubes = true_tubes(
        video=video[truth.image[known]],
        step=step[truth.image[known]],
        person=person[known],
        label=truth.label[known],
        xyxy=truth.xyxy[known],
    )
    return tubes, int(((person < 0) & counts[truth.image]).sum())


def _mean_length(tubes: Tubes) -> float:
    return float(tubes.lengths().mean()) if len(tubes) else float("nan")
