"""Plans what the figures of a quickstart scene do, so that every label is clear from the motion, and only from it.

The rules that keep a label honest:
* A figure that does not wave holds its arms anywhere in the range that waving arms pass through, and a standing
  figure's legs may be spread as in a stride: no single frame tells what a figure does.
* "approach" is said of a figure that moves towards one that stands, from afar until they nearly touch. No other
  figure's distance to anybody shrinks like that during a beat.
* Directions are along the picture's axes, at most `MAX_SLANT` beside them. Left and right share a class, because
  training flips clips horizontally without changing their labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from alphaction.synthetic.scene import Act, Arm, Beat, Look, Point, Scene

STAND, AWAY, CLOSER, SIDEWAYS = "stand", "walk away", "walk closer", "walk sideways"
RUN, WAVE, APPROACH = "run", "wave", "approach a person"
ACTIONS = (STAND, AWAY, CLOSER, SIDEWAYS, RUN, WAVE, APPROACH)
"""Names of the classes, in the order of their ids 1, 2, ...: standing or one direction, and any of the other three."""

HEIGHT = (33.0, 38.0)
"""A figure's, pixels."""
WALK_SPEED = (15.0, 27.0)
RUN_SPEED = (44.0, 60.0)
"""Pixels per second."""
RUN_SHARE = 0.5
WAVE_RATE = (0.45, 0.65)
"""Swings per second."""
WAVE_SHARE = 0.35
STAND_SHARE = 0.15
HEADING_SHARES = (0.18, 0.32, 0.18, 0.32)
"""Right, down, left, up: left and right are one class."""
BEAT_TIME = (1.36, 1.48)
"""Seconds."""
MAX_SLANT = math.radians(25)
TOUCH = (15.0, 21.0)
"""Where an approach ends, pixels from the other figure."""
COMPANY = 36.0
"""A figure that comes nearer than this, to less than `SHRINK` of the distance before, would look like approaching."""
SHRINK = 0.8
BODY = 15.0
"""No two figures come nearer than this."""
UPRIGHT = 1.35
"""Figures are taller than wide: distances down the picture count 1 / UPRIGHT."""
MARGIN = (12.0, 19.0)
"""A figure's place keeps this far from the picture's sides, and from its top and bottom."""
TRIES = 40


@dataclass(frozen=True)
class SceneOptions:
    """Size of a scene.

    Attributes:
        height, width: pixels, even numbers.
        fps: frames per second; beats begin and end with a frame.
        seconds: shortest duration of a scene; it ends with the beat that reaches it.
        figures: fewest and most figures.
    """

    height: int = 112
    width: int = 160
    fps: int = 25
    seconds: float = 14.0
    figures: tuple[int, int] = (3, 4)


def distance(a: Point, b: Point) -> float:
    """Pixels between two figures, those down the picture divided by `UPRIGHT`."""
    return math.hypot(a[0] - b[0], (a[1] - b[1]) / UPRIGHT)


def plan_scene(rng: np.random.Generator, options: SceneOptions) -> Scene:
    """A scene of random figures; the same generator state gives the same scene."""
    size = (options.height, options.width)
    count = int(rng.integers(options.figures[0], options.figures[1] + 1))
    looks = tuple(random_look(rng, HEIGHT) for _ in range(count))
    places = _first_places(rng, size, count)
    beats: list[Beat] = []
    start = 0.0
    while start < options.seconds:
        frames = int(rng.integers(round(BEAT_TIME[0] * options.fps), round(BEAT_TIME[1] * options.fps) + 1))
        length = frames / options.fps
        acts = _Plan(rng, size, places, length).acts()
        beats.append(Beat(start, start + length, start + frames // 2 / options.fps, tuple(acts)))
        places = [act.place(length) for act in acts]
        start += length
    return Scene(size, looks, tuple(beats))


def random_look(rng: np.random.Generator, heights: tuple[float, float]) -> Look:
    """Args: `heights` are the least and the largest, pixels."""

    def colour() -> tuple[int, int, int]:
        """Dark or bright: the ground is in between."""
        red, green, blue = rng.integers(0, 75, 3) if rng.random() < 0.5 else rng.integers(180, 255, 3)
        return int(red), int(green), int(blue)

    height = float(rng.uniform(*heights))
    return Look(height, colour(), colour(), colour(), float(rng.uniform(0, 2 * math.pi)))


def _inside(place: Point, size: tuple[int, int]) -> bool:
    height, width = size
    return MARGIN[0] <= place[0] <= width - MARGIN[0] and MARGIN[1] <= place[1] <= height - MARGIN[1]


def _first_places(rng: np.random.Generator, size: tuple[int, int], count: int) -> list[Point]:
    places: list[Point] = []
    for _ in range(500 * count):
        place = (
            float(rng.uniform(MARGIN[0], size[1] - MARGIN[0])),
            float(rng.uniform(MARGIN[1], size[0] - MARGIN[1])),
        )
        if all(distance(place, other) >= COMPANY for other in places):
            places.append(place)
        if len(places) == count:
            return places
    raise ValueError(f"size: {size[0]} x {size[1]} pixels have no room for {count} figures {COMPANY:g} pixels apart")


class _Plan:
    """One beat: an approach where there is room for one, then each other figure gets a motion that keeps the rules."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int], places: list[Point], length: float) -> None:
        self.rng = rng
        self.size = size
        self.places = places
        self.length = length
        self.velocity: dict[int, Point] = {}  # of the figures decided so far
        self.approaching: int | None = None

    def acts(self) -> list[Act]:
        self._decide_approach()
        for figure in self.rng.permutation(len(self.places)).tolist():
            if figure not in self.velocity:
                self._decide(figure)
        return [self._act(figure) for figure in range(len(self.places))]

    def _decide_approach(self) -> None:
        """One figure goes to another that stands, at a speed that brings it there by the end of the beat."""
        possible = []
        for figure, start in enumerate(self.places):
            for other, goal in enumerate(self.places):
                if figure == other:
                    continue
                apart = distance(start, goal)
                share = 1 - float(self.rng.uniform(*TOUCH)) / apart if apart > 0 else 0.0
                velocity = share * (goal[0] - start[0]) / self.length, share * (goal[1] - start[1]) / self.length
                speed_is_plain = any(low <= math.hypot(*velocity) <= high for low, high in (WALK_SPEED, RUN_SPEED))
                if speed_is_plain and self._is_plain(figure, velocity, goal=other):
                    possible.append((figure, other, velocity))
        if possible:
            figure, other, velocity = possible[int(self.rng.integers(len(possible)))]
            self.velocity = {other: (0.0, 0.0), figure: velocity}
            self.approaching = figure

    def _decide(self, figure: int) -> None:
        """A random motion that is not like an approach; the figure stands where there is none."""
        self.velocity[figure] = (0.0, 0.0)
        if self.rng.random() < STAND_SHARE:
            return
        runs = bool(self.rng.random() < RUN_SHARE)
        for attempt in range(2 * TRIES):
            speeds = RUN_SPEED if runs == (attempt < TRIES) else WALK_SPEED
            speed = float(self.rng.uniform(*speeds))
            heading = int(self.rng.choice(4, p=HEADING_SHARES)) * math.pi / 2 + float(
                self.rng.uniform(-MAX_SLANT, MAX_SLANT)
            )
            velocity = (speed * math.cos(heading), speed * math.sin(heading))
            if self._is_plain(figure, velocity):
                self.velocity[figure] = velocity
                return

    def _is_plain(self, figure: int, velocity: Point, *, goal: int | None = None) -> bool:
        """Whether the motion stays inside, has one direction, meets nobody, and approaches nobody but `goal`."""
        slant = math.atan2(min(map(abs, velocity)), max(map(abs, velocity)))
        if slant > MAX_SLANT or not _inside(self._at(figure, velocity, self.length), self.size):
            return False
        times = [self.length * step / 8 for step in range(9)]
        for other in range(len(self.places)):
            if other == figure:
                continue
            other_velocity = self.velocity.get(other, (0.0, 0.0))
            apart = [distance(self._at(figure, velocity, t), self._at(other, other_velocity, t)) for t in times]
            if min(apart) < min(BODY, apart[0]):
                return False
            if other != goal and min(apart) < min(COMPANY, SHRINK * apart[0]):
                return False
        return True

    def _at(self, figure: int, velocity: Point, time: float) -> Point:
        x, y = self.places[figure]
        return x + velocity[0] * time, y + velocity[1] * time

    def _act(self, figure: int) -> Act:
        velocity = self.velocity[figure]
        if velocity == (0.0, 0.0):
            actions = {STAND}
        elif abs(velocity[0]) >= abs(velocity[1]):
            actions = {SIDEWAYS}
        else:
            actions = {CLOSER if velocity[1] > 0 else AWAY}
        if math.hypot(*velocity) >= RUN_SPEED[0]:
            actions.add(RUN)
        if figure == self.approaching:
            actions.add(APPROACH)
        waves = bool(self.rng.random() < WAVE_SHARE)
        if waves:
            actions.add(WAVE)
        return Act(frozenset(actions), self.places[figure], velocity, (self._arm(waves), self._arm(waves)))

    def _arm(self, waving: bool) -> Arm:
        rng = self.rng
        rate = float(rng.uniform(*WAVE_RATE)) if waving else 0.0
        middle, swing = float(rng.uniform(1.3, 1.7)), float(rng.uniform(0.8, 1.0))
        return Arm(middle, swing, float(rng.uniform(0, 2 * math.pi)), rate)
