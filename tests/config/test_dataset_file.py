import os
import pathlib

import pytest

from alphaction.config.dataset_file import read_dataset_file, split_reference
from alphaction.config.paths_catalog import DatasetCatalog
from alphaction.errors import DataError

FULL = """
name: nest
videos: videos
classes: annotations/action_list.pbtxt
splits:
  train: {annotations: annotations/train.csv}
  val:
    annotations: annotations/val.csv
    videos: ../val_videos
    person_boxes: boxes/val.json
    object_boxes: /abs/objects.json
    evaluation: {csv_gt_file: annotations/val.csv, labelmap_file: map.pbtxt, exclusion_file: ""}
"""
SMALL = "videos: v\nsplits: {train: {annotations: a.csv}}\n"


@pytest.fixture
def write(tmp_path):
    def write(text, name="birds/dataset.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/dataset.yaml:train", ("a/dataset.yaml", "train")),
        ("a/dataset.yml:train", ("a/dataset.yml", "train")),
        ("a/DATASET.YAML:train", ("a/DATASET.YAML", "train")),
        ("dataset.yaml", ("dataset.yaml", "")),
        ("dataset.yaml:", ("dataset.yaml", "")),
        ("dataset.yaml: val ", ("dataset.yaml", "val")),
        ("C:\\data\\dataset.yaml:val", ("C:\\data\\dataset.yaml", "val")),
        ("/a:b/c.yaml:d/dataset.yaml:train", ("/a:b/c.yaml:d/dataset.yaml", "train")),
        ("/a:b/dataset.yaml", ("/a:b/dataset.yaml", "")),
        ("my_set_train", None),
        ("a/dataset.json:train", None),
        ("dataset.yaml.bak", None),
    ],
)
def test_references(name, expected):
    assert split_reference(name) == expected


def test_everything_a_file_can_say(write, tmp_path):
    path = write(FULL)
    folder = str(tmp_path / "birds")
    assert DatasetCatalog.get(f"{path}:train") == {
        "name": "nest_train",
        "video_root": f"{folder}/videos",
        "ann_file": f"{folder}/annotations/train.csv",
        "box_file": "",
        "object_file": "",
        "eval_file_paths": {},
        "classes": f"{folder}/annotations/action_list.pbtxt",
        "generator": "",
        "dataset_file": f"{path}:train",
        "root": folder,
    }
    val = DatasetCatalog.get(f"{path}:val")
    assert val["name"] == "nest_val"
    assert pathlib.Path(val["video_root"]).parts[-3:] == ("birds", "..", "val_videos")
    assert val["box_file"] == f"{folder}/boxes/val.json"
    assert val["object_file"] == "/abs/objects.json"
    assert val["eval_file_paths"] == {
        "csv_gt_file": f"{folder}/annotations/val.csv",
        "labelmap_file": f"{folder}/map.pbtxt",
    }


def test_paths_are_relative_to_the_file_wherever_one_stands(write, tmp_path, monkeypatch):
    write(SMALL)
    monkeypatch.chdir(tmp_path)
    entry = DatasetCatalog.get("birds/dataset.yaml:train")
    assert (entry["video_root"], entry["ann_file"], entry["root"]) == ("birds/v", "birds/a.csv", "birds")
    monkeypatch.chdir(tmp_path / "birds")
    entry = DatasetCatalog.get("dataset.yaml:train")
    assert (entry["video_root"], entry["ann_file"], entry["root"]) == ("v", "a.csv", ".")
    assert entry["name"] == "birds_train"


def test_a_linked_folder_keeps_its_own_parent(write, tmp_path):
    """`..` beside the data is beside the data, also when the set is reached through a link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "videos").mkdir()
    write("videos: ../videos\nsplits: {train: {annotations: a.csv}}\n", "real/set/dataset.yaml")
    os.symlink(tmp_path / "real" / "set", tmp_path / "link")
    entry = DatasetCatalog.get(str(tmp_path / "link" / "dataset.yaml"))
    assert os.path.samefile(entry["video_root"], tmp_path / "real" / "videos")


def test_home_and_names(write, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    entry = read_dataset_file(write("videos: ~/v\nsplits: {train: {annotations: ~/a.csv}}\n", "x/birds.yml"), "")
    assert (entry["video_root"], entry["ann_file"]) == ("/home/me/v", "/home/me/a.csv")
    assert entry["name"] == "birds_train"


def test_the_only_split_needs_no_name(write):
    assert DatasetCatalog.get(write(SMALL))["name"] == "birds_train"


CLASSES = {
    "[walk, run]": ["walk", "run"],
    "{1: walk, 7: run}": {1: "walk", 7: "run"},
    "{a: walk}": {"a": "walk"},
    "": None,
}


@pytest.mark.parametrize(("text", "expected"), CLASSES.items())
def test_classes(write, text, expected):
    assert read_dataset_file(write(f"{SMALL}classes: {text}\n"), "train")["classes"] == expected


BAD = {
    "empty": ("", "splits: got None, expected one or more splits, e.g. `train: {annotations: train.csv}`"),
    "unknown key": (f"{SMALL}video: x\n", "dataset.yaml: video: unknown key; the nearest one is videos"),
    "generator": (
        f"{SMALL}generator: os:system\n",
        "generator: unknown key; a generator may stand only in an entry of the catalog, since it runs code",
    ),
    "unknown key in a split": (
        "videos: v\nsplits: {train: {annotation: a.csv}}\n",
        "dataset.yaml: splits: train: annotation: unknown key; the nearest one is annotations",
    ),
    "two unknown keys": (
        f"{SMALL}video: x\nclass: y\n",
        "video: unknown key; the nearest one is videos; class: unknown key; the nearest one is classes",
    ),
    "no annotations": (
        "videos: v\nsplits: {train: {}}\n",
        "dataset.yaml: splits: train: annotations: is missing, expected the annotation file",
    ),
    "no split content": ("videos: v\nsplits: {train: }\n", "splits: train: got None, expected keys with values"),
    "no videos": (
        "splits: {train: {annotations: a.csv}}\n",
        "videos: is missing, expected the folder of the videos (at the top or in train)",
    ),
    "videos are a list": (
        "videos: [a]\nsplits: {train: {annotations: a.csv}}\n",
        "dataset.yaml: videos: got ['a'], expected a path (text)",
    ),
    "annotations are a number": (
        "videos: v\nsplits: {train: {annotations: 3}}\n",
        "splits: train: annotations: got 3, expected a path (text)",
    ),
    "splits are a list": ("videos: v\nsplits: [train]\n", "splits: got ['train'], expected one or more splits"),
    "split is a truth value": (
        "videos: v\nsplits: {on: {annotations: a.csv}}\n",
        "splits: got True, expected names of splits as text (in quotes)",
    ),
    "evaluation": (
        "videos: v\nsplits: {train: {annotations: a.csv, evaluation: {csv_gt: b}}}\n",
        "splits: train: evaluation: csv_gt: unknown key; the nearest one is csv_gt_file",
    ),
    "evaluation is a path": (
        "videos: v\nsplits: {train: {annotations: a.csv, evaluation: b.csv}}\n",
        "splits: train: evaluation: got 'b.csv', expected keys with values",
    ),
    "class is a truth value": (
        f"{SMALL}classes: [sit, on]\n",
        "classes[1]: got True, expected a class name (text; put it in quotes)",
    ),
    "class without name": (f"{SMALL}classes: {{1: walk, 2: }}\n", "classes: 2: got None, expected a class name"),
    "class id": (f"{SMALL}classes: {{1.5: walk}}\n", "classes: got 1.5, expected class ids that are integers or texts"),
    "class id twice": (
        f"{SMALL}classes: {{1: walk, 1: run}}\n",
        "line 3: not valid YAML: the key 1 stands here a second",
    ),
    "no class": (
        f"{SMALL}classes: []\n",
        "classes: got [], expected the path of a label file, a list of names, or names",
    ),
    "name is a path": (f"{SMALL}name: a/b\n", "name: got 'a/b', expected a name without / \\ and :"),
    "name is a number": (f"{SMALL}name: 7\n", "name: got 7, expected text (in quotes)"),
    "not YAML": ("videos: [\n", "not valid YAML: "),
    "a list": ("- videos\n", "holds a list, expected keys with values"),
    "code": ("videos: !!python/object/apply:os.getcwd []\n", "not valid YAML: "),
}


@pytest.mark.parametrize(("text", "expected"), BAD.values(), ids=BAD)
def test_bad_files(write, text, expected):
    path = write(text)
    with pytest.raises(DataError) as caught:
        DatasetCatalog.get(f"{path}:train" if "on:" not in text else path)
    assert str(caught.value).startswith(f"dataset file {path}") and expected in str(caught.value)


def test_splits_that_are_not_there(write):
    path = write(FULL)
    with pytest.raises(DataError) as caught:
        DatasetCatalog.get(f"{path}:vall")
    assert (
        str(caught.value) == f"dataset file {path}: has no split 'vall'; there are: train, val (the nearest one is val)"
    )
    for name in (path, f"{path}:"):
        with pytest.raises(DataError) as caught:
            DatasetCatalog.get(name)
        assert str(caught.value) == f"dataset file {path}: which split? There are: train, val; write e.g. {path}:train"


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError) as caught:
        DatasetCatalog.get(f"{tmp_path}/nope.yaml:train")
    assert str(caught.value) == f"dataset file {tmp_path}/nope.yaml: no such file (looked for it from {os.getcwd()})"
