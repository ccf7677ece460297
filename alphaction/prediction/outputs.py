"""Where the results of a video go, and whether they can go there: asked before anything is computed or replaced."""

from __future__ import annotations

import logging
import math
import os
import pathlib
import re
import tempfile
import time
from dataclasses import dataclass, field

from alphaction.errors import ConfigError, DataError, UserError
from alphaction.prediction.annotated.fonts import Font
from alphaction.prediction.events import EventRule
from alphaction.prediction.frames.stream import without_password
from alphaction.prediction.jsonl import read_header
from alphaction.prediction.predictor import is_stream

logger = logging.getLogger(__name__)

_FOLDER = pathlib.Path("data/output/predict")
_SUFFIXES = (".mp4", ".m4v", ".mov")  # of MP4 files
_VIDEO, _DETECTIONS, _EVENTS = "annotated.mp4", "detections.jsonl", "events.csv"


@dataclass(frozen=True)
class OutputChoice:
    """What is written.

    Attributes:
        video: mp4 file; None = none.
        detections: JSON lines.
        events: CSV.
        visual_threshold: actions of a lower score are not named in the video.
        hide_time: no clock in the video.
        fps: most frames per second of the video; 0 = all frames.
        font: file of a font; "" = the usual one.
        rule: what makes an event.
    """

    video: pathlib.Path | None
    detections: pathlib.Path
    events: pathlib.Path
    visual_threshold: float = 0.5
    hide_time: bool = False
    fps: float = 0.0
    font: str = ""
    rule: EventRule = field(default_factory=EventRule)

    def paths(self) -> list[pathlib.Path]:
        return [path for path in (self.video, self.detections, self.events) if path is not None]

    def check(self, video: str | int, *, boxes: str) -> None:
        """To be called before anything is computed; leaves nothing behind.

        Args:
            video, boxes: what is read.

        Raises:
            UserError: a setting is wrong, or a file cannot be written; nothing has been replaced.
        """
        if not 0 <= self.fps < math.inf:
            raise ConfigError(f"--fps: got {self.fps:g}, expected frames per second, 0 for all")
        if not 0 <= self.visual_threshold <= 1:
            raise ConfigError(f"--visual-threshold: got {self.visual_threshold:g}, expected a number from 0 to 1")
        if self.video is not None and self.video.suffix.lower() not in _SUFFIXES:
            raise ConfigError(f"{self.video}: the annotated video is an MP4 file; expected a name that ends in .mp4")
        if self.video is not None and self.font:
            Font(12, path=self.font)
        for path in self.paths():
            if not is_stream(video) and os.path.realpath(path) == os.path.realpath(str(video)):
                raise ConfigError(f"{path}: is the video itself; give another place for the results (--output)")
            if os.path.realpath(path) == os.path.realpath(boxes):
                raise ConfigError(f"{path}: is the file of boxes itself; give another place for the results (--output)")
            _check_place(path)

    def make_room(self, video: str) -> None:
        """Makes the folders; says which results are replaced now, and of which video where it was another one."""
        for path in self.paths():
            path.parent.mkdir(parents=True, exist_ok=True)
        earlier = [path.name for path in self.paths() if path.exists()]
        if not earlier:
            return
        other = _video_of(self.detections)
        what = f"{self.detections.parent}: earlier results are replaced ({', '.join(earlier)})"
        if other is None or os.path.realpath(other) == os.path.realpath(video):
            logger.info("%s", what)
        else:
            logger.warning("%s; they were those of %s", what, other)


def default_folder(video: str | int) -> pathlib.Path:
    """A folder by the video's name, of which no results of another video are in the way.

    A file that is predicted again gets its folder of before. What a stream showed cannot be had again: its folder has
    the time in its name.
    """
    if is_stream(video):
        name = f"camera_{video}" if isinstance(video, int) else pathlib.PurePath(without_password(video)).stem
        name = re.sub(r"[^\w.-]+", "_", name).strip("-_") or "stream"
        return _free(_FOLDER / f"{name}_{time.strftime('%Y-%m-%d_%H-%M-%S')}", video="")
    folder = _FOLDER / (pathlib.PurePath(str(video)).stem or "video")
    chosen = _free(folder, video=str(video))
    if chosen != folder:
        logger.info("%s holds results of another video: these go to %s", folder, chosen)
    return chosen


def _free(folder: pathlib.Path, *, video: str) -> pathlib.Path:
    """The folder, or with _2, _3, ... behind its name the first one without results, or with those of this video."""
    chosen, number = folder, 1
    while any((chosen / name).exists() for name in (_VIDEO, _DETECTIONS, _EVENTS)):
        earlier = _video_of(chosen / _DETECTIONS)
        if video and earlier is not None and os.path.realpath(earlier) == os.path.realpath(video):
            break
        number += 1
        chosen = folder.with_name(f"{folder.name}_{number}")
    return chosen


def _video_of(detections: pathlib.Path) -> str | None:
    """Which video an earlier file is of; None = it does not tell."""
    if not detections.is_file():  # a device or pipe may never end
        return None
    try:
        return read_header(detections).video
    except DataError:
        return None


def _check_place(path: pathlib.Path) -> None:
    folder = path.absolute().parent
    there = next(part for part in (folder, *folder.parents) if part.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(
            f"{path.parent}: cannot be written to ({error.strerror}); give another folder (--output)"
        ) from None
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a file or nothing; give another place (--output)")
    if path.exists() and not os.access(path, os.W_OK):
        raise UserError(f"{path}: there is such a file and it cannot be written to; give another place (--output)")
