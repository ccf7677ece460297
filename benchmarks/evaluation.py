"""Evaluation at AVA's scale: seconds and memory from predictions to mAP, with `result.csv`, and from a CSV.

    python benchmarks/evaluation.py [--keyframes 50000] [--boxes 108000] [--classes 80] [--protocol alphaction]

The detections are simulated: two persons a keyframe, every class scored, the detected box near a true one in four cases
of five, scores that favour the true classes. Needs about 1 GB of memory and of disk in the temporary folder.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from alphaction.evaluation import PROTOCOLS, ImageIndex, frame_map, read_detections, read_ground_truth, result_rows
from alphaction.evaluation.ava import ResultRows, ground_truth_of
from alphaction.structures import Annotations, ClassList, PackedBoxes, Predictions

HEIGHT, WIDTH = 360, 640
CLIP = (256, 455)


def simulate(*, keyframes: int, boxes: int, classes: int, seed: int = 0) -> tuple[Annotations, Predictions]:
    """A set with true boxes on every keyframe and predictions for it."""
    rng = np.random.default_rng(seed)
    owner = np.sort(np.concatenate([np.arange(keyframes), rng.integers(0, keyframes, boxes - keyframes)]))
    corner = rng.uniform([0, 0], [WIDTH * 0.6, HEIGHT * 0.4], (boxes, 2))
    extent = rng.uniform([40, 80], [WIDTH * 0.4, HEIGHT * 0.6], (boxes, 2))
    xyxy = np.concatenate([corner, corner + extent], axis=1).astype(np.float32)
    popularity = 1 / np.arange(1, classes + 1)
    labels = rng.random((boxes, classes)) < np.minimum(2.5 * popularity / popularity.sum(), 0.9)
    per_movie = 900
    annotations = Annotations(
        classes=ClassList(tuple(range(1, classes + 1)), tuple(f"action {k + 1}" for k in range(classes))),
        movies=tuple(f"movie_{m:06d}" for m in range(keyframes // per_movie + 1)),
        movie=(np.arange(keyframes) // per_movie).astype(np.int32),
        time=902.0 + np.arange(keyframes) % per_movie,
        size=np.tile(np.array([[HEIGHT, WIDTH]], np.int32), (keyframes, 1)),
        boxes=PackedBoxes(np.searchsorted(owner, np.arange(keyframes + 1)), xyxy),
        labels=labels,
        person_id=np.full(boxes, -1, np.int32),
    )
    noise = rng.normal(0, np.where(rng.random((boxes, 1)) < 0.8, 5, 60), (boxes, 4))
    scale = np.array([CLIP[1] / WIDTH, CLIP[0] / HEIGHT] * 2)
    logits = rng.normal(-4, 1.5, (boxes, classes)) + 3 * labels
    predictions = Predictions(
        keyframe=owner.astype(np.int64),
        boxes=((xyxy + noise) * scale).astype(np.float32),
        clip_size=np.tile(np.array([CLIP], np.int32), (boxes, 1)),
        box_scores=np.ones(boxes, np.float32),
        scores=(1 / (1 + np.exp(-logits))).astype(np.float32),
    )
    return annotations, predictions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keyframes", type=int, default=50_000)
    parser.add_argument("--boxes", type=int, default=108_000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--protocol", choices=list(PROTOCOLS), default="alphaction")
    parser.add_argument(
        "--stage", choices=list(STAGES), help="one stage alone, in this process (default: each in its own)"
    )
    parser.add_argument("--folder", type=Path, help="folder for the files (default: a temporary one)")
    args = parser.parse_args()
    if args.stage:
        STAGES[args.stage](args)
        return
    print(f"{args.keyframes} keyframes, {args.boxes} boxes, {args.boxes * args.classes} rows, {args.protocol}")
    print(
        f"load of the machine: {', '.join(f'{load:.1f}' for load in os.getloadavg())}; {os.cpu_count()} cores",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        for stage in STAGES:  # a process each, so that the memory is that of the stage
            flags = ["--stage", stage, "--folder", str(args.folder or folder)]
            subprocess.run([sys.executable, __file__, *sys.argv[1:], *flags], check=True)


def from_predictions(args: argparse.Namespace) -> None:
    """Predictions to mAP; then the same with `result.csv` written."""
    annotations, predictions = simulate(keyframes=args.keyframes, boxes=args.boxes, classes=args.classes)
    images, image = ImageIndex.of(annotations)
    print(f"predictions loaded: peak memory {_peak():.2f} GB", flush=True)

    def evaluate(rows: ResultRows) -> float:
        truth = ground_truth_of(annotations, image=image, classes=annotations.classes)
        detections = rows.detections(np.arange(args.classes))
        result = frame_map(detections, ground_truth=truth, num_classes=args.classes, protocol=PROTOCOLS[args.protocol])
        return float(result.mean[0])

    def alone() -> float:
        return evaluate(result_rows(predictions, annotations=annotations, image=image))

    def with_csv() -> float:
        rows = result_rows(predictions, annotations=annotations, image=image)
        with rows.writing(args.folder / "result.csv", images=images, class_ids=annotations.classes.ids):
            return evaluate(rows)

    _timed("predictions to mAP", "mAP", alone)
    _timed("with result.csv", "mAP", with_csv)
    _write_truth(args.folder / "truth.csv", annotations, image, images)


def from_csv(args: argparse.Namespace) -> None:
    """The two files to mAP."""
    classes = ClassList(tuple(range(1, args.classes + 1)), tuple(f"action {k + 1}" for k in range(args.classes)))

    def evaluate() -> float:
        index = ImageIndex()
        truth, _ = read_ground_truth(args.folder / "truth.csv", images=index, classes=classes)
        detections, _ = read_detections(args.folder / "result.csv", images=index, classes=classes)
        result = frame_map(detections, ground_truth=truth, num_classes=args.classes, protocol=PROTOCOLS[args.protocol])
        return float(result.mean[0])

    _timed("CSV files to mAP", "mAP", evaluate)


STAGES = {"predictions": from_predictions, "csv": from_csv}


def _write_truth(path: Path, annotations: Annotations, image: np.ndarray, images: ImageIndex) -> None:
    truth = ground_truth_of(annotations, image=image, classes=annotations.classes)
    with open(path, "w", encoding="utf-8") as file:
        for row, xyxy, label in zip(truth.image.tolist(), truth.xyxy.tolist(), truth.label.tolist(), strict=True):
            file.write(f"{','.join(images.keys[row])},{','.join(f'{v:.5f}' for v in xyxy)},{label + 1},0\n")


def _timed(name: str, unit: str, work: Callable[[], float]) -> float:
    started, cpu = time.perf_counter(), time.process_time()
    value = work()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    print(
        f"{name:<20} {seconds:6.2f} s ({cpu:.2f} s of CPU)   {value:.6g} {unit}   peak memory {_peak():.2f} GB",
        flush=True,
    )
    return seconds


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
