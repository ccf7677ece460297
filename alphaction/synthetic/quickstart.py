"""The quickstart's data set: short videos of figures that walk, run, wave and approach each other.

`generate(folder)` writes what a user's own set looks like, and nothing else is known of it to the rest of the package:

    <folder>/dataset.yaml                 what `DATASETS.TRAIN: ("<folder>/dataset.yaml:train",)` reads
    <folder>/videos/<video>.mp4           H.264, made with PyAV
    <folder>/annotations/{train,val}.csv  AVA: video, second, x1, y1, x2, y2 (0..1), action id, person id
    <folder>/annotations/classes.pbtxt    the class names
    <folder>/generated.json               what made it; written with the rest, read to see whether it is current

The files are written beside `<folder>` and the whole is renamed when it is complete. A run that was interrupted goes
on with the first video that is missing; of several processes, one generates and the others wait.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from tqdm import tqdm

from alphaction.errors import DataError
from alphaction.synthetic.planner import ACTIONS, SceneOptions, plan_scene
from alphaction.synthetic.render import Renderer, figure_box
from alphaction.synthetic.scene import Scene

try:
    import fcntl
except ImportError:  # not a POSIX system: two processes that generate at once would disturb each other
    fcntl = None

logger = logging.getLogger(__name__)

VERSION = 2
"""Raised when the same options give other files."""
STAMP = "generated.json"
SPLITS = ("train", "val")


@dataclass(frozen=True)
class SetOptions:
    """Size of a generated set.

    Attributes:
        train, val: number of videos.
        seed: train and validation videos, and each video of a split, draw from streams of their own.
        scene: size of each video.
    """

    train: int = 72
    val: int = 20
    seed: int = 0
    scene: SceneOptions = field(default_factory=SceneOptions)


TINY = SetOptions(train=2, val=1, scene=SceneOptions(height=96, width=128, seconds=3.0, figures=(2, 2)))
"""For tests: three videos of three seconds, in a fraction of a second."""


def generate(folder: str | os.PathLike, *, options: SetOptions | None = None) -> Path:
    """Makes the data set in `folder` unless it is there already.

    Args:
        folder: is created. A folder that holds something else is an error, never overwritten.
        options: size of the set; None = the quickstart's.

    Returns:
        The path of its `dataset.yaml`.

    Raises:
        DataError: `folder` holds something else, or cannot be written.
    """
    folder = Path(folder)
    options = options or SetOptions()
    stamp = _stamp(options)
    try:
        if _is_current(folder, stamp):
            return folder / "dataset.yaml"
        _refuse_foreign(folder)
        partial = folder.with_name(folder.name + ".partial")
        with _locked(partial):
            if not _is_current(folder, stamp):  # another process may have made it meanwhile
                _write(partial, stamp, options)
                _move(partial, folder)
            else:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DataError(f"{folder}: the disk is full; the generated data set takes about 20 MB") from error
        raise DataError(f"{folder}: cannot write the generated data set ({error}); choose another folder") from error
    return folder / "dataset.yaml"


def generate_tiny(folder: str | os.PathLike) -> Path:
    """The same kind of set at the smallest size, for tests: see `TINY` and `generate`."""
    return generate(folder, options=TINY)


def _stamp(options: SetOptions) -> str:
    settings = {"version": VERSION, **dataclasses.asdict(options)}
    return json.dumps({"made_by": "alphaction.synthetic.quickstart", **settings}, indent=1)


def _is_current(folder: Path, stamp: str) -> bool:
    """Whether the whole set is there. The stamp comes into `folder` with everything else, by one rename."""
    try:
        return (folder / STAMP).read_text(encoding="utf-8") == stamp
    except FileNotFoundError:
        return False


def _refuse_foreign(folder: Path) -> None:
    if folder.is_dir() and (folder / STAMP).is_file():
        return
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(
            f"{folder}: is in the way of the generated data set and was not made by it (no {STAMP}); "
            "move it away, or choose another folder"
        )


@contextlib.contextmanager
def _locked(partial: Path) -> Iterator[None]:
    """Keeps other processes out of `partial` until the end of the block."""
    while True:
        partial.mkdir(parents=True, exist_ok=True)
        try:
            lock = open(partial / ".lock", "w")  # noqa: SIM115 (closed below)
        except FileNotFoundError:  # the folder was renamed by another process a moment ago
            continue
        break
    with lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info("another process is generating %s, waiting for it", partial)
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError:
                logger.debug("%s: file system without locks", partial)
        partial.mkdir(parents=True, exist_ok=True)
        yield


def _write(partial: Path, stamp: str, options: SetOptions) -> None:
    """Fills `partial`; videos that a former run of the same options completed are kept."""
    started = partial / ".started"
    if not started.is_file() or started.read_text(encoding="utf-8") != stamp:
        for item in partial.iterdir():
            if item.name != ".lock":
                shutil.rmtree(item) if item.is_dir() else item.unlink()
        started.write_text(stamp, encoding="utf-8")
    for name in ("videos", "annotations"):
        (partial / name).mkdir(exist_ok=True)
    videos = [(split, number) for split in SPLITS for number in range(getattr(options, split))]
    logger.info("generating a data set of %d videos in %s (once)", len(videos), partial)
    rows: dict[str, list[str]] = {split: [] for split in SPLITS}
    # Threads, because most of the time goes into drawing and encoding, which do not hold Python's lock.
    workers = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        made = workers.map(lambda video: _make_video(partial, options, *video), videos)
        for (split, _), video_rows in tqdm(
            zip(videos, made, strict=True),
            total=len(videos),
            desc="generating videos",
            unit="video",
            leave=False,
            disable=None,
        ):
            rows[split] += video_rows
    finally:
        workers.shutdown(cancel_futures=True)
    for split in SPLITS:
        (partial / "annotations" / f"{split}.csv").write_text("\n".join(rows[split]) + "\n", encoding="utf-8")
    (partial / "annotations" / "classes.pbtxt").write_text(_label_map(), encoding="utf-8")
    (partial / "dataset.yaml").write_text(_dataset_yaml(), encoding="utf-8")
    (partial / STAMP).write_text(stamp, encoding="utf-8")


def _make_video(partial: Path, options: SetOptions, split: str, number: int) -> list[str]:
    """Writes one video unless it is there; its annotation rows."""
    name = f"{split}_{number:03d}"
    rng = np.random.default_rng([options.seed, SPLITS.index(split), number])
    scene = plan_scene(rng, options.scene)
    target = partial / "videos" / f"{name}.mp4"
    if not target.is_file():
        unfinished = target.with_suffix(".unfinished")
        write_video(unfinished, scene, rng=rng, fps=options.scene.fps)
        os.replace(unfinished, target)
    return annotation_rows(name, scene)


def _move(partial: Path, folder: Path) -> None:
    """Puts the finished set in its place; one of an older version makes room."""
    (partial / ".started").unlink()
    (partial / ".lock").unlink(missing_ok=True)
    if folder.exists() and any(folder.iterdir()):
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        os.rename(folder, old)
        os.rename(partial, folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(partial, folder)


def annotation_rows(video: str, scene: Scene) -> list[str]:
    """AVA rows of a scene's keyframes: one per figure and action, coordinates as shares of the picture."""
    height, width = scene.size
    rows = []
    for beat in scene.beats:
        for figure, act in enumerate(beat.acts):
            x1, y1, x2, y2 = figure_box(scene.looks[figure], scene.pose(figure, beat.keyframe), scene.size)
            box = f"{x1 / width:.4f},{y1 / height:.4f},{x2 / width:.4f},{y2 / height:.4f}"
            ids = sorted(ACTIONS.index(action) + 1 for action in act.actions)
            rows += [f"{video},{beat.keyframe:.2f},{box},{class_id},{figure}" for class_id in ids]
    return rows


def write_video(path: Path, scene: Scene, *, rng: np.random.Generator, fps: int) -> None:
    """Encodes the scene as H.264; one thread, so that the same scene gives the same bytes."""
    height, width = scene.size
    with av.open(str(path), mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "26", "g": str(fps), "threads": "1"}
        for picture in Renderer(scene, rng=rng).frames(fps):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def _label_map() -> str:
    return "".join(f'item {{\n  id: {i}\n  name: "{name}"\n}}\n' for i, name in enumerate(ACTIONS, start=1))


def _dataset_yaml() -> str:
    return (
        "# Generated by alphaction.synthetic.quickstart. A set of your own needs a file like this one, and no more.\n"
        "name: quickstart\n"
        "videos: videos                            # folder of <video>.mp4\n"
        "classes: annotations/classes.pbtxt        # or [name, ...]\n"
        "splits:\n"
        "  train: {annotations: annotations/train.csv}\n"
        "  val: {annotations: annotations/val.csv}\n"
    )
