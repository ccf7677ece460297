"""Scenes of figures that act: who is where, in which pose, at any time. Draws nothing.

A scene is a row of beats. Within a beat every figure does one thing (an `Act`); at a beat's border it may turn to
another. A beat's keyframe lies in its middle, so that a clip around the keyframe shows one act of each figure.

Units: pixels of the video, seconds, radians. Coordinates: x to the right, y down; a figure's place is the middle of
its body. Arms hang at angle 0 and point outwards at pi / 2.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

Point = tuple[float, float]

STRIDES_PER_PIXEL = 0.045
SETTLE_TIME = 0.1
"""Seconds at the start of a beat in which the arms move into the beat's pose."""


@dataclass(frozen=True)
class Look:
    """What a figure looks like; says nothing about what it does.

    Attributes:
        height: pixels from the crown to the feet.
        skin, clothes, trousers: RGB, 0..255.
        leg_phase: where in a stride the legs are at the scene's start.
    """

    height: float
    skin: tuple[int, int, int]
    clothes: tuple[int, int, int]
    trousers: tuple[int, int, int]
    leg_phase: float


@dataclass(frozen=True)
class Arm:
    """An arm during a beat: held still at `middle + swing * sin(phase)`, or waving about `middle`.

    Attributes:
        rate: swings per second; 0 = held still.
    """

    middle: float
    swing: float
    phase: float
    rate: float = 0.0

    def angle(self, time: float) -> float:
        """The angle `time` seconds after the beat's start."""
        return self.middle + self.swing * math.sin(self.phase + 2 * math.pi * self.rate * time)


@dataclass(frozen=True)
class Act:
    """What one figure does during one beat.

    Attributes:
        actions: names of the actions that it shows, for the annotation.
        start: its place at the beat's start.
        velocity: pixels per second to the right and down.
        arms: left and right in the picture.
        swing: how far it swings about where it would be, to the right and down, pixels.
        swing_rate: swings per second; a swing begins in the middle.
    """

    actions: frozenset[str]
    start: Point
    velocity: Point
    arms: tuple[Arm, Arm]
    swing: Point = (0.0, 0.0)
    swing_rate: float = 0.0

    @property
    def speed(self) -> float:
        """Pixels per second, without swings."""
        return math.hypot(*self.velocity)

    def place(self, time: float) -> Point:
        """Where the figure is `time` seconds after the beat's start."""
        share = math.sin(2 * math.pi * self.swing_rate * time) if self.swing_rate else 0.0
        return (
            self.start[0] + self.velocity[0] * time + self.swing[0] * share,
            self.start[1] + self.velocity[1] * time + self.swing[1] * share,
        )


@dataclass(frozen=True)
class Thing:
    """An object that lies in the scene.

    Attributes:
        kind: "ball" or "crate".
        place: its middle.
        radius: half of its width and height, pixels.
    """

    kind: str
    place: Point
    radius: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2."""
        (x, y), r = self.place, self.radius
        return x - r, y - r, x + r, y + r


@dataclass(frozen=True)
class Beat:
    """A stretch of time with one act per figure; `keyframe` is a time of the scene, as are `start` and `end`.

    `things` lie there as long as the beat lasts.
    """

    start: float
    end: float
    keyframe: float
    acts: tuple[Act, ...]
    things: tuple[Thing, ...] = ()


@dataclass(frozen=True)
class Pose:
    """A figure at one moment: its place, the angles of its arms (left, right) and of its legs' spread."""

    place: Point
    arms: tuple[float, float]
    legs: float


@dataclass(frozen=True)
class Scene:
    """Figures and what they do.

    Attributes:
        size: (height, width) of the video in pixels.
        looks: one per figure.
        beats: without gaps, beginning at 0.
    """

    size: tuple[int, int]
    looks: tuple[Look, ...]
    beats: tuple[Beat, ...]

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.beats[-1].end

    def beat_at(self, time: float) -> int:
        """Index of the beat that `time` lies in; the last one for times past the end."""
        return max(0, bisect_right([beat.start for beat in self.beats], time) - 1)

    def pose(self, figure: int, time: float) -> Pose:
        """The figure's pose `time` seconds after the scene's start."""
        index = self.beat_at(time)
        beat = self.beats[index]
        act = beat.acts[figure]
        since = time - beat.start
        arms = [arm.angle(since) for arm in act.arms]
        if index > 0 and since < SETTLE_TIME:
            before = self.beats[index - 1]
            share = since / SETTLE_TIME
            old = [arm.angle(before.end - before.start) for arm in before.acts[figure].arms]
            arms = [share * new + (1 - share) * last for new, last in zip(arms, old, strict=True)]
        walked = sum((b.end - b.start) * b.acts[figure].speed for b in self.beats[:index]) + since * act.speed
        legs = math.sin(self.looks[figure].leg_phase + 2 * math.pi * STRIDES_PER_PIXEL * walked)
        return Pose(act.place(since), (arms[0], arms[1]), legs)
