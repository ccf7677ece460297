"""Draws the persons of a frame: boxes, and labels that leave neither the frame nor cover each other."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from alphaction.evaluation.pictures import draw_box
from alphaction.prediction.annotated.fonts import Font
from alphaction.prediction.annotated.timeline import Shown

# RGB; neighbours differ clearly, and black text is readable on each.
_COLOURS = (
    (255, 170, 60),
    (90, 200, 250),
    (130, 220, 90),
    (255, 130, 150),
    (240, 225, 70),
    (190, 160, 255),
    (70, 220, 190),
    (255, 150, 230),
    (200, 200, 200),
    (170, 210, 60),
    (255, 195, 170),
    (130, 170, 255),
)
_DARK, _BRIGHT, _GROUND = (0, 0, 0), (245, 245, 245), (24, 26, 30)
_COVER = 0.72  # of the frame is hidden by the ground of a label
_MIN_TEXT, _TEXT_SHARE = 11, 0.026  # pixels; of the frame's shorter side
_KEPT_LABELS = 256  # drawn ones that are kept for the frames that follow
_WIDEST = 0.6  # of the frame's width
_HEAD = 0.35  # of a box's height, from the top

Rectangle = tuple[int, int, int, int]  # x, y, width, height in pixels


class _Label(NamedTuple):
    """A drawn label, uint8 [h, w, 3] RGB, and where it is more than ground, uint8 [h, w]."""

    picture: np.ndarray
    opaque: np.ndarray


class Painter:
    """Draws frames of one size."""

    def __init__(
        self,
        *,
        size: tuple[int, int],
        class_names: Sequence[str],
        threshold: float,
        max_actions: int,
        font: str | Path | None = None,
    ) -> None:
        """
        Args:
            size: (height, width) of the frames in pixels.
            class_names: of the K actions.
            threshold: actions with a lower score are not named.
            max_actions: at most so many per person, the best.
            font: file of a font to be tried first.
        """
        self._size = size
        self._names = tuple(class_names)
        self._threshold = threshold
        self._max_actions = max_actions
        self._font = Font(max(_MIN_TEXT, round(_TEXT_SHARE * min(size))), path=font)
        self._line = max(2, round(min(size) / 300))
        self._labels: OrderedDict[tuple, _Label] = OrderedDict()
        self._places: dict[int, int | None] = {}  # which of the places around its box a person's label had last

    def paint(self, canvas: np.ndarray, *, persons: Sequence[Shown], stamp: str) -> None:
        """Draws into the canvas.

        Args:
            canvas: uint8 [height, width, 3] RGB.
            persons: boxes in pixels of the canvas.
            stamp: text in the lower left corner; "" for none.
        """
        for person in persons:
            self._paint_box(canvas, person)
        taken: list[Rectangle] = []
        if stamp:
            label = self._label([stamp], None)
            height, width = label.picture.shape[:2]
            place = (0, self._size[0] - height, width, height)
            _blend(canvas, label, place, 1.0)
            taken.append(place)
        places = {}
        heads = [_head(person.box) for person in persons]
        for person in persons:
            label = self._label([f"person {person.track}", *self._actions(person)], person.track)
            choices = _around(person.box, label.picture.shape[:2], self._size)
            places[person.track] = chosen = _best(
                choices, taken, heads=heads, last=self._places.get(person.track), frame=self._size
            )
            _blend(canvas, label, chosen[1], person.opacity)
            taken.append(chosen[1])
        self._places = {track: number for track, (number, _) in places.items()}

    def _paint_box(self, canvas: np.ndarray, person: Shown) -> None:
        colour = _COLOURS[person.track % len(_COLOURS)]
        target = canvas if person.opacity >= 1 else canvas.copy()
        draw_box(target, xyxy=person.box, colour=colour, width=self._line)
        if target is not canvas:
            cv2.addWeighted(target, person.opacity, canvas, 1 - person.opacity, 0, dst=canvas)

    def _actions(self, person: Shown) -> list[str]:
        """A line for each of the best actions."""
        best = np.argsort(-person.scores, kind="stable")[: self._max_actions]
        best = best[person.scores[best] >= self._threshold]
        width = round(_WIDEST * self._size[1])
        lines = []
        for k in best.tolist():
            score = f" {person.scores[k]:.2f}"
            lines.append(self._font.shorten(self._names[k], width - self._font.width(score)) + score)
        return lines

    def _label(self, lines: list[str], track: int | None) -> _Label:
        """The first line on the person's colour, the others on dark ground."""
        key = (track, *lines)
        if key in self._labels:
            self._labels.move_to_end(key)
            return self._labels[key]
        margin = max(2, self._font.size // 4)
        width = min(max(map(self._font.width, lines)) + 2 * margin, self._size[1])
        height = min(len(lines) * self._font.line + margin, self._size[0])
        picture = np.full((height, width, 3), _GROUND, np.uint8)
        head = _BRIGHT
        if track is not None:
            picture[: self._font.line] = _COLOURS[track % len(_COLOURS)]
            head = _DARK
        texts = [
            (margin, i * self._font.line + (margin // 2 if i else 0), text, _BRIGHT if i else head)
            for i, text in enumerate(lines)
        ]
        picture = self._font.draw(picture, lines=texts)
        label = _Label(picture, (picture != _GROUND).any(axis=2).astype(np.uint8))
        self._labels[key] = label
        if len(self._labels) > _KEPT_LABELS:
            self._labels.popitem(last=False)
        return label


def _around(box: np.ndarray, label: tuple[int, int], frame: tuple[int, int]) -> list[Rectangle]:
    """Places of a label at a box, the best first, all within the frame.

    Args:
        box: x1, y1, x2, y2 in pixels.
        label, frame: (height, width) in pixels.
    """
    (h, w), (limit_y, limit_x) = label, (frame[0] - label[0], frame[1] - label[1])
    x1, y1, x2, y2 = (int(v) for v in np.rint(box))
    corners = [(x1, y1 - h), (x2 - w, y1 - h), (x2, y1), (x1 - w, y1), (x1, y2), (x2 - w, y2), (x1, y2 - h)]
    corners += [(x2 - w, y2 - h), (x2, y2 - h), (x1 - w, y2 - h), (x1, y1), (x2 - w, y1)]
    return [(min(max(x, 0), limit_x), min(max(y, 0), limit_y), w, h) for x, y in corners]


def _head(box: np.ndarray) -> Rectangle:
    """The upper part of a person's box, which labels should leave in sight."""
    x1, y1, x2, y2 = (int(v) for v in np.rint(box))
    return x1, y1, x2 - x1 + 1, round(_HEAD * (y2 - y1 + 1))


def _best(
    places: list[Rectangle],
    taken: Sequence[Rectangle],
    *,
    heads: Sequence[Rectangle],
    last: int | None,
    frame: tuple[int, int],
) -> tuple[int | None, Rectangle]:
    """The place of before if it is free, so that labels do not jump; else of the free ones that which hides the least
    of the heads; else the nearest gap in the frame; else where the least is hidden.

    Returns:
        Which of the places it is (None for a gap elsewhere), and where.
    """
    covered = _common(places, taken)
    free = np.flatnonzero(covered == 0).tolist()
    if last is not None and last in free:
        return last, places[last]
    if free:
        chosen = free[int(_common([places[i] for i in free], heads).argmin())]
        return chosen, places[chosen]
    x, y, w, h = places[0]
    columns = range(0, frame[1] - w + 1, max(1, w // 3))
    rows = range(0, frame[0] - h + 1, max(1, h // 3))
    grid = [(gx, gy, w, h) for gx in columns for gy in rows]
    gaps = [grid[i] for i in np.flatnonzero(_common(grid, taken) == 0).tolist()]
    if gaps:
        return None, min(gaps, key=lambda gap: (gap[0] - x) ** 2 + (gap[1] - y) ** 2)
    chosen = int(covered.argmin())
    return chosen, places[chosen]


def _common(places: Sequence[Rectangle], taken: Sequence[Rectangle]) -> np.ndarray:
    """Pixels of each place that are taken, int64 [places]; in arrays, for crowds."""
    a = np.array(places, np.int64).reshape(-1, 1, 4)
    b = np.array(taken, np.int64).reshape(1, -1, 4)
    sides = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return sides.clip(0).prod(axis=2).sum(axis=1)


def _blend(canvas: np.ndarray, label: _Label, place: Rectangle, opacity: float) -> None:
    """Lays a label over the canvas; its ground lets some of the picture through, its text and colour do not."""
    x, y, w, h = place
    below = canvas[y : y + h, x : x + w]
    laid = cv2.addWeighted(label.picture, _COVER, below, 1 - _COVER, 0)
    cv2.copyTo(label.picture, label.opaque, laid)
    if opacity < 1:
        laid = cv2.addWeighted(laid, opacity, below, 1 - opacity, 0)
    below[:] = laid
