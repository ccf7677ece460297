"""Reads the frames of a clip, from whole videos or from one-second files, and no others.

Open files and their indices are kept per process in a small `VideoCache`. Names from `sampling` say which frames; names
from `video_file` how one file is read.

Shapes: P frames asked for, h x w pixels as displayed.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import av
import numpy as np

from alphaction.dataset.frame_forms import FrameConverter, shown_size
from alphaction.dataset.frame_index import FrameIndex
from alphaction.dataset.sampling import (
    TIE,
    ClipSampling,
    frame_times,
    index_frames,
    key_position,
    nearest_frames,
    second_file_frames,
)
from alphaction.dataset.stored_frames import StoredFrames
from alphaction.dataset.video_file import VideoFile, VideoInfo, file_stamp, probe
from alphaction.dataset.wanted_frames import Receiver
from alphaction.errors import VideoError

__all__ = [
    "SecondFiles",
    "VideoCache",
    "VideoInfo",
    "WholeVideo",
    "probe",
    "read_clip",
    "read_frame",
    "read_pathways",
    "visit_clip",
]

Size = tuple[int, int]  # (height, width) in pixels

OPEN_FILES = 8
KEPT_INDICES = 64
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


class VideoCache:
    """The most recently used videos, open, and the frame indices of some more.

    A process that was forked from the owner starts with an empty cache: two processes must not share a file position.

    Args:
        open_files: how many files stay open.
        kept_indices: how many frame indices stay in memory (8 bytes times 2 per frame: 0.4 MB for 15 minutes).
        threads: decoder threads of each file.
    """

    def __init__(self, *, open_files: int = OPEN_FILES, kept_indices: int = KEPT_INDICES, threads: int = 1) -> None:
        if open_files < 1 or kept_indices < 1 or threads < 1:
            raise ValueError(
                f"open_files, kept_indices, threads: got {open_files}, {kept_indices}, {threads}, expected at least 1"
            )
        self._open_files, self._kept_indices, self._threads = open_files, kept_indices, threads
        self._videos: OrderedDict[str, VideoFile] = OrderedDict()
        self._indices: OrderedDict[tuple[str, tuple[int, int]], FrameIndex] = OrderedDict()
        self._process = os.getpid()
        self._converter = FrameConverter()

    def __len__(self) -> int:
        return len(self._videos)

    def __getstate__(self) -> dict:
        return {"open_files": self._open_files, "kept_indices": self._kept_indices, "threads": self._threads}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)

    def get(self, path: str) -> VideoFile:
        """The open video, with its index if it was known before.

        Raises:
            VideoError: missing, empty or unreadable.
        """
        self._begin_anew_after_fork()
        video = self._videos.pop(path, None)
        if video is not None and video.stamp != file_stamp(path):  # replaced since it was opened
            video.close()
            video = None
        if video is None:
            while len(self._videos) >= self._open_files:
                self._release(self._videos.popitem(last=False)[1])
            video = VideoFile(path, threads=self._threads)
            if (path, video.stamp) in self._indices:
                video.index = self._indices[path, video.stamp]
        self._videos[path] = video
        return video

    @property
    def converter(self) -> FrameConverter:
        """For the frames of these videos."""
        self._begin_anew_after_fork()
        return self._converter

    def _begin_anew_after_fork(self) -> None:
        if self._process != os.getpid():
            # Not closed but kept: freeing a converter waits for threads that exist in the forking process only.
            _left_by_fork.extend((*self._videos.values(), self._converter))
            self.__setstate__(self.__getstate__())

    def index(self, path: str, stored: StoredFrames | None = None) -> FrameIndex:
        """The frames of a video; the file is not opened when they are known, or found in `stored`."""
        key = (path, file_stamp(path))
        if stored is not None and key not in self._indices and (found := stored.find(*key)) is not None:
            self._indices[key] = found
            if path in self._videos and self._videos[path].stamp == key[1]:
                self._videos[path].index = found
        if key not in self._indices or path in self._videos:
            self._indices[key] = self.get(path).index
        self._indices.move_to_end(key)
        while len(self._indices) > self._kept_indices:
            self._indices.popitem(last=False)
        return self._indices[key]

    def close(self) -> None:
        """Closes all files."""
        while self._videos:
            self._release(self._videos.popitem()[1])
        self._indices.clear()

    def _release(self, video: VideoFile) -> None:
        if self._process == os.getpid():
            video.close()


_shared: dict[int, VideoCache] = {}
_left_by_fork: list[VideoFile | FrameConverter] = []


def shared_cache(threads: int = 1) -> VideoCache:
    """The process's own cache for a number of decoder threads."""
    return _shared.setdefault(threads, VideoCache(threads=threads))


def visit_clip(
    source: VideoSource,
    key_time: float,
    positions: np.ndarray,
    *,
    span: int,
    frame_rate: float,
    receive: Receiver,
    cache: VideoCache | None = None,
) -> Size:
    """Decodes the frames at positions of the window around a keyframe and hands them over one by one.

    Args:
        source: the video.
        key_time: seconds from the video's first frame; a one-second file starts at the second in its name.
        positions: int64 [P], window positions (`sampling`), any order, repeats allowed and read once.
        span: length of the window in positions; the keyframe is at `sampling.key_position(span)`.
        frame_rate: window positions per second of time, 0 = the source's own frames by index (INPUT.FRAME_RATE).
        receive: called with places in `positions` (int64) and their frame, which it must not keep: the decoder
            needs its memory again.
        cache: open files; default the process's own.

    Returns:
        (height, width) in pixels of the frames as displayed.

    Raises:
        VideoError: a needed file is missing, empty or damaged, or the video ends before the keyframe.
    """
    positions = np.asarray(positions, dtype=np.int64)
    if len(positions) == 0:
        raise ValueError("positions: got none, expected at least one")
    cache = shared_cache() if cache is None else cache
    place = source.path if isinstance(source, WholeVideo) else source.folder
    sizes: list[Size] = []

    def checked(places: np.ndarray, frame: av.VideoFrame) -> None:
        size = shown_size(frame)
        sizes[:] = sizes or [size]
        if size != sizes[0]:
            both = ", ".join(sorted(f"{width} x {height}" for height, width in (sizes[0], size)))
            raise VideoError(
                f"{place}: frames around {key_time:g} s differ in size ({both}); expected one size per video"
            )
        receive(places, frame)

    if isinstance(source, WholeVideo):
        _visit_whole(source, key_time, positions, span, frame_rate, cache, checked)
    else:
        _visit_second_files(source, key_time, positions, span, frame_rate, cache, checked)
    return sizes[0]


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
    """The frames that `visit_clip` finds, uint8 [P, h, w, 3] RGB.

    Args:
        threads: decoder threads, used when `cache` is not given.
    """
    cache = shared_cache(threads) if cache is None else cache
    images: list[np.ndarray | None] = [None] * len(positions)

    def keep(places: np.ndarray, frame: av.VideoFrame) -> None:
        image = cache.converter.rgb(frame)
        for place in places:
            images[place] = image

    visit_clip(source, key_time, positions, span=span, frame_rate=frame_rate, receive=keep, cache=cache)
    return np.stack(images)


def read_frame(
    source: VideoSource, key_time: float, *, frame_rate: float, cache: VideoCache | None = None
) -> np.ndarray:
    """The keyframe alone, uint8 [h, w, 3] RGB: the same picture that a clip around `key_time` has in its middle."""
    return read_clip(source, key_time, np.array([key_position(1)]), span=1, frame_rate=frame_rate, cache=cache)[0]


def read_pathways(
    source: VideoSource,
    key_time: float,
    sampling: ClipSampling,
    *,
    slow_shift: int = 0,
    threads: int = 1,
    cache: VideoCache | None = None,
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The frames of both pathways in one pass through the video.

    Returns:
        slow uint8 [T_slow, h, w, 3] and fast uint8 [T_fast, h, w, 3], RGB; None for a pathway that is off.
    """
    slow, fast = sampling.slow_window(slow_shift), sampling.fast_window()
    frames = read_clip(
        source,
        key_time,
        np.concatenate([slow, fast]),
        span=sampling.span,
        frame_rate=sampling.frame_rate,
        threads=threads,
        cache=cache,
    )
    return frames[: len(slow)] if sampling.slow else None, frames[len(slow) :] if sampling.fast else None


def _visit_whole(
    source: WholeVideo,
    key_time: float,
    positions: np.ndarray,
    span: int,
    frame_rate: float,
    cache: VideoCache,
    receive: Receiver,
) -> None:
    index = cache.index(source.path, source.stored)
    _check_key_time(source.path, key_time, index)
    video = cache.get(source.path)
    if frame_rate > 0:
        targets = frame_times(key_time, positions, span=span, frame_rate=frame_rate)
        numbers = nearest_frames(index.times, targets)
    else:
        numbers = index_frames(key_time, positions, span=span, fps=video.fps, num_frames=len(index))
    video.visit(numbers, receive)
    _check_key_time(source.path, key_time, index)  # reading may have found that the end is undecodable


def _check_key_time(path: str, key_time: float, index: FrameIndex) -> None:
    end = float(index.times[-1]) + index.last_duration
    if not -PAST_THE_END <= key_time <= end + PAST_THE_END:
        raise VideoError(f"{path}: got a keyframe at {key_time:g} s, but the video runs from 0 to {end:.2f} s")


def _visit_second_files(
    source: SecondFiles,
    key_time: float,
    positions: np.ndarray,
    span: int,
    frame_rate: float,
    cache: VideoCache,
    receive: Receiver,
) -> None:
    key_second = int(np.floor(key_time + TIE))
    if key_second not in source.files:
        raise VideoError(f"{source.folder}: has no file for second {key_second}, the keyframe at {key_time:g} s")
    if frame_rate > 0:
        targets = frame_times(key_time, positions, span=span, frame_rate=frame_rate)
        seconds, numbers = _nearest_in_second_files(source, targets, key_second, cache)
    else:

        def num_frames(second: int) -> int | None:
            return len(cache.index(source.path(second))) if second in source.files else None

        frames = second_file_frames(key_time, positions, span=span, num_frames=num_frames)
        seconds, numbers = frames[:, 0], frames[:, 1]
    for second in np.unique(seconds):
        rows = np.nonzero(seconds == second)[0]
        cache.get(source.path(int(second))).visit(numbers[rows], _for_rows(receive, rows))


def _for_rows(receive: Receiver, rows: np.ndarray) -> Receiver:
    return lambda places, frame: receive(rows[places], frame)


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
