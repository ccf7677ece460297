"""From annotation files and videos to one table of persons: decides, converts, and counts what cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from alphaction.dataset.video_index import in_threads
from alphaction.preparation.prepare_boxes import box_faults, settle_boxes, to_shares
from alphaction.preparation.prepare_classes import Classes, class_id
from alphaction.preparation.prepare_evidence import Assumption, count
from alphaction.preparation.prepare_rows import Table
from alphaction.preparation.prepare_times import Base, Lengths, settle_times
from alphaction.preparation.prepare_videos import NO_SUCH_VIDEO, Footage, Matched, ProbeCache, VideoFolder
from alphaction.preparation.sources import Fault, Record, Source, some

_SHOWN = 3  # rows named per fault
_SHAPE = 0.05  # difference of the shapes (height / width) of annotated and real pictures that is worth a note


@dataclass(frozen=True)
class Reading:
    """The user's word on what is not evident; see the flags of tools/prepare_dataset.py."""

    box_format: str = "auto"
    time_base: str = "auto"
    fps: float = 0.0


@dataclass
class Gathered:
    """What the files say.

    Attributes:
        table: persons by video (id in the new set) and seconds.
        rows: how many rows there were.
        faults: rows that cannot be used.
        assumptions: what was decided.
        notes: remarks for the report.
        written: (video, seconds) -> number of the second or frame as written.
        sizes: video -> (height, width) of the pictures that were annotated.
        clipped: boxes that reach out of the picture and were cut.
        sides: video -> names of the annotation files that it occurs in.
    """

    table: Table = field(default_factory=Table)
    rows: int = 0
    faults: list[Fault] = field(default_factory=list)
    assumptions: list[Assumption] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    written: dict[tuple[str, float], float] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    clipped: int = 0
    sides: dict[str, set[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Job:
    """What reading a group of files takes."""

    footage: Mapping[str, Footage]
    classes: Classes
    reading: Reading
    cache: ProbeCache
    result: Gathered


def gather(
    sources: Sequence[Source], matched: Matched, classes: Classes, *, reading: Reading, cache: ProbeCache
) -> Gathered:
    """Puts all files into one table.

    Args:
        sources: the files.
        matched: the videos of their names.
        classes: what their actions mean.
        reading: the user's word.
        cache: what is known of the videos' frames already.

    Raises:
        DataError: the evidence on boxes or times is contradictory.
    """
    result = Gathered(rows=sum(len(source.records) + len(source.faults) for source in sources))
    groups: dict[tuple, list[Source]] = {}
    for source in sources:
        result.faults += source.faults
        result.notes += source.notes
        key = (source.form, source.order, source.times, source.times_from, source.frame_words, source.first_frame)
        groups.setdefault(key, []).append(source)
    for group in groups.values():
        _add_group(group, _Job(matched.footage, classes, reading, cache, result))
    if len(groups) == 1:
        result.assumptions = [assumption._replace(files="") for assumption in result.assumptions]
    return result


def unmatched_names(sources: Sequence[Source], matched: Matched, folder: VideoFolder) -> str:
    """The table for the error on video names that match no usable video; "" if all do."""
    if not matched.problems:
        return ""
    rows = Counter(record.video for source in sources for record in source.records)
    first: dict[str, str] = {}
    for source in sources:
        for record in source.records:
            first.setdefault(record.video, f"{source.path}, {record.where}")
    width = max(len(name) for name in matched.problems)
    lines = [
        f"  {name:<{width}}  {count(rows[name], 'row')}, first in {first[name]}: {problem}"
        for name, problem in list(matched.problems.items())[:20]
    ]
    if len(matched.problems) > 20:
        lines.append(f"  ... and {len(matched.problems) - 20} more")
    if any(problem.startswith(NO_SUCH_VIDEO) for problem in matched.problems.values()):
        lines.append("Tried: the path below that folder, the file name, the name without ending; upper and lower case.")
    return (
        f"{len(matched.problems)} of {count(len(rows), 'video name')} of the annotations cannot be used with the "
        f"videos in {folder.root} ({count(len(folder.files), 'video')}):\n" + "\n".join(lines)
    )


def describe_faults(faults: Iterable[Fault]) -> list[str]:
    """One line per kind of fault: how many, and the first ones with file and row."""
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, []).append(fault)
    return [
        f"{kind}: {len(found)} ("
        + "; ".join(f"{fault.path}, {fault.where}: {fault.detail}" for fault in found[:_SHOWN])
        + ("; ...)" if len(found) > _SHOWN else ")")
        for kind, found in kinds.items()
    ]


def _add_group(group: Sequence[Source], job: _Job) -> None:
    """Adds the rows of files of one form, which are read alike."""
    footage, classes, result = job.footage, job.classes, job.result
    pairs = [(source, record) for source in group for record in source.records if record.video in footage]
    if not pairs:
        return
    records = [record for _, record in pairs]
    videos = [footage[record.video] for record in records]
    files = some([source.path for source in group], most=3)
    base = _base(group[0], records, videos, job.reading, files)
    result.assumptions.append(base.assumption)
    seconds = _seconds(records, videos, base, job.cache)
    corners = np.full((len(records), 4), np.nan)
    boxed = [i for i, record in enumerate(records) if record.box is not None]
    bad: dict[int, tuple[str, object]] = {}
    if boxed:
        with_box = [records[i] for i in boxed]
        corners[boxed], faults = _corners(group[0], with_box, [videos[i] for i in boxed], job, files)
        for reason, rows in faults.items():
            bad |= {boxed[row]: (reason, list(records[boxed[row]].box)) for row in rows.tolist()}
    names = some(classes.list.names)
    for i, (source, record) in enumerate(pairs):
        video = videos[i]
        unknown = [action for action in record.actions if class_id(action) in classes.unknown]
        end = video.info.duration + 1 / max(video.info.fps, 1e-3)
        if not 0 <= seconds[i] <= end:
            bad[i] = ("moment outside its video", f"{record.time:g}, the video is {video.info.duration:.2f} s long")
        elif unknown:
            bad[i] = (f"action that is not in the class list ({names})", some(unknown))
        if i in bad:
            result.faults.append(Fault(source.path, record.where, bad[i][0], str(bad[i][1])))
            continue
        time = round(float(seconds[i]), 6)
        ids = [classes.ids[class_id(action)] for action in record.actions]
        result.table.add(video.name, time, None if record.box is None else corners[i], ids, record.person)
        result.written.setdefault((video.name, time), record.time)
        result.sizes.setdefault(video.name, record.size if all(record.size) else (video.info.height, video.info.width))
        result.sides.setdefault(video.name, set()).add(source.path)
    outside = np.any((corners[boxed] < -1e-3) | (corners[boxed] > 1 + 1e-3), axis=1)
    result.clipped += sum(bool(out) and i not in bad for i, out in zip(boxed, outside, strict=True))


def _base(source: Source, records: Sequence[Record], videos: Sequence[Footage], reading: Reading, files: str) -> Base:
    infos = [video.info for video in videos]
    lengths = Lengths(
        np.array([info.duration for info in infos]),
        np.array([info.frames for info in infos], float),
        np.array([max(info.fps, 1e-3) for info in infos]),
    )
    return settle_times(
        np.array([record.time for record in records]),
        lengths,
        files=files,
        said=source.times,
        place=source.times_from,
        frame_words=source.frame_words,
        first_frame=source.first_frame,
        time_base=reading.time_base,
        fps=reading.fps,
    )


def _seconds(records: Sequence[Record], videos: Sequence[Footage], base: Base, cache: ProbeCache) -> np.ndarray:
    """Float64 [R]; frame numbers by the times that the video's frames have, so that no rate is assumed. NaN outside."""
    times = np.array([record.time for record in records])
    if not base.frames:
        return times
    numbers = times - base.first_frame
    if base.fps:
        return numbers / base.fps
    distinct = {video.name: video for video in videos}
    known = in_threads(
        lambda video: None if video.clips else cache.frame_times(video.path),
        list(distinct.values()),
        title="Reading frame times",
    )
    frame_times = dict(zip(distinct, known, strict=True))
    seconds = np.full(len(records), np.nan)
    for i, video in enumerate(videos):
        frames = frame_times[video.name]
        if frames is None:
            seconds[i] = numbers[i] / max(video.info.fps, 1e-3)
        elif 0 <= numbers[i] < len(frames):
            seconds[i] = frames[int(numbers[i])]
    return seconds


def _corners(
    source: Source,
    records: Sequence[Record],
    videos: Sequence[Footage],
    job: _Job,
    files: str,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(corners in shares [R, 4], faulty rows by reason)."""
    boxes = np.array([record.box for record in records])
    real = np.array([(video.info.height, video.info.width) for video in videos], float)
    said = np.array([record.size for record in records], float)
    size = np.where((said > 0).all(axis=1, keepdims=True), said, real)
    area = np.array([record.area for record in records])
    settled = settle_boxes(
        boxes, size, area, files=files, form=source.form, order=source.order, box_format=job.reading.box_format
    )
    job.result.assumptions.append(settled.assumption)
    odd = np.abs(np.log(size[:, 0] * real[:, 1] / (size[:, 1] * real[:, 0]))) > _SHAPE
    if odd.any():
        row = int(np.argmax(odd))
        (height, width), (real_height, real_width) = size[row].astype(int), real[row].astype(int)
        job.result.notes.append(
            f"{count(int(odd.sum()), 'box')} were drawn in pictures of another shape than the video's, e.g. {files}, "
            f"{records[row].where}: {width} x {height}, the video {real_width} x {real_height}. Is it the same video?"
        )
    corners = to_shares(boxes, size, settled)
    return corners, box_faults(corners, size)
