"""How quickly reading processes start and what they take of memory, for a data set of AVA's size.

    python benchmarks/loader_start.py [--keyframes 200000] [--workers 2]

Annotations are simulated (two persons a keyframe, 80 classes, 300 movies), all on one small video made here. Each way
of starting processes (fork, spawn) runs in a process of its own. "Start" is the time from asking for the first batch to
having it, less the time that its clip takes; of spawn, importing Python's modules is told apart. PSS counts memory
that several processes share once in all. About half a minute. Linux only (memory from /proc).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from footage import encode
from torch.utils.data import DataLoader

from alphaction.dataset.action_dataset import ActionDataset, ClipOptions
from alphaction.dataset.collate import collate
from alphaction.dataset.report import DataReport
from alphaction.dataset.sampling import ClipSampling
from alphaction.dataset.sharing import share_datasets
from alphaction.dataset.transforms import AugmentationPolicy, ClipTransform
from alphaction.structures import Annotations, ClassList, PackedBoxes

MOVIES, CLASSES, PERSONS = 300, 80, 2
WAYS = ("fork", "spawn")


def large_dataset(keyframes: int, video: str) -> ActionDataset:
    """`keyframes` moments with two persons each, all of them in `video`."""
    rng = np.random.default_rng(0)
    persons = keyframes * PERSONS
    classes = ClassList(tuple(range(1, CLASSES + 1)), tuple(f"action {k}" for k in range(1, CLASSES + 1)))
    corner = rng.uniform(0, 40, (persons, 2))
    annotations = Annotations(
        classes=classes,
        movies=tuple(f"movie_{m}" for m in range(MOVIES)),
        movie=np.sort(rng.integers(0, MOVIES, keyframes)).astype(np.int32),
        time=rng.uniform(0.5, 1.5, keyframes),
        size=np.tile(np.array([[96, 160]], np.int32), (keyframes, 1)),
        boxes=PackedBoxes.pack(np.repeat(np.arange(keyframes), PERSONS), np.hstack([corner, corner + 30]), keyframes),
        labels=rng.random((persons, CLASSES)) < 0.03,
        person_id=np.arange(persons, dtype=np.int32),
    )
    return ActionDataset(
        name="large",
        spec={},
        annotations=annotations,
        paths=[video] * MOVIES,
        report=DataReport(name="large", source="simulated", classes=classes),
        options=ClipOptions(
            sampling=ClipSampling(frame_num=8, sample_rate=1, tau=4, alpha=4),
            transform=ClipTransform(min_size=64, max_size=128),
            augmentation=AugmentationPolicy(color_jitter=True, slow_jitter=True, tau=4),
        ),
    )


def measure(way: str, keyframes: int, workers: int, video: str) -> dict[str, float]:
    """Seconds and MiB, see the module's docstring."""
    torch.set_num_threads(1)
    share_datasets()
    dataset = large_dataset(keyframes, video)
    clips = []
    for index in range(6):
        begun = time.perf_counter()
        dataset[index]
        clips.append(time.perf_counter() - begun)
    context = multiprocessing.get_context(way)
    begun = time.perf_counter()
    empty = context.Process(target=_nothing)
    empty.start()
    empty.join()
    modules = time.perf_counter() - begun
    loader = DataLoader(
        dataset,
        batch_size=1,
        sampler=range(0, keyframes, 7),
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_one_thread,
        multiprocessing_context=context,
    )
    before = _memory("self")
    begun = time.perf_counter()
    batches = iter(loader)
    made = time.perf_counter() - begun
    next(batches)
    start = time.perf_counter() - begun - float(np.median(clips))
    for _ in range(50):
        next(batches)
    found = [_memory(str(child.pid)) for child in multiprocessing.active_children()]
    return {
        "process": modules,
        "start": start,
        "started": made,
        "parent": before["Rss"],
        "rss": float(np.mean([memory["Rss"] for memory in found])),
        "pss": float(np.mean([memory["Pss"] for memory in found])),
        "private": float(np.mean([memory["Private_Dirty"] for memory in found])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keyframes", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--video", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        json.dump(measure(args.way, args.keyframes, args.workers, args.video), sys.stdout)
        return
    print(f"{args.keyframes} keyframes, {args.workers} workers; seconds, MiB per worker")
    print("| | an empty process | until all are started | start | RSS | PSS | of its own | parent |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        encode(video, list(np.random.default_rng(0).integers(0, 256, (50, 96, 160, 3), dtype=np.uint8)))
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, "--video", str(video)]
            command += ["--keyframes", str(args.keyframes), "--workers", str(args.workers)]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            seconds = " | ".join(f"{found[name]:.2f}" for name in ("process", "started", "start"))
            sizes = " | ".join(f"{found[name]:.0f}" for name in ("rss", "pss", "private", "parent"))
            print(f"| {way} | {seconds} | {sizes} |", flush=True)


def _nothing() -> None:
    pass


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _memory(process: str) -> dict[str, float]:
    """MiB of a process by kind."""
    sizes: dict[str, float] = {}
    for line in Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
        name, size, *_ = line.split()
        sizes[name.rstrip(":")] = int(size) / 1024
    return sizes


if __name__ == "__main__":
    main()
