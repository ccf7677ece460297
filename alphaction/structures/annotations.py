"""Annotations of one split as packed arrays: what the dataset, the evaluation and the pictures share.

Nothing here is a Python object per box: arrays do not grow when worker processes touch them, and 200,000
keyframes start in no time.

Shapes: N keyframes, R boxes over all keyframes, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class ClipKey(NamedTuple):
    """Names a clip by its keyframe: the video's id and the keyframe's time in seconds."""

    movie: str
    time: float

    def __str__(self) -> str:
        return f"{self.movie} at {self.time:g} s"


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

    @property
    def named(self) -> bool:
        """Whether any class has a name that is not just its id."""
        return any(str(class_id) != name for class_id, name in zip(self.ids, self.names, strict=True))

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

    def counts(self) -> np.ndarray:
        """Boxes per keyframe, int64 [N]."""
        return np.diff(self.first)

    @staticmethod
    def pack(
        keyframe: np.ndarray, xyxy: np.ndarray, num_keyframes: int, scores: np.ndarray | None = None
    ) -> PackedBoxes:
        """From boxes [R, 4] with their keyframes int64 [R], which must be in ascending order."""
        if len(keyframe) and (np.any(np.diff(keyframe) < 0) or keyframe[0] < 0 or keyframe[-1] >= num_keyframes):
            raise ValueError(f"keyframe: expected ascending numbers below {num_keyframes}")
        first = np.zeros(num_keyframes + 1, np.int64)
        np.cumsum(np.bincount(keyframe, minlength=num_keyframes), out=first[1:])
        scores = None if scores is None else np.ascontiguousarray(scores, np.float32)
        return PackedBoxes(first, np.ascontiguousarray(xyxy, np.float32).reshape(-1, 4), scores)

    @staticmethod
    def concat(parts: Sequence[PackedBoxes]) -> PackedBoxes:
        """The boxes of several splits, one split after the other."""
        counts = np.concatenate([part.counts() for part in parts])
        first = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        scores = [part.scores for part in parts if part.scores is not None]
        if scores and len(scores) != len(parts):
            raise ValueError("scores: some parts have them and some have not")
        xyxy = np.concatenate([part.xyxy for part in parts])
        return PackedBoxes(first, xyxy, np.concatenate(scores) if scores else None)


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

    @staticmethod
    def concat(parts: Sequence[Annotations]) -> Annotations:
        """Several splits as one, one after the other. A video that two of them have stays two entries of `movies`."""
        if any(part.classes.ids != parts[0].classes.ids for part in parts):
            raise ValueError("parts: they have different classes")
        offsets = np.cumsum([0] + [len(part.movies) for part in parts[:-1]])
        return Annotations(
            classes=next((part.classes for part in parts if part.classes.named), parts[0].classes),
            movies=tuple(movie for part in parts for movie in part.movies),
            movie=np.concatenate([part.movie + offset for part, offset in zip(parts, offsets, strict=True)]).astype(
                np.int32
            ),
            time=np.concatenate([part.time for part in parts]),
            size=np.concatenate([part.size for part in parts]),
            boxes=PackedBoxes.concat([part.boxes for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            person_id=np.concatenate([part.person_id for part in parts]),
        )
