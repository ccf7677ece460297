"""Reads a dataset.yaml: a small file beside the data that says where everything is.

    name: birdnest                           # optional
    videos: videos                           # folder, for all splits
    classes: annotations/action_list.pbtxt   # or [walk, run] (ids 1, 2), or {1: walk, 2: run}
    splits:
      train: {annotations: annotations/train.csv}
      val:
        annotations: annotations/val.csv
        videos: val_videos                   # instead of the one above
        person_boxes: boxes/val.json         # detected persons
        object_boxes: boxes/val_objects.json
        evaluation: {csv_gt_file: a.csv, labelmap_file: b.pbtxt, exclusion_file: c.csv}

Paths are relative to the file's own folder. Only what a configuration needs is read here; whether the videos and
annotations exist is found out by who reads them.
"""

from __future__ import annotations

import os
import pathlib
import re
from typing import Any

from alphaction.config.entry import Fields
from alphaction.config.names import nearest, shown
from alphaction.config.yaml_file import read_yaml_mapping
from alphaction.errors import DataError

_TOP_KEYS = ("name", "videos", "classes", "splits")
_SPLIT_KEYS = ("annotations", "videos", "person_boxes", "object_boxes", "evaluation")
_NOTES = {"generator": "a generator may stand only in an entry of the catalog, since it runs code"}
# Any number of colons may stand in the path; what follows the last file ending and a colon is the split.
_REFERENCE = re.compile(r"(?P<path>.*\.ya?ml)(?::(?P<split>[^:/\\]*))?", re.IGNORECASE | re.DOTALL)


def split_reference(name: str) -> tuple[str, str] | None:
    """`path/to/dataset.yaml:train` as (path, split); the split is "" if none is named; None for other names."""
    match = _REFERENCE.fullmatch(name)
    return None if match is None else (match["path"], (match["split"] or "").strip())


def read_dataset_file(path: str | os.PathLike[str], split: str) -> dict[str, Any]:
    """One split of a dataset.yaml as an entry, in the shape that `DatasetCatalog.get` returns.

    Args:
        path: the file, absolute or relative to the working directory.
        split: name of the split; "" for the only one.

    Raises:
        DataError: the file is missing or no YAML; an unknown or missing key, a wrong type; a split that is not there.
    """
    path = os.path.expanduser(os.fspath(path))
    where = f"dataset file {path}"
    folder = pathlib.Path(path).parent

    def resolve(value: str) -> str:
        # Not normalised: `..` after a symbolic link means what the system says it means.
        return str(folder / os.path.expanduser(value))

    content = read_yaml_mapping(path, what="dataset file", error=DataError)
    top = Fields(content, where=where, error=DataError, resolve=resolve)
    top.only(_TOP_KEYS, notes=_NOTES)
    splits = top.value("splits")
    if not isinstance(splits, dict) or not splits:
        raise top.fault("splits", splits, "one or more splits, e.g. `train: {annotations: train.csv}`")
    for name in splits:
        if not isinstance(name, str):
            raise top.fault("splits", name, "names of splits as text (in quotes)")
    split = _choose(split, splits, path=path)
    part = Fields(splits[split], where=f"{where}: splits: {split}", error=DataError, resolve=resolve)
    part.only(_SPLIT_KEYS, notes=_NOTES)
    videos = part.path("videos") or top.path("videos")
    if not videos:
        raise DataError(f"{where}: videos: is missing, expected the folder of the videos (at the top or in {split})")
    return {
        "name": f"{_set_name(top, path)}_{split}",
        "video_root": videos,
        "ann_file": part.path("annotations", required="the annotation file (AVA JSON, COCO JSON or AVA CSV)"),
        "box_file": part.path("person_boxes"),
        "object_file": part.path("object_boxes"),
        "eval_file_paths": part.evaluation("evaluation"),
        "classes": top.classes("classes"),
        "generator": "",
        "root": str(folder),
    }


def _choose(split: str, splits: dict[str, Any], *, path: str) -> str:
    if split in splits:
        return split
    where, names = f"dataset file {path}", ", ".join(splits)
    if split:
        raise DataError(
            f"{where}: has no split {shown(split)}; there are: {names} (the nearest one is {nearest(split, splits)})"
        )
    if len(splits) > 1:
        raise DataError(f"{where}: which split? There are: {names}; write e.g. {path}:{next(iter(splits))}")
    return next(iter(splits))


def _set_name(top: Fields, path: str) -> str:
    """The set's name; results are written to a folder called after it."""
    name = top.text("name").strip()
    if not name:
        file = pathlib.Path(os.path.abspath(path))
        return (file.parent.name if file.stem.lower() == "dataset" else file.stem) or "dataset"
    if re.search(r"[/\\:\x00]", name) or name in (".", ".."):
        raise top.fault("name", name, "a name without / \\ and : (result folders are called after it)")
    return name
