"""The classes that a data set's catalog entry names, beside those of its annotation file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from alphaction.dataset.raw import RawAnnotations
from alphaction.formats.label_files import read_classes
from alphaction.structures import ClassList


def entry_classes(spec: Mapping[str, Any]) -> tuple[ClassList | None, str]:
    """(the entry's class list or None, where it comes from)."""
    classes = spec.get("classes")
    if classes is None:
        return None, ""
    if isinstance(classes, (str, os.PathLike)):
        return read_classes(classes), str(classes)
    where = spec.get("dataset_file") or "its catalog entry"
    return read_classes(classes), f"'classes' of data set {spec['name']} ({where})"


def named_by_label_map(raw: RawAnnotations, spec: Mapping[str, Any]) -> RawAnnotations:
    """Names classes that only have numbers as the evaluation's label map does (AVA's has 60 of the 80)."""
    path = spec["eval_file_paths"].get("labelmap_file", "")
    if not raw.numbered or not path or not os.path.isfile(path):
        return raw
    known = read_classes(path)
    by_id = dict(zip(known.ids, known.names, strict=True))
    return replace(raw, classes=ClassList(raw.classes.ids, tuple(by_id.get(i, str(i)) for i in raw.classes.ids)))
