"""Faults of annotated boxes, and how well a detector's boxes cover them.

Shapes: N keyframes, P annotated persons, B detected boxes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from alphaction.dataset.box_files import RawBoxes, read_boxes
from alphaction.dataset.resolve import CLIPPED, pixel_boxes
from alphaction.errors import UserError
from alphaction.evaluation.matching import best_overlaps, box_iou
from alphaction.preparation.check_findings import Findings
from alphaction.preparation.check_split import SplitFacts

ENOUGH = 0.8  # recall below it is told
OVERLAP = 0.5  # intersection over union from which a detection covers a person
SAME = 0.95  # overlap of two persons of a keyframe that are probably one

_CODES = {
    "not a number": "box-nan",
    "zero or negative size": "box-empty",
    "one pixel wide or high, or less": "box-empty",
    "outside the picture": "box-outside",
}


@dataclass(frozen=True)
class Coverage:
    """How many annotated persons the detections of a split cover.

    Attributes:
        split: its name.
        source: the box file.
        threshold: lowest score of the boxes that a test uses (TEST.BOX_THRESH).
        recall: share of the persons that a box of at least this score overlaps by half.
        recall_all: the same with boxes of every score.
        boxes, boxes_all: number of boxes on annotated keyframes.
        without: keyframes with persons that have no box of at least this score.
    """

    split: str
    source: str
    threshold: float
    recall: float
    recall_all: float
    boxes: int
    boxes_all: int
    without: int


def check_boxes(split: SplitFacts, findings: Findings) -> None:
    """Every annotated box that is left out, clipped, or there twice, and persons without an action."""
    raw, boxes = split.raw, split.boxes
    for reason, persons in boxes.faults.items():
        for person in persons.tolist():
            if split.row_of_person(person) not in split.refused:
                _add(split, findings, _CODES[reason], person, f"{reason}: {_text(split, person)}")
    moved = boxes.usable & (np.abs(boxes.clipped - boxes.xyxy).max(axis=1, initial=0) > CLIPPED)
    for person in np.flatnonzero(moved).tolist():
        _add(split, findings, "box-clipped", person, _text(split, person))
    for first, second in zip(*_same_boxes(split), strict=True):
        ours, theirs = split.row_of_person(second), split.row_of_person(first)
        message = f"{_text(split, second)} is also the box of another person ({theirs})"
        _add(split, findings, "box-duplicate", second, message, row=ours)
    for person in np.flatnonzero(~raw.labels.any(axis=1)).tolist():
        if split.row_of_person(person) not in split.refused:
            _add(split, findings, "no-label", person, "a person without an action")


def _add(split: SplitFacts, findings: Findings, code: str, person: int, message: str, *, row: str = "") -> None:
    keyframe = int(split.raw.keyframe[person])
    findings.add(
        code,
        split=split.name,
        file=split.source,
        row=row or split.row_of_person(person),
        message=f"{message} ({split.raw.name_keyframe(keyframe)})",
        movie=split.raw.movies[int(split.raw.movie[keyframe])],
        time=float(split.raw.time[keyframe]),
        box=split.fraction_box(person),
    )


def _text(split: SplitFacts, person: int) -> str:
    numbers = ", ".join(f"{value:.4g}" for value in split.raw.boxes[person].tolist())
    return f"box {'x1, y1, x2, y2' if split.raw.normalised else 'x, y, width, height'} = {numbers}"


def _same_boxes(split: SplitFacts) -> tuple[list[int], list[int]]:
    """Persons of one keyframe whose boxes are nearly the same: (the first of them, each other one)."""
    rows = np.flatnonzero(split.boxes.usable)
    keyframe, xyxy = split.raw.keyframe[rows], _continuous(split.boxes.clipped[rows])
    first: dict[int, int] = {}
    for offset in range(1, int(np.bincount(keyframe).max(initial=0))):
        near = np.flatnonzero(keyframe[offset:] == keyframe[:-offset])
        same = near[box_iou(xyxy[near], xyxy[near + offset]) >= SAME]
        for a, b in zip(same.tolist(), (same + offset).tolist(), strict=True):
            first.setdefault(b, a)
    order = sorted(first)
    return [int(rows[first[b]]) for b in order], [int(rows[b]) for b in order]


def check_detections(split: SplitFacts, findings: Findings, *, threshold: float) -> Coverage | None:
    """Reads the files of detected persons and objects; None where there are no detected persons.

    Args:
        threshold: TEST.BOX_THRESH.
    """
    objects = split.spec["object_file"]
    if objects:
        _read(split, objects, findings)
    if not split.spec["box_file"]:
        return None
    boxes = _read(split, split.spec["box_file"], findings)
    if boxes is None:
        return None
    covered = _coverage(split, boxes, threshold)
    if covered.recall < ENOUGH:
        message = (
            f"boxes with a score of at least {threshold:g} cover {covered.recall:.1%} of the annotated persons of "
            f"{split.name} (overlap of {OVERLAP:g} or more); boxes of all scores {covered.recall_all:.1%}. "
            f"{covered.without} keyframes with persons have no such box"
        )
        findings.add("recall", split=split.name, file=covered.source, message=message)
    return covered


def _read(split: SplitFacts, path: str, findings: Findings) -> RawBoxes | None:
    try:
        boxes = read_boxes(path, split.raw)
    except UserError as error:
        findings.add("file", split=split.name, file=path, message=str(error).removeprefix(f"{path}: "))
        return None
    if boxes.unknown:
        images = ", ".join(boxes.unknown_images)
        message = f"{boxes.unknown} of its {boxes.unknown + len(boxes.scores)} boxes: images {images}"
        findings.add("boxes-unknown", split=split.name, file=path, message=message)
    return boxes


def _coverage(split: SplitFacts, boxes: RawBoxes, threshold: float) -> Coverage:
    size = split.size[boxes.keyframe]
    found = pixel_boxes(boxes.xywh, np.where(size > 0, size, 1_000_000), normalised=False)
    usable = found.usable & split.check.usable[boxes.keyframe]
    persons = np.flatnonzero(split.usable_persons())
    keyframe, xyxy = split.raw.keyframe[persons], _continuous(split.boxes.clipped[persons])
    detected = _continuous(found.clipped)

    def best(kept: np.ndarray) -> np.ndarray:
        return best_overlaps(keyframe, xyxy=xyxy, other_image=boxes.keyframe[kept], other=detected[kept])[0]

    above = usable & (boxes.scores >= threshold)
    shares = [float((best(kept) >= OVERLAP).mean()) if len(persons) else 1.0 for kept in (above, usable)]
    return Coverage(
        split=split.name,
        source=os.fspath(boxes.source),
        threshold=threshold,
        recall=shares[0],
        recall_all=shares[1],
        boxes=int(above.sum()),
        boxes_all=int(usable.sum()),
        without=len(np.setdiff1d(keyframe, boxes.keyframe[above])),
    )


def _continuous(xyxy: np.ndarray) -> np.ndarray:
    """float64 corners without the "+ 1" of the inclusive convention."""
    return xyxy.astype(np.float64) + np.array([0.0, 0.0, 1.0, 1.0])
