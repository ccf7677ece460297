"""Reads the frames of a clip, from whole videos or from one-second files, and no others.

Open files and their indices are kept per process in a small `VideoCache`. Names from `sampling` say which frames; names
from `video_file` how one file is read.

Shapes: P frames asked for, h x w pixels as displayed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import av
import numpy as np

from alphaction.dataset.frame_forms import shown_size
from alphaction.dataset.frame_index import FrameIndex
from alphaction.dataset.sampling import (
    TIE,
    frame_times,
    index_frames,
    key_position,
    nearest_frames,
    second_file_frames,
)
from alphaction.dataset.stored_frames import StoredFrames
from alphaction.dataset.video_cache import VideoCache, shared_cache
from alphaction.dataset.video_file import VideoInfo, probe
from alphaction.dataset.wanted_frames import Receiver
from alphaction.errors import VideoError

__all__ = [
    "ClipRequest",
    "SecondFiles",
    "VideoCache",
    "VideoInfo",
    "WholeVideo",
    "probe",
    "read_clip",
    "read_frame",
    "shared_cache",
    "visit_clips",
]

Size = tuple[int, int]  # (height, width) in pixels

PAST_THE_END = 1.0  # seconds: a keyframe this close to an end of the video still shows that end's frame


@dataclass(frozen=True)
class WholeVideo:
    """A video in one file.

    Attributes:
        path: the file.
        stored: indices that were stored with the data set, None if there are none.
    """

    path: str
    stored: StoredFrames | None = None


@dataclass(frozen=True)
class SecondFiles:
    """A video cut into files of one second each, as the AVA preparation scripts do.

    Attributes:
        folder: where the files are.
        files: {second: file name}. A second may be missing; the nearest frames repeat in its place.
    """

    folder: str
    files: Mapping[int, str]

    def path(self, second: int) -> str:
        return os.path.join(self.folder, self.files[second])


VideoSource = WholeVideo | SecondFiles


def place_of(source: VideoSource) -> str:
    """The file or folder."""
    return source.path if isinstance(source, WholeVideo) else source.folder


@dataclass(frozen=True)
class ClipRequest:
    """The frames of one clip, and who takes them.

    Attributes:
        source: the video.
        key_time: seconds from the video's first frame; a one-second file starts at the second in its name.
        positions: int64 [P], window positions (`sampling`), any order, repeats allowed and read once.
        span: length of the window in positions; the keyframe is at `sampling.key_position(span)`.
        frame_rate: window positions per second of time, 0 = the source's own frames by index (INPUT.FRAME_RATE).
        receive: called with places in `positions` (int64) and their frame, which it must not keep: the decoder needs
            its memory again.
    """

    source: VideoSource
    key_time: float
    positions: np.ndarray
    span: int
    frame_rate: float
    receive: Receiver


def visit_clips(requests: Sequence[ClipRequest], *, cache: VideoCache | None = None) -> list[Size]:
    """Decodes the frames of clips and hands them over one by one; what clips want of one file is decoded in one pass.

    Args:
        cache: open files; default the process's own.

    Returns:
        (height, width) in pixels of each clip's frames as displayed.

    Raises:
        VideoError: a needed file is missing, empty or damaged, or a video ends before its keyframe. Clips after the
            first one that cannot be read have got only some of their frames then.
    """
    cache = shared_cache() if cache is None else cache
    takers = [_Taker(request) for request in requests]
    wanted: dict[str, list[_Part]] = {}
    for taker in takers:
        for path, part in _parts(taker, cache):
            wanted.setdefault(path, []).append(part)
    for path, parts in wanted.items():
        numbers = np.concatenate([part.numbers for part in parts])
        cache.get(path).visit(numbers, _dealt(parts))
    for request in requests:  # reading may have found that the end of a video is undecodable
        if isinstance(request.source, WholeVideo):
            _check_key_time(request.source.path, request.key_time, cache.index(request.source.path))
    return [taker.size for taker in takers]


def read_clip(
    source: VideoSource,
    key_time: float,
    positions: np.ndarray,
    *,
    span: int,
    frame_rate: float,
    threads: int = 1,
    cache: VideoCache | None = None,
) -> np.ndarray:
    """The frames of one clip, uint8 [P, h, w, 3] RGB.

    Args:
        source, key_time, positions, span, frame_rate: as for `ClipRequest`.
        threads: decoder threads, used when `cache` is not given.
    """
    cache = shared_cache(threads) if cache is None else cache
    images: dict[int, np.ndarray] = {}

    def keep(places: np.ndarray, frame: av.VideoFrame) -> None:
        image = cache.converter.rgb(frame)
        images.update(dict.fromkeys(places.tolist(), image))

    visit_clips([ClipRequest(source, key_time, positions, span, frame_rate, keep)], cache=cache)
    return np.stack([images[place] for place in range(len(positions))])


def read_frame(
    source: VideoSource, key_time: float, *, frame_rate: float, cache: VideoCache | None = None
) -> np.ndarray:
    """The keyframe alone, uint8 [h, w, 3] RGB: the same picture that a clip around `key_time` has in its middle."""
    return read_clip(source, key_time, np.array([key_position(1)]), span=1, frame_rate=frame_rate, cache=cache)[0]


class _Taker:
    """Takes the frames of a request and sees that all have one size."""

    def __init__(self, request: ClipRequest) -> None:
        self.positions = np.asarray(request.positions, dtype=np.int64)
        if len(self.positions) == 0:
            raise ValueError("positions: got none, expected at least one")
        self.request = request
        self.size: Size = (0, 0)

    def take(self, places: np.ndarray, frame: av.VideoFrame) -> None:
        size = shown_size(frame)
        if self.size not in (size, (0, 0)):
            both = ", ".join(sorted(f"{width} x {height}" for height, width in (self.size, size)))
            raise VideoError(
                f"{place_of(self.request.source)}: frames around {self.request.key_time:g} s differ in size ({both}); "
                "expected one size per video"
            )
        self.size = size
        self.request.receive(places, frame)


@dataclass(frozen=True)
class _Part:
    """What a clip wants of one file: frames by number, and their places in the clip, int64 [P] each."""

    taker: _Taker
    places: np.ndarray
    numbers: np.ndarray


def _dealt(parts: Sequence[_Part]) -> Receiver:
    """Deals frames of the parts' numbers, one after the other, out to the clips."""
    starts = np.cumsum([0, *(len(part.numbers) for part in parts)])

    def deal(places: np.ndarray, frame: av.VideoFrame) -> None:
        bounds = np.searchsorted(places, starts)
        for part, start, low, high in zip(parts, starts[:-1], bounds[:-1], bounds[1:], strict=True):
            if low < high:
                part.taker.take(part.places[places[low:high] - start], frame)

    return deal


def _parts(taker: _Taker, cache: VideoCache) -> Iterator[tuple[str, _Part]]:
    """(path, part) for each file that a clip needs."""
    request, source = taker.request, taker.request.source
    if isinstance(source, WholeVideo):
        numbers = _whole_numbers(source, request.key_time, taker.positions, request.span, request.frame_rate, cache)
        yield source.path, _Part(taker, np.arange(len(numbers)), numbers)
        return
    seconds, numbers = _second_numbers(
        source, request.key_time, taker.positions, request.span, request.frame_rate, cache
    )
    for second in np.unique(seconds):
        places = np.nonzero(seconds == second)[0]
        yield source.path(int(second)), _Part(taker, places, numbers[places])


def _whole_numbers(
    source: WholeVideo, key_time: float, positions: np.ndarray, span: int, frame_rate: float, cache: VideoCache
) -> np.ndarray:
    index = cache.index(source.path, source.stored)
    _check_key_time(source.path, key_time, index)
    if frame_rate > 0:
        targets = frame_times(key_time, positions, span=span, frame_rate=frame_rate)
        return nearest_frames(index.times, targets)
    fps = cache.get(source.path).fps
    return index_frames(key_time, positions, span=span, fps=fps, num_frames=len(index))


def _check_key_time(path: str, key_time: float, index: FrameIndex) -> None:
    end = float(index.times[-1]) + index.last_duration
    if not -PAST_THE_END <= key_time <= end + PAST_THE_END:
        raise VideoError(f"{path}: got a keyframe at {key_time:g} s, but the video runs from 0 to {end:.2f} s")


def _second_numbers(
    source: SecondFiles, key_time: float, positions: np.ndarray, span: int, frame_rate: float, cache: VideoCache
) -> tuple[np.ndarray, np.ndarray]:
    """(second, frame within its file) of each position, int64 [P] each."""
    key_second = int(np.floor(key_time + TIE))
    if key_second not in source.files:
        raise VideoError(f"{source.folder}: has no file for second {key_second}, the keyframe at {key_time:g} s")
    if frame_rate > 0:
        targets = frame_times(key_time, positions, span=span, frame_rate=frame_rate)
        return _nearest_in_second_files(source, targets, key_second, cache)

    def num_frames(second: int) -> int | None:
        return len(cache.index(source.path(second))) if second in source.files else None

    frames = second_file_frames(key_time, positions, span=span, num_frames=num_frames)
    return frames[:, 0], frames[:, 1]


def _nearest_in_second_files(
    source: SecondFiles, targets: np.ndarray, key_second: int, cache: VideoCache
) -> tuple[np.ndarray, np.ndarray]:
    """(second, frame within its file) shown nearest to each target, int64 [P] each.

    A frame is at its file's second plus its time within the file. What a file holds beyond its second is left out where
    the next second has a file of its own.
    """
    first, last = int(np.floor(targets.min() + TIE)), int(np.floor(targets.max() + TIE))
    times, seconds, numbers = [], [], []

    def add(second: int) -> None:
        own = cache.index(source.path(second)).times
        if second + 1 in source.files:
            own = own[own < 1 - TIE]
        times.append(second + own)
        seconds.append(np.full(len(own), second))
        numbers.append(np.arange(len(own)))

    for second in range(min(first, key_second), max(last, key_second) + 1):
        if second in source.files:
            add(second)
    # The next second's first frame may be nearer than the last one of `last`.
    if last + 1 in source.files and targets.max() > times[-1][-1] + TIE:
        add(last + 1)
    chosen = nearest_frames(np.concatenate(times), targets)
    return np.concatenate(seconds)[chosen].astype(np.int64), np.concatenate(numbers)[chosen].astype(np.int64)
