"""What benchmarks/data.py compares the pipelines with: decoding alone, and the time of each stage within a pipeline."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import av
import cv2
import numpy as np

from alphaction.dataset.frame_forms import FrameConverter
from alphaction.dataset.frame_index import FrameIndex
from alphaction.dataset.sampling import TIE, ClipSampling, frame_times, index_frames, nearest_frames
from alphaction.dataset.video_file import VideoFile
from alphaction.dataset.video_index import MovieFiles

#: Functions whose time is a stage; what remains of a sample is decoding, with opening and seeking.
STAGES: dict[str, Sequence[tuple[object, str]]] = {
    "RGB": [(FrameConverter, "rgb")],
    "planes": [(FrameConverter, "planes")],
    "resize": [(cv2, "resize")],
    "jitter": [(cv2, name) for name in ("cvtColor", "LUT", "add", "subtract", "merge")],
    "mirror, split": [(cv2, "flip"), (cv2, "split")],
}


@contextlib.contextmanager
def timed_stages(clock: Callable[[], float] = time.process_time) -> Iterator[dict[str, float]]:
    """Seconds spent in each of `STAGES` within the block, filled in as it runs."""
    seconds: dict[str, float] = defaultdict(float)
    originals = [(owner, name, getattr(owner, name), stage) for stage, row in STAGES.items() for owner, name in row]

    def timed(function: Callable, stage: str) -> Callable:
        def call(*arguments: object, **keywords: object) -> object:
            started = clock()
            try:
                return function(*arguments, **keywords)
            finally:
                seconds[stage] += clock() - started

        return call

    try:
        for owner, name, function, stage in originals:
            setattr(owner, name, timed(function, stage))
        yield seconds
    finally:
        for owner, name, function, _ in originals:
            setattr(owner, name, function)


@dataclass
class _Open:
    container: av.container.InputContainer
    index: FrameIndex
    fps: float


class DecodeOnly:
    """The floor: the frames of a clip are decoded and dropped. One thread, the index known beforehand.

    Frames that no other frame needs and that are not wanted are left to the decoder to drop. A whole video stays open,
    one-second files are opened for every clip (a data set has too many of them to keep open).
    """

    def __init__(self, files: MovieFiles, sampling: ClipSampling) -> None:
        self._files, self._sampling = files, sampling
        self._positions = np.unique(np.concatenate([sampling.slow_window(), sampling.fast_window()]))
        self._indices: dict[str, FrameIndex] = {}
        self._whole: _Open | None = None

    def decode(self, key_time: float) -> int:
        """Decodes the frames around a keyframe, without jitter of the slow pathway; returns how many there were."""
        if self._files.clips is None:
            return self._decode_whole(key_time)
        return self._decode_seconds(key_time)

    def _decode_whole(self, key_time: float) -> int:
        span, rate = self._sampling.span, self._sampling.frame_rate
        if self._whole is None:
            index = self._index(self._files.path)
            container = _opened(self._files.path)
            self._whole = _Open(container, index, float(container.streams.video[0].average_rate or 25))
        index, container = self._whole.index, self._whole.container
        if rate > 0:
            numbers = nearest_frames(index.times, frame_times(key_time, self._positions, span=span, frame_rate=rate))
        else:
            fps = self._whole.fps
            numbers = index_frames(key_time, self._positions, span=span, fps=fps, num_frames=len(index))
        wanted = set(index.pts[np.unique(numbers)].tolist())
        key = index.keys[max(int(np.searchsorted(index.keys, min(wanted), side="right")) - 1, 0)]
        container.seek(int(key), stream=container.streams.video[0])
        return _decode(container, wanted)

    def _decode_seconds(self, key_time: float) -> int:
        clips = self._files.clips or {}
        rate = self._sampling.frame_rate or 25.0
        targets = frame_times(key_time, self._positions, span=self._sampling.span, frame_rate=rate)
        seconds, count = np.floor(targets + TIE).astype(int), 0
        for second in np.unique(seconds).tolist():
            if second in clips:
                path = f"{self._files.path}/{clips[second]}"
                index = self._index(path)
                numbers = nearest_frames(index.times, targets[seconds == second] - second)
                with _opened(path) as container:
                    count += _decode(container, set(index.pts[np.unique(numbers)].tolist()))
        return count

    def _index(self, path: str) -> FrameIndex:
        if path not in self._indices:
            video = VideoFile(path)
            self._indices[path] = video.index
            video.close()
        return self._indices[path]


def _opened(path: str) -> av.container.InputContainer:
    container = av.open(path)
    context = container.streams.video[0].codec_context
    context.thread_count, context.thread_type = 1, "NONE"
    return container


def _decode(container: av.container.InputContainer, wanted: set[int]) -> int:
    """Decodes on from where the file is until all frames with the time stamps `wanted` have come."""
    stream, count = container.streams.video[0], 0
    context, unsent = stream.codec_context, set(wanted)
    for packet in container.demux(stream):
        context.skip_frame = "DEFAULT" if packet.pts in wanted or not packet.size else "NONREF"
        count += sum(frame.pts in wanted for frame in packet.decode())
        unsent.discard(packet.pts)
        if not unsent:
            break
    if count < len(wanted):
        count += sum(frame.pts in wanted for frame in context.decode(None))
    context.skip_frame = "DEFAULT"
    return count
