"""Generated videos that cost as much to decode as real footage: what benchmarks read when no data set is at hand.

A large picture of smooth noise at several scales is panned and zoomed, patches of other noise move over it, and every
frame gets grain of its own, so that prediction leaves a residue everywhere. There is a cut every few seconds.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np

VERSION = 1  # of the pictures; another one makes the folder anew
HEIGHT, WIDTH, FPS = 360, 640, 25
GRAIN = 2.0  # standard deviation of each frame's own noise, levels of 8 bits
PATCHES = 4


def make_footage(folder: Path, *, movies: int, seconds: int) -> Path:
    """Makes `movies/<id>.mp4`, the same as one-second files `clips/<id>/<second>.mp4`, and a `dataset.yaml`.

    The folder is made once; it has splits "movies" and "clips", with two persons at every second that has a whole
    window of 3 s around it.

    Returns:
        The dataset.yaml.
    """
    target = folder / f"v{VERSION}_{movies}x{seconds}"
    if not (target / "dataset.yaml").is_file():
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        for number in range(movies):
            frames = _movie(np.random.default_rng([VERSION, number]), seconds * FPS)
            encode(partial / "movies" / f"m{number}.mp4", frames)
            for second in range(seconds):
                part = frames[second * FPS : (second + 1) * FPS]
                encode(partial / "clips" / f"m{number}" / f"{second}.mp4", part)
        _write_annotations(partial, movies=movies, seconds=seconds)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
    return target / "dataset.yaml"


def _movie(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """`count` frames uint8 [HEIGHT, WIDTH, 3], shots of 2 to 6 seconds."""
    frames: list[np.ndarray] = []
    while len(frames) < count:
        frames += _shot(rng, int(rng.integers(2 * FPS, 6 * FPS)))
    return frames[:count]


def _shot(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    ground = _noise(rng, HEIGHT * 2, WIDTH * 2)
    patches = [_noise(rng, *rng.integers(80, 240, 2).tolist()) for _ in range(PATCHES)]
    place = rng.uniform([0, 0], [HEIGHT, WIDTH], (PATCHES, 2))
    pace = rng.normal(0, 2.5, (PATCHES, 2))
    pan, zoom = rng.normal(0, 1.2, 2), rng.normal(0, 0.001)
    frames = []
    for t in range(count):
        scale = 1 + zoom * t
        shift = np.float32([[scale, 0, pan[1] * t - WIDTH / 2], [0, scale, pan[0] * t - HEIGHT / 2]])
        image = cv2.warpAffine(ground, shift, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        for patch, (y, x) in zip(patches, place + pace * t, strict=True):
            top, left = int(y) % (HEIGHT - 40), int(x) % (WIDTH - 40)
            part = image[top : top + patch.shape[0], left : left + patch.shape[1]]
            part[:] = patch[: part.shape[0], : part.shape[1]]
        grain = rng.normal(0, GRAIN, (HEIGHT, WIDTH, 1)).astype(np.float32)
        frames.append(np.clip(image + grain, 0, 255).astype(np.uint8))
    return frames


def _noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """float32 [height, width, 3] 0..255: noise of every scale, the coarser the stronger, as in photographs."""
    total = np.zeros((height, width, 3), np.float32)
    for step in (4, 8, 16, 32, 64, 128):
        coarse = rng.normal(0, step**0.5, (height // step + 2, width // step + 2, 3)).astype(np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 4.5 * total, 0, 255)


def encode(path: Path, frames: Sequence[np.ndarray]) -> None:
    """Frames uint8 [h, w, 3] as H.264, with the encoder's defaults: B-frames, key frames at cuts and every 250."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def _write_annotations(folder: Path, *, movies: int, seconds: int) -> None:
    lines = [
        f"m{number},{second},{box},{1 + (number + second) % 3},{person}"
        for number in range(movies)
        for second in range(2, seconds - 2)
        for person, box in enumerate(("0.1,0.2,0.4,0.9", "0.5,0.1,0.8,0.95"))
    ]
    (folder / "annotations.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "dataset.yaml").write_text(
        "name: footage\nclasses: [stand, walk, talk]\nsplits:\n"
        "  movies: {videos: movies, annotations: annotations.csv}\n"
        "  clips: {videos: clips, annotations: annotations.csv}\n",
        encoding="utf-8",
    )
