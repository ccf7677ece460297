"""A prediction under way: frames in, moments out, with bounded memory whatever the length of the video."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from alphaction.prediction.boxes.persons import PersonSource, Seen
from alphaction.prediction.frames.source import FileSource, Frame, Source, tick_times
from alphaction.prediction.frames.stream import StreamSource
from alphaction.prediction.frames.windows import FrameWindow
from alphaction.prediction.network import Classifier, Clip, Sight, extract
from alphaction.prediction.records import Moment, PersonRecord
from alphaction.prediction.settings import Network
from alphaction.prediction.speed import Speed
from alphaction.prediction.tracking import Tracker
from alphaction.structures import ClassList

DECODE, RESIZE, PERSONS, NETWORK = "decode", "resize", "persons", "network"
_TIE = 1e-6  # seconds, as in `dataset.sampling`


class _Tick(NamedTuple):
    """A moment to predict; of its key frame what was seen, or the picture to look at later."""

    time: float
    seen: Seen | None
    image: np.ndarray | None


class VideoRun(Iterator[Moment]):
    """The moments of a video, in order; a context manager that closes the video.

    Attributes:
        source: the video.
        classes: of the scores.
        box_threshold: persons of a lower score are left out.
        times: float64, the moments that will come, where they are known, else None.
        speed: of each stage so far.
        num_moments, num_persons, num_boxes: so far: moments, different persons, boxes.
        num_late: moments of a live source that were left out because the network was busy.
    """

    def __init__(
        self,
        source: Source,
        network: Network,
        persons: PersonSource | None,
        *,
        tracker: Tracker,
        detect_rate: float,
        box_threshold: float,
        keep_frames: bool = False,
        should_stop: Callable[[], object] | None = None,
    ) -> None:
        """
        Args:
            persons: None: the network's person head finds them.
            detect_rate: moments per second.
            box_threshold: boxes of persons with a lower score are left out.
            keep_frames: of a stream, frames are kept until `frames` takes them. Files are read once more.
            should_stop: asked between frames; anything true ends the run.
        """
        self.source = source
        self.classes: ClassList = network.classes
        self.speed = Speed()
        self.num_moments = self.num_boxes = self.num_late = 0
        self._tracks: set[int] = set()
        self._network = network
        self._persons = persons
        self._tracker = tracker
        self._detect_rate = detect_rate
        self.box_threshold = box_threshold
        self._should_stop = should_stop or (lambda: False)
        self._window = FrameWindow(network.sampling, network.transform, size=source.size, fps=source.fps)
        self._classifier = Classifier(network, looks_ahead=source.is_complete)
        self._batch_size = network.batch_size if source.is_complete else 1
        chosen: Iterable[float] | None = (
            None if persons is None else persons.times(source.start, source.end, detect_rate)
        )
        if chosen is None and source.is_complete:
            chosen = tick_times(source.start, source.end, detect_rate)
        self.times = None if chosen is None else np.fromiter(chosen, np.float64)
        self._playback = source.playback() if isinstance(source, FileSource) else None
        self._shown: Frame | None = None
        self._keeps = keep_frames and self._playback is None
        self._undrawn: deque[Frame] = deque()
        self._moments = self._predict()

    def __next__(self) -> Moment:
        moment = next(self._moments)
        self.num_moments += 1
        self.num_boxes += len(moment.persons)
        self._tracks.update(person.track for person in moment.persons)
        return moment

    def __enter__(self) -> VideoRun:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def num_persons(self) -> int:
        return len(self._tracks)

    @property
    def num_dropped(self) -> int:
        """Frames of a live source that were lost because the network was busy."""
        return self.source.num_dropped if isinstance(self.source, StreamSource) else 0

    @property
    def num_frames(self) -> int:
        """Frames that were looked at."""
        return self.speed.stages[DECODE].count if DECODE in self.speed.stages else 0

    def frames(self, until: float = np.inf) -> Iterator[Frame]:
        """The video's frames up to the time `until`, for drawing; each frame comes once.

        Of a stream, the frames that were taken so far (see `keep_frames`).
        """
        while True:
            if self._shown is None:
                if self._playback is not None:
                    self._shown = next(self._playback, None)
                elif self._undrawn:
                    self._shown = self._undrawn.popleft()
            if self._shown is None or self._shown.time > until + _TIE:
                return
            frame, self._shown = self._shown, None
            if frame.image.shape[:2] != tuple(self.source.size):
                frame = frame._replace(image=cv2.resize(frame.image, self.source.size[::-1]))
            yield frame

    def close(self) -> None:
        """Ends the run and lets go of the video."""
        self._moments.close()
        if self._playback is not None:
            self._playback.close()
        self.source.close()

    # -- from frames to clips -------------------------------------------------------------------------------------

    def _predict(self) -> Generator[Moment, None, None]:
        times = tick_times(self.source.start, np.inf, self._detect_rate) if self.times is None else _floats(self.times)
        ticks: deque[_Tick] = deque()
        clips: list[Clip] = []
        previous: Frame | None = None
        upcoming = next(times, None)
        for frame in self._frames():
            if self._should_stop():
                return
            with self.speed.stage(RESIZE):
                self._window.add(frame)
            while upcoming is not None and frame.time >= upcoming - _TIE:
                ticks.append(self._tick(upcoming, _nearest(upcoming, previous, frame)))
                upcoming = next(times, None)
            previous = frame
            while ticks and self._window.covers(ticks[0].time):
                yield from self._cut(ticks.popleft(), clips)
            self._window.forget(ticks[0].time if ticks else frame.time if upcoming is None else upcoming)
            if upcoming is None and not ticks:
                break
        while upcoming is not None and previous is not None and not np.isinf(self.source.end):
            ticks.append(self._tick(upcoming, previous))
            upcoming = next(times, None)
        while ticks:
            yield from self._cut(ticks.popleft(), clips, last=not ticks)
        yield from self._compute(clips, last=True)

    def _frames(self) -> Iterator[Frame]:
        if self.times is not None and not len(self.times):
            return
        first = self.times[0] if self.times is not None else self.source.start
        last = self.times[-1] if self.times is not None else np.inf
        low, high = self._window.reach(first)[0], np.inf if np.isinf(last) else self._window.reach(last)[1]
        for frame in self.speed.taken(DECODE, self.source.frames(low, high, counted=self._window.counted)):
            if self._keeps:
                self._undrawn.append(frame)
            yield frame

    def _tick(self, time: float, frame: Frame) -> _Tick:
        if self._persons is None:
            return _Tick(time, None, None)
        if self.source.drops and self._persons.looks:
            return _Tick(time, None, frame.image)  # many of a live source's moments are never looked at
        return _Tick(time, self._look(time, frame.image), None)

    def _look(self, time: float, image: np.ndarray | None) -> Seen | None:
        if self._persons is None:
            return None
        with self.speed.stage(PERSONS):
            return self._persons.find(time, image).within(self.source.size, min_score=self.box_threshold)

    def _cut(self, tick: _Tick, clips: list[Clip], *, last: bool = False) -> Iterator[Moment]:
        """Makes the clip of a tick and, when they are enough, predicts `clips`."""
        if self.source.drops and not last and self.source.backlog() > 1 / self._detect_rate:
            self.num_late += 1
            return
        seen = tick.seen if tick.image is None else self._look(tick.time, tick.image)
        clips.append(Clip(tick.time, *self._window.clip(tick.time), seen))
        if len(clips) >= self._batch_size:
            yield from self._compute(clips)

    # -- from clips to moments ------------------------------------------------------------------------------------

    def _compute(self, clips: list[Clip], *, last: bool = False) -> Iterator[Moment]:
        with self.speed.stage(NETWORK, count=len(clips)):
            sights = extract(self._network, clips, size=self.source.size, min_score=self.box_threshold)
            clips.clear()
            for sight in sights:
                self._classifier.put(self._named(sight))
            ready = list(self._classifier.classified(last=last))
        for sight, scores in ready:
            yield self._moment(sight, scores)

    def _named(self, sight: Sight) -> Sight:
        """With tracks: what the tracker must see is in the order of time."""
        if sight.tracks is not None:
            return sight
        return replace(sight, tracks=self._tracker.update(sight.time, sight.boxes, sight.scores))

    def _moment(self, sight: Sight, scores: np.ndarray) -> Moment:
        tracks = np.zeros(0, np.int64) if sight.tracks is None else sight.tracks
        rows = zip(tracks.tolist(), sight.boxes.tolist(), sight.scores.tolist(), scores, strict=True)
        persons = [
            PersonRecord(track=track, box=(box[0], box[1], box[2], box[3]), box_score=score, scores=actions)
            for track, box, score, actions in rows
        ]
        return Moment(time=sight.time, size=self.source.size, persons=persons)


def _floats(times: np.ndarray) -> Iterator[float]:
    for time in times:
        yield float(time)


def _nearest(time: float, previous: Frame | None, frame: Frame) -> Frame:
    """The frame shown nearest to a time, of the last one before and the first one after; of two equal the earlier."""
    if previous is None or abs(frame.time - time) < abs(previous.time - time) - _TIE:
        return frame
    return previous
