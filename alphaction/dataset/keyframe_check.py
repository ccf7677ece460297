"""Which keyframes have a video that can be read at their time.

Shapes: N keyframes, M movies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from alphaction.dataset.raw import RawAnnotations
from alphaction.dataset.video_index import MovieFiles, in_threads
from alphaction.dataset.video_io import VideoInfo, probe
from alphaction.errors import VideoError

PROBE_ALL = 500  # clips: so many are all opened before training, of more only one per movie
REACH = 2  # seconds around a keyframe in which no clip may be empty
EPSILON = 1e-6  # seconds


@dataclass
class KeyframeCheck:
    """What was found.

    Attributes:
        usable: bool [N].
        past_end: keyframes past the end of their video.
        faults: what is wrong, by movie id.
        infos: header of the movie's video, or of one of its clips, by row of `movies`.
    """

    usable: np.ndarray
    past_end: list[int] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=dict)
    infos: dict[int, VideoInfo] = field(default_factory=dict)

    def refuse(self, movie: str, problem: str, rows: np.ndarray) -> None:
        self.usable[rows] = False
        self.faults.setdefault(movie, []).append(problem)


def check_keyframes(raw: RawAnnotations, files: Sequence[MovieFiles]) -> KeyframeCheck:
    """Looks at every keyframe of `raw`; `files` belong to `raw.movies`."""
    check = KeyframeCheck(np.ones(len(raw), dtype=bool))
    clips: list[tuple[int, str, np.ndarray]] = []
    order = np.argsort(raw.movie, kind="stable")
    groups = np.split(order, np.searchsorted(raw.movie[order], np.arange(1, len(files))))
    for movie, (entry, rows) in enumerate(zip(files, groups, strict=True)):
        if entry.problem:
            check.refuse(entry.movie, entry.problem, rows)
        elif entry.info is not None:
            check.infos[movie] = entry.info
            _set_past_end(check, rows[raw.time[rows] > entry.info.duration + _frame(entry.info)])
        elif entry.clips is not None:
            kept = _check_clips(check, raw, entry, list(entry.clips), rows)
            clips += [(movie, entry.clips[second], found) for second, found in kept]
    _probe_clips(check, files, clips)
    return check


def describe_end(entry: MovieFiles) -> str:
    """For messages: where the video ends."""
    if entry.info is not None:
        return f"{entry.info.duration:.2f} s long"
    return f"last clip {max(entry.clips)}" if entry.clips else "no clips"


def _frame(info: VideoInfo) -> float:
    """Seconds that one frame is shown: headers are not more exact than that."""
    return 1 / info.fps if info.fps > 0 else 0.0


def _set_past_end(check: KeyframeCheck, rows: np.ndarray) -> None:
    check.past_end += rows.tolist()
    check.usable[rows] = False


def _check_clips(
    check: KeyframeCheck, raw: RawAnnotations, entry: MovieFiles, there: Sequence[int], rows: np.ndarray
) -> list[tuple[int, np.ndarray]]:
    """Checks a movie in one-second clips against those that are `there`; returns (second, its keyframes)."""
    if not len(rows):
        return []
    seconds = np.asarray(sorted(there), np.int64)
    empty = np.asarray(sorted(entry.empty), np.int64)
    second = np.floor(raw.time[rows] + EPSILON).astype(np.int64)
    late = second > seconds[-1]
    _set_past_end(check, rows[late])
    missing = ~late & ~np.isin(second, seconds)
    if missing.any():
        check.refuse(
            entry.movie, f"{entry.path} has no clip for second {_some(np.unique(second[missing]))}", rows[missing]
        )
    near = np.unique(empty[:, None] + np.arange(-REACH, REACH + 1))
    hurt = ~late & ~missing & np.isin(second, near)
    if hurt.any():
        check.refuse(entry.movie, f"{entry.path} has empty clips (0 bytes): {_some(empty)}", rows[hurt])
    good = ~late & ~missing & ~hurt
    order = np.argsort(second[good], kind="stable")
    distinct, starts = np.unique(second[good][order], return_index=True)
    return list(zip(distinct.tolist(), np.split(rows[good][order], starts[1:]), strict=True)) if len(distinct) else []


def _probe_clips(check: KeyframeCheck, files: Sequence[MovieFiles], clips: list[tuple[int, str, np.ndarray]]) -> None:
    """Opens clips that hold keyframes: all when they are few, else the first of each movie."""
    if len(clips) > PROBE_ALL:
        clips = list({movie: (movie, name, rows) for movie, name, rows in reversed(clips)}.values())
    paths = [f"{files[movie].path}/{name}" for movie, name, _ in clips]
    for (movie, _, rows), result in zip(clips, in_threads(_probe, paths, title="Looking at clips"), strict=True):
        if isinstance(result, str):
            check.refuse(files[movie].movie, result, rows)
        else:
            check.infos.setdefault(movie, result)


def _probe(path: str) -> VideoInfo | str:
    try:
        return probe(path)
    except (VideoError, OSError) as error:
        return str(error)


def _some(values: np.ndarray) -> str:
    return ", ".join(map(str, values[:5].tolist())) + (f", ... ({len(values)} in all)" if len(values) > 5 else "")
