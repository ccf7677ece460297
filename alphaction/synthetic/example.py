"""What a user begins with, drawn: a folder of videos and a table of who does what. For docs/TUTORIAL.md.

<folder>/videos/<video>.mp4     figures that walk or stand
<folder>/annotations.csv        video, time, x1, y1, x2, y2 (pixels), action, person_id
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np

from alphaction.errors import DataError
from alphaction.synthetic.planner import SceneOptions, plan_scene
from alphaction.synthetic.render import figure_box
from alphaction.synthetic.scene import Scene
from alphaction.synthetic.video import write_video
from alphaction.utils.atomic import write_text

STAND, WALK = "stand", "walk"
COLUMNS = ("video", "time", "x1", "y1", "x2", "y2", "action", "person_id")
SCENE = SceneOptions(seconds=12.0, figures=(2, 3))


def generate(folder: str | os.PathLike[str], *, videos: int, scene: SceneOptions = SCENE) -> Path:
    """Makes the videos and the table.

    Args:
        folder: is created; one that holds something is an error.
        videos: how many.
        scene: size of each.

    Returns:
        The path of the table.

    Raises:
        DataError: `folder` is not empty or cannot be written to.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: is there already and not an empty folder; give another one")
    rows: list[list[str]] = []
    try:
        (folder / "videos").mkdir(parents=True, exist_ok=True)
        for number in range(1, videos + 1):
            rng = np.random.default_rng([number, videos])
            planned = plan_scene(rng, scene)
            write_video(folder / "videos" / f"street_{number:02d}.mp4", planned, rng=rng, fps=scene.fps)
            rows += _rows(f"street_{number:02d}.mp4", planned)
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([COLUMNS, *rows])
        write_text(folder / "annotations.csv", text=table.getvalue())
    except OSError as error:
        raise DataError(f"{folder}: cannot be written to ({error.strerror})") from error
    return folder / "annotations.csv"


def _rows(video: str, scene: Scene) -> list[list[str]]:
    rows = []
    for beat in scene.beats:
        for figure, act in enumerate(beat.acts):
            box = figure_box(scene.looks[figure], scene.pose(figure, beat.keyframe), scene.size)
            action = WALK if act.speed else STAND
            rows.append([video, f"{beat.keyframe:.2f}", *(f"{edge:.1f}" for edge in box), action, str(figure)])
    return rows
