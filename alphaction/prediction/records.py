"""What prediction says about a video: moments, and the persons of each.

Shapes: K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PersonRecord:
    """A person at one moment.

    Attributes:
        track: number of the person, the same at every moment it is followed; 0, 1, 2, ... in order of appearance.
        box: x1, y1, x2, y2 in pixels of the frame as displayed.
        box_score: how sure it is that this is a person, 0..1.
        scores: float32 [K], probability of each action, in the order of the class list.
    """

    track: int
    box: tuple[float, float, float, float]
    box_score: float
    scores: np.ndarray


@dataclass(frozen=True)
class Moment:
    """What was seen at one time of the video.

    Attributes:
        time: seconds from the first frame.
        size: (height, width) of the frame as displayed, in pixels.
        persons: in no particular order; may be empty.
    """

    time: float
    size: tuple[int, int]
    persons: Sequence[PersonRecord]
