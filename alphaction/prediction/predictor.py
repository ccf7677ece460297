"""`Predictor`: a trained network and what it needs to go over any video.

from alphaction import Predictor
predictor = Predictor.from_checkpoint("data/output/quickstart/model_final.pth")
with predictor("in.mp4", boxes="boxes.csv") as moments:
    for moment in moments:
        for person in moment.persons:
            print(moment.time, person.track, person.box, predictor.classes.names[person.scores.argmax()])
"""

from __future__ import annotations

import logging
import os
import pathlib
import stat
from collections.abc import Callable, Sequence

import numpy as np

from alphaction.errors import ConfigError, DataError, UserError, VideoError
from alphaction.formats.label_files import ClassSource
from alphaction.prediction.boxes.persons import OBJECT_THRESHOLD, DetectedPersons, GivenPersons, PersonSource, Seen
from alphaction.prediction.boxes.table import FilePersons
from alphaction.prediction.build import build_network, ready_to_predict
from alphaction.prediction.frames.source import FileSource, Source
from alphaction.prediction.frames.stream import (
    StreamSource,
    open_camera,
    open_interruptibly,
    open_url,
    without_password,
)
from alphaction.prediction.run import VideoRun
from alphaction.prediction.settings import Network
from alphaction.prediction.tracking import Tracker
from alphaction.preparation.detect_models import DEFAULT_DETECTOR, Detector, load_detector
from alphaction.structures import ClassList

logger = logging.getLogger(__name__)

Video = str | os.PathLike[str] | int | Source
FindPersons = Callable[[float, np.ndarray], tuple[np.ndarray, np.ndarray] | Seen]

DETECT_RATE = 4.0
MAX_DETECT_RATE = 1000.0


class Predictor:
    """Goes over videos with a trained network.

    Attributes:
        network: see `settings.Network`.
    """

    def __init__(self, network: Network, *, detector: str = DEFAULT_DETECTOR, detector_weights: str = "") -> None:
        """
        Args:
            detector: torchvision's detector that finds persons where `boxes` asks for one.
            detector_weights: its file of weights; "" = those that torchvision publishes.
        """
        self.network = network
        self._detector_name = detector
        self._detector_weights = detector_weights
        self._detector: Detector | None = None

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str] | None,
        *,
        config: str | os.PathLike[str] | None = None,
        classes: ClassSource | None = None,
        device: str | None = None,
        options: Sequence[object] = (),
        batch_size: int | None = None,
        detector: str = DEFAULT_DETECTOR,
        detector_weights: str = "",
    ) -> Predictor:
        """A predictor with the weights, configuration and class names of a checkpoint.

        Args:
            path: the file; None = the one that a test of `config` takes.
            config: YAML file, for weight files that hold no configuration.
            classes: class names (a label file, or names), for weight files that hold none.
            device: auto, cpu, cuda, cuda:N; None = as the configuration says.
            options: changes of the configuration, `[key, value, ...]`.
            batch_size: clips that are computed together; None = TEST.VIDEOS_PER_BATCH.
            detector, detector_weights: see `Predictor`.

        Raises:
            UserError: a file is missing or damaged, or one does not fit the other.
        """
        built = build_network(
            path, config=config, classes=classes, device=device, options=options, batch_size=batch_size
        )
        return cls(ready_to_predict(*built), detector=detector, detector_weights=detector_weights)

    @property
    def classes(self) -> ClassList:
        """Of the scores, in their order."""
        return self.network.classes

    @property
    def has_person_head(self) -> bool:
        return self.network.model.person_head is not None

    def __call__(
        self,
        video: Video,
        *,
        boxes: str | os.PathLike[str] | FindPersons = "auto",
        detect_rate: float = DETECT_RATE,
        box_threshold: float | None = None,
        start: float = 0.0,
        duration: float | None = None,
        keep_frames: bool = False,
        should_stop: Callable[[], object] | None = None,
    ) -> VideoRun:
        """The moments of a video, computed as they are taken.

        Args:
            video: a file, a URL or pipe ("-" = standard input), the number of a camera, or a `Source`.
            boxes: where persons come from: "head" (the network's person head), "detector", "auto" (the head if there
                is one, else the detector), a file of boxes, or a function of (time in seconds, uint8 [h, w, 3] RGB)
                that returns boxes [n, 4] and scores [n].
            detect_rate: moments per second.
            box_threshold: boxes of persons with a lower score are left out; None = TEST.BOX_THRESH, as in testing.
            start, duration: the part of a file to look at, seconds; None = to its end.
            keep_frames: of a stream, keep frames for `VideoRun.frames`.
            should_stop: asked between frames and while a stream is silent; anything true ends the run.

        Raises:
            UserError: the video or the boxes cannot be had.
        """
        if not 0 < detect_rate <= MAX_DETECT_RATE:
            raise ConfigError(
                f"--detect-rate: got {detect_rate:g}, expected moments per second, up to {MAX_DETECT_RATE:g}"
            )
        threshold = self.network.box_threshold if box_threshold is None else box_threshold
        if not 0 <= threshold <= 1:
            raise ConfigError(f"--box-threshold: got {threshold:g}, expected a number from 0 to 1")
        if duration is not None and not duration > 0:
            raise ConfigError(f"--duration: got {duration:g}, expected seconds, above 0")

        if not isinstance(video, (str, os.PathLike, int, Source)):
            raise TypeError(
                f"video: got {type(video).__name__}, expected a file, a URL, a camera's number or a `Source`"
            )

        def opened() -> Source:
            return self._source(video, start=start, duration=duration, detect_rate=detect_rate, should_stop=should_stop)

        # A file first: that it is missing is known at once, a detector may have to be fetched. A stream last: it does
        # not wait.
        is_file = isinstance(video, (str, os.PathLike)) and not is_stream(video)
        source = opened() if is_file else None
        try:
            persons = self._persons(boxes, video)
            source = opened() if source is None else source
            if isinstance(persons, FilePersons) and isinstance(source, FileSource):
                persons.tell_late(source.length)
            return VideoRun(
                source,
                self.network,
                persons,
                tracker=Tracker(rate=detect_rate),
                detect_rate=detect_rate,
                box_threshold=threshold,
                keep_frames=keep_frames,
                should_stop=should_stop,
            )
        except BaseException:
            if source is not None:
                source.close()
            raise

    def _source(
        self,
        video: Video,
        *,
        start: float,
        duration: float | None,
        detect_rate: float,
        should_stop: Callable[[], object] | None,
    ) -> Source:
        if not isinstance(video, (str, int, os.PathLike)):
            return video
        if not is_stream(video):
            return FileSource(str(video), start=start, duration=duration)
        if start or duration is not None:
            shown = video if isinstance(video, int) else without_password(os.fspath(video))
            raise VideoError(f"{shown}: --start and --duration are for files; a stream is watched until it ends")
        sampling = self.network.sampling
        clip = sampling.span / (sampling.frame_rate or 25.0)
        name = f"camera {video}" if isinstance(video, int) else without_password(os.fspath(video))
        opened = open_interruptibly(
            lambda: open_camera(video) if isinstance(video, int) else open_url(os.fspath(video)),
            name=name,
            should_stop=should_stop or (lambda: False),
        )
        return StreamSource(opened, name=name, keep=clip + 2 / detect_rate, should_stop=should_stop)

    def _persons(self, boxes: str | os.PathLike[str] | FindPersons, video: Video) -> PersonSource | None:
        """Where persons come from; None = the person head."""
        if callable(boxes):
            self._warn_of_objects("a function")
            return GivenPersons(boxes)
        if not isinstance(boxes, (str, os.PathLike)):
            raise TypeError(f"boxes: got {type(boxes).__name__}, expected head, detector, auto, a file or a function")
        choice = os.fspath(boxes)
        if choice == "auto":
            choice = "head" if self.has_person_head else "detector"
            logger.info("Persons are found by the %s.", "network's person head" if choice == "head" else "detector")
        if choice == "head":
            if not self.has_person_head:
                raise ConfigError(
                    "--boxes head: this network has no person head (MODEL.ROI_PERSON_HEAD.ACTIVE was False in its "
                    "training). Give --boxes detector, or a file of boxes"
                )
            self._warn_of_objects("the person head")
            return None
        if choice == "detector":
            detector, network = self._load_detector(), self.network
            needs_objects = network.max_objects > 0 and (detector.objects or not network.allow_no_objects)
            return DetectedPersons(detector, objects=needs_objects)
        self._warn_of_objects("a file")
        is_file = isinstance(video, (str, os.PathLike))
        return FilePersons(choice, video=pathlib.PurePath(str(video)).stem if is_file else "")

    def _warn_of_objects(self, what: str) -> None:
        if self.network.max_objects and not self.network.allow_no_objects:
            logger.warning(
                "The network looks at objects ('O' blocks), but boxes come from %s, which tells of none: it sees no "
                "objects, and scores will be lower. --boxes detector finds objects, too.",
                what,
            )

    def _load_detector(self) -> Detector:
        if self._detector is None:
            try:
                self._detector = load_detector(
                    self._detector_name,
                    weights=self._detector_weights,
                    min_score=OBJECT_THRESHOLD,
                    device=str(self.network.device),
                )
            except UserError as error:
                message = str(error).replace("--weights", "--detector-weights")
                kind = type(error) if isinstance(error, (ConfigError, DataError)) else DataError
                hint = "" if self.has_person_head else ". Or give the persons by --boxes FILE (time,x1,y1,x2,y2,score)"
                raise kind(message + hint) from None
        return self._detector


def is_stream(video: Video) -> bool:
    """Whether a video is a camera, a URL or a pipe rather than a file."""
    if isinstance(video, int):
        return True
    if not isinstance(video, (str, os.PathLike)):
        return not video.is_complete
    name = os.fspath(video)
    if name == "-" or "://" in name or name.startswith("pipe:"):
        return True
    try:
        mode = os.stat(name).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)
