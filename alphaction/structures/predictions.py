"""Predictions of a whole split, packed.

Shapes: P predicted persons over all keyframes, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Predictions:
    """Action scores of the persons of a split, in the order of the dataset.

    Attributes:
        keyframe: int64 [P], ascending; position of the keyframe in `Annotations`.
        boxes: float32 [P, 4], xyxy pixels (inclusive) of the resized clip, not enlarged.
        clip_size: int32 [P, 2], (height, width) of that clip.
        box_scores: float32 [P], detector confidence; 1 for annotated boxes.
        scores: float32 [P, K], probability per class.
    """

    keyframe: np.ndarray
    boxes: np.ndarray
    clip_size: np.ndarray
    box_scores: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.keyframe)
