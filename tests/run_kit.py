"""A data set of three short videos and a very small network: whole runs of the scripts in seconds."""

from __future__ import annotations

import json
import logging
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from videos import numbered_frames, write_video

from alphaction.engine.build import TrainFlags, test_from_config, train_from_config
from alphaction.engine.script import run_script
from alphaction.evaluation.report import EvalResult

ROOT = pathlib.Path(__file__).resolve().parents[1]
CLASSES = ("walk", "run", "wave")
WIDTH, HEIGHT = 64, 48
SECONDS = (0.5, 1.0, 1.5)  # keyframes of every video
TRAIN_VIDEOS = ("park", "street")
VAL_VIDEOS = ("yard",)


class Row(NamedTuple):
    """One person at one moment; the box in pixels: left, top, width, height."""

    movie: str
    time: float
    box: tuple[int, int, int, int]
    actions: tuple[int, ...]  # class ids, from 1


def rows_of(movies: Sequence[str]) -> list[Row]:
    """Two persons at each keyframe; widths and heights are exact as shares of 64 x 48."""
    rows = []
    for k, movie in enumerate(movies):
        for j, time in enumerate(SECONDS):
            rows.append(Row(movie, time, (4 + 4 * j, 6, 24, 36), (1 + (j + k) % 3,)))
            rows.append(Row(movie, time, (36, 3 + 3 * k, 20, 30), (2, 3) if j % 2 else (1,)))
    return rows


def write_csv(path: pathlib.Path, rows: Sequence[Row]) -> pathlib.Path:
    """AVA CSV with person ids."""
    lines = []
    for i, row in enumerate(rows):
        x, y, w, h = row.box
        corners = [x / WIDTH, y / HEIGHT, (x + w) / WIDTH, (y + h) / HEIGHT]
        for action in row.actions:
            lines.append(",".join([row.movie, f"{row.time:g}", *map(repr, corners), str(action), str(i)]))
    return _write(path, "\n".join(lines) + "\n")


def write_ava_json(path: pathlib.Path, rows: Sequence[Row]) -> pathlib.Path:
    """The original's JSON: a list of actions per person."""
    ids = _image_ids(rows)
    images = [
        {"id": i, "movie": movie, "timestamp": time, "width": WIDTH, "height": HEIGHT}
        for (movie, time), i in ids.items()
    ]
    annotations = [
        {
            "id": i,
            "image_id": ids[row.movie, row.time],
            "bbox": row.box,
            "action_ids": list(row.actions),
            "person_id": i,
        }
        for i, row in enumerate(rows)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories()}
    return _write(path, json.dumps(content))


def write_coco_json(path: pathlib.Path, rows: Sequence[Row]) -> pathlib.Path:
    """The fine-tuning guide's JSON: an annotation per action, the moment in the file name."""
    ids = _image_ids(rows)
    images = [
        {"id": i, "file_name": f"{movie}/{time:g}.jpg", "width": WIDTH, "height": HEIGHT}
        for (movie, time), i in ids.items()
    ]
    annotations: list[dict] = []
    for row in rows:
        for action in row.actions:
            x, y, w, h = row.box
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": ids[row.movie, row.time],
                    "category_id": action,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                }
            )
    content = {"images": images, "annotations": annotations, "categories": categories()}
    return _write(path, json.dumps(content))


def write_dataset(folder: pathlib.Path) -> pathlib.Path:
    """Videos, annotations and a dataset.yaml; returns the latter."""
    for movie in (*TRAIN_VIDEOS, *VAL_VIDEOS):
        write_video(folder / "videos" / f"{movie}.mp4", numbered_frames(48, height=HEIGHT, width=WIDTH))
    write_csv(folder / "train.csv", rows_of(TRAIN_VIDEOS))
    write_csv(folder / "val.csv", rows_of(VAL_VIDEOS))
    text = (
        "name: tiny\nvideos: videos\nclasses: [walk, run, wave]\nsplits:\n"
        "  train: {annotations: train.csv}\n  val: {annotations: val.csv}\n"
    )
    return _write(folder / "dataset.yaml", text)


def write_config(path: pathlib.Path, dataset: pathlib.Path | None = None) -> pathlib.Path:
    """Four iterations of Slowfast-Tiny on clips of 8 frames, 32 pixels high."""
    names = "" if dataset is None else f'  TRAIN: ("{dataset}:train",)\n  TEST: ("{dataset}:val",)\n'
    text = f"""
MODEL:
  DEVICE: cpu
  BACKBONE: {{CONV_BODY: Slowfast-Tiny, FROZEN_BN: False}}
  ROI_ACTION_HEAD: {{NUM_CLASSES: 3, MLP_HEAD_DIM: 16, POOLER_RESOLUTION: 2, DROPOUT_RATE: 0.2}}
INPUT:
  MIN_SIZE_TRAIN: 32
  MAX_SIZE_TRAIN: 64
  MIN_SIZE_TEST: 32
  MAX_SIZE_TEST: 64
  FRAME_NUM: 8
  FRAME_SAMPLE_RATE: 1
  TAU: 4
  ALPHA: 4
  COLOR_JITTER: True
  SLOW_JITTER: True
DATASETS:
  ON_ERROR: raise
{names}DATALOADER: {{NUM_WORKERS: 0}}
SOLVER:
  MAX_ITER: 4
  BASE_LR: 0.01
  STEPS: (3,)
  WARMUP_ITERS: 2
  CHECKPOINT_PERIOD: 2
  EVAL_PERIOD: 2
  LOG_PERIOD: 1
  VIDEOS_PER_BATCH: 2
TEST: {{VIDEOS_PER_BATCH: 2, ACTION_THRESH: 0.0, NUM_PICTURES: 2}}
"""
    return _write(path, text)


def write_clips(folder: pathlib.Path, seconds: Sequence[int]) -> None:
    """One-second clips `<second>.mp4`."""
    for second in seconds:
        write_video(folder / f"{second}.mp4", numbered_frames(25, height=HEIGHT, width=WIDTH, first=25 * second))


def categories() -> list[dict]:
    return [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]


def train(config: pathlib.Path, output_dir: pathlib.Path, *opts: object, **flags: object) -> None:
    """train_net.py in this process."""
    with own_state():
        train_from_config(str(config), _options(output_dir, opts), TrainFlags(**flags))


def test(config: pathlib.Path, output_dir: pathlib.Path, *opts: object) -> list[EvalResult]:
    """test_net.py in this process."""
    with own_state():
        return test_from_config(str(config), _options(output_dir, opts))


test.__test__ = False


def fail_train(capsys, config: pathlib.Path, output_dir: pathlib.Path, *opts: object, **flags: object) -> str:
    """The one message with which train_net.py refuses; checks that it ends as the scripts do."""
    return _failure(capsys, lambda: train_from_config(str(config), _options(output_dir, opts), TrainFlags(**flags)))


def fail_test(capsys, config: pathlib.Path, output_dir: pathlib.Path, *opts: object) -> str:
    return _failure(capsys, lambda: test_from_config(str(config), _options(output_dir, opts)))


def run(*command: object, cwd: pathlib.Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command of this repository in a process of its own, with this Python."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH", "")])]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False
    )


def weights(path: pathlib.Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def same_weights(a: pathlib.Path, b: pathlib.Path) -> bool:
    """Bit for bit."""
    ours, theirs = weights(a), weights(b)
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def _options(output_dir: pathlib.Path, opts: Sequence[object]) -> list[str]:
    return [*map(str, opts), "OUTPUT_DIR", str(output_dir)]


def _failure(capsys, main) -> str:
    capsys.readouterr()
    with own_state():
        try:
            run_script(main)
        except SystemExit as end:
            assert end.code == 1
        else:
            raise AssertionError("expected the run to be refused")
    shown = capsys.readouterr()
    assert "Traceback" not in shown.out + shown.err
    assert shown.err.startswith("error: ") and shown.err.count("error: ") == 1, shown.err
    return shown.err.removeprefix("error: ").rstrip("\n")


@contextmanager
def own_state() -> Iterator[None]:
    """One thread, as in `run`: the order of sums depends on it. Leaves the package's logger as it was."""
    logger = logging.getLogger("alphaction")
    before = logger.handlers[:], logger.level, logger.propagate
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    logger.handlers = []
    try:
        yield
    finally:
        for handler in logger.handlers:
            handler.close()
        logger.handlers[:], logger.level, logger.propagate = before
        torch.set_num_threads(threads)


def copied(source: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """A copy of a run's folder without its results."""
    target.mkdir()
    for path in source.iterdir():
        if path.is_file():
            (target / path.name).write_bytes(path.read_bytes())
    return target


def _image_ids(rows: Sequence[Row]) -> dict[tuple[str, float], int]:
    ids: dict[tuple[str, float], int] = {}
    for row in rows:
        ids.setdefault((row.movie, row.time), len(ids))
    return ids


def _write(path: pathlib.Path, text: str) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
