"""The pictures that a detector is to look at: keyframes of a data set, moments of videos, or picture files.

Shapes: h x w pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from alphaction.dataset.video_index import VideoIndex, open_source
from alphaction.dataset.video_io import read_frame
from alphaction.errors import DataError, UserError, VideoError
from alphaction.preparation.check_findings import Findings
from alphaction.preparation.check_split import SplitFacts, read_splits, split_names

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
FRAME_RATE = 25.0  # any: of a clip only the keyframe itself is read, which is found by its time


@dataclass(frozen=True)
class Frame:
    """A picture.

    Attributes:
        image_id: what the box file calls it, a number or a text.
        path: the video, the folder of one-second files, or the picture.
        time: seconds from the video's start; None for a picture.
        size: (height, width) that boxes shall refer to; None = the picture's own.
    """

    image_id: Hashable
    path: str
    time: float | None = None
    size: tuple[int, int] | None = None


@dataclass
class FrameSet:
    """What to look at.

    Attributes:
        title: for messages.
        frames: in the order of the box file.
        problems: what cannot be looked at, a line each.
        facts: of the data set's split; None for videos and pictures.
        by_name: write the guide's form, {"video/0001.jpg": [boxes]}.
    """

    title: str
    frames: list[Frame]
    problems: list[str] = field(default_factory=list)
    facts: SplitFacts | None = None
    by_name: bool = False


def dataset_frames(name: str) -> FrameSet:
    """The keyframes of a split, with the image ids of its annotation file, or "<video>/<seconds>" where it has none.

    Args:
        name: "path/to/dataset.yaml:split", or a name of the catalog.

    Raises:
        UserError: no such split, or it cannot be read.
    """
    names = split_names([name])
    if len(names) > 1:
        raise DataError(f"{name}: which split? One at a time: {', '.join(full for _, full in names)}")
    findings = Findings()
    facts = next(iter(read_splits(names, findings)), None)
    if facts is None or facts.index is None:
        raise DataError(_first_message(findings) or f"{name}: cannot be read")
    raw = facts.raw
    ids = {row: image for image, row in reversed(list(raw.image_rows.items()))}
    frames = [
        Frame(
            image_id=ids.get(row, f"{raw.movies[int(raw.movie[row])]}/{time_text(float(raw.time[row]))}"),
            path=facts.files[int(raw.movie[row])].path,
            time=float(raw.time[row]),
            size=tuple(facts.size[row].tolist()) if facts.size[row].all() else None,
        )
        for row in np.flatnonzero(facts.check.usable).tolist()
    ]
    problems = [f"{movie}: {'; '.join(told)}" for movie, told in facts.check.faults.items()]
    late = Counter(raw.movies[int(raw.movie[row])] for row in facts.check.past_end)
    problems += [f"{movie}: {count} keyframes past the end of the video" for movie, count in late.items()]
    return FrameSet(f"the keyframes of {name}", frames, problems, facts)


def video_frames(root: str, *, step: float = 1.0, start: float = 0.0, end: float | None = None) -> FrameSet:
    """A frame every `step` seconds of every video in a folder; image ids are "<video>/<seconds>".

    Of folders of one-second files the first frames of the files in the range are taken, every round(step)-th.

    Raises:
        UserError: the folder cannot be read, or the range is none.
    """
    if step <= 0 or start < 0 or (end is not None and end <= start):
        raise DataError(f"--step, --start, --end: got {step:g}, {start:g}, {end}; expected step > 0, 0 <= start < end")
    index = VideoIndex(root)
    frames, problems = [], []
    for entry in index.find(index.names()):
        if entry.problem:
            problems.append(f"{entry.movie}: {entry.problem}")
            continue
        if entry.info is not None:
            last = entry.info.duration if end is None else min(end, entry.info.duration)
            count = max(int(np.ceil((last - start) / step - 1e-6)), 0)
            times = [round(start + i * step, 6) for i in range(count)]
        else:
            good = sorted(set(entry.clips or ()) - set(entry.empty))
            times = [float(s) for s in good if s >= start and (end is None or s < end)][:: max(round(step), 1)]
        frames += [Frame(f"{entry.movie}/{time_text(time)}", entry.path, time) for time in times]
    return FrameSet(f"the videos in {root}", frames, problems)


def picture_frames(root: str) -> FrameSet:
    """Every picture below a folder; image ids are the paths from there, as in the fine-tuning guide.

    Raises:
        DataError: there is no such folder.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DataError(f"--keyframes: {root}: is not a folder")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    frames = [Frame(path.relative_to(folder).as_posix(), str(path)) for path in files]
    return FrameSet(f"the pictures in {root}", frames, by_name=True)


def time_text(time: float) -> str:
    """`12`, `12.5`: seconds as box files write them."""
    return f"{time:.6f}".rstrip("0").rstrip(".")


def load_picture(frame: Frame) -> np.ndarray:
    """uint8 [h, w, 3] RGB.

    Raises:
        VideoError: it cannot be read.
    """
    if frame.time is not None:
        return read_frame(open_source(frame.path), frame.time, frame_rate=FRAME_RATE)
    image = cv2.imread(frame.path)
    if image is None:
        raise VideoError(f"{frame.path}: is not a picture that can be read")
    return np.ascontiguousarray(image[..., ::-1])


class Pictures(Dataset):
    """For a DataLoader: (frame, its picture uint8 [h, w, 3], or what is wrong with it)."""

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, number: int) -> tuple[int, torch.Tensor | str]:
        try:
            return number, torch.from_numpy(load_picture(self.frames[number]))
        except UserError as error:
            return number, str(error)


def _first_message(findings: Findings) -> str:
    return next(map(str, findings), "")
