"""Annotations of a planned scene, as AVA's CSV files have them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from alphaction.synthetic.render import figure_box
from alphaction.synthetic.scene import Scene


def ava_rows(
    video: str, scene: Scene, *, classes: Sequence[str], labels: Callable[[int, int], Collection[str]]
) -> list[str]:
    """Rows of a scene's keyframes: one per figure and class, coordinates as shares of the picture.

    Args:
        video: its name.
        classes: their ids are 1, 2, ...
        labels: classes of (beat, figure).
    """
    height, width = scene.size
    rows = []
    for number, beat in enumerate(scene.beats):
        for figure in range(len(beat.acts)):
            x1, y1, x2, y2 = figure_box(scene.looks[figure], scene.pose(figure, beat.keyframe), scene.size)
            box = f"{x1 / width:.4f},{y1 / height:.4f},{x2 / width:.4f},{y2 / height:.4f}"
            ids = sorted(classes.index(name) + 1 for name in labels(number, figure))
            rows += [f"{video},{beat.keyframe:.2f},{box},{class_id},{figure}" for class_id in ids]
    return rows
