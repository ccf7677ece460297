"""Where frames come from: a video file, read through once from the first frame that is needed to the last.

Times are seconds from the first frame, as everywhere. Frames have the size they are displayed in.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Generator, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from alphaction.dataset.video_file import VideoFile
from alphaction.errors import VideoError

logger = logging.getLogger(__name__)

#: Frames that are looked up at once in a file's index; the file is sought anew after as many.
_STRETCH = 5000


class Frame(NamedTuple):
    """A decoded frame.

    Attributes:
        number: in the order of showing, from 0; a live source counts what it delivers.
        time: seconds from the first frame.
        image: uint8 [h, w, 3] RGB, as displayed.
    """

    number: int
    time: float
    image: np.ndarray


@runtime_checkable
class Source(Protocol):
    """What a run needs to know of a video.

    Attributes:
        name: for messages.
        size: (height, width) as displayed, pixels.
        fps: average frames per second.
        start: time of the first moment that is asked for, seconds.
        end: time of the last one; infinite for a stream.
        is_complete: whether frames to come are there already: then predictions may look at them.
        drops: whether frames are lost while nobody takes them.
    """

    name: str
    size: tuple[int, int]
    fps: float
    start: float
    end: float
    is_complete: bool
    drops: bool

    def frames(self, low: float, high: float, *, counted: bool) -> Iterator[Frame]:
        """Frames from the last one at or before `low` to the first one at or after `high`.

        Args:
            low, high: seconds, or numbers of frames.
            counted: they are numbers.
        """

    def backlog(self) -> float:
        """Seconds from the frame that was taken last to the newest one that waits; 0 where nothing waits."""

    def close(self) -> None:
        """Lets go of the file or device."""


class FileSource:
    """A video file.

    Args:
        path: the file.
        start: first moment, seconds.
        duration: seconds from there; None = to the end.
        threads: decoder threads.

    Raises:
        VideoError: missing, no video, no frame that can be decoded, or it ends before `start`.
    """

    is_complete = True
    drops = False

    def __init__(self, path: str, *, start: float = 0.0, duration: float | None = None, threads: int = 2) -> None:
        self.name = path
        self._threads = threads
        self._video = VideoFile(path, threads=threads)
        try:
            info = self._video.info()
            self._index = self._video.index
        except BaseException:
            self._video.close()
            raise
        self.size, self.fps = (info.height, info.width), info.fps
        if not 0 <= start <= self.length:
            self.close()
            raise VideoError(
                f"{path}: asked for the time from {start:g} s on, but it runs from 0 to {self.length:.2f} s"
            )
        self.start = start
        self.end = self.length if duration is None else min(self.length, start + duration)

    @property
    def length(self) -> float:
        """Time of the last frame, whatever part is asked for, seconds."""
        return float(self._index.times[-1])

    @property
    def num_frames(self) -> int:
        """Frames from `start` to `end`."""
        first, last = np.searchsorted(self._index.times, [self.start, self.end], side="left")
        return int(min(last, len(self._index) - 1) - first + 1)

    def frames(self, low: float, high: float, *, counted: bool) -> Iterator[Frame]:
        """See `Source`. Frames that cannot be decoded are left out.

        Raises:
            VideoError: none of them can.
        """
        low, high = (low, high) if counted else self._numbers(low, high)
        last = len(self._index) - 1
        yield from self._walk(self._video, int(np.clip(low, 0, last)), int(np.clip(high, 0, last)))

    def playback(self) -> Generator[Frame, None, None]:
        """The frames from `start` to `end` once more, by a reader of their own, beside `frames`."""
        video = VideoFile(self.name, threads=self._threads)
        video.index = self._index
        try:
            first, last = np.searchsorted(self._index.times, [self.start, self.end], side="left")
            yield from self._walk(video, int(first), int(min(last, len(self._index) - 1)))
        finally:
            video.close()

    def backlog(self) -> float:
        return 0.0

    def close(self) -> None:
        self._video.close()

    def _numbers(self, low: float, high: float) -> tuple[int, int]:
        times = self._index.times
        return int(np.searchsorted(times, low, side="right")) - 1, int(np.searchsorted(times, high, side="left"))

    def _walk(self, video: VideoFile, first: int, last: int) -> Iterator[Frame]:
        found = False
        stretch = _STRETCH if self._index.pts is not None else last - first + 1  # without time stamps: from the start
        for begin in range(first, last + 1, stretch):
            come = False
            for number, image in video.walk(np.arange(begin, min(begin + stretch, last + 1))):
                come = found = True
                yield Frame(number, float(self._index.times[number]), image)
            if not come:  # the file cannot be sought, or all is damaged: from its start, without looking back
                for number, image in video.walk(np.arange(last + 1)):
                    if number >= begin:
                        found = True
                        yield Frame(number, float(self._index.times[number]), image)
                break
        if not found:
            raise VideoError(f"{self.name}: none of its frames {first} to {last} can be decoded; the file is damaged")


def tick_times(start: float, end: float, rate: float) -> Iterator[float]:
    """`start`, and every 1 / rate seconds from there to `end`."""
    count = math.inf if math.isinf(end) else math.floor((end - start) * rate + 1e-6) + 1
    number = 0
    while number < count:
        yield start + number / rate
        number += 1
