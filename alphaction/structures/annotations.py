"""Annotations of one split as packed arrays: what the dataset, the evaluation and the pictures share.

Nothing here is a Python object per box: arrays do not grow when worker processes touch them, and 200,000
keyframes start in no time.

Shapes: N keyframes, R boxes over all keyframes, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class ClipKey(NamedTuple):
    """Names a clip by its keyframe: the video's id and the keyframe's time in seconds."""

    movie: str
    time: float


@dataclass(frozen=True)
class ClassList:
    """The action classes of a data set, in the order of the model's outputs.

    Attributes:
        ids: the class ids as the annotation files write them (AVA: 1..80); index in this tuple = class index.
        names: a readable name per class.
    """

    ids: tuple[int | str, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.names):
            raise ValueError(f"classes: got {len(self.ids)} ids and {len(self.names)} names")
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("classes: ids are not unique")

    def __len__(self) -> int:
        return len(self.ids)

    def index(self) -> dict[int | str, int]:
        """Class id -> class index."""
        return {class_id: i for i, class_id in enumerate(self.ids)}


@dataclass(frozen=True)
class PackedBoxes:
    """Boxes of all keyframes of a split, one after the other.

    Attributes:
        first: int64 [N + 1]; the boxes of keyframe i are rows first[i]:first[i + 1].
        xyxy: float32 [R, 4], pixels of the annotated frame (`Annotations.size`), inclusive corners
            (width = x2 - x1 + 1, see `structures.boxes`).
        scores: float32 [R], confidence of a detector; None for annotated boxes.
    """

    first: np.ndarray
    xyxy: np.ndarray
    scores: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.first) - 1

    def rows(self, keyframe: int) -> slice:
        return slice(int(self.first[keyframe]), int(self.first[keyframe + 1]))


@dataclass(frozen=True)
class Annotations:
    """Keyframes of a split with their annotated persons.

    Attributes:
        classes: the K action classes.
        movies: the ids of the videos.
        movie: int32 [N], row in `movies`.
        time: float64 [N], keyframe time in seconds from the video's start.
        size: int32 [N, 2], (height, width) in pixels of the frame that `boxes` refer to.
        boxes: annotated person boxes. A keyframe may have none (it is still a negative when testing).
        labels: bool [R, K], the actions of each box.
        person_id: int32 [R], identity of the person within its video, -1 where unknown.
    """

    classes: ClassList
    movies: tuple[str, ...]
    movie: np.ndarray
    time: np.ndarray
    size: np.ndarray
    boxes: PackedBoxes
    labels: np.ndarray
    person_id: np.ndarray

    def __len__(self) -> int:
        return len(self.movie)

    def key(self, keyframe: int) -> ClipKey:
        return ClipKey(self.movies[int(self.movie[keyframe])], float(self.time[keyframe]))
