"""One split as the checker sees it: everything is read, nothing that is wrong ends the reading.

Shapes: N keyframes, P persons, K classes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alphaction.config.dataset_file import split_reference
from alphaction.config.generate import ensure_generated
from alphaction.config.paths_catalog import DatasetCatalog
from alphaction.config.yaml_file import read_yaml_mapping
from alphaction.dataset.annotations import read_annotations
from alphaction.dataset.entry_classes import entry_classes, named_by_label_map
from alphaction.dataset.faults import FaultList
from alphaction.dataset.keyframe_check import KeyframeCheck, check_keyframes
from alphaction.dataset.raw import RawAnnotations
from alphaction.dataset.resolve import PixelBoxes, pixel_boxes
from alphaction.dataset.video_index import MovieFiles, VideoIndex
from alphaction.errors import DataError, UserError
from alphaction.preparation.check_findings import Findings

ROWS_NAMED = 5  # rows of one keyframe that are named


@dataclass
class SplitFacts:
    """A split that could be read, at least in part.

    Attributes:
        name: for messages: the split of a dataset.yaml, else the data set's name.
        spec: its entry, see `DatasetCatalog.get`.
        raw: the annotation file's content without the faulty entries.
        refused: entries of the file that have been told of already.
        index: the video folder; None when there is none.
        files: the video of each of `raw.movies`.
        check: which keyframes can be read.
        size: int32 [N, 2], (height, width) of the frame that boxes refer to; 0 where nothing tells.
        boxes: of the persons, in pixels.
        ends: measured ends of videos in seconds by movie, where they were decoded.
        states: what is wrong with a video in a word, by movie.
    """

    name: str
    spec: dict[str, Any]
    raw: RawAnnotations
    refused: set[str]
    index: VideoIndex | None
    files: list[MovieFiles]
    check: KeyframeCheck
    size: np.ndarray
    boxes: PixelBoxes
    ends: dict[int, float] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)

    @property
    def training(self) -> bool:
        """Whether its name says that it is trained on."""
        return any(word.startswith("train") for word in self._words())

    @property
    def testing(self) -> bool:
        """Whether its name says that it is tested on."""
        return not self.training and any(word.startswith(("val", "test", "dev", "eval")) for word in self._words())

    def _words(self) -> list[str]:
        reference = split_reference(self.name)
        name = reference[1] if reference is not None and reference[1] else self.name
        return [word for word in re.split(r"[^a-z]+", name.lower()) if word]

    @property
    def source(self) -> str:
        return self.raw.source

    def usable_persons(self) -> np.ndarray:
        """bool [P]: the box and the keyframe can be used."""
        return self.boxes.usable & self.check.usable[self.raw.keyframe]

    def label_counts(self) -> np.ndarray:
        """int64 [K], usable persons per class."""
        return self.raw.labels[self.usable_persons()].sum(axis=0)

    def persons_of(self, keyframe: int) -> slice:
        first, last = np.searchsorted(self.raw.keyframe, [keyframe, keyframe + 1])
        return slice(int(first), int(last))

    def row_of_keyframe(self, keyframe: int) -> str:
        """Where the file has a keyframe: its image, or the lines of its persons ("" for a CSV's without persons)."""
        if self._images:
            return f"image {self._images.get(keyframe)!r}"
        entries = list(dict.fromkeys(self.raw.entry[self.persons_of(keyframe)]))
        if not entries:
            return ""
        more = ", ..." if len(entries) > ROWS_NAMED else ""
        word = self.raw.entry_name if len(entries) == 1 else f"{self.raw.entry_name}s"
        return f"{word} {', '.join(map(str, entries[:ROWS_NAMED]))}{more}"

    def row_of_person(self, person: int) -> str:
        return f"{self.raw.entry_name} {self.raw.entry[person]}"

    def fraction_box(self, person: int) -> tuple[float, ...] | None:
        """x1, y1, x2, y2 of a person as fractions of the picture, as annotated; None where they are no numbers."""
        box = self.raw.boxes[person].astype(np.float64)
        if not self.raw.normalised:
            height, width = self.size[self.raw.keyframe[person]].tolist()
            if not height:
                return None
            box = np.concatenate([box[:2], box[:2] + box[2:]]) / [width, height, width, height]
        return tuple(box.tolist()) if np.isfinite(box).all() else None

    def __post_init__(self) -> None:
        self._images = {row: image for image, row in reversed(list(self.raw.image_rows.items()))}


def split_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """(name for messages, name for the catalog) of every split that `names` mean; a dataset.yaml means all of its.

    Raises:
        UserError: there is no such data set.
    """
    found: list[tuple[str, str]] = []
    for name in names:
        reference = None if name in DatasetCatalog.DATASETS else split_reference(name)
        if reference is None:
            DatasetCatalog.get(name)
            found.append((name, name))
        elif reference[1]:
            DatasetCatalog.get(name)
            found.append((reference[1], name))
        else:
            content = read_yaml_mapping(os.path.expanduser(reference[0]), what="dataset file", error=DataError)
            splits = content.get("splits")
            if not isinstance(splits, dict) or not splits:
                raise DataError(f"{reference[0]}: splits: got {splits!r}, expected one or more splits")
            found += [(str(split), f"{reference[0]}:{split}") for split in splits]
    if len({name for name, _ in found}) < len(found):
        found = [(full, full) for _, full in found]
    return list(dict.fromkeys(found))


def read_splits(names: Sequence[tuple[str, str]], findings: Findings) -> list[SplitFacts]:
    """Reads every split; one that cannot be read at all is a finding.

    Classes of which only the number is known are as many as the split with the largest id has.
    """
    read = [_read(name, full, 0, findings) for name, full in names]
    most = max((len(part.raw.classes) for part in read if part is not None), default=0)
    again = [
        _read(name, full, most, Findings())
        if part is not None and part.raw.numbered and len(part.raw.classes) < most
        else part
        for part, (name, full) in zip(read, names, strict=True)
    ]
    return [part for part in again if part is not None]


def _read(name: str, full: str, num_classes: int, findings: Findings) -> SplitFacts | None:
    faults = FaultList()
    where = full
    try:
        spec = DatasetCatalog.get(full)
        ensure_generated(spec)
        where = spec["ann_file"]
        classes, origin = entry_classes(spec)
        raw = read_annotations(where, classes, num_classes, classes_origin=origin, faults=faults)
    except UserError as error:
        findings.add("file", split=name, file=where, message=str(error).removeprefix(f"{where}: "))
        raw = None
    for fault in faults.found:
        text = fault.message.removeprefix(f"{where}: ").removeprefix(f"{fault.entry}").removeprefix(":").strip()
        findings.add(fault.code, split=name, file=where, row=fault.entry, message=text)
    if raw is None:
        return None
    raw = named_by_label_map(raw, spec)
    index: VideoIndex | None = None
    files = [MovieFiles(movie) for movie in raw.movies]
    check = KeyframeCheck(np.ones(len(raw), dtype=bool))
    try:
        index = VideoIndex(spec["video_root"])
        files = index.find(raw.movies)
        check = check_keyframes(raw, files)
    except UserError as error:
        findings.add("file", split=name, file=spec["video_root"], message=str(error))
    size = _frame_sizes(raw, check)
    refused = {fault.entry for fault in faults.found}
    return SplitFacts(name, spec, raw, refused, index, files, check, size, _boxes(raw, size))


def _frame_sizes(raw: RawAnnotations, check: KeyframeCheck) -> np.ndarray:
    actual = np.zeros((len(raw.movies), 2), np.int32)
    for movie, info in check.infos.items():
        actual[movie] = info.height, info.width
    return np.where((raw.size > 0).all(axis=1, keepdims=True), raw.size, actual[raw.movie])


def _boxes(raw: RawAnnotations, size: np.ndarray) -> PixelBoxes:
    """Where no size is known, pixels are taken to be inside and fractions to be of a usual picture."""
    assumed = 1000 if raw.normalised else 1_000_000
    return pixel_boxes(raw.boxes, np.where(size > 0, size, assumed)[raw.keyframe], normalised=raw.normalised)
