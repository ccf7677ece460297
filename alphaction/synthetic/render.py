"""Draws a scene's frames: figures on a textured ground, seen by a noisy camera.

Pictures are uint8 [H, W, 3] RGB.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from alphaction.synthetic.scene import Look, Point, Pose, Scene, Thing

SUPERSAMPLE = 2
"""Figures are drawn this many times larger and shrunk, so that they move by fractions of a pixel."""
NOISE = 4.0
"""Standard deviation of the camera's noise, grey levels."""
FLICKER = 0.015
"""Standard deviation of the camera's brightness from frame to frame."""
NOISE_FIELDS = 4
NOISE_MARGIN = 48
"""A frame shows one of the noise fields from a random place, up to this many pixels from its corner."""
_FRACTION_BITS = 4

Box = tuple[float, float, float, float]


def _joints(look: Look, pose: Pose) -> dict[str, tuple[Point, Point, float]]:
    """The body's parts as strokes: from, to (relative to the figure's place, pixels) and thickness."""
    h = look.height
    shoulders, hips, reach, leg = -0.22 * h, 0.1 * h, 0.34 * h, 0.36 * h
    joints = {
        "left leg": ((-0.06 * h, hips), (-0.1 * h, hips + leg * (1 - 0.3 * max(0.0, pose.legs))), 0.1 * h),
        "right leg": ((0.06 * h, hips), (0.1 * h, hips + leg * (1 - 0.3 * max(0.0, -pose.legs))), 0.1 * h),
        "torso": ((0.0, shoulders + 0.06 * h), (0.0, hips), 0.22 * h),
    }
    for side, sign, angle in (("left", -1, pose.arms[0]), ("right", 1, pose.arms[1])):
        shoulder = (sign * 0.12 * h, shoulders)
        hand = (shoulder[0] + sign * reach * math.sin(angle), shoulders + reach * math.cos(angle))
        joints[f"{side} arm"] = (shoulder, hand, 0.11 * h)
        joints[f"{side} hand"] = (hand, hand, 0.3 * h)
    return joints | {"head": ((0.0, -0.39 * h), (0.0, -0.37 * h), 0.2 * h)}


def figure_box(look: Look, pose: Pose, size: tuple[int, int]) -> Box:
    """x1, y1, x2, y2 in pixels around all of the figure, clipped to the picture of `size` (height, width)."""
    x, y = pose.place
    corners = [
        (px + sign * thickness / 2, py + sign * thickness / 2)
        for start, end, thickness in _joints(look, pose).values()
        for px, py in (start, end)
        for sign in (-1, 1)
    ]
    xs, ys = [x + cx for cx, _ in corners], [y + cy for _, cy in corners]
    height, width = size
    return max(0.0, min(xs)), max(0.0, min(ys)), min(float(width), max(xs)), min(float(height), max(ys))


def background(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A ground with texture at several scales, a few things that lie about, and its own tint."""
    height, width = size
    picture = np.full((height, width, 3), rng.uniform(95, 155, 3), np.float32)
    for cells, strength in ((3, 16.0), (8, 9.0), (24, 6.0), (72, 4.0)):
        grid = rng.normal(0, 1, (cells, cells + cells // 3, 3)).astype(np.float32)
        grid = 0.7 * grid.mean(axis=2, keepdims=True) + 0.3 * grid
        picture += strength * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(int(rng.integers(4, 9))):
        colour = tuple(float(value) for value in rng.uniform(30, 230, 3))
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(3, 16)), int(rng.integers(3, 22)))
        if rng.random() < 0.5:
            cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
        else:
            corner = (centre[0] + axes[0], centre[1] + axes[1])
            cv2.rectangle(picture, centre, corner, colour, -1)
    return np.clip(cv2.GaussianBlur(picture, (3, 3), 0), 0, 255)


class Renderer:
    """Draws the frames of one scene, one after the other."""

    def __init__(self, scene: Scene, *, rng: np.random.Generator) -> None:
        self.scene = scene
        self.rng = rng
        self.ground = background(rng, scene.size)
        shape = (scene.size[0] + NOISE_MARGIN, scene.size[1] + NOISE_MARGIN, 3)
        self.noise = (NOISE * rng.standard_normal((NOISE_FIELDS, *shape), np.float32)).astype(np.float32)

    def frames(self, fps: int) -> Iterator[np.ndarray]:
        """The scene from its start to its end, `fps` frames per second."""
        for number in range(round(self.scene.duration * fps)):
            yield self.frame(number / fps)

    def frame(self, time: float) -> np.ndarray:
        """The picture `time` seconds after the scene's start; draws new noise each call."""
        picture = self.ground.copy()
        for thing in self.scene.beats[self.scene.beat_at(time)].things:
            _paint_thing(picture, thing)
        poses = [self.scene.pose(figure, time) for figure in range(len(self.scene.looks))]
        for figure in sorted(range(len(poses)), key=lambda i: poses[i].place[1]):  # the nearest last
            _paint(picture, self.scene.looks[figure], poses[figure])
        height, width = self.scene.size
        y, x = (int(value) for value in self.rng.integers(0, NOISE_MARGIN, 2))
        field = self.noise[int(self.rng.integers(NOISE_FIELDS)), y : y + height, x : x + width]
        return cv2.addWeighted(
            picture, 1 + FLICKER * float(self.rng.standard_normal()), field, 1.0, 0.0, dtype=cv2.CV_8U
        )


def _paint_thing(picture: np.ndarray, thing: Thing) -> None:
    """Draws a bright ball or a dark crate with bright slats into `picture` (float32), in place."""
    x, y = round(thing.place[0]), round(thing.place[1])
    r = round(thing.radius)
    if thing.kind == "ball":
        cv2.circle(picture, (x, y), r, (250.0, 215.0, 60.0), -1, cv2.LINE_AA)
        cv2.circle(picture, (x - r // 3, y - r // 3), max(1, r // 4), (255.0, 250.0, 225.0), -1, cv2.LINE_AA)
        return
    corner, opposite = (x - r, y - r), (x + r, y + r)
    cv2.rectangle(picture, corner, opposite, (25.0, 30.0, 70.0), -1)
    for start, end in ((corner, opposite), ((x - r, y + r), (x + r, y - r))):
        cv2.line(picture, start, end, (120.0, 140.0, 220.0), 1, cv2.LINE_AA)


def _paint(picture: np.ndarray, look: Look, pose: Pose) -> None:
    """Draws one figure into `picture` (float32), in place."""
    height, width = picture.shape[:2]
    half = math.ceil(0.56 * look.height)
    left, top = math.floor(pose.place[0]) - half, math.floor(pose.place[1]) - half
    side = 2 * half + 1
    # Colour times cover, and cover.
    patch: np.ndarray = np.zeros((side * SUPERSAMPLE, side * SUPERSAMPLE, 4), np.uint8)
    scale = SUPERSAMPLE * (1 << _FRACTION_BITS)
    skin, clothes, trousers = ((*colour, 255) for colour in (look.skin, look.clothes, look.trousers))
    colours = {"head": skin, "hand": skin, "arm": clothes, "torso": clothes}
    for name, (start, end, thickness) in _joints(look, pose).items():
        first, last = (
            (round((pose.place[0] - left + x) * scale), round((pose.place[1] - top + y) * scale))
            for x, y in (start, end)
        )
        colour = colours.get(name.split()[-1], trousers)
        cv2.line(patch, first, last, colour, max(1, round(thickness * SUPERSAMPLE)), cv2.LINE_AA, _FRACTION_BITS)
    patch = cv2.resize(patch, (side, side), interpolation=cv2.INTER_AREA)
    y1, y2, x1, x2 = max(0, top), min(height, top + side), max(0, left), min(width, left + side)
    if y1 >= y2 or x1 >= x2:
        return
    part = patch[y1 - top : y2 - top, x1 - left : x2 - left]
    seen = part[..., 3].astype(np.float32) * (-1 / 255) + 1  # how much of the ground is still seen
    picture[y1:y2, x1:x2] = picture[y1:y2, x1:x2] * seen[..., None] + part[..., :3]
