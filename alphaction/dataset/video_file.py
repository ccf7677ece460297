"""One video file, opened for reading any of its frames (PyAV).

Times are seconds from the video's own first frame: that frame is at 0 whatever time stamp it carries, as for a clip cut
from a movie or a player's clock. A sound track that starts earlier does not move it.

Shapes: P frames asked for, h x w pixels as displayed (a phone's rotation mark is applied).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

from alphaction.dataset.frame_forms import FrameConverter
from alphaction.dataset.frame_index import FrameIndex, index_packets
from alphaction.dataset.wanted_frames import Receiver, WantedFrames, runs_between_keys
from alphaction.errors import VideoError

logger = logging.getLogger(__name__)

_warned: set[str] = set()  # paths; a video is warned of once per process, however often it is opened
# PyAV before 19 stops at titles and the like that are not UTF-8, later ones no longer know the option.
_LENIENT: dict[str, Any] = {"metadata_errors": "replace"} if "metadata_errors" in (av.open.__doc__ or "") else {}
KEYS_BACK = 3  # earlier key frames that are tried when decoding from the nearest one does not give every frame


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video without reading it through.

    Attributes:
        width, height: pixels as displayed.
        fps: average frames per second.
        duration: seconds from the first frame to the end of the last one.
        frames: number of frames; exact where the header holds it, else duration * fps.
    """

    width: int
    height: int
    fps: float
    duration: float
    frames: int


def file_stamp(path: str) -> tuple[int, int]:
    """(size in bytes, time of the last change in ns): a file's identity besides its name.

    Raises:
        VideoError: the file is missing, is not a file, or is empty.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise VideoError(f"{path}: cannot read the video: {error.strerror or error}") from None
    if os.path.isdir(path):
        raise VideoError(f"{path}: got a folder, expected a video file")
    if status.st_size == 0:
        raise VideoError(f"{path}: the video is empty (0 bytes); copy or cut it again")
    return status.st_size, status.st_mtime_ns


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Size, frame rate and length of a video from its header and its first frame.

    The first frame is decoded, so a video that cannot be decoded at all is found here. Only a file whose header says
    neither its length nor its number of frames is read through (not decoded).

    Raises:
        VideoError: missing, empty, not a video, without a picture track, or undecodable.
    """
    video = VideoFile(os.fspath(path))
    try:
        return video.info()
    finally:
        video.close()


class VideoFile:
    """An open video. Keeps one file handle and, once asked for, the index of its frames.

    Args:
        path: the file.
        threads: decoder threads. 1 is best in loader workers, which already run side by side.
    """

    def __init__(self, path: str, *, threads: int = 1) -> None:
        self.path = path
        self.stamp = file_stamp(path)
        self.remarks: list[str] = []  # what was found to be wrong in reading
        self._threads = threads
        self._index: FrameIndex | None = None
        self._seeks_late = False
        self._converter = FrameConverter()
        self._open()

    def close(self) -> None:
        self._container.close()

    @property
    def index(self) -> FrameIndex:
        """Built at the first use by reading the packets, without decoding."""
        if self._index is None:
            self._index = self._scan()
        return self._index

    @index.setter
    def index(self, index: FrameIndex) -> None:
        self._index = index

    @property
    def fps(self) -> float:
        """Average frames per second as the header says, or counted."""
        rate = self._rate()
        if rate is None:
            times = self.index.times
            return (len(times) - 1) / float(times[-1]) if len(times) > 1 and times[-1] > 0 else 25.0
        return float(rate)

    def info(self) -> VideoInfo:
        """See `probe`."""
        height, width = self.read(np.zeros(1, dtype=np.int64), scan=False)[0].shape[:2]
        fps, stream = self.fps, self._stream
        duration = self._header_duration()
        frames = stream.frames or (round(duration * fps) if duration is not None else 0)
        if duration is None and frames:
            duration = frames / fps
        if duration is None or frames <= 0:
            frames = len(self.index)
            duration = float(self.index.times[-1]) + (self.index.last_duration or 1 / fps)
        return VideoInfo(width=width, height=height, fps=fps, duration=duration, frames=frames)

    def read(self, numbers: np.ndarray, *, scan: bool = True) -> list[np.ndarray]:
        """Frames by their number in the order of showing, each uint8 [h, w, 3] RGB, as `visit` finds them.

        Args:
            numbers, scan: as for `visit`.
        """
        images: dict[int, np.ndarray] = {}

        def keep(places: np.ndarray, frame: av.VideoFrame) -> None:
            images.update(dict.fromkeys(places.tolist(), self._converter.rgb(frame)))

        self.visit(numbers, keep, scan=scan)
        return [images[place] for place in range(len(numbers))]

    def visit(self, numbers: np.ndarray, receive: Receiver, *, scan: bool = True) -> None:
        """Hands over frames as they are decoded, so that no more than one of them waits in full size.

        Numbers past the end give the last frame. Each frame is decoded once, however often it is named.

        Args:
            numbers: int64 [P], >= 0, any order: frames by their number in the order of showing.
            receive: called with places in `numbers` (int64, ascending) and their frame, in any order of places.
            scan: False decodes from the start without an index (for the first few frames).

        Raises:
            VideoError: a frame in the midst of the video cannot be decoded. Frames missing at the very end (a file cut
                off while being copied) are replaced by the last one that can be decoded, with a warning.
        """
        wanted = WantedFrames(np.asarray(numbers, np.int64), receive)
        if not scan:
            self._decode(None, wanted, wanted.places(), counted=True)
            if wanted.numbers():
                raise VideoError(f"{self.path}: its first frame cannot be decoded; the file is damaged")
            return
        while True:
            wanted.clip(len(self.index) - 1)
            pts = self.index.pts
            if pts is None:
                self._decode(None, wanted, wanted.places(), counted=True)
            else:
                for run in runs_between_keys(self.index, wanted.numbers()):
                    self._visit_by_time({int(pts[n]): n for n in run}, wanted)
            if not wanted.numbers():
                return
            self._drop_tail(wanted.numbers()[0])

    def walk(self, numbers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(number, uint8 [h, w, 3] RGB) of frames in one pass, in the order of showing, to cut up a long video.

        Damaged frames, and those that a single pass does not find, are left out: `read` tries harder for these.

        Args:
            numbers: int64 [P], ascending, P >= 1, all within the index.
        """
        index, start = self.index, None
        wanted = {int(n) if index.pts is None else int(index.pts[n]): int(n) for n in numbers}
        if index.pts is not None and len(index.keys) and numbers[0] > 0:  # the file's start needs no seeking
            start = int(index.keys[max(np.searchsorted(index.keys, min(wanted), side="right") - 1, 0)])
        self._seek(start)
        for shown, frame in enumerate(self._frames(start, limit=min(wanted), keep=None)):
            stamp = shown if index.pts is None else frame.pts
            number = None if stamp is None else wanted.pop(stamp, None)
            if number is not None and not frame.is_corrupt:
                yield number, self._converter.rgb(frame)
            if not wanted:
                return

    # -- opening -------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            # "file:" keeps a name with a colon from being taken for a protocol.
            self._container = av.open(f"file:{self.path}", **_LENIENT)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise VideoError(f"{self.path}: not a video that can be read ({_reason(error)})") from None
        self._at_start = True
        pictures = [s for s in self._container.streams.video if not _is_cover(s)]
        if not pictures:
            self._container.close()
            raise VideoError(f"{self.path}: has no video track")
        self._stream = pictures[0]
        context = self._stream.codec_context
        if context is None:
            self._container.close()
            raise VideoError(f"{self.path}: no decoder for its video track; convert it, for example to H.264 mp4")
        context.thread_count = self._threads
        context.thread_type = "NONE" if self._threads == 1 else "AUTO"
        # A frame that no other frame is predicted from can be dropped undecoded. H.264 marks these frames exactly.
        self._can_skip = context.name == "h264" and self._threads == 1

    def _rate(self) -> Fraction | None:
        for rate in (self._stream.average_rate, self._stream.guessed_rate):
            if rate is not None and rate > 0:
                return rate
        return None

    def _header_duration(self) -> float | None:
        stream = self._stream
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        written = stream.metadata.get("DURATION", "")  # Matroska: "00:00:01.600000000" per track
        try:
            hours, minutes, seconds = written.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        except ValueError:
            pass
        only_track = len(self._container.streams) == 1  # else the container's length may be that of the sound
        return self._container.duration / av.time_base if only_track and self._container.duration else None

    # -- index ---------------------------------------------------------------------------------------------------------

    def _scan(self) -> FrameIndex:
        self._seek(None)
        reordered_avi = self._container.format.name == "avi" and bool(self._stream.codec_context.has_b_frames)
        index = index_packets(
            self._packets(), time_base=self._stream.time_base, rate=self._rate(), trust_pts=not reordered_avi
        )
        if len(index) == 0:
            raise VideoError(f"{self.path}: has no frames")
        if index.pts is None:
            self._warn("has no usable time stamps and is decoded from its start for every clip; mp4 would be quick")
        return index

    # -- decoding ------------------------------------------------------------------------------------------------------

    def _visit_by_time(self, stamps: dict[int, int], wanted: WantedFrames) -> None:
        """Seeks the last key frame shown at or before the first of `stamps` (stamp: number), decodes on from there.

        Frames after a key frame in both orders are predicted from it or from later ones only, so this is exact. Should
        a frame be missing all the same (gradual refresh, a seek that lands late, damage), earlier key frames are tried,
        and the start of the file last.
        """
        key = int(np.searchsorted(self.index.keys, min(stamps), side="right")) - 1
        starts = [int(k) for k in self.index.keys[max(key - KEYS_BACK, 0) : key + 1][::-1]]
        for attempt, start in enumerate([*starts[:1], *starts, None]):
            if start is None and key > KEYS_BACK and not self._seeks_late:
                break  # the start of a long file would give nothing that three key frames back did not
            first_tries = attempt < 2 and start is not None
            self._decode(start, wanted, stamps, skip=attempt == 0, accept_damaged=not first_tries)
            if not stamps:
                break

    def _decode(
        self,
        start: int | None,
        wanted: WantedFrames,
        places: dict[int, int],
        *,
        counted: bool = False,
        skip: bool = False,
        accept_damaged: bool = True,
    ) -> None:
        """Decodes from the key frame `start` (None: the file's start) until every wanted frame was handed over.

        Args:
            places: {time stamp, or with `counted` the place in the decoder's output: frame number}; what was found is
                taken out.
            skip: drop unwanted frames that no other frame needs.
        """
        last, shown = max(places), -1
        self._seek(start)
        for frame in self._frames(start, limit=min(places), keep=set(places) if skip and self._can_skip else None):
            shown += 1
            place = shown if counted else frame.pts
            if place in places and (accept_damaged or not frame.is_corrupt):
                if frame.is_corrupt:
                    self._warn("some frames are damaged")
                wanted.found(places.pop(place), frame)
            if not places or (place is not None and place > last):  # frames come in the order of showing
                break
        self._stream.codec_context.skip_frame = "DEFAULT"

    def _frames(self, start: int | None, *, limit: int, keep: set[int] | None) -> Iterator[av.VideoFrame]:
        """Decoded frames from the next key frame on; none when that lies after `limit` (the seek landed late).

        Args:
            keep: time stamps that are wanted: others are dropped undecoded where no frame needs them, and decoding ends
                with the packet of the last wanted one. None decodes everything.
        """
        context = self._stream.codec_context
        started, skipping = start is None, False
        for packet in self._packets(flush=True):
            if not started and packet.size:
                if not packet.is_keyframe:
                    continue
                if packet.pts is None or packet.pts > limit:
                    self._seeks_late = True
                    return
                started = True
            if keep is not None and skipping != (bool(packet.size) and packet.pts not in keep):
                skipping = not skipping
                context.skip_frame = "NONREF" if skipping else "DEFAULT"
            try:
                yield from packet.decode()
                if keep is not None and packet.size:
                    keep.discard(packet.pts)
                    if not keep:  # the decoder holds the rest; no further packet is needed
                        yield from context.decode(None)
                        return
            except av.error.FFmpegError as error:
                self._warn(f"some packets cannot be decoded ({_reason(error)})")

    def _packets(self, *, flush: bool = False) -> Iterator[av.Packet]:
        self._at_start = False
        try:
            for packet in self._container.demux(self._stream):
                if packet.size or flush:
                    yield packet
        except av.error.FFmpegError as error:
            self._warn(f"reading stops before its end ({_reason(error)})")

    def _seek(self, start: int | None) -> None:
        """To the key frame with time stamp `start`, or to the file's start by opening it anew (always exact)."""
        if start is not None:
            try:
                self._at_start = False
                self._container.seek(start, stream=self._stream, backward=True)
                return
            except av.error.FFmpegError:
                self._seeks_late = True  # no seeking in this file
        if not self._at_start:
            self._container.close()
            self._open()

    def _drop_tail(self, first_missing: int) -> None:
        """Shortens the index when all from `first_missing` on is undecodable; raises when only some frames are."""
        index = self.index
        if index.pts is None:
            self._seek(None)
            last = sum(1 for _ in self._frames(None, limit=0, keep=None)) - 1
        else:
            key = int(np.searchsorted(index.keys, index.pts[first_missing], side="right"))
            last = -1
            keys = [int(k) for k in index.keys[max(key - KEYS_BACK, 0) : key][::-1]]
            for start in [*keys, None]:
                self._seek(start)
                limit = int(index.pts[-1])
                stamps = [frame.pts for frame in self._frames(start, limit=limit, keep=None) if frame.pts is not None]
                if stamps:
                    last = int(np.searchsorted(index.pts, max(stamps), side="right")) - 1
                    break
        if not 0 <= last < first_missing:
            time = float(index.times[first_missing])
            raise VideoError(f"{self.path}: the frame at {time:.3f} s cannot be decoded; the file is damaged")
        self._warn(f"its last {len(index) - 1 - last} frames cannot be decoded; frame {last} repeats in their place")
        index.cut(last + 1)

    def _warn(self, what: str) -> None:
        if what not in self.remarks:
            self.remarks.append(what)
        if self.path not in _warned:
            _warned.add(self.path)
            logger.warning("%s: %s", self.path, what)


def _is_cover(stream: av.VideoStream) -> bool:
    """Whether the "video" track is the still picture that music files and some films carry."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
