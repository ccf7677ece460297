"""From video files to batches: clips per second on one core, stage by stage, against the original's form and the floor.

    python benchmarks/data.py [--config-file config_files/resnet50_4x16f_baseline.yaml] [KEY VALUE ...]
    python benchmarks/data.py --config-file my.yaml --own

Without --own the videos are made here once (two of 30 s, 640x360, H.264; about a minute). Pipelines take turns on the
same clip, one thread, processor time; a ratio is the median over the clips of (original / pipeline). One-second files
are opened for each clip, since a data set has too many to keep open; a movie is open and indexed when a clip is read.
With --own the first set of DATASETS.TRAIN is measured; the original's form only if it consists of one-second files.

At most 5 minutes on an idle core with the defaults (--rounds 25 --samples 300). Linux only (memory from /proc).
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from data_stages import STAGES, DecodeOnly, timed_stages
from footage import make_footage
from plain_data import PlainPipeline
from torch import Tensor
from yacs.config import CfgNode

from alphaction.config import load_config
from alphaction.dataset.action_dataset import ActionDataset
from alphaction.dataset.build import build_datasets, build_loader, clip_sampling, set_num_classes
from alphaction.dataset.collate import collate
from alphaction.dataset.video_index import MovieFiles, VideoIndex
from alphaction.dataset.video_io import shared_cache
from alphaction.structures.render import network_clips
from alphaction.utils.device import resolve_device

COLOR = (5, 10, -12)  # of the original's form; ours draws anew for every clip
WARM_BATCHES = 4
ORIGINAL, FLOOR = "original's form", "floor: decoding alone"
MIB = 2**20


@dataclass
class Pipeline:
    """One way from a keyframe to a batch of one clip.

    Attributes:
        name, source, mode: of the table's row; `source` is "1-s clips" or "movies", `mode` "train" or "test".
        run: makes the batch of a sample by its number.
        before: called with the number before the clock starts.
        stages: whether its stages are timed.
    """

    name: str
    source: str
    mode: str
    run: Callable[[int], object]
    before: Callable[[int], None]
    stages: bool = False
    seconds: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="config_files/resnet50_4x16f_baseline.yaml", metavar="FILE")
    parser.add_argument("--own", action="store_true", help="measure the first set of DATASETS.TRAIN")
    parser.add_argument("--rounds", type=int, default=25, metavar="N", help="clips that each pipeline makes")
    parser.add_argument("--samples", type=int, default=300, metavar="N", help="clips for the growth of memory")
    parser.add_argument("--batches", type=int, default=24, metavar="N", help="batches for the scaling of workers")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2], metavar="N", help="numbers of workers")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "alphaction_footage", help="of the made videos"
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="configuration keys to change")
    args = parser.parse_intermixed_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    sets = _own(args) if args.own else _made(args)
    pipelines = [pipeline for source, name in sets.items() for pipeline in _pipelines(args, source, name)]
    _take_turns(pipelines, rounds=args.rounds)
    _print_pipelines(pipelines)
    _print_stages([pipeline for pipeline in pipelines if pipeline.stages])
    source, name = list(sets.items())[-1]
    _print_device(args, source, name)
    _print_workers(args, source, name)
    _print_memory(args, source, name)


def _made(args: argparse.Namespace) -> dict[str, str]:
    print(f"videos in {args.folder} ...", flush=True)
    dataset = make_footage(args.folder, movies=2, seconds=30)
    return {"1-s clips": f"{dataset}:clips", "movies": f"{dataset}:movies"}


def _own(args: argparse.Namespace) -> dict[str, str]:
    name = load_config(args.config_file, args.opts).DATASETS.TRAIN[0]
    return {"own": name}


def _config(args: argparse.Namespace, name: str, *, transform: str = "", workers: int = 0) -> CfgNode:
    """The configuration for one data set; what the made videos have no files for is switched off."""
    names = f"('{name}',)"
    opts: list[object] = [
        *args.opts,
        "DATASETS.TRAIN",
        names,
        "DATASETS.TEST",
        names,
        "DATALOADER.NUM_WORKERS",
        workers,
    ]
    if not args.own:
        opts += ["TEST.BOXES", "ground_truth", "MODEL.IA_STRUCTURE.ALLOW_NO_OBJECTS", True]
        opts += ["MODEL.ROI_ACTION_HEAD.NUM_CLASSES", 0, "MODEL.ROI_ACTION_HEAD.NUM_PERSON_MOVEMENT_CLASSES", 0]
    if transform:
        opts += ["INPUT.TRANSFORM", transform]
    return load_config(args.config_file, opts)


def _pipelines(args: argparse.Namespace, source: str, name: str) -> list[Pipeline]:
    cfg = _config(args, name)
    train, test = build_datasets(cfg, "train")[0], build_datasets(cfg, "test")[0]
    movies = VideoIndex(train.spec["video_root"]).find(train.annotations.movies)
    rows = []
    if all(movie.clips is not None for movie in movies) and cfg.INPUT.FRAME_RATE in (0, 25):
        rows += [_original(cfg, train, movies, source, training) for training in (True, False)]
    before = _opener(train, movies)
    for transform in ("exact", "device"):
        cfg = _config(args, name, transform=transform)
        train, test = build_datasets(cfg, "train")[0], build_datasets(cfg, "test")[0]
        divisor = cfg.DATALOADER.SIZE_DIVISIBILITY
        for mode, dataset in (("train", train), ("test", test)):
            run = _maker(dataset, divisor)
            rows.append(Pipeline(f"ours {transform}", source, mode, run, before, stages=True))
    rows.append(_floor(cfg, train, movies, source))
    return rows


def _maker(dataset: ActionDataset, divisor: int) -> Callable[[int], object]:
    return lambda number: collate([dataset[number % len(dataset)]], size_divisibility=divisor)


def _opener(dataset: ActionDataset, movies: Sequence[MovieFiles]) -> Callable[[int], None]:
    """Closes all one-second files, or opens the movie and reads its index."""

    def prepare(number: int) -> None:
        movie = movies[int(dataset.annotations.movie[int(dataset.keyframes[number % len(dataset)])])]
        if movie.clips is not None:
            shared_cache().close()
        else:
            shared_cache().index(movie.path)
            shared_cache().get(movie.path)

    return prepare


def _original(
    cfg: CfgNode, dataset: ActionDataset, movies: Sequence[MovieFiles], source: str, training: bool
) -> Pipeline:
    clip = cfg.INPUT
    plain = PlainPipeline(
        frame_num=clip.FRAME_NUM,
        sample_rate=clip.FRAME_SAMPLE_RATE,
        tau=clip.TAU,
        alpha=clip.ALPHA,
        min_size=clip.MIN_SIZE_TRAIN if training else clip.MIN_SIZE_TEST,
        max_size=clip.MAX_SIZE_TRAIN if training else clip.MAX_SIZE_TEST,
        mean=tuple(clip.PIXEL_MEAN),
        std=tuple(clip.PIXEL_STD),
        size_divisibility=cfg.DATALOADER.SIZE_DIVISIBILITY,
    )
    files = [{second: f"{m.path}/{file}" for second, file in (m.clips or {}).items()} for m in movies]
    color = COLOR if training and clip.COLOR_JITTER else None

    def run(number: int) -> object:
        keyframe = int(dataset.keyframes[number % len(dataset)])
        second = int(dataset.annotations.time[keyframe])
        sample = plain.sample(
            files[int(dataset.annotations.movie[keyframe])], second, color=color, flip=training and number % 2 == 0
        )
        return plain.collate([sample])

    return Pipeline(ORIGINAL, source, "train" if training else "test", run, lambda _: None)


def _floor(cfg: CfgNode, dataset: ActionDataset, movies: Sequence[MovieFiles], source: str) -> Pipeline:
    decoders = [DecodeOnly(movie, clip_sampling(cfg)) for movie in movies]

    def run(number: int) -> object:
        keyframe = int(dataset.keyframes[number % len(dataset)])
        return decoders[int(dataset.annotations.movie[keyframe])].decode(float(dataset.annotations.time[keyframe]))

    return Pipeline(FLOOR, source, "both", run, lambda _: None)


def _take_turns(pipelines: Sequence[Pipeline], *, rounds: int) -> None:
    """Every pipeline makes the same clips, one after the other; the first two rounds do not count."""
    order = np.random.default_rng(0).permutation(10**4)
    for turn in range(rounds + 2):
        number = int(order[turn])
        for pipeline in pipelines[turn % len(pipelines) :] + pipelines[: turn % len(pipelines)]:
            pipeline.before(number)
            started = time.process_time()
            pipeline.run(number)
            if turn >= 2:
                pipeline.seconds.append(time.process_time() - started)
        for pipeline in pipelines:
            if pipeline.stages and turn >= 2:
                _time_stages(pipeline, number)


def _time_stages(pipeline: Pipeline, number: int) -> None:
    """A second pass, since reading the clock for every frame takes time of its own."""
    pipeline.before(number)
    with timed_stages() as parts:
        started = time.process_time()
        pipeline.run(number)
        total = time.process_time() - started
    for stage in STAGES:
        pipeline.parts.setdefault(stage, []).append(parts[stage])
    pipeline.parts.setdefault("decode, rest", []).append(total - sum(parts.values()))


def _print_pipelines(pipelines: Sequence[Pipeline]) -> None:
    print("\n| pipeline | from | | ms per clip (quartiles) | clips/s | against the original | share of the floor |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    for pipeline in pipelines:
        seconds = np.array(pipeline.seconds)
        low, middle, high = np.percentile(seconds, [25, 50, 75])
        against = []
        for mode in ("train", "test") if pipeline.mode == "both" else (pipeline.mode,):
            original = [other for other in pipelines if other.name == ORIGINAL and other.mode == mode]
            against += [f"{np.median(np.array(original[0].seconds) / seconds):.1f}x"] if original else ["-"]
        floor = next(other for other in pipelines if other.name == FLOOR and other.source == pipeline.source)
        share = f"{np.median(np.array(floor.seconds) / seconds):.2f}"
        print(
            f"| {pipeline.name} | {pipeline.source} | {pipeline.mode} | {middle * 1e3:.0f} "
            f"({low * 1e3:.0f} to {high * 1e3:.0f}) | {1 / middle:.1f} | {', '.join(against)} | {share} |"
        )


def _print_stages(pipelines: Sequence[Pipeline]) -> None:
    names = ["decode, rest", *STAGES]
    print("\n| ms per clip | from | | " + " | ".join(names) + " |")
    print("| --- | --- | --- |" + " ---: |" * len(names))
    for pipeline in pipelines:
        cells = [f"{np.median(pipeline.parts[name]) * 1e3:.1f}" for name in names]
        print(f"| {pipeline.name} | {pipeline.source} | {pipeline.mode} | {' | '.join(cells)} |")


def _print_device(args: argparse.Namespace, source: str, name: str) -> None:
    """What is left for the model's device: from a batch of one clip to normalised pathways; and how these differ."""
    device = resolve_device(load_config(args.config_file, args.opts).MODEL.DEVICE)
    print(f"\n| on {device} ({source}) | | ms per clip (wall clock) | mean difference to exact, levels of 8 bits |")
    print("| --- | --- | ---: | ---: |")
    for mode in ("train", "test"):
        exact: list[Tensor] = []
        for transform in ("exact", "device"):
            cfg = _config(args, name, transform=transform)
            dataset, spent, off = build_datasets(cfg, mode)[0], [], []
            mean, std = (torch.tensor(values, device=device) for values in (cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD))
            for number in range(0, 5 * 7, 7):
                batch = _maker(dataset, cfg.DATALOADER.SIZE_DIVISIBILITY)(number)
                begun = time.perf_counter()
                _, clip = network_clips(batch.to(device), mean, std)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                spent.append(time.perf_counter() - begun)
                if transform == "exact":
                    exact.append(clip)
                else:
                    off.append(float(((clip - exact[len(off)]) * std.view(3, 1, 1, 1)).abs().mean()))
            difference = f"{np.mean(off):.2f}" if off else "0"
            print(f"| {transform} | {mode} | {np.median(spent[1:]) * 1e3:.1f} | {difference} |", flush=True)


def _print_workers(args: argparse.Namespace, source: str, name: str) -> None:
    cores = len(os.sched_getaffinity(0))
    print(f"\n| workers ({source}, train, {cores} cores) | clips/s (wall clock) | time to the first batch, s |")
    print("| ---: | ---: | ---: |")
    for workers in args.workers:
        cfg = _config(args, name, workers=workers)
        cfg.SOLVER.VIDEOS_PER_BATCH, cfg.SOLVER.MAX_ITER = 2, args.batches + WARM_BATCHES + 2 * workers
        [dataset] = build_datasets(cfg, "train")
        set_num_classes(cfg, [dataset])
        started = time.perf_counter()
        clips, first, since = 0, 0.0, started
        for number, batch in enumerate(build_loader(cfg, dataset, train=True)):
            now = time.perf_counter()
            first = first or now - started
            if number < WARM_BATCHES + 2 * workers:  # made ahead while nothing was asked for
                since = now
            elif batch is not None:
                clips += len(batch)
        print(f"| {workers} | {clips / (time.perf_counter() - since):.1f} | {first:.2f} |", flush=True)


def _print_memory(args: argparse.Namespace, source: str, name: str) -> None:
    cfg = _config(args, name)
    [dataset] = build_datasets(cfg, "train")
    make = _maker(dataset, cfg.DATALOADER.SIZE_DIVISIBILITY)
    order = np.random.default_rng(1)
    marks = {max(args.samples * tenth // 10, 1) for tenth in range(1, 11)}
    sizes = []
    for number in range(1, args.samples + 1):
        make(int(order.integers(len(dataset))))
        if number in marks:
            sizes.append(_resident())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"\nmemory of this process over {args.samples} clips ({source}, train, one after the other), MiB at each tenth:"
    )
    print(
        " ".join(f"{size:.0f}" for size in sizes)
        + f"; growth from the second {sizes[-1] - sizes[min(1, len(sizes) - 1)]:+.1f}; peak {peak:.0f}"
    )


def _resident() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / MIB


if __name__ == "__main__":
    main()
