"""Where the boxes of persons (and objects) come from: a detector on the key frame, a file, or the caller.

The network's own person head is not here: it finds persons in its clips (`network`).

Shapes: n persons, m objects of a frame of h x w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from alphaction.errors import DataError
from alphaction.preparation.detect_models import Detector
from alphaction.structures import Boxes

#: Boxes of objects with lower scores are not looked at, as in the box files of `tools/detect_persons.py`.
OBJECT_THRESHOLD = 0.05


def _no_boxes() -> np.ndarray:
    return np.zeros((0, 4), np.float32)


def _no_scores() -> np.ndarray:
    return np.zeros(0, np.float32)


@dataclass(frozen=True)
class Seen:
    """Boxes of one frame, in pixels as displayed, inclusive corners.

    Attributes:
        boxes: float32 [n, 4], of persons.
        scores: float32 [n].
        tracks: int64 [n] where it is known who is who, else None.
        objects: float32 [m, 4].
        object_scores: float32 [m].
    """

    boxes: np.ndarray = field(default_factory=_no_boxes)
    scores: np.ndarray = field(default_factory=_no_scores)
    tracks: np.ndarray | None = None
    objects: np.ndarray = field(default_factory=_no_boxes)
    object_scores: np.ndarray = field(default_factory=_no_scores)

    def within(self, size: tuple[int, int], *, min_score: float) -> Seen:
        """Boxes limited to a picture of `size` (height, width); without those outside it and those of low score."""
        clipped = Boxes(torch.from_numpy(self.boxes), size).clip()
        keep = clipped.keep_mask().numpy() & (self.scores >= min_score)
        return Seen(
            boxes=clipped.xyxy.numpy()[keep],
            scores=self.scores[keep],
            tracks=None if self.tracks is None else self.tracks[keep],
            objects=self.objects,
            object_scores=self.object_scores,
        )


class PersonSource(Protocol):
    """Finds persons.

    Attributes:
        looks: whether it needs the picture.
    """

    looks: bool

    def find(self, time: float, image: np.ndarray | None) -> Seen:
        """The persons at `time`; `image` is the frame shown then, uint8 [h, w, 3] RGB."""

    def times(self, start: float, end: float, rate: float) -> Sequence[float] | None:
        """The moments that can be told about, at most `rate` per second; None = any."""


class DetectedPersons:
    """Persons, and if wanted all other labels as objects, that a detector sees."""

    looks = True

    def __init__(self, detector: Detector, *, objects: bool = False) -> None:
        if objects and not detector.objects:
            raise DataError(
                "--detector: the network looks at objects (an 'O' block), but this detector knows persons only. Take "
                "another one, or set MODEL.IA_STRUCTURE.ALLOW_NO_OBJECTS True to let the network see no objects."
            )
        self._detector = detector
        self._objects = objects

    def find(self, time: float, image: np.ndarray | None) -> Seen:
        if image is None:
            raise ValueError("image: got None, expected the key frame")
        [found] = self._detector.run([torch.from_numpy(np.ascontiguousarray(image))])
        # From continuous corners to the last pixel inside, as the reader of box files does.
        boxes = found.xyxy.astype(np.float32) - np.array([0, 0, 1, 1], np.float32)
        person = found.labels == self._detector.person
        order = np.argsort(-found.scores, kind="stable")
        persons = order[person[order]]
        others = order[~person[order] & (found.scores[order] >= OBJECT_THRESHOLD)] if self._objects else order[:0]
        scores = found.scores.astype(np.float32)
        return Seen(boxes[persons], scores[persons], None, boxes[others], scores[others])

    def times(self, start: float, end: float, rate: float) -> None:
        return None


class GivenPersons:
    """Persons that a function of the caller tells.

    Args:
        find: of (time in seconds, uint8 [h, w, 3] RGB): boxes [n, 4] and scores [n], or a `Seen`.
    """

    looks = True

    def __init__(self, find: Callable[[float, np.ndarray], tuple[np.ndarray, np.ndarray] | Seen]) -> None:
        self._find = find

    def find(self, time: float, image: np.ndarray | None) -> Seen:
        if image is None:
            raise ValueError("image: got None, expected the key frame")
        found = self._find(time, image)
        if isinstance(found, Seen):
            return found
        try:
            boxes, scores = (np.asarray(values, np.float32) for values in found)
        except (TypeError, ValueError):
            raise TypeError(
                f"boxes: the function returned {found!r:.80}, expected a pair: boxes [n, 4] and scores [n]"
            ) from None
        boxes = boxes.reshape(-1, 4)
        if scores.shape != (len(boxes),):
            raise ValueError(f"boxes: got {len(boxes)} boxes and scores of shape {scores.shape}, expected one for each")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all() and (boxes[:, :2] <= boxes[:, 2:]).all()):
            raise ValueError(
                f"boxes: got {boxes.tolist()} with scores {scores.tolist()}, expected numbers x1 <= x2, y1 <= y2"
            )
        return Seen(boxes, scores)

    def times(self, start: float, end: float, rate: float) -> None:
        return None
