"""What the annotated video costs per frame: boxes and labels drawn, H.264 written, on one core.

    python benchmarks/annotated_video.py [--video FILE]

Without a file it uses generated frames with the detail and grain of footage. It takes about half a minute on an idle
machine. Times are processor time of the one thread.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import av
import cv2
import numpy as np
from footage import make_footage

from alphaction.prediction.annotated import AnnotatedVideo
from alphaction.prediction.annotated.encoder import Encoder
from alphaction.prediction.records import Moment, PersonRecord

SIZES = ((360, 640), (720, 1280), (1080, 1920))
NAMES = ("stand", "walk", "talk to (e.g., self, a person, a group)", "listen to (a person)", "carry/hold (an object)")
FPS, MOMENTS, FRAMES = 25, 4, 100  # frames and moments per second; frames that are measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, help="frames of this video, the first 100")
    parser.add_argument("--persons", type=int, nargs="+", default=[2, 6], help="persons in sight (2 6)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = args.video
        if path is None:
            path = make_footage(Path(folder), movies=1, seconds=FRAMES // FPS).parent / "movies" / "m0.mp4"
        print("| frame | persons | draw | encode | both | frames per second |")
        print("|---|---|---|---|---|---|")
        for size in SIZES:
            frames = read(path, size)
            encode = time_encoding(Path(folder), frames)
            for persons in args.persons:
                both = time_video(Path(folder), frames, persons)
                print(
                    f"| {size[1]} x {size[0]} | {persons} | {1000 * (both - encode):.1f} ms | {1000 * encode:.1f} ms "
                    f"| {1000 * both:.1f} ms | {1 / both:.0f} |",
                    flush=True,
                )


def read(path: Path, size: tuple[int, int]) -> list[np.ndarray]:
    """The first frames, uint8 [height, width, 3] RGB each, resized; what enlarging smooths is replaced by grain."""
    frames = []
    rng = np.random.default_rng(0)
    with av.open(str(path)) as container:
        for frame in itertools.islice(container.decode(video=0), FRAMES):
            picture = frame.to_ndarray(format="rgb24")
            smaller = picture.shape[0] < size[0]
            picture = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_CUBIC if smaller else cv2.INTER_AREA)
            if smaller:
                grain = rng.integers(-3, 4, (*size, 1))
                picture = np.clip(picture + grain, 0, 255).astype(np.uint8)
            frames.append(picture)
    return frames


def time_encoding(folder: Path, frames: list[np.ndarray]) -> float:
    """Seconds per frame."""
    start = time.process_time()
    encoder = Encoder(folder / "plain.mp4", size=frames[0].shape[:2], fps=FPS, threads=1)
    for i, frame in enumerate(frames):
        encoder.add(frame, time=i / FPS)
    encoder.close()
    return (time.process_time() - start) / len(frames)


def time_video(folder: Path, frames: list[np.ndarray], persons: int) -> float:
    """Seconds per frame, with its copy, boxes, labels and encoding."""
    size = frames[0].shape[:2]
    coming = iter(moments(size, persons, seconds=len(frames) / FPS + 1))
    start = time.process_time()
    with AnnotatedVideo(
        folder / "drawn.mp4", fps=FPS, size=size, class_names=NAMES, step=1 / MOMENTS, threads=1
    ) as video:
        latest = -1.0
        for i, frame in enumerate(frames):
            while latest < i / FPS:
                moment = next(coming)
                video.add_moment(moment)
                latest = moment.time
            video.add_frame(frame, time=i / FPS)
    return (time.process_time() - start) / len(frames)


def moments(size: tuple[int, int], persons: int, *, seconds: float) -> list[Moment]:
    """Persons side by side who sway, with other scores at each moment."""
    rng = np.random.default_rng(0)
    width, height = size[1] / persons, size[0]
    found = []
    for i in range(round(seconds * MOMENTS)):
        records = []
        for track in range(persons):
            left = (track + 0.1 * np.sin(i + track)) * width
            box = (left, 0.25 * height, left + 0.8 * width, 0.95 * height)
            scores = rng.random(len(NAMES), dtype=np.float32)
            records.append(PersonRecord(track, box, 1.0, scores))
        found.append(Moment(i / MOMENTS, size, records))
    return found


if __name__ == "__main__":
    main()
