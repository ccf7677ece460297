"""A data set whose classes need the context that interaction blocks look at; see docs/INTERACTION.md.

Two figures stand far apart at the ends of a wide picture; things lie, or do not lie, in the middle between them. In
each beat each figure stands still, sways slowly to one side and back, or hops up and down quickly. Four kinds of class:

* own: what the figure itself does; its own clip shows it.
* person: what the other figure does at the same time.
* object: which things lie in the scene. They come with a file of "detected" boxes.
* memory: what anybody did in the beat before, which no clip around the keyframe shows.

Motions and things are drawn independently for every figure and beat, each with the same chance. So nothing but the
context that a class is about says anything about it: a classifier that sees only the figure reaches, on the last three
kinds, the share of persons that have the class.

`generate(folder)` writes a dataset.yaml as a user's own set has one, with AVA CSV annotations and box files.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alphaction.synthetic.annotations import ava_rows
from alphaction.synthetic.folder import Recipe, class_list, make_folder, stamp
from alphaction.synthetic.planner import random_look
from alphaction.synthetic.scene import Act, Arm, Beat, Point, Scene, Thing
from alphaction.synthetic.video import FOR_SMALL_PICTURES, write_video

MOTIONS = ("stand", "sway", "hop")
THINGS = ("ball", "crate")
KINDS: dict[str, tuple[str, ...]] = {
    "own": MOTIONS,
    "person": ("with a swaying person", "with a hopping person"),
    "object": ("with a ball", "with a crate"),
    "memory": ("after swaying", "after hopping"),
}
"""Names of the classes by the context they need."""
CLASSES = tuple(name for names in KINDS.values() for name in names)
"""In the order of their ids 1, 2, ..."""

VERSION = 1
SPLITS = ("train", "val")
KEYFRAME = 17
"""Frame of a beat that is annotated. A clip of 32 frames around it begins and ends within the beat."""
HEIGHT = (25.0, 28.0)
"""A figure's, pixels."""
FROM_END = (20.0, 23.0)
"""A figure's distance from its end of the picture, pixels."""
SWING = {"sway": (8.0, 10.0), "hop": (6.0, 7.5)}
"""How far a figure goes from its place, pixels."""
HALF_SWINGS = {"sway": 1, "hop": 6}
"""Of a beat: whole numbers, so that a figure is back in its place when the next beat begins."""


@dataclass(frozen=True)
class Options:
    """Size of the set.

    Attributes:
        train, val: number of videos.
        beats: per video; as many keyframes.
        seed: each video draws from a stream of its own.
        height, width: pixels, even numbers.
        fps: frames per second.
        frames: of a beat; with `fps` this gives MODEL.IA_STRUCTURE.MEMORY_STEP.
    """

    train: int = 64
    val: int = 24
    beats: int = 10
    seed: int = 0
    height: int = 48
    width: int = 240
    fps: int = 25
    frames: int = 36


def generate(folder: str | os.PathLike, *, options: Options | None = None) -> Path:
    """Makes the data set in `folder` unless it is there already.

    Args:
        folder: is created. A folder that holds something else is an error, never overwritten.
        options: size of the set; None = that of the benchmark.

    Returns:
        The path of its `dataset.yaml`.

    Raises:
        DataError: `folder` holds something else, or cannot be written.
    """
    options = options or Options()
    recipe = Recipe(
        stamp=stamp("alphaction.synthetic.interaction", version=VERSION, settings=dataclasses.asdict(options)),
        videos={split: getattr(options, split) for split in SPLITS},
        make_video=lambda videos, split, number: _make_video(videos, options, split, number),
        tables=_tables,
    )
    return make_folder(folder, recipe)


def plan(rng: np.random.Generator, options: Options) -> Scene:
    """A scene; the same generator state gives the same one."""
    looks = (random_look(rng, HEIGHT), random_look(rng, HEIGHT))
    middle = options.height / 2
    places = [
        (float(rng.uniform(*FROM_END)), middle + float(rng.uniform(-1, 1))),
        (options.width - float(rng.uniform(*FROM_END)), middle + float(rng.uniform(-1, 1))),
    ]
    # Held still through all beats: an arm that moves into its next pose would tell where it was before.
    arms = [(_arm(rng), _arm(rng)) for _ in places]
    beats = []
    for number in range(options.beats):
        start = number * options.frames / options.fps
        end = (number + 1) * options.frames / options.fps
        keyframe = (number * options.frames + KEYFRAME) / options.fps
        acts = tuple(_act(rng, place, held, length=end - start) for place, held in zip(places, arms, strict=True))
        beats.append(Beat(start, end, keyframe, acts, things=_things(rng, options)))
    return Scene((options.height, options.width), looks, tuple(beats))


def labels(scene: Scene, beat: int, figure: int) -> frozenset[str]:
    """The classes of a figure at a beat's keyframe."""
    now = scene.beats[beat]
    before = scene.beats[beat - 1].acts if beat else ()
    seen = {"sway": "with a swaying person", "hop": "with a hopping person"}
    remembered = {"sway": "after swaying", "hop": "after hopping"}
    names = set(now.acts[figure].actions)
    names |= {
        seen[motion]
        for other, act in enumerate(now.acts)
        for motion in act.actions
        if other != figure and motion in seen
    }
    names |= {f"with a {thing.kind}" for thing in now.things}
    names |= {remembered[motion] for act in before for motion in act.actions if motion in remembered}
    return frozenset(names)


def object_boxes(video: str, scene: Scene) -> list[dict[str, object]]:
    """The things at a scene's keyframes, as a detector that misses none and adds none would give them."""
    boxes: list[dict[str, object]] = []
    for beat in scene.beats:
        for thing in beat.things:
            x1, y1, x2, y2 = thing.box
            bbox = [round(value, 1) for value in (x1, y1, x2 - x1, y2 - y1)]
            boxes.append({"image_id": f"{video}/{beat.keyframe:.2f}.jpg", "bbox": bbox, "score": 1.0})
    return boxes


def _arm(rng: np.random.Generator) -> Arm:
    return Arm(float(rng.uniform(0.2, 0.7)), 0.0, 0.0)


def _act(rng: np.random.Generator, place: Point, arms: tuple[Arm, Arm], *, length: float) -> Act:
    motion = MOTIONS[int(rng.integers(len(MOTIONS)))]
    reach = float(rng.uniform(*SWING.get(motion, (0.0, 0.0)))) * float(rng.choice((-1, 1)))
    swing = {"stand": (0.0, 0.0), "sway": (reach, 0.0), "hop": (0.0, reach)}[motion]
    return Act(frozenset({motion}), place, (0.0, 0.0), arms, swing, HALF_SWINGS.get(motion, 0) / 2 / length)


def _things(rng: np.random.Generator, options: Options) -> tuple[Thing, ...]:
    """Each kind lies there or not, one in the upper and one in the lower half of the picture's middle."""
    heights = rng.permutation([0.25, 0.75]) * options.height
    things = []
    for kind, y in zip(THINGS, heights.tolist(), strict=True):
        place = (options.width / 2 + float(rng.uniform(-5, 5)), y + float(rng.uniform(-3, 3)))
        radius = float(rng.uniform(6, 7.5))
        if rng.random() < 0.5:
            things.append(Thing(kind, place, radius))
    return tuple(things)


def _make_video(videos: Path, options: Options, split: str, number: int) -> tuple[list[str], list[dict[str, object]]]:
    """Writes one video unless it is there; its annotation rows and object boxes."""
    name = f"{split}_{number:03d}"
    rng = np.random.default_rng([options.seed, SPLITS.index(split), number])
    scene = plan(rng, options)
    target = videos / f"{name}.mp4"
    if not target.is_file():
        unfinished = target.with_suffix(".unfinished")
        write_video(unfinished, scene, rng=rng, fps=options.fps, encoder=FOR_SMALL_PICTURES)
        os.replace(unfinished, target)
    rows = ava_rows(name, scene, classes=CLASSES, labels=lambda beat, figure: labels(scene, beat, figure))
    return rows, object_boxes(name, scene)


def _tables(told: Mapping[str, list[tuple[list[str], list[dict[str, object]]]]]) -> dict[str, str]:
    tables = {"annotations/classes.pbtxt": class_list(CLASSES), "dataset.yaml": _DATASET_YAML}
    for split, videos in told.items():
        rows = [row for video_rows, _ in videos for row in video_rows]
        boxes = [box for _, video_boxes in videos for box in video_boxes]
        tables[f"annotations/{split}.csv"] = "\n".join(rows) + "\n"
        tables[f"annotations/{split}_objects.json"] = json.dumps(boxes, indent=0) + "\n"
    return tables


_DATASET_YAML = """\
# Generated by alphaction.synthetic.interaction. A set of your own with detected objects needs a file like this one.
name: interaction
videos: videos
classes: annotations/classes.pbtxt
splits:
  train: {annotations: annotations/train.csv, object_boxes: annotations/train_objects.json}
  val: {annotations: annotations/val.csv, object_boxes: annotations/val_objects.json}
"""
