"""The work of `predict.py` and `demo/demo.py`: a video in, an annotated video, detections and events out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, islice

from tqdm import tqdm

from alphaction.errors import UserError
from alphaction.prediction.annotated import AnnotatedVideo
from alphaction.prediction.event_csv import EventWriter
from alphaction.prediction.events import EventFinder
from alphaction.prediction.frames.source import Frame
from alphaction.prediction.jsonl import DetectionsWriter, Header
from alphaction.prediction.outputs import OutputChoice
from alphaction.prediction.predictor import DETECT_RATE, Predictor
from alphaction.prediction.records import Moment
from alphaction.prediction.run import VideoRun
from alphaction.preparation.detect_models import DEFAULT_DETECTOR
from alphaction.utils.logging import setup_logging
from alphaction.utils.stop import Interrupted, StopRequest

logger = logging.getLogger(__name__)

#: Stages that drawing adds to those of a run.
READ_AGAIN, DRAW, WRITE = "decode again", "draw and encode", "write records"


@dataclass(frozen=True)
class NetworkChoice:
    """Which network predicts; names as in `Predictor.from_checkpoint`.

    Attributes:
        weights: checkpoint; "" = as a test of the configuration takes it.
        config_file: "" = the configuration in the checkpoint.
        classes: file of class names; "" = those in the checkpoint.
        device: "" = as the configuration says.
        batch_size: clips that are computed together; None = TEST.VIDEOS_PER_BATCH.
        options: `[key, value, ...]`.
    """

    weights: str = ""
    config_file: str = ""
    classes: str = ""
    device: str = ""
    batch_size: int | None = None
    detector: str = DEFAULT_DETECTOR
    detector_weights: str = ""
    options: Sequence[str] = ()


@dataclass(frozen=True)
class VideoChoice:
    """Which part of which video, and whose actions; names as in `Predictor.__call__`.

    Attributes:
        video: a file, URL or pipe, or the number of a camera.
    """

    video: str | int
    boxes: str = "auto"
    start: float = 0.0
    duration: float | None = None
    detect_rate: float = DETECT_RATE
    box_threshold: float | None = None


def predict_to_files(network: NetworkChoice, video: VideoChoice, output: OutputChoice) -> None:
    """Goes over the video and writes what it shows; tells how far it is, and at the end what came out and how fast.

    Raises:
        UserError: anything the user can mend.
        Interrupted: it was asked to stop; the files hold what came before and are whole.
    """
    setup_logging(None)
    output.check(video.video, boxes=video.boxes)
    predictor = Predictor.from_checkpoint(
        network.weights or None,
        config=network.config_file or None,
        classes=network.classes or None,
        device=network.device or None,
        options=network.options,
        batch_size=network.batch_size,
        detector=network.detector,
        detector_weights=network.detector_weights,
    )
    with StopRequest() as stop:
        try:
            run = predictor(
                video.video,
                boxes=video.boxes,
                start=video.start,
                duration=video.duration,
                detect_rate=video.detect_rate,
                box_threshold=video.box_threshold,
                keep_frames=output.video is not None,
                should_stop=lambda: stop.number,
            )
        except UserError:
            if stop.number:  # while it waited for a stream
                raise Interrupted(f"{stop.requested}: stopped; nothing is written.", signal=stop.number) from None
            raise
        with run:
            moments = _with_bar(run)
            first = list(islice(moments, 1))  # what fails at once leaves earlier results as they are
            if stop.number and not first:
                raise Interrupted(f"{stop.requested}: stopped; nothing is written.", signal=stop.number)
            with _Writers(run, predictor, video, output) as writers:
                for moment in chain(first, moments):
                    writers.add(moment)
                    if stop.number:
                        break
                writers.finish(whole=not stop.number)
        print(_summary(run, writers, output))
        if stop.number:
            raise Interrupted(f"{stop.requested}: stopped; what is written so far is whole.", signal=stop.number)


class _Writers:
    """All that a run's moments go to; a context manager."""

    def __init__(self, run: VideoRun, predictor: Predictor, video: VideoChoice, output: OutputChoice) -> None:
        self.num_events = 0
        self._run = run
        self._stack = ExitStack()
        output.make_room(run.source.name)
        with ExitStack() as stack:  # what is open is closed when a later one cannot be opened
            self._video: AnnotatedVideo | None = None
            if output.video is not None:
                self._video = stack.enter_context(_open_video(run, video, output))
            self._detections = DetectionsWriter(output.detections, header=_header(run, predictor, video))
            stack.enter_context(self._detections)
            self._events = EventWriter(output.events, class_names=run.classes.names)
            stack.enter_context(self._events)
            self._stack = stack.pop_all()
        self._finder = EventFinder(
            rule=output.rule,
            exclusive=predictor.network.exclusive,
            start=run.source.start,
            classes=len(run.classes),
        )
        self._step = 1 / output.fps if output.fps else 0.0
        self._video_step = _step(run, video)
        self._last: Moment | None = None
        self._next_frame = run.source.start

    def __enter__(self) -> _Writers:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, moment: Moment) -> None:
        with self._run.speed.stage(WRITE):
            self._detections.add(moment)
            self._tell(self._finder.update(moment))
        if self._video is not None:
            self._last = moment
            self._video.add_moment(moment)
            self._draw(self._run.frames(moment.time))

    def finish(self, *, whole: bool) -> None:
        """After the last moment; `whole`: the run was not stopped, the video's last frames shall be seen, too."""
        end = self._run.source.end
        with self._run.speed.stage(WRITE, count=0):
            self._tell(self._finder.finish(end if whole and end < float("inf") else None))
        if whole and self._video is not None:
            last, step = self._last, self._video_step
            if last is not None and last.time < end < last.time + step:  # persons stay in sight to the end
                self._video.add_moment(replace(last, time=end))
            self._draw(self._run.frames())

    def _tell(self, events: Sequence) -> None:
        for event in events:
            self._events.add(event)
            self.num_events += 1

    def _draw(self, frames: Iterator[Frame]) -> None:
        if self._video is None:
            return
        for frame in self._run.speed.taken(READ_AGAIN, frames):
            if frame.time < self._next_frame - 1e-3:
                continue
            self._next_frame = max(self._next_frame + self._step, frame.time)
            with self._run.speed.stage(DRAW):
                self._video.add_frame(frame.image, time=frame.time)


def _step(run: VideoRun, video: VideoChoice) -> float:
    """Seconds between moments."""
    if run.times is not None and len(run.times) > 1:
        return float(run.times[1] - run.times[0])
    return 1 / video.detect_rate


def _open_video(run: VideoRun, video: VideoChoice, output: OutputChoice) -> AnnotatedVideo:
    if output.video is None:
        raise ValueError("video: got None")
    return AnnotatedVideo(
        output.video,
        fps=min(run.source.fps, output.fps) if output.fps else run.source.fps,
        size=run.source.size,
        class_names=run.classes.names,
        step=_step(run, video),
        threshold=output.visual_threshold,
        hide_time=output.hide_time,
        font=output.font or None,
    )


def _header(run: VideoRun, predictor: Predictor, video: VideoChoice) -> Header:
    details = {
        "weights": predictor.network.source,
        "boxes": video.boxes,
        "detect_rate": video.detect_rate,
        "box_threshold": run.box_threshold,
    }
    return Header(
        video=run.source.name, size=run.source.size, fps=run.source.fps, classes=run.classes.names, details=details
    )


def _with_bar(run: VideoRun) -> Iterator[Moment]:
    total = None if run.times is None else len(run.times)
    with tqdm(run, total=total, desc="Predicting", unit="moment", disable=None) as bar:
        for moment in bar:
            yield moment
            bar.set_postfix(persons=run.num_persons, at=f"{moment.time:.1f}s", refresh=False)


def _summary(run: VideoRun, writers: _Writers, output: OutputChoice) -> str:
    height, width = run.source.size
    lines = [
        f"{run.source.name}: {width} x {height}, {run.source.fps:.4g} frames per second; "
        f"{_count(run.num_frames, 'frame')} looked at, {_count(run.num_moments, 'moment')}"
    ]
    if run.num_boxes:
        lines.append(
            f"{_count(run.num_persons, 'person')} in {_count(run.num_boxes, 'box', 'boxes')}, "
            f"{_count(writers.num_events, 'event')}"
        )
    else:
        lines.append(
            f"no person >= {run.box_threshold:g} in {_count(run.num_frames, 'frame')} "
            f"({_count(run.num_moments, 'moment')}): the files "
            "are written, but show nobody. Lower --box-threshold, or give the persons with --boxes FILE"
        )
    if run.num_late or run.num_dropped:
        lines.append(
            f"{_count(run.num_late, 'moment')} and {_count(run.num_dropped, 'frame')} were left out to keep up with "
            "the source"
        )
    lines += [f"written: {path}" for path in output.paths() if path.exists()]
    lines.append("speed by stage:")
    lines += [
        f"  {name:<16} {stage.count:>7} {'moments' if name in _MOMENT_STAGES else 'frames':<8}"
        f"{stage.seconds:>9.1f} s {stage.per_second:>9.1f} per second"
        for name, stage in run.speed.stages.items()
    ]
    return "\n".join(lines)


_MOMENT_STAGES = ("persons", "network", WRITE)


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"
