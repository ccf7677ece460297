"""Detected persons for a new data set: files of any form that `dataset.box_files` reads, in the new set's terms.

Shapes: N keyframes, B boxes.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alphaction.dataset.box_files import read_boxes
from alphaction.dataset.raw import RawAnnotations, numbered_classes
from alphaction.errors import DataError
from alphaction.preparation.prepare_evidence import count
from alphaction.preparation.prepare_gather import Gathered
from alphaction.preparation.prepare_videos import Footage
from alphaction.preparation.sources import Source


@dataclass
class PersonBoxes:
    """Boxes by video: rows of {"image_id": "video/seconds", "bbox": [x, y, width, height] in pixels, "score"}."""

    by_video: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def of(self, videos: Sequence[str]) -> list[dict[str, object]]:
        return [row for video in videos for row in self.by_video.get(video, ())]


def read_person_boxes(
    files: Sequence[str], gathered: Gathered, sources: Sequence[Source], footage: Mapping[str, Footage]
) -> PersonBoxes:
    """Reads files of detected boxes.

    Args:
        files: their paths; boxes are pixels of the annotated pictures.
        gathered: the annotations, with the keyframes that are kept.
        sources: the annotation files, for their image ids.
        footage: videos by the names in the annotations.

    Raises:
        DataError: a file is missing, of another form, or none of its boxes belongs to a keyframe.
    """
    boxes = PersonBoxes()
    if not files:
        return boxes
    raw, unclear = _keyframes(gathered, sources, footage)
    sizes = {video.name: (video.info.height, video.info.width) for video in footage.values()}
    times = [time for moments in gathered.table.videos.values() for time in sorted(moments)]
    for file in files:
        if unclear and _by_number(Path(file)):
            raise DataError(
                f"--person-boxes {file}: it names pictures by their ids, and the image ids of "
                f"{', '.join(source.path for source in sources if source.images)} overlap. Name them so: "
                '{"video/12.5.jpg": [{"bbox": [...], "score": 0.9}]}'
            )
        found = read_boxes(file, raw)
        for row, xywh, score in zip(found.keyframe.tolist(), found.xywh, found.scores.tolist(), strict=True):
            video = raw.movies[int(raw.movie[row])]
            (height, width), (said_height, said_width) = sizes[video], gathered.sizes[video]
            scale = np.array([width / said_width, height / said_height] * 2)
            boxes.by_video.setdefault(video, []).append(
                {
                    "image_id": f"{video}/{times[row]!r}",
                    "bbox": [round(value, 3) for value in (xywh * scale).tolist()],
                    "score": score,
                }
            )
        covered = len(np.unique(found.keyframe))
        boxes.notes.append(
            f"{file}: {count(len(found.keyframe), 'person box')} on {covered} of {count(len(raw), 'keyframe')}"
            + (f", {found.unknown} of other moments left out" if found.unknown else "")
        )
    return boxes


def _by_number(path: Path) -> bool:
    """Whether a box file names pictures by numbers; what is wrong with a file is told by who reads it."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, list) and any(
        isinstance(e, dict) and isinstance(e.get("image_id"), int) for e in content
    )


def _keyframes(
    gathered: Gathered, sources: Sequence[Source], footage: Mapping[str, Footage]
) -> tuple[RawAnnotations, bool]:
    """(the keyframes with their times as the annotation files write them, since box files write them so, too; whether
    image ids of several files overlap)."""
    table = gathered.table
    movies = tuple(table.videos)
    keys = [(i, time) for i, video in enumerate(movies) for time in sorted(table.videos[video])]
    written = [gathered.written[movies[i], time] for i, time in keys]
    rows = {(movies[i], time): row for row, ((i, _), time) in enumerate(zip(keys, written, strict=True))}
    images: dict[Hashable, int | None] = {}
    unclear = set()
    for source in sources:
        names = dict(source.images)
        names |= {f"{record.video}/{record.time:g}": (record.video, record.time) for record in source.records}
        for name, (video, time) in names.items():
            row = rows.get((footage[video].name, time)) if video in footage else None
            if images.setdefault(name, row) != row:
                unclear.add(name)
    empty = np.zeros(0, np.int64)
    raw = RawAnnotations(
        source="the annotations",
        classes=numbered_classes(1),
        numbered=True,
        movies=movies,
        movie=np.array([i for i, _ in keys], np.int32),
        time=np.array(written, np.float64),
        size=np.zeros((len(keys), 2), np.int32),
        image_rows={name: row for name, row in images.items() if row is not None and name not in unclear},
        keyframe=empty,
        boxes=np.zeros((0, 4)),
        normalised=False,
        labels=np.zeros((0, 1), bool),
        person_id=np.zeros(0, np.int32),
        entry=[],
        entry_name="row",
    )
    return raw, any(isinstance(name, int) for name in unclear)
