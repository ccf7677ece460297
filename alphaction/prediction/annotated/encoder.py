"""Frames to an mp4 file that can be played however the run ends."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from alphaction.errors import UserError
from alphaction.utils.atomic import TEMPORARY_SUFFIX

logger = logging.getLogger(__name__)

ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf", "mpeg4")  # tried in this order
_OPTIONS = {"libx264": {"preset": "veryfast", "crf": "23"}, "mpeg4": {"qscale": "4"}}
_CLOCK = 60000  # ticks per second: whole numbers for 24, 25, 30000/1001 and 60; MPEG-4 allows up to 65535
_GROUP = 2  # seconds from key frame to key frame, of which each begins a piece that is complete in the file
_BT601 = 6  # SMPTE 170M, by which the pictures are converted, whatever their size


class Encoder:
    """Writes pieces of two seconds, each playable once it is in the file; `close` makes one ordinary file of them.

    Attributes:
        codec: name of the encoder in use.
        written: frames so far.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        size: tuple[int, int],
        fps: float,
        encoders: Sequence[str] = ENCODERS,
        threads: int = 0,
    ) -> None:
        """
        Args:
            path: of the file; its folder is made.
            size: (height, width) in pixels, even numbers.
            fps: frames per second, about; the times of the frames count.
            encoders: names that FFmpeg knows, the best first.
            threads: of the encoder; 0 = as it likes.

        Raises:
            UserError: the file cannot be written, or there is no encoder.
        """
        self.path = Path(path)
        self.written = 0
        self._start: float | None = None
        self._tick = -1
        self._failed = False
        self.codec = next((name for name in encoders if _starts(name, size, fps, threads)), "")
        if not self.codec:
            raise UserError(
                f"{self.path}: this build of PyAV has none of the encoders {', '.join(encoders)}; "
                "install another one (`pip install --force-reinstall av`) or do without the video"
            )
        with self._told():  # an earlier file is touched no sooner
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(b"")  # FFmpeg opens it with the first frame only
            self._container = _fragmented(self.path)
            self._stream = cast(VideoStream, self._container.add_stream(self.codec))
            _set(self._stream.codec_context, size, fps, threads)
        if self.codec != encoders[0]:
            note = "; browsers do not play it, most players do" if self.codec == "mpeg4" else ""
            logger.warning("%s: the encoder %s is missing, %s is used%s", self.path, encoders[0], self.codec, note)

    def add(self, picture: np.ndarray, *, time: float) -> None:
        """Adds a frame.

        Args:
            picture: uint8 [height, width, 3] RGB.
            time: seconds, later than those before; a frame that is not is left out. The file begins with its first
                frame, whatever its time. After an error nothing is added any more.

        Raises:
            UserError: the file cannot be written.
        """
        self._start = time if self._start is None else self._start
        tick = round((time - self._start) * _CLOCK)
        if tick <= self._tick or self._failed:  # writing on without the file's beginning crashes FFmpeg
            return
        self._tick = tick
        # As FFmpeg converts it, in a quarter of the time.
        planes: np.ndarray = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = tick, Fraction(1, _CLOCK)
        with self._told():
            self._container.mux(self._stream.encode(frame))
        self.written += 1

    def close(self) -> None:
        """Ends the file. Without any frame there is none.

        Raises:
            UserError: the file cannot be written.
        """
        with self._told():
            try:
                if self.written and not self._failed:
                    self._container.mux(self._stream.encode())
            finally:
                self._container.close()
            if self.path.is_file():  # not a device
                if self.written:
                    self._make_ordinary()
                else:
                    self.path.unlink()

    def _make_ordinary(self) -> None:
        """One index at the front instead of one per piece: some players seek in nothing else. Nothing is encoded."""
        target = Path(os.path.realpath(self.path))
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
        try:
            with (
                av.open(str(target)) as pieces,
                av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as whole,
            ):
                source = pieces.streams.video[0]
                stream = whole.add_stream_from_template(source)
                for packet in pieces.demux(source):
                    if packet.dts is not None:
                        packet.stream = stream
                        whole.mux(packet)
            os.replace(temporary, target)
        except OSError as error:  # FFmpeg's errors of files, too: the pieces stay, and they can be played
            logger.warning("%s: stays in pieces (%s); not every player can seek in it", self.path, error)
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, av.FFmpegError) as error:
            self._failed = True
            raise UserError(f"{self.path}: cannot be written ({error.strerror or error})") from error


def _starts(codec: str, size: tuple[int, int], fps: float, threads: int) -> bool:
    """Whether there is such an encoder of pictures, and it takes these."""
    try:
        context = av.CodecContext.create(codec, "w")
        if not isinstance(context, VideoCodecContext):
            raise LookupError(f"{codec} encodes no video")
        _set(context, size, fps, threads)
        context.open()
        return True
    except (av.FFmpegError, ValueError, LookupError) as error:  # an unknown encoder is a ValueError
        logger.info("encoder %s: %s", codec, error)
        return False


def _set(context: VideoCodecContext, size: tuple[int, int], fps: float, threads: int) -> None:
    context.height, context.width = size
    context.pix_fmt = "yuv420p"
    context.framerate = Fraction(fps).limit_denominator(1001)
    context.time_base = Fraction(1, _CLOCK)
    context.gop_size = max(1, round(_GROUP * fps))
    context.max_b_frames = 0  # with them, times within pieces would be late by two frames
    context.colorspace = _BT601
    context.thread_count = threads
    context.options = dict(_OPTIONS.get(context.name, {}))


def _fragmented(path: Path) -> av.container.OutputContainer:
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
    return av.open(os.path.abspath(path), "w", format="mp4", options=options)  # else "a:b/c" is a protocol to FFmpeg
