"""Checks a data set: every fault of its files, videos, times, boxes, classes and splits, and tables of what it holds.

report = check_dataset(["data/my/dataset.yaml"])
report.findings.count("error")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from alphaction.preparation.check_boxes import Coverage, check_boxes, check_detections
from alphaction.preparation.check_classes import check_classes, check_shared
from alphaction.preparation.check_findings import LEVELS, Findings
from alphaction.preparation.check_split import SplitFacts, read_splits, split_names
from alphaction.preparation.check_videos import check_same_content, check_unannotated, check_videos

CLIP_SECONDS = 2.56  # 64 frames at 25 per second, what the released configurations see
BOX_THRESHOLD = 0.8  # TEST.BOX_THRESH


@dataclass(frozen=True)
class VideoRow:
    """A line of the table of videos; seconds, pixels and frames per second are 0 where unknown."""

    split: str
    video: str
    seconds: float
    fps: float
    width: int
    height: int
    keyframes: int
    persons: int
    state: str


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        names: the data sets that were asked for.
        splits: those that could be read.
        findings: every fault.
        coverage: per split with detected persons.
    """

    names: tuple[str, ...]
    splits: list[SplitFacts]
    findings: Findings
    coverage: list[Coverage]

    def videos(self) -> list[VideoRow]:
        return [row for split in self.splits for row in _video_rows(split)]

    def classes(self) -> list[tuple[str, str, list[int]]]:
        """(id, name, usable persons per split) of every class."""
        names: dict[str, str] = {}
        counts: dict[str, list[int]] = {}
        for i, split in enumerate(self.splits):
            known = split.raw.classes
            for class_id, name, count in zip(known.ids, known.names, split.label_counts().tolist(), strict=True):
                names.setdefault(str(class_id), name)
                counts.setdefault(str(class_id), [0] * len(self.splits))[i] = count
        return [(class_id, names[class_id], counts[class_id]) for class_id in names]

    def summary(self) -> list[dict[str, Any]]:
        """Totals of every split."""
        return [_totals(split) for split in self.splits]

    def as_json(self) -> dict[str, Any]:
        """Plain values: the tables and every finding."""
        names = [split.name for split in self.splits]
        return {
            "data_sets": list(self.names),
            "counts": {level: self.findings.count(level) for level in LEVELS},
            "splits": self.summary(),
            "videos": [asdict(row) for row in self.videos()],
            "classes": [
                {"id": class_id, "name": name, "persons": dict(zip(names, counts, strict=True))}
                for class_id, name, counts in self.classes()
            ],
            "detections": [asdict(row) for row in self.coverage],
            "findings": [{"level": found.level, **asdict(found)} for found in self.findings],
        }


def check_dataset(
    names: Sequence[str],
    *,
    decode: bool = True,
    clip_seconds: float = CLIP_SECONDS,
    box_threshold: float = BOX_THRESHOLD,
) -> CheckReport:
    """Checks all splits of a dataset.yaml, one of them, or data sets of the catalog.

    Args:
        names: "data/my/dataset.yaml", "data/my/dataset.yaml:train", or names of the catalog.
        decode: decode the first, middle and last keyframe of every video (otherwise only the first frame).
        clip_seconds: length of a clip that the model sees.
        box_threshold: lowest score of the detected persons that a test uses (TEST.BOX_THRESH).

    Raises:
        UserError: there is no such data set. Faults of its files are findings.
    """
    findings = Findings()
    splits = read_splits(split_names(names), findings)
    coverage = []
    for split in splits:
        check_videos(split, findings, clip_seconds=clip_seconds, decode=decode)
        check_boxes(split, findings)
        covered = check_detections(split, findings, threshold=box_threshold)
        coverage += [] if covered is None else [covered]
    check_unannotated(splits, findings)
    check_same_content(splits, findings)
    check_classes(splits, findings)
    check_shared(splits, findings)
    return CheckReport(tuple(names), splits, findings, coverage)


def _video_rows(split: SplitFacts) -> list[VideoRow]:
    raw = split.raw
    keyframes = np.bincount(raw.movie, minlength=len(raw.movies))
    persons = np.bincount(raw.movie[raw.keyframe], minlength=len(raw.movies))
    rows = []
    for movie, entry in enumerate(split.files):
        info = split.check.infos.get(movie)
        length = entry.info.duration if entry.info is not None else float(len(entry.clips or ()))
        seconds = split.ends.get(movie, length)
        rows.append(
            VideoRow(
                split=split.name,
                video=entry.movie,
                seconds=round(seconds, 3),
                fps=round(info.fps, 3) if info else 0.0,
                width=info.width if info else 0,
                height=info.height if info else 0,
                keyframes=int(keyframes[movie]),
                persons=int(persons[movie]),
                state=split.states.get(movie, "ok" if split.index is not None else "no folder"),
            )
        )
    return rows


def _totals(split: SplitFacts) -> dict[str, Any]:
    raw, usable = split.raw, split.check.usable
    persons = split.usable_persons()
    kept = raw.keyframe[persons]
    return {
        "name": split.name,
        "annotations": split.source,
        "videos": len(raw.movies),
        "seconds": round(sum(row.seconds for row in _video_rows(split)), 1),
        "keyframes": len(raw),
        "usable_keyframes": int(usable.sum()),
        "keyframes_without_persons": int(usable.sum()) - len(np.unique(kept)),
        "persons": len(raw.keyframe),
        "usable_persons": int(persons.sum()),
        "labels": int(raw.labels[persons].sum()),
    }
