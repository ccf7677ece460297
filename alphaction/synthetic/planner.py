"""Plans what the figures of a quickstart scene do, so that every label is clear from the motion, and only from it.

The rules that keep a label honest:
* A figure that holds its arms still holds them anywhere in the range that a waving arm passes through, and a standing
  figure's legs may be spread as in a stride: no single frame tells what a figure does.
* "approach" and "leave" are said of a figure that moves towards or away from one that stands. Any other moving figure
  keeps `CLEAR` pixels from everybody during the whole beat.
* Directions are along the picture's axes, at most `MAX_SLANT` beside them. Left and right share a class, because
  training flips clips horizontally without changing their labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from alphaction.synthetic.scene import Act, Arm, Beat, Look, Point, Scene

STAND, AWAY, CLOSER, SIDEWAYS = "stand", "walk away", "walk closer", "walk sideways"
RUN, WAVE, APPROACH, LEAVE = "run", "wave", "approach a person", "leave a person"
ACTIONS = (STAND, AWAY, CLOSER, SIDEWAYS, RUN, WAVE, APPROACH, LEAVE)
"""Names of the classes, in the order of their ids 1, 2, ...: standing or one direction, and any of the other four."""

WALK_SPEED = (22.0, 28.0)
RUN_SPEED = (48.0, 58.0)
"""Pixels per second."""
WAVE_RATE = (1.0, 1.5)
"""Swings per second."""
BEAT_TIME = (1.52, 1.76)
"""Seconds."""
MAX_SLANT = math.radians(25)
CLEAR = 38.0
TOUCH = 27.0
"""An approach ends, and a leave begins, at most this many pixels from the other figure (and at least `CLEAR` away)."""
BODY = 17.0
"""No two figures come nearer than this."""
UPRIGHT = 1.35
"""Figures are taller than wide: distances down the picture count 1 / UPRIGHT."""
TRIES = 60
FAVOUR = {RUN: 2.5, APPROACH: 6.0, LEAVE: 6.0}
"""How much likelier than others an action is taken where several are possible: they are possible less often."""


@dataclass(frozen=True)
class SceneOptions:
    """Size of a scene.

    Attributes:
        height, width: pixels, even numbers.
        fps: frames per second; beats begin and end with a frame.
        seconds: shortest duration of a scene; it ends with the beat that reaches it.
        figures: fewest and most figures.
    """

    height: int = 160
    width: int = 208
    fps: int = 25
    seconds: float = 14.0
    figures: tuple[int, int] = (4, 5)


def distance(a: Point, b: Point) -> float:
    """Pixels between two figures, those down the picture divided by `UPRIGHT`."""
    return math.hypot(a[0] - b[0], (a[1] - b[1]) / UPRIGHT)


def plan_scene(rng: np.random.Generator, options: SceneOptions) -> Scene:
    """A scene of random figures; the same generator state gives the same scene."""
    size = (options.height, options.width)
    count = int(rng.integers(options.figures[0], options.figures[1] + 1))
    looks = tuple(_look(rng) for _ in range(count))
    places = _first_places(rng, size, count)
    beats: list[Beat] = []
    start = 0.0
    while start < options.seconds:
        frames = int(rng.integers(round(BEAT_TIME[0] * options.fps), round(BEAT_TIME[1] * options.fps) + 1))
        length = frames / options.fps
        acts = _Plan(rng, size, places, length).acts()
        keyframe = start + (frames // 2) / options.fps
        beats.append(Beat(start, start + length, keyframe, tuple(acts)))
        places = [act.place(length) for act in acts]
        start += length
    return Scene(size, looks, tuple(beats))


def _look(rng: np.random.Generator) -> Look:
    def colour() -> tuple[int, int, int]:
        """Each part of it dark or bright: the ground is in between."""
        low, high = rng.integers(5, 70, 3), rng.integers(185, 255, 3)
        red, green, blue = (int(value) for value in np.where(rng.random(3) < 0.5, low, high))
        return red, green, blue

    tone = rng.uniform(0.45, 1.0)
    skin = (int(235 * tone), int(190 * tone), int(160 * tone))
    height = float(rng.uniform(34, 39))
    return Look(height, skin, colour(), colour(), float(rng.uniform(0, 2 * math.pi)))


def _inside(place: Point, size: tuple[int, int]) -> bool:
    height, width = size
    return 14 <= place[0] <= width - 14 and 22 <= place[1] <= height - 22


def _first_places(rng: np.random.Generator, size: tuple[int, int], count: int) -> list[Point]:
    places: list[Point] = []
    for _ in range(500 * count):
        place = (float(rng.uniform(14, size[1] - 14)), float(rng.uniform(22, size[0] - 22)))
        if all(distance(place, other) >= CLEAR for other in places):
            places.append(place)
        if len(places) == count:
            return places
    raise ValueError(f"size: {size[0]} x {size[1]} pixels have no room for {count} figures {CLEAR:g} pixels apart")


class _Plan:
    """One beat: some figures stand, then each other one gets a motion that keeps the rules, or stands too."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int], places: list[Point], length: float) -> None:
        self.rng = rng
        self.size = size
        self.places = places
        self.length = length
        self.velocity: dict[int, Point] = {}  # of the figures decided so far
        self.moving: dict[int, frozenset[str]] = {}

    def acts(self) -> list[Act]:
        order = [int(i) for i in self.rng.permutation(len(self.places))]
        standing = 1 if self.rng.random() < 0.6 else 2
        for figure in order[:standing]:
            self.velocity[figure] = (0.0, 0.0)
        for figure in order[standing:]:
            self._decide(figure, pending=[i for i in order if i not in self.velocity and i != figure])
        return [self._act(figure) for figure in range(len(self.places))]

    def _decide(self, figure: int, *, pending: list[int]) -> None:
        possible: dict[frozenset[str], Point] = {}
        for _ in range(TRIES):
            velocity, actions = self._propose(figure)
            social = self._social(figure, velocity, pending)
            if social is not None:
                possible[actions | social] = velocity
        if not possible:
            self.velocity[figure] = (0.0, 0.0)
            return
        choices = list(possible)
        weights = np.array([math.prod(FAVOUR.get(action, 1.0) for action in actions) for actions in choices])
        chosen = choices[int(self.rng.choice(len(choices), p=weights / weights.sum()))]
        self.velocity[figure] = possible[chosen]
        self.moving[figure] = chosen

    def _propose(self, figure: int) -> tuple[Point, frozenset[str]]:
        """A random velocity, half of the time towards or away from a standing figure, and the actions in it."""
        rng = self.rng
        run = rng.random() < 0.4
        speed = float(rng.uniform(*(RUN_SPEED if run else WALK_SPEED)))
        standing = [i for i, v in self.velocity.items() if v == (0.0, 0.0)]
        if standing and rng.random() < 0.75:
            other = self.places[standing[int(rng.integers(len(standing)))]]
            dx, dy = other[0] - self.places[figure][0], other[1] - self.places[figure][1]
            heading = math.atan2(dy, dx) + (math.pi if rng.random() < 0.5 else 0.0) + float(rng.normal(0, 0.15))
        else:
            heading = float(rng.integers(4)) * math.pi / 2 + float(rng.uniform(-MAX_SLANT, MAX_SLANT))
        velocity = (speed * math.cos(heading), speed * math.sin(heading))
        if abs(velocity[0]) >= abs(velocity[1]):
            direction = SIDEWAYS
        else:
            direction = CLOSER if velocity[1] > 0 else AWAY
        return velocity, frozenset({direction, RUN} if run else {direction})

    def _social(self, figure: int, velocity: Point, pending: list[int]) -> frozenset[str] | None:
        """Whether it is "approach", "leave" or neither; None where the motion would break a rule."""
        slant = math.atan2(min(map(abs, velocity)), max(map(abs, velocity)))
        end = self._at(figure, velocity, self.length)
        if slant > MAX_SLANT or not _inside(end, self.size):
            return None
        times = [self.length * step / 8 for step in range(9)]
        social: set[str] = set()
        for other, other_velocity in [*self.velocity.items(), *((i, (0.0, 0.0)) for i in pending)]:
            apart = [distance(self._at(figure, velocity, t), self._at(other, other_velocity, t)) for t in times]
            if min(apart) >= CLEAR:
                continue
            change = apart[-1] - apart[0]
            straight = abs(change) > 0.8 * math.hypot(velocity[0], velocity[1] / UPRIGHT) * self.length
            if min(apart) < BODY or other_velocity != (0.0, 0.0) or other in pending or not straight:
                return None
            if min(apart[0], apart[-1]) > TOUCH or max(apart[0], apart[-1]) < CLEAR:
                return None
            if change < 0 and self._has_company(other, besides=figure):
                return None  # or the figures end up in one heap that nobody can leave
            social.add(APPROACH if change < 0 else LEAVE)
        return frozenset(social) if len(social) < 2 else None

    def _has_company(self, figure: int, *, besides: int) -> bool:
        others = [place for i, place in enumerate(self.places) if i not in (figure, besides)]
        return any(distance(self.places[figure], place) < CLEAR for place in others)

    def _at(self, figure: int, velocity: Point, time: float) -> Point:
        x, y = self.places[figure]
        return x + velocity[0] * time, y + velocity[1] * time

    def _act(self, figure: int) -> Act:
        actions = set(self.moving.get(figure, frozenset({STAND})))
        waving = int(self.rng.integers(2)) if self.rng.random() < 0.35 else None
        if waving is not None:
            actions.add(WAVE)
        arms = (self._arm(waving == 0), self._arm(waving == 1))
        return Act(frozenset(actions), self.places[figure], self.velocity[figure], arms)

    def _arm(self, waving: bool) -> Arm:
        rng = self.rng
        rate = float(rng.uniform(*WAVE_RATE)) if waving else 0.0
        middle, swing = float(rng.uniform(1.5, 1.7)), float(rng.uniform(0.95, 1.15))
        return Arm(middle, swing, float(rng.uniform(0, 2 * math.pi)), rate)
