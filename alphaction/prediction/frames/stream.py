"""Video without an end: cameras, network streams, pipes. A thread reads; what nobody takes in time is dropped.

A live source (camera, RTSP, RTMP, UDP, ...) goes on whether or not somebody looks, so that waiting frames are replaced
by newer ones: results lag by the window and one prediction, never by more. A pipe or a file behind a URL waits instead.
"""

from __future__ import annotations

import logging
import math
import queue
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import av
import cv2
import numpy as np

from alphaction.errors import VideoError
from alphaction.prediction.frames.source import Frame

logger = logging.getLogger(__name__)

#: Frames of a stream are made smaller to this longer side, pixels: a few seconds of them are kept in memory.
LONGEST_SIDE = 1280
#: Seconds without a frame after which a live source counts as lost.
PATIENCE = 15.0

_USUAL_FPS = 25.0
_ASK_EVERY = 0.2  # seconds: who waits for a frame looks so often whether to stop
_LONGEST_GAP = 5.0  # seconds: time stamps that jump further are not believed


class Opened(NamedTuple):
    """A stream that delivers.

    Attributes:
        frames: (seconds by its own clock or None, uint8 [h, w, 3] RGB); ends with the stream.
        fps: frames per second that it promises; 0 = unknown.
        live: whether it goes on while nobody takes its frames.
        close: lets go of it.
    """

    frames: Iterator[tuple[float | None, np.ndarray]]
    fps: float
    live: bool
    close: Callable[[], None]


class StreamSource:
    """Frames of a stream, taken as they come. Reading begins at once.

    Args:
        opened: the stream.
        name: for messages.
        keep: seconds of frames that may wait; of a live stream at least the length of a clip, so that the newest clip
            is always whole.
        patience: seconds without a frame after which it counts as ended.
        should_stop: asked while it waits for a frame; anything true ends `frames`.

    Raises:
        VideoError: it does not deliver a frame.
    """

    start = 0.0
    end = math.inf
    is_complete = False

    def __init__(
        self,
        opened: Opened,
        *,
        name: str,
        keep: float,
        patience: float = PATIENCE,
        should_stop: Callable[[], object] | None = None,
    ) -> None:
        self.name = name
        self.fps = opened.fps if 0 < opened.fps < 1000 else _USUAL_FPS
        self.drops = opened.live
        self.num_dropped = 0
        self._opened = opened
        self._room = max(2, math.ceil(keep * self.fps))
        self._patience = patience
        self._should_stop = should_stop or (lambda: False)
        self._queue: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error = ""
        self._taken = 0.0
        self._thread = threading.Thread(target=self._read, name="stream", daemon=True)
        self._thread.start()
        with self._changed:
            self._wait()
            if not self._queue:
                self._closed = True
                reason = self._error or ("it ended before its first frame" if self._ended else "no frame came")
                raise VideoError(f"{name}: cannot be watched ({reason})")
            self.size = self._queue[0].image.shape[:2]

    def frames(self, low: float, high: float, *, counted: bool) -> Iterator[Frame]:
        """Every frame that is not dropped, until the stream ends. `low` and `high` have no effect."""
        while True:
            with self._changed:
                come = self._wait()
                if not self._queue:
                    if not come:
                        logger.warning("%s: no frame for %g s: given up.", self.name, self._patience)
                    elif self._error:
                        logger.warning("%s: ends with an error (%s)", self.name, self._error)
                    return
                frame = self._queue.popleft()
                self._taken = frame.time
                self._changed.notify_all()
            yield frame

    def _wait(self) -> bool:
        """Waits for a frame, the end, or a wish to stop; False when nothing came for too long."""
        until = time.monotonic() + self._patience
        while (left := until - time.monotonic()) > 0:
            if self._changed.wait_for(lambda: self._queue or self._ended or self._closed, min(left, _ASK_EVERY)):
                return True
            if self._should_stop():
                return True
        return False

    def backlog(self) -> float:
        with self._changed:
            return self._queue[-1].time - self._taken if self._queue else 0.0

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout=2.0)

    # -- the reading thread ---------------------------------------------------------------------------------------

    def _read(self) -> None:
        clock = _Clock(self.fps)
        number = 0
        try:
            for stamp, image in self._opened.frames:
                frame = Frame(number, clock.seconds(stamp, live=self.drops), image)
                number += 1
                if not self._put(frame):
                    break
        except (av.error.FFmpegError, cv2.error, OSError, ValueError) as error:
            self._error = str(getattr(error, "strerror", None) or error)
        finally:
            self._opened.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, frame: Frame) -> bool:
        """Lets the frame wait; False when nobody will take it any more."""
        with self._changed:
            if self.drops:
                while len(self._queue) >= self._room:
                    self._queue.popleft()
                    self.num_dropped += 1
            else:
                self._changed.wait_for(lambda: self._closed or len(self._queue) < self._room)
            self._queue.append(frame)
            self._changed.notify_all()
            return not self._closed


class _Clock:
    """Seconds from the first frame, always rising: by the stream's time stamps where they make sense."""

    def __init__(self, fps: float) -> None:
        self._step = 1 / fps
        self._offset: float | None = None
        self._begin = time.monotonic()
        self._last = -self._step

    def seconds(self, stamp: float | None, *, live: bool) -> float:
        if stamp is None:
            now = time.monotonic() - self._begin if live else self._last + self._step
        else:
            self._offset = stamp if self._offset is None else self._offset
            now = stamp - self._offset
            if not self._last < now < self._last + _LONGEST_GAP:  # the sender began anew
                self._offset = stamp - self._last - self._step
                now = self._last + self._step
        self._last = max(now, self._last + 1e-3)
        if now < 0:
            raise ValueError(f"time: got {now}")
        return self._last


def open_interruptibly(opening: Callable[[], Opened], *, name: str, should_stop: Callable[[], object]) -> Opened:
    """What `opening` returns or raises, from a thread: FFmpeg waits for a silent pipe without heeding signals.

    Args:
        name: for messages.
        should_stop: asked while it waits; anything true gives up. The thread then stays until something comes.

    Raises:
        VideoError: it cannot be opened, or was given up.
    """
    results: queue.SimpleQueue[Opened | BaseException] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put(opening())
        except BaseException as error:  # raised in the thread that waits
            results.put(error)

    threading.Thread(target=run, name="open stream", daemon=True).start()
    while True:
        try:
            result = results.get(timeout=_ASK_EVERY)
        except queue.Empty:
            if should_stop():
                raise VideoError(f"{name}: cannot be watched (stopped before anything came)") from None
            continue
        if isinstance(result, BaseException):
            raise result
        return result


def open_camera(number: int) -> Opened:
    """A camera of this machine.

    Raises:
        VideoError: there is none of this number.
    """
    if number < 0:
        raise VideoError(f"camera {number}: expected a number from 0 on")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # ten lines before ours
    camera = cv2.VideoCapture(number)
    cv2.utils.logging.setLogLevel(level)
    if not camera.isOpened():
        camera.release()
        raise VideoError(f"camera {number}: cannot be opened; is it there, and does no other program use it?")

    def frames() -> Iterator[tuple[float | None, np.ndarray]]:
        while True:
            good, image = camera.read()
            if not good:
                return
            yield None, _smaller(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))

    return Opened(frames(), fps=float(camera.get(cv2.CAP_PROP_FPS)), live=True, close=camera.release)


def open_url(url: str) -> Opened:
    """A stream that FFmpeg knows: rtsp://, rtmp://, udp://, http(s)://, a pipe ("-", a named pipe), a device file.

    Raises:
        VideoError: it cannot be opened or has no video.
    """
    address = "pipe:0" if url == "-" else url
    options = {"rtsp_transport": "tcp"} if address.startswith("rtsp") else {}
    form = "v4l2" if address.startswith("/dev/video") else None
    try:
        container = av.open(address, format=form, options=options, timeout=None if _is_pipe(address) else PATIENCE)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"{without_password(url)}: the stream cannot be opened ({reason})") from None
    if not container.streams.video:
        container.close()
        raise VideoError(f"{without_password(url)}: has no video track")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    live = not _is_pipe(address) and not container.duration

    def frames() -> Iterator[tuple[float | None, np.ndarray]]:
        for packet in container.demux(stream):
            try:
                decoded = packet.decode()
            except av.error.InvalidDataError:  # lost packets; the next key frame mends it
                continue
            for frame in decoded:
                image = frame.to_ndarray(format="rgb24")
                turns = round(getattr(frame, "rotation", 0) / 90) % 4
                yield frame.time, _smaller(np.rot90(image, turns) if turns else image)

    return Opened(frames(), fps=float(stream.average_rate or 0), live=live, close=container.close)


def without_password(address: str) -> str:
    """The address as messages and result files show it: `rtsp://user:password@camera` as `rtsp://user@camera`."""
    return re.sub(r"(?<=://)([^/@:]*):[^/]*@", r"\1@", address)


def _is_pipe(address: str) -> bool:
    return address.startswith("pipe:") or "://" not in address and not address.startswith("/dev/video")


def _smaller(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(image)
    return cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
