"""From moments to events: who did what from when to when.

For each person and action, in this order:

1. Every moment stands for the time from the middle between it and the one before to the middle between it and the one
   after; the first from its own time (or `start`), the last to its own time (or `end`).
2. The score is smoothed: the mean over the person's moments within `smooth` / 2 seconds to both sides.
3. An action begins at the first moment with a smoothed score of `high` or more, goes on while it is `low` or more, and
   has ended with the last moment of `high` or more: it may sink to `low` in between, not at its end. Moments in which
   the person is not seen are passed over; an absence of `max_gap` or more ends what goes on.
4. Gaps shorter than `max_gap` between two times of the same action are bridged.
5. What is shorter than `min_duration` is dropped.

The score of an event is the mean of the unsmoothed scores over the person's moments from its start to its end.

K classes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from alphaction.errors import UserError
from alphaction.prediction.records import Moment

_SAME = 1e-6  # seconds; times that differ by less are the same


@dataclass(frozen=True)
class Event:
    """A person's action from its start to its end.

    Attributes:
        track: number of the person.
        action: index of the class.
        start, end: seconds.
        score: mean score, 0..1.
    """

    track: int
    action: int
    start: float
    end: float
    score: float


@dataclass(frozen=True)
class EventRule:
    """What makes an event.

    Attributes:
        high: smoothed score at which an action begins, 0..1.
        low: smoothed score down to which it may sink in between, at most `high`.
        smooth: seconds over which scores are averaged; 0 = not at all.
        min_duration: seconds; shorter events are dropped.
        max_gap: seconds; shorter gaps are bridged.
    """

    high: float = 0.5
    low: float = 0.3
    smooth: float = 1.0
    min_duration: float = 0.5
    max_gap: float = 1.0

    def __post_init__(self) -> None:
        for name in ("high", "low"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise UserError(f"events: {name} is {value}, expected a score above 0 and up to 1")
        if self.low > self.high:
            raise UserError(f"events: low is {self.low}, above high, {self.high}; expected at most that")
        for name in ("smooth", "min_duration", "max_gap"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"events: {name} is {value}, expected seconds, 0 or more")


class EventFinder:
    """Takes moments one by one and gives each event as soon as nothing can change it any more.

    What is kept does not grow with the length of the video: persons are forgotten some seconds after they are gone.
    """

    def __init__(
        self, *, rule: EventRule, exclusive: Sequence[slice] = (), start: float | None = None, classes: int
    ) -> None:
        """
        Args:
            rule: see the module.
            exclusive: columns of which, at any moment, only the one of the highest smoothed score may be an action,
                such as poses.
            start: seconds, where the video begins; None = at the first moment.
            classes: K.
        """
        self._rule = rule
        self._exclusive = tuple(exclusive)
        self._start = start
        self._classes = classes
        self._last: Moment | None = None  # waits for the next moment, which says how far it reaches
        self._reached = 0.0  # up to where moments have been taken, seconds
        self._persons: dict[int, _Person] = {}

    def update(self, moment: Moment) -> list[Event]:
        """Takes the next moment.

        Returns:
            The events that are over, in the order in which they turned out to be.
        """
        if self._last is None:
            self._reached = moment.time if self._start is None else min(self._start, moment.time)
            self._last = moment
            return []
        if moment.time <= self._last.time:
            raise ValueError(f"moment at {moment.time} s after one at {self._last.time} s, expected increasing times")
        events = self._take(self._last, (self._last.time + moment.time) / 2, moment.time)
        self._last = moment
        return events

    def finish(self, end: float | None = None) -> list[Event]:
        """Ends the video.

        Args:
            end: seconds, where it ends; None = at the last moment.

        Returns:
            The remaining events.
        """
        if self._last is None:
            return []
        last, self._last = self._last, None
        until = last.time if end is None else max(end, last.time)
        events = self._take(last, until, math.inf)
        self._persons.clear()
        return events

    def _take(self, moment: Moment, until: float, following: float) -> list[Event]:
        """Takes a moment that reaches until there; the one after it is at `following`."""
        for record in moment.persons:
            if record.scores.shape != (self._classes,):
                raise ValueError(f"scores: got shape {record.scores.shape}, expected ({self._classes},)")
            person = self._persons.setdefault(record.track, _Person.new(record.track, self._classes))
            person.waiting.append(_Seen(moment.time, self._reached, until, record.scores.astype(np.float64)))
        self._reached = until
        events: list[Event] = []
        for track, person in list(self._persons.items()):
            events += person.advance(following, until, rule=self._rule, exclusive=self._exclusive)
            if person.is_over(following, until, rule=self._rule):
                del self._persons[track]
        return events


def find_events(
    moments: Iterable[Moment],
    *,
    rule: EventRule,
    classes: int,
    exclusive: Sequence[slice] = (),
    start: float | None = None,
    end: float | None = None,
) -> list[Event]:
    """All events of a video, in the order of `EventFinder`, whose arguments these are."""
    finder = EventFinder(rule=rule, exclusive=exclusive, start=start, classes=classes)
    events = [event for moment in moments for event in finder.update(moment)]
    return events + finder.finish(end)


@dataclass(frozen=True)
class _Seen:
    """A person at a moment: its time, from when to when it counts, scores float64 [K]."""

    time: float
    start: float
    end: float
    scores: np.ndarray


@dataclass
class _Person:
    """A person's open events, each an entry of arrays [K].

    `on` is whether the action goes on, `end` where its score was last high enough to begin; `total` and `count` are of
    its moments up to there, `late_*` of those since, which count if it is so once more.
    """

    track: int
    on: np.ndarray
    is_open: np.ndarray
    start: np.ndarray
    end: np.ndarray
    total: np.ndarray
    count: np.ndarray
    late_total: np.ndarray
    late_count: np.ndarray
    past: deque[_Seen] = field(default_factory=deque)  # smoothed, still part of later means
    waiting: deque[_Seen] = field(default_factory=deque)  # not smoothed yet
    reached: float = -math.inf  # end of the last smoothed moment

    @classmethod
    def new(cls, track: int, classes: int) -> _Person:
        return cls(
            track=track,
            on=np.zeros(classes, bool),
            is_open=np.zeros(classes, bool),
            start=np.zeros(classes),
            end=np.zeros(classes),
            total=np.zeros(classes),
            count=np.zeros(classes),
            late_total=np.zeros(classes),
            late_count=np.zeros(classes),
        )

    def advance(self, following: float, reached: float, *, rule: EventRule, exclusive: Sequence[slice]) -> list[Event]:
        """Smooths and judges what no later moment can change.

        Args:
            following: time of the next moment of the video, whose persons are not known yet.
            reached: seconds up to which moments have been taken.
        """
        events: list[Event] = []
        half = rule.smooth / 2 + _SAME
        while self.waiting and following - self.waiting[0].time > half:
            seen = self.waiting.popleft()
            while self.past and seen.time - self.past[0].time > half:
                self.past.popleft()
            near = [*self.past, seen, *(other for other in self.waiting if other.time - seen.time <= half)]
            smoothed = np.mean([other.scores for other in near], axis=0)
            self.past.append(seen)
            events += self._judge(seen, _only_best(smoothed, exclusive), rule)
        next_start = self.waiting[0].start if self.waiting else reached
        final = math.isinf(following) and not self.waiting
        gone = final or _ends_what_goes_on(next_start - self.reached, rule)
        over = self.is_open & (gone | ~self.on & _ends_what_goes_on(next_start - self.end, rule))
        return events + self._close(over, rule)

    def is_over(self, following: float, reached: float, *, rule: EventRule) -> bool:
        """Whether nothing of this person matters to what may follow."""
        if self.waiting or self.is_open.any():
            return False
        alone = following - self.past[-1].time > rule.smooth / 2 + _SAME
        return alone and bool(_ends_what_goes_on(reached - self.reached, rule))

    def _judge(self, seen: _Seen, smoothed: np.ndarray, rule: EventRule) -> list[Event]:
        if _ends_what_goes_on(seen.start - self.reached, rule):
            self.on[:] = False
        sure = smoothed >= rule.high
        events = self._close(self.is_open & ~self.on & sure & _ends_what_goes_on(seen.start - self.end, rule), rule)
        self.on = sure | (self.on & (smoothed >= rule.low))
        begins = sure & ~self.is_open
        self.start[begins] = seen.start
        for sums in (self.total, self.count, self.late_total, self.late_count):
            sums[begins] = 0
        self.is_open |= begins
        self.late_total += seen.scores
        self.late_count += 1
        self.total[sure] += self.late_total[sure]
        self.count[sure] += self.late_count[sure]
        self.late_total[sure] = self.late_count[sure] = 0
        self.end[sure] = seen.end
        self.reached = seen.end
        return events

    def _close(self, over: np.ndarray, rule: EventRule) -> list[Event]:
        """Ends the open events of the columns `over`, bool [K]."""
        columns = np.flatnonzero(over)
        self.is_open[columns] = False
        return [
            Event(self.track, k, float(self.start[k]), float(self.end[k]), float(self.total[k] / self.count[k]))
            for k in columns.tolist()
            if self.end[k] - self.start[k] + _SAME >= rule.min_duration
        ]


def _ends_what_goes_on(gap: np.ndarray | float, rule: EventRule) -> np.ndarray | bool:
    """Whether a gap in seconds is too long to be bridged; moments that touch have none."""
    return (gap > _SAME) & (gap + _SAME >= rule.max_gap)


def _only_best(smoothed: np.ndarray, exclusive: Sequence[slice]) -> np.ndarray:
    for columns in exclusive:
        group = smoothed[columns]
        best = group.argmax()
        score = group[best]
        group[:] = 0
        group[best] = score
    return smoothed
