"""Persons between moments: boxes move smoothly, persons appear and vanish softly."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from alphaction.prediction.records import Moment, PersonRecord

_FADE = 0.2  # seconds, at most, to appear or vanish


@dataclass(frozen=True)
class Shown:
    """A person in a frame.

    Attributes:
        track: its number.
        box: float64 [4], x1, y1, x2, y2 in pixels of the video.
        opacity: 0 (not there) .. 1.
        scores: float32 [K], of the nearest moment.
    """

    track: int
    box: np.ndarray
    opacity: float
    scores: np.ndarray


class Timeline:
    """Moments around the frame that is drawn now. Both come in order of time."""

    def __init__(self, *, step: float) -> None:
        """
        Args:
            step: seconds between moments, about; a person seen once is shown for so long.
        """
        self._step = step
        self._moments: deque[Moment] = deque()

    def add(self, moment: Moment) -> None:
        """Takes the next moment."""
        if self._moments and moment.time <= self._moments[-1].time:
            raise ValueError(f"moment at {moment.time} s after one at {self._moments[-1].time} s")
        self._moments.append(moment)

    def reaches(self, time: float) -> bool:
        """Whether there is a moment at this time or later, so that frames up to there can be drawn."""
        return bool(self._moments) and self._moments[-1].time >= time

    def at(self, time: float) -> list[Shown]:
        """The persons of a frame, in order of their numbers. Earlier frames cannot be asked for afterwards."""
        while len(self._moments) > 1 and self._moments[1].time <= time:
            self._moments.popleft()
        if not self._moments:
            return []
        first = self._moments[0]
        if time < first.time:  # before the first moment
            before, after = Moment(first.time - self._step, first.size, ()), first
        elif len(self._moments) > 1:
            before, after = first, self._moments[1]
        else:  # after the last one
            before, after = first, Moment(first.time + self._step, first.size, ())
        return _between(before, after, time)


def _between(before: Moment, after: Moment, time: float) -> list[Shown]:
    """A person in one of the moments only is there up to, or from, the middle between them."""
    old = {person.track: person for person in before.persons}
    new = {person.track: person for person in after.persons}
    length = after.time - before.time
    share = (time - before.time) / length
    fade = min(_FADE, length / 2)
    after_middle = (time - (before.time + after.time) / 2) / fade  # -0.5..0.5 while it appears or vanishes
    shown = []
    for track in sorted(old | new):
        if track in old and track in new:
            box = (1 - share) * np.asarray(old[track].box) + share * np.asarray(new[track].box)
            nearest: PersonRecord = new[track] if share > 0.5 else old[track]
            opacity = 1.0
        else:
            nearest = old[track] if track in old else new[track]
            box = np.asarray(nearest.box, np.float64)
            opacity = float(np.clip(0.5 + (after_middle if track in new else -after_middle), 0, 1))
        if opacity > 0:
            shown.append(Shown(track, box, opacity, nearest.scores))
    return shown
