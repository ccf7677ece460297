"""Settles whether the times of some files count seconds or frames, by their numbers and the videos' lengths.

Shapes: R rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from alphaction.errors import DataError
from alphaction.preparation.prepare_evidence import Assumption, share

#: What `--time-base` may be.
BASES = ("auto", "seconds", "frames")
_FIT = 0.98  # share of the rows that must lie within their videos for a reading to fit
_MOST = 0.5  # below this share it does not fit at all
_SLACK = 2  # frames: headers are not more exact than that


class Lengths(NamedTuple):
    """Of the video of each row: seconds, frames, frames per second; float64 [R] each."""

    seconds: np.ndarray
    frames: np.ndarray
    fps: np.ndarray


class Base(NamedTuple):
    """How times are read; `fps` 0 = each video's own frames."""

    frames: bool
    fps: float
    first_frame: int
    assumption: Assumption


def settle_times(
    times: np.ndarray,
    lengths: Lengths,
    *,
    files: str,
    said: str,
    place: str,
    frame_words: bool,
    first_frame: int | None,
    time_base: str = "auto",
    fps: float = 0.0,
) -> Base:
    """Decides how times are to be read.

    Args:
        times: float64 [R], as written.
        lengths: of the videos.
        files: for messages.
        said: "seconds" or "frames" where the form says it, else "".
        place: where the times stand, in words.
        frame_words: `place` speaks of frames.
        first_frame: number of the first frame; None: to be found out.
        time_base: one of `BASES`.
        fps: frames per second at which frame numbers count; 0 = each video's own.

    Raises:
        DataError: the evidence is contradictory.
    """
    rate = np.full(len(times), fps) if fps else lengths.fps
    whole = bool((times == np.round(times)).all())
    in_seconds = (times <= lengths.seconds + 1 / lengths.fps).mean()
    in_frames = (times / rate <= lengths.seconds + _SLACK / lengths.fps).mean() if whole else 0.0
    told = _told(times, lengths, rate, whole, in_frames)
    if time_base != "auto":
        frames, why = time_base == "frames", f"--time-base {time_base} says so; {told}"
    else:
        frames, why = _decide(said, place, frame_words, in_seconds, in_frames, whole, told, files)
    if not frames:
        return Base(False, 0.0, 0, Assumption("times", "seconds from the start of the video", why, files))
    if not whole:
        raise DataError(f"{files}: {place} has fractions, which are no frame numbers; {told}. Say --time-base seconds")
    if first_frame is None:
        first_frame, told = _first_frame(times, lengths, rate)
        why += told
    counted = f"frames at {fps:g} per second (--fps)" if fps else f"the video's own frames ({_rates(lengths.fps)})"
    return Base(True, fps, first_frame, Assumption("times", f"numbers of {counted}", why, files))


def _first_frame(times: np.ndarray, lengths: Lengths, rate: np.ndarray) -> tuple[int, str]:
    """(0 or 1, why)."""
    past = (times / rate >= lengths.frames / lengths.fps).any()
    from_one = bool(times.min() >= 1 and past and (times <= lengths.frames + _SLACK).all())
    grounds = "the last number is the number of frames" if from_one else "nothing speaks against it"
    return int(from_one), f"; the first frame has the number {int(from_one)}, as {grounds}"


def _decide(
    said: str, place: str, frame_words: bool, in_seconds: float, in_frames: float, whole: bool, told: str, files: str
) -> tuple[bool, str]:
    if said == "seconds":
        if in_seconds < _MOST and in_frames >= _FIT:
            raise _conflict(files, f"{place} should be seconds, but fits only as frames: {told}")
        return False, f"{place} counts seconds and {told}"
    if said == "frames":
        if not whole or (in_frames < _MOST and in_seconds >= _FIT):
            raise _conflict(files, f"{place} should be frame numbers, but fits only as seconds: {told}")
        if in_frames < _MOST:
            raise DataError(
                f"{files}: {place} should be frame numbers, but {told}. If the numbers count frames at another rate "
                "than the video's (extracted pictures, a re-encoded video), say --fps RATE"
            )
        return True, f"{place} counts frames and {told}"
    if not whole:
        return False, f"{place} has fractions; {told}"
    if in_seconds >= _FIT:
        if frame_words:
            raise _conflict(files, f"{place} speaks of frames, but the numbers fit both readings: {told}")
        return False, told
    if in_frames >= _FIT and in_seconds <= _MOST:
        return True, told
    raise _conflict(files, f"the numbers in {place} fit neither reading well: {told}")


def _conflict(files: str, what: str) -> DataError:
    return DataError(f"{files}: do the times count seconds or frames? {what}. Say --time-base seconds or frames")


def _told(times: np.ndarray, lengths: Lengths, rate: np.ndarray, whole: bool, in_frames: float) -> str:
    """`the largest time 92.4 fits its video of 93.0 s; as a frame number it would be 3.7 s`."""
    last = int(np.argmax(times - lengths.seconds))
    time, length = times[last], lengths.seconds[last]
    fits = int((times <= lengths.seconds + 1 / lengths.fps).sum())
    if fits == len(times):
        last = int(np.argmax(times))
        time, length = times[last], lengths.seconds[last]
        text = f"the largest time {time:g} fits its video of {length:.1f} s"
    else:
        text = (
            f"as seconds {share(fits, len(times), 'row')} lie within their videos ({time:g} in one of {length:.1f} s)"
        )
    if not whole:
        return text
    do = share(round(in_frames * len(times)), len(times), "row")
    return f"{text}; as frame numbers {do} do, and {time:g} would be {time / rate[last]:.1f} s"


def _rates(fps: np.ndarray) -> str:
    rates = sorted({f"{value:.6g}" for value in np.unique(fps).tolist()}, key=float)
    return f"{rates[0]} per second" if len(rates) == 1 else f"{rates[0]} to {rates[-1]} per second"
