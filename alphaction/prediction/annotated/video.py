"""The video with boxes and labels, frame by frame."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from alphaction.prediction.annotated.encoder import ENCODERS, Encoder
from alphaction.prediction.annotated.labels import Painter
from alphaction.prediction.annotated.timeline import Timeline
from alphaction.prediction.records import Moment

logger = logging.getLogger(__name__)

_MIN_SIDE, _MAX_SIDE = 640, 1920  # pixels of the longer side
_MAX_WAITING = 400_000_000  # bytes of frames that wait for the next moment


class AnnotatedVideo:
    """Writes an mp4 file of the frames with the persons of the moments, boxes moving smoothly from one to the next.

    Frames and moments each come in order of time. A frame is drawn once there is a moment at its time or later, so
    moments may come before their frames or after them; frames that wait are bounded. A context manager: however the
    block ends, what was added is in the file. Of a process that is killed, the file has all but the last seconds.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: float,
        size: tuple[int, int],
        class_names: Sequence[str],
        step: float,
        threshold: float = 0.5,
        max_actions: int = 3,
        hide_time: bool = False,
        max_waiting: int = _MAX_WAITING,
        font: str | Path | None = None,
        encoders: Sequence[str] = ENCODERS,
        threads: int = 0,
    ) -> None:
        """
        Args:
            path: of the mp4 file; its folder is made.
            fps: frames per second, about; the times of the frames count.
            size: (height, width) of the frames in pixels. Frames whose longer side is below 640 are enlarged, so that
                labels can be read; those above 1920 are reduced.
            class_names: of the K actions.
            step: seconds between moments, about.
            threshold: actions with a lower score are not named.
            max_actions: at most so many are named per person.
            hide_time: no time in the corner.
            max_waiting: bytes of frames that wait for a moment; beyond it the oldest is drawn with what is known.
            font: file of a font for class names that the usual one cannot write.
            encoders: names that FFmpeg knows, the best first.
            threads: of the encoder; 0 = as it likes.

        Raises:
            UserError: the file cannot be written, there is no encoder, or `font` is none.
        """
        longer = max(size)
        self._zoom = max(_MIN_SIDE / longer, 1.0) if longer <= _MAX_SIDE else _MAX_SIDE / longer
        height, width = (max(1, round(side * self._zoom)) for side in size)
        self._inner = (height, width)
        self._source_size = tuple(size)
        self._hide_time = hide_time
        self._max_waiting = max(1, max_waiting // (3 * height * width))
        self._painter = Painter(
            size=self._inner, class_names=class_names, threshold=threshold, max_actions=max_actions, font=font
        )
        self._timeline = Timeline(step=step)
        self._waiting: deque[tuple[np.ndarray, float]] = deque()
        self._told = self._closed = False
        # H.264 with half as many colours needs even numbers.
        self._encoder = Encoder(
            path, size=(height + height % 2, width + width % 2), fps=fps, encoders=encoders, threads=threads
        )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the written video in pixels."""
        return (self._inner[0] + self._inner[0] % 2, self._inner[1] + self._inner[1] % 2)

    @property
    def codec(self) -> str:
        """Name of the encoder."""
        return self._encoder.codec

    @property
    def num_frames(self) -> int:
        """Frames that are written so far."""
        return self._encoder.written

    @property
    def num_waiting(self) -> int:
        """Frames that wait for a moment."""
        return len(self._waiting)

    def add_moment(self, moment: Moment) -> None:
        """Takes the next moment."""
        self._timeline.add(moment)
        while self._waiting and self._timeline.reaches(self._waiting[0][1]):
            self._write_oldest()

    def add_frame(self, picture: np.ndarray, *, time: float) -> None:
        """Takes the next frame.

        Args:
            picture: uint8 [height, width, 3] RGB, as displayed; is not changed and may be reused.
            time: seconds from the first frame.
        """
        if picture.shape != (*self._source_size, 3):
            raise ValueError(f"frame of shape {picture.shape}, expected {(*self._source_size, 3)}")
        height, width = self._inner
        if self._inner == self._source_size:
            canvas = picture.copy()
        else:
            method = cv2.INTER_AREA if self._zoom < 1 else cv2.INTER_CUBIC
            canvas = cv2.resize(picture, (width, height), interpolation=method)
        self._waiting.append((canvas, time))
        if len(self._waiting) > self._max_waiting and not self._told:
            self._told = True
            logger.warning("annotated video: the next moment is too far away at %.1f s; boxes stand still", time)
        while self._waiting and (len(self._waiting) > self._max_waiting or self._timeline.reaches(self._waiting[0][1])):
            self._write_oldest()

    def _write_oldest(self) -> None:
        canvas, time = self._waiting.popleft()
        # Centres of pixels, not their corners, are what a box's numbers mean: the outer edge of x is at x + 0.5.
        persons = [replace(p, box=(p.box + 0.5) * self._zoom - 0.5) for p in self._timeline.at(time)]
        self._painter.paint(canvas, persons=persons, stamp="" if self._hide_time else _clock(time))
        bottom, right = self._inner[0] % 2, self._inner[1] % 2
        if bottom or right:
            canvas = cv2.copyMakeBorder(canvas, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        self._encoder.add(canvas, time=time)

    def close(self) -> None:
        """Draws the frames that wait, and ends the file; doing it twice is no mistake.

        Raises:
            UserError: the file cannot be written.
        """
        if self._closed:
            return
        self._closed = True
        try:
            while self._waiting:
                self._write_oldest()
        finally:
            self._waiting.clear()
            self._encoder.close()

    def __enter__(self) -> AnnotatedVideo:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _clock(time: float) -> str:
    """Such as 0:07.25 or 1:02:03.00."""
    hundredths = round(time * 100)
    seconds, rest = divmod(hundredths, 100)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02d}" if hours else f"{minutes}") + f":{seconds:02d}.{rest:02d}"
