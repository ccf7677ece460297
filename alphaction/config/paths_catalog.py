"""The data sets that DATASETS.TRAIN and DATASETS.TEST can name. Add yours to `DATASETS` below.

An entry:

    "my_set_train": {
        "video_root": "my_set/clips",               # <movie>/<second>.mp4 one-second clips, or <movie>.mp4 whole videos
        "ann_file": "my_set/annotations/train.json",  # AVA JSON, COCO JSON or AVA CSV
        "box_file": "",                             # detected persons; "" = none
        "object_file": "",                          # detected objects; "" = none
        "eval_file_paths": {"csv_gt_file": "...", "labelmap_file": "...", "exclusion_file": "..."},  # each optional
        "classes": ["walk", "run"],                 # optional; also {id: name} or the path of a label file
    }

Paths that begin with `data/` (or with DATA_DIR) are relative to the working directory, others to DATA_DIR; absolute
paths stay. The other way to add a data set needs no entry: DATASETS.TRAIN ("path/to/dataset.yaml:train",), see
`dataset_file`.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

from alphaction.config.dataset_file import read_dataset_file, split_reference
from alphaction.config.entry import Fields
from alphaction.config.generate import ensure_generated
from alphaction.config.names import nearest, shown
from alphaction.errors import ConfigError

__all__ = ["DatasetCatalog", "ensure_generated"]


class DatasetCatalog:
    """The known data sets by name."""

    DATA_DIR: ClassVar[str] = "data"
    DATASETS: ClassVar[dict[str, dict[str, Any]]] = {
        "ava_video_train_v2.2": {
            "video_root": "AVA/clips/trainval",
            # Two names in use for the same annotations; the first that exists.
            "ann_file": ["AVA/annotations/ava_train_v2.2.json", "AVA/annotations/ava_train_v2.2_min.json"],
            "box_file": "",
            "eval_file_paths": {
                "csv_gt_file": "AVA/annotations/ava_train_v2.2.csv",
                "labelmap_file": "AVA/annotations/ava_action_list_v2.2_for_activitynet_2019.pbtxt",
                "exclusion_file": "AVA/annotations/ava_train_excluded_timestamps_v2.2.csv",
            },
            "object_file": "AVA/boxes/ava_train_det_object_bbox.json",
        },
        "ava_video_val_v2.2": {
            "video_root": "AVA/clips/trainval",
            "ann_file": ["AVA/annotations/ava_val_v2.2.json", "AVA/annotations/ava_val_v2.2_min.json"],
            "box_file": "AVA/boxes/ava_val_det_person_bbox.json",
            "eval_file_paths": {
                "csv_gt_file": "AVA/annotations/ava_val_v2.2.csv",
                "labelmap_file": "AVA/annotations/ava_action_list_v2.2_for_activitynet_2019.pbtxt",
                "exclusion_file": "AVA/annotations/ava_val_excluded_timestamps_v2.2.csv",
            },
            "object_file": "AVA/boxes/ava_val_det_object_bbox.json",
        },
        # Made on first use.
        "quickstart_train": {
            "dataset_file": "quickstart/dataset.yaml:train",
            "generator": "alphaction.synthetic.quickstart:generate",
        },
        "quickstart_val": {
            "dataset_file": "quickstart/dataset.yaml:val",
            "generator": "alphaction.synthetic.quickstart:generate",
        },
        # Made on first use, for benchmarks/interaction.py: classes that need other persons, objects or the memory.
        "interaction_train": {
            "dataset_file": "interaction/dataset.yaml:train",
            "generator": "alphaction.synthetic.interaction:generate",
        },
        "interaction_val": {
            "dataset_file": "interaction/dataset.yaml:val",
            "generator": "alphaction.synthetic.interaction:generate",
        },
        # The quickstart's kind of set at the smallest size, for tests (config_files/tiny.yaml).
        "tiny_train": {
            "dataset_file": "tiny/dataset.yaml:train",
            "generator": "alphaction.synthetic.quickstart:generate_tiny",
        },
        "tiny_val": {
            "dataset_file": "tiny/dataset.yaml:val",
            "generator": "alphaction.synthetic.quickstart:generate_tiny",
        },
    }

    @classmethod
    def get(cls, name: str) -> dict[str, Any]:
        """Paths and settings of a data set; nothing is opened but a dataset.yaml.

        Args:
            name: a key of `DATASETS`, or "path/to/dataset.yaml:split".

        Returns:
            A new dict: "name"; "video_root", "ann_file"; "box_file", "object_file" ("" = none); "eval_file_paths"
            (those given of csv_gt_file, labelmap_file, exclusion_file); "classes" (None, names, id -> name, or a path);
            "generator" ("" = none), "dataset_file" ("" = none) and "root", the folder it makes the set in. Paths are
            absolute or relative to the working directory. Of a set that is still to be generated into a dataset.yaml
            "video_root" and "ann_file" are "": `ensure_generated` makes it and fills the entry in.

        Raises:
            ConfigError: no such name, or a faulty entry.
            DataError: a dataset.yaml that is missing or faulty.
        """
        if name in cls.DATASETS:
            return cls._entry(name, cls.DATASETS[name])
        reference = split_reference(name)
        if reference is not None:
            return {**read_dataset_file(*reference), "dataset_file": name}
        if os.path.isfile(file := os.path.join(name, "dataset.yaml")):
            raise ConfigError(f"data set {shown(name)} is a folder. Name the file in it: {file}, or {file}:SPLIT")
        raise ConfigError(
            f"data set {shown(name)} is not in the catalog; there are: {', '.join(cls.DATASETS)} (the nearest one is "
            f"{nearest(name, cls.DATASETS)}). Two ways to add one: an entry in DatasetCatalog.DATASETS of "
            "alphaction/config/paths_catalog.py; or, without touching code, a dataset.yaml beside the data, named as "
            "'(\"path/to/dataset.yaml:train\",)' in DATASETS.TRAIN or DATASETS.TEST"
        )

    @classmethod
    def _entry(cls, name: str, content: Any) -> dict[str, Any]:
        fields = Fields(content, where=f"catalog entry {name}", error=ConfigError, resolve=cls._resolve)
        if isinstance(content, Mapping) and "dataset_file" in content:
            return cls._file_entry(name, fields)
        fields.only(_ENTRY_KEYS, notes=_NOTES)
        video_root = fields.path("video_root", required="the folder of the videos")
        ann_file = cls._first_existing(fields)
        return {
            "name": name,
            "video_root": video_root,
            "ann_file": ann_file,
            "box_file": fields.path("box_file"),
            "object_file": fields.path("object_file"),
            "eval_file_paths": fields.evaluation("eval_file_paths"),
            "classes": fields.classes("classes"),
            "generator": fields.text("generator"),
            "dataset_file": "",
            "root": fields.path("root") or _common_folder(video_root, os.path.dirname(ann_file) or "."),
        }

    @classmethod
    def _file_entry(cls, name: str, fields: Fields) -> dict[str, Any]:
        fields.only(("dataset_file", "generator"))
        reference = split_reference(fields.text("dataset_file"))
        if reference is None:
            raise fields.fault("dataset_file", fields.value("dataset_file"), '"path/to/dataset.yaml:split"')
        path, split = cls._resolve(reference[0]), reference[1]
        generator = fields.text("generator")
        extra = {"name": name, "generator": generator, "dataset_file": f"{path}:{split}" if split else path}
        if generator and not os.path.exists(path):
            return {**_UNMADE, "eval_file_paths": {}, "root": os.path.dirname(path) or ".", **extra}
        return {**read_dataset_file(path, split), **extra}

    @classmethod
    def _first_existing(cls, fields: Fields) -> str:
        value = fields.value("ann_file")
        if not isinstance(value, (list, tuple)):
            return fields.path("ann_file", required="the annotation file")
        if not value or not all(isinstance(path, (str, os.PathLike)) and path for path in value):
            raise fields.fault("ann_file", value, "a path, or a list of paths of which the first that exists is taken")
        paths = [cls._resolve(os.fspath(path)) for path in value]
        return next((path for path in paths if os.path.exists(path)), paths[0])

    @classmethod
    def _resolve(cls, path: str) -> str:
        plain = pathlib.Path(path).expanduser()
        base = pathlib.Path(cls.DATA_DIR).expanduser()
        if plain.is_relative_to(base) or plain.is_relative_to("data"):
            return str(plain)
        return str(base / plain)


_ENTRY_KEYS = (
    "video_root",
    "ann_file",
    "box_file",
    "object_file",
    "eval_file_paths",
    "classes",
    "generator",
    "root",
    "dataset_file",
)
_NOTES = dict.fromkeys(("eval_file", "csv_gt_file", "labelmap_file", "exclusion_file"), "stands inside eval_file_paths")
_UNMADE = {"video_root": "", "ann_file": "", "box_file": "", "object_file": "", "classes": None}


def _common_folder(*folders: str) -> str:
    """The deepest folder that holds all of these."""
    try:
        return os.path.commonpath(folders) or "."
    except ValueError:  # some absolute, some not, or on different drives
        return folders[-1]
