"""Faults of videos, and of times and sizes that do not go with them.

Shapes: M frames of a video.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alphaction.dataset.keyframe_check import EPSILON, REACH, describe_end
from alphaction.dataset.sampling import nearest_frames
from alphaction.dataset.video_file import VideoFile, probe
from alphaction.dataset.video_index import MovieFiles, in_threads
from alphaction.errors import VideoError
from alphaction.preparation.check_findings import KINDS, Findings
from alphaction.preparation.check_split import SplitFacts

_RATES = (24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 50.0, 60000 / 1001, 60.0)
_HEADER_SLACK, _HEADER_SHARE = 0.5, 0.02  # seconds, share: headers are not more exact than the larger of both
_TIMES_NEEDED = 10  # times between whole seconds that tell a frame rate
_BY_HAND = 0.05  # seconds: times on such a grid were chosen by hand and tell nothing of frames
_TELLING = 0.2  # frames: times that are rounded by more fall on the frames of any rate
_SHAPE = 0.05  # difference of height / width that matters
_ALIKE = 0.5  # similarity from which another name is proposed
_HASHED = 1 << 20  # bytes at each end of two files of equal length that are compared


def check_videos(split: SplitFacts, findings: Findings, *, clip_seconds: float, decode: bool) -> None:
    """All checks of the videos of a split.

    Args:
        clip_seconds: length of a clip that the model sees.
        decode: decode the frames of the first, middle and last keyframe of every video.
    """
    if split.index is None:
        return
    _missing(split, findings)
    if decode:
        _decode(split, findings)
    _late(split, findings)
    _short(split, findings, clip_seconds)
    _rates(split, findings)
    _sizes(split, findings)


def check_unannotated(splits: Sequence[SplitFacts], findings: Findings) -> None:
    """Videos that lie in the folders of the splits and that no split annotates."""
    roots: dict[str, list[SplitFacts]] = {}
    for split in splits:
        if split.index is not None:
            roots.setdefault(os.path.realpath(split.spec["video_root"]), []).append(split)
    for users in roots.values():
        index = users[0].index
        if index is None:
            continue
        used = {os.path.basename(entry.path) for user in users for entry in user.files}
        used |= {name for user in users for name in user.raw.movies}
        spare = [name for name in index.names() if not {name, *index.files_of(name)} & used]
        for entry in index.find(spare):
            if not (entry.problem and os.path.isdir(index.root / entry.movie)):  # a folder without clips is no video
                name = "" if len(users) > 1 else users[0].name
                where = entry.path or str(index.root / entry.movie)
                findings.add("video-unannotated", split=name, file=where, message="no annotation names this video")


def check_same_content(splits: Sequence[SplitFacts], findings: Findings) -> None:
    """Annotated videos of different names with the same content."""
    by_size: dict[int, dict[str, str]] = {}
    for split in splits:
        for entry in split.files:
            if entry.info is not None:
                path = os.path.realpath(entry.path)
                by_size.setdefault(os.path.getsize(path), {})[path] = split.name
    for paths in by_size.values():
        first: dict[bytes, str] = {}
        for path in paths if len(paths) > 1 else ():
            other = first.setdefault(_fingerprint(path), path)
            if other != path:
                message = f"has the same content as {other} (split {paths[other]})"
                findings.add("same-content", split=paths[path], file=path, message=message)


def _fingerprint(path: str) -> bytes:
    with open(path, "rb") as file:
        start = file.read(_HASHED)
        file.seek(max(os.path.getsize(path) - _HASHED, 0))
        return hashlib.sha256(start + file.read(_HASHED)).digest()


def _missing(split: SplitFacts, findings: Findings) -> None:
    """Videos that are not there or cannot be opened, and keyframes without their one-second clip."""
    raw = split.raw
    keyframes = np.bincount(raw.movie, minlength=len(raw.movies))
    first = np.zeros(len(raw.movies), np.int64)
    first[raw.movie[::-1]] = np.arange(len(raw) - 1, -1, -1)
    for movie, entry in enumerate(split.files):
        problems = split.check.faults.get(entry.movie, [])
        if entry.clips is not None and not entry.problem and problems:
            problems = _missing_clips(split, movie, problems, findings)
        for problem in problems:
            code = "video-missing" if problem == entry.problem and not entry.path else "video-unreadable"
            hint = _nearest(entry.movie, split) if code == "video-missing" else ""
            count = f"{keyframes[movie]} keyframe{'' if keyframes[movie] == 1 else 's'}"
            message = f"{entry.movie} ({count}): {problem}{hint}"
            row = split.row_of_keyframe(int(first[movie])) if keyframes[movie] else ""
            findings.add(code, split=split.name, file=split.source, row=row, message=message, movie=entry.movie)
            split.states[movie] = code.removeprefix("video-")


def _nearest(movie: str, split: SplitFacts) -> str:
    names = {name.casefold(): name for name in (split.index.names() if split.index is not None else ())}
    near = difflib.get_close_matches(movie.casefold(), names, n=1, cutoff=_ALIKE)
    return f"; the nearest name there is {names[near[0]]}" if near else ""


def _missing_clips(split: SplitFacts, movie: int, problems: list[str], findings: Findings) -> list[str]:
    """Tells of every keyframe whose second has no clip or an empty one; returns the other problems of the movie."""
    raw, entry = split.raw, split.files[movie]
    clips = entry.clips or {}
    late = set(split.check.past_end)
    for row in np.flatnonzero((raw.movie == movie) & ~split.check.usable).tolist():
        second = int(np.floor(raw.time[row] + EPSILON))
        if row in late:
            continue
        if second not in clips:
            told = f"{entry.path} has no clip for second {second}"
        else:
            empty = [clip for clip in sorted(entry.empty) if abs(clip - second) <= REACH]
            if not empty:
                continue
            told = f"{entry.path}: the clips of these seconds are empty: {', '.join(map(str, empty))}"
        message = f"{raw.name_keyframe(row)}: {told}"
        where = split.row_of_keyframe(row)
        findings.add("clip-missing", split=split.name, file=split.source, row=where, message=message, movie=entry.movie)
        split.states[movie] = "clips missing"
    told_of = (f"{entry.path} has no clip for second", f"{entry.path} has empty clips")
    return [problem for problem in problems if not problem.startswith(told_of)]


@dataclass
class _Decoded:
    """What decoding a video showed: its end in seconds, and (code, message) of every fault."""

    end: float | None
    faults: list[tuple[str, str]]


def _decode(split: SplitFacts, findings: Findings) -> None:
    """Decodes the first, middle and last keyframe of every video and looks at the times of its frames."""
    raw = split.raw
    order = np.lexsort((raw.time, raw.movie))
    groups = np.split(order, np.searchsorted(raw.movie[order], np.arange(1, len(raw.movies))))
    jobs: list[tuple[int, MovieFiles, np.ndarray]] = []
    for movie, (entry, rows) in enumerate(zip(split.files, groups, strict=True)):
        times = raw.time[rows[split.check.usable[rows]]]
        chosen = times[[0, len(times) // 2, len(times) - 1]] if len(times) else np.zeros(1)
        if not entry.problem and (entry.info is not None or len(times)):
            jobs.append((movie, entry, np.unique(chosen)))

    def look(job: tuple[int, MovieFiles, np.ndarray]) -> _Decoded:
        return _decode_clips(job[1], job[2]) if job[1].clips is not None else _decode_video(job[1], job[2])

    results = in_threads(look, jobs, title="Decoding keyframes")
    for (movie, entry, _), result in zip(jobs, results, strict=True):
        if result.end is not None:
            split.ends[movie] = result.end
        for code, message in result.faults:
            findings.add(code, split=split.name, file=entry.path, message=message, movie=entry.movie)
            if KINDS[code].level != "note":
                split.states[movie] = code.removeprefix("video-")


def _decode_clips(entry: MovieFiles, times: np.ndarray) -> _Decoded:
    """Decodes the first frame of the one-second clips that hold these keyframes."""
    faults = []
    for second in np.unique(np.floor(times + EPSILON).astype(int)).tolist():
        name = (entry.clips or {})[second]
        path = os.path.join(entry.path, name)
        try:
            probe(path)
        except (VideoError, OSError) as error:
            faults.append(("video-unreadable", f"{name}: {str(error).removeprefix(f'{path}: ')}"))
    return _Decoded(None, faults)


def _decode_video(entry: MovieFiles, times: np.ndarray) -> _Decoded:
    faults: list[tuple[str, str]] = []
    end: float | None = None
    try:
        video = VideoFile(entry.path)
    except (VideoError, OSError) as error:
        return _Decoded(None, [("video-unreadable", str(error))])
    try:
        promised = entry.info.duration if entry.info is not None else 0.0
        frames = video.index.times
        end = float(frames[-1]) + video.index.last_duration
        if end < promised - max(_HEADER_SLACK, _HEADER_SHARE * promised):
            faults.append(("video-truncated", f"its header says {promised:.2f} s, its frames end at {end:.2f} s"))
        if (change := _unsteady(frames)) is not None:
            faults.append(("variable-rate", f"frames last {change[0]:.3f} to {change[1]:.3f} s"))
        count = len(frames)
        for time in times[times <= end]:
            video.read(nearest_frames(video.index.times, np.array([time])))
        if len(video.index) < count:
            end = float(video.index.times[-1]) + video.index.last_duration
            message = f"its frames cannot be decoded from {end:.2f} s on (it should last {promised:.2f} s)"
            faults.append(("video-truncated", message))
    except (VideoError, OSError) as error:
        faults.append(("video-unreadable", str(error).removeprefix(f"{entry.path}: ")))
    finally:
        video.close()
    for remark in video.remarks:
        if "time stamps" in remark:
            faults.append(("video-slow", remark))
        elif not any(code == "video-truncated" for code, _ in faults):
            faults.append(("video-damaged", remark))
    return _Decoded(end, faults)


def _unsteady(times: np.ndarray) -> tuple[float, float] | None:
    """(shortest, longest) time of a frame in seconds when more than one in a hundred is far from the usual one."""
    steps = np.diff(times)
    if len(steps) < 2:
        return None
    far = np.abs(steps - np.median(steps)) > 0.5 * np.median(steps)
    return (float(steps.min()), float(steps.max())) if far.mean() > 0.01 else None


def _late(split: SplitFacts, findings: Findings) -> None:
    raw = split.raw
    late = set(split.check.past_end)
    for movie, end in split.ends.items():  # what decoding showed; the loader would stop at these
        rows = np.flatnonzero(raw.movie == movie)
        late |= set(rows[raw.time[rows] > end + 1.0].tolist())
    split.check.usable[list(late)] = False
    if len(late) * 2 > len(raw) and _are_frame_numbers(split):
        last = int(raw.time.max())
        message = f"{len(late)} of {len(raw)} keyframes lie past the end of their video, times go up to {last}"
        findings.add("times-are-frames", split=split.name, file=split.source, message=message)
    for row in sorted(late):
        movie, time = int(raw.movie[row]), float(raw.time[row])
        length = f"ends at {split.ends[movie]:.2f} s" if movie in split.ends else describe_end(split.files[movie])
        message = f"{raw.name_keyframe(row)} is past the end of the video ({length})"
        name = raw.movies[movie]
        where = split.row_of_keyframe(row)
        findings.add(
            "time-outside", split=split.name, file=split.source, row=where, message=message, movie=name, time=time
        )


def _are_frame_numbers(split: SplitFacts) -> bool:
    """Whether all times are whole numbers that fit the number of frames of their video."""
    raw = split.raw
    frames = np.zeros(len(raw.movies))
    for movie, info in split.check.infos.items():
        frames[movie] = info.frames
    known = frames[raw.movie] > 0
    whole = raw.time == np.floor(raw.time)
    return bool(known.any() and (whole & (raw.time <= frames[raw.movie]))[known].all())


def _short(split: SplitFacts, findings: Findings, clip_seconds: float) -> None:
    for entry in split.files:
        if entry.info is not None and entry.info.duration < clip_seconds:
            message = f"lasts {entry.info.duration:.2f} s, a clip {clip_seconds:g} s"
            findings.add("video-short", split=split.name, file=entry.path, message=message, movie=entry.movie)


def _rates(split: SplitFacts, findings: Findings) -> None:
    raw = split.raw
    for movie, entry in enumerate(split.files):
        if entry.info is None or entry.info.fps <= 0:
            continue
        rate = fitting_rate(raw.time[raw.movie == movie], entry.info.fps)
        if rate is not None:
            message = (
                f"times of {entry.movie} fall on frames of {rate:.5g} per second, the video has {entry.info.fps:.5g}"
            )
            findings.add("rate-mismatch", split=split.name, file=split.source, message=message, movie=entry.movie)


def fitting_rate(times: np.ndarray, fps: float) -> float | None:
    """The usual frame rate on whose frames all times fall, when they do not fall on those of `fps`.

    None too when the times do not tell: they are few, whole seconds or the like, or rounded too much.
    """
    times = np.unique(times[times != np.floor(times)])
    if len(times) < _TIMES_NEEDED or np.allclose(times / _BY_HAND, np.rint(times / _BY_HAND), rtol=0, atol=1e-6):
        return None
    digits = next((d for d in range(1, 7) if np.array_equal(times.round(d), times)), 7)

    def rounding(rate: float) -> float:
        return 0.5 * 10.0**-digits * rate + 1e-3  # frames

    def fits(rate: float) -> bool:
        return bool((np.abs(times * rate - np.rint(times * rate)) <= rounding(rate)).all())

    if rounding(fps) > _TELLING or fits(fps):
        return None
    return next((rate for rate in _RATES if rounding(rate) <= _TELLING and fits(rate)), None)


def _sizes(split: SplitFacts, findings: Findings) -> None:
    raw = split.raw
    given = (raw.size > 0).all(axis=1)
    for movie, info in split.check.infos.items():
        rows = np.flatnonzero((raw.movie == movie) & given)
        ratio = (raw.size[rows, 0] * info.width) / (raw.size[rows, 1] * max(info.height, 1))
        odd = rows[np.abs(np.log(ratio)) > _SHAPE]
        if len(odd):
            height, width = raw.size[odd[0]].tolist()
            message = (
                f"{len(odd)} keyframes of {raw.movies[movie]} are annotated for {width} x {height} pixels, "
                f"the video has {info.width} x {info.height}"
            )
            where = split.row_of_keyframe(int(odd[0]))
            findings.add(
                "size-mismatch",
                split=split.name,
                file=split.source,
                row=where,
                message=message,
                movie=raw.movies[movie],
                time=float(raw.time[odd[0]]),
            )
