import pathlib
import sys
import types

import pytest

from alphaction.config.paths_catalog import DatasetCatalog, ensure_generated
from alphaction.errors import ConfigError, DataError

KEYS = {
    "name",
    "video_root",
    "ann_file",
    "box_file",
    "object_file",
    "eval_file_paths",
    "classes",
    "generator",
    "dataset_file",
    "root",
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working directory, and a catalog that is restored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DatasetCatalog, "DATASETS", dict(DatasetCatalog.DATASETS))


def add(name="mine", **entry):
    DatasetCatalog.DATASETS[name] = {"video_root": "mine/clips", "ann_file": "mine/train.json"} | entry
    return name


def failure(name, kind=ConfigError):
    with pytest.raises(kind) as caught:
        DatasetCatalog.get(name)
    return str(caught.value)


def test_ava():
    train, val = DatasetCatalog.get("ava_video_train_v2.2"), DatasetCatalog.get("ava_video_val_v2.2")
    assert val == {
        "name": "ava_video_val_v2.2",
        "video_root": "data/AVA/clips/trainval",
        "ann_file": "data/AVA/annotations/ava_val_v2.2.json",
        "box_file": "data/AVA/boxes/ava_val_det_person_bbox.json",
        "object_file": "data/AVA/boxes/ava_val_det_object_bbox.json",
        "eval_file_paths": {
            "csv_gt_file": "data/AVA/annotations/ava_val_v2.2.csv",
            "labelmap_file": "data/AVA/annotations/ava_action_list_v2.2_for_activitynet_2019.pbtxt",
            "exclusion_file": "data/AVA/annotations/ava_val_excluded_timestamps_v2.2.csv",
        },
        "classes": None,
        "generator": "",
        "dataset_file": "",
        "root": "data/AVA",
    }
    assert train["box_file"] == "" and train["object_file"] == "data/AVA/boxes/ava_train_det_object_bbox.json"
    assert train["ann_file"] == "data/AVA/annotations/ava_train_v2.2.json"


def test_of_two_annotation_files_the_one_that_exists():
    other = pathlib.Path("data/AVA/annotations/ava_train_v2.2_min.json")
    other.parent.mkdir(parents=True)
    other.touch()
    assert DatasetCatalog.get("ava_video_train_v2.2")["ann_file"] == str(other)
    other.with_name("ava_train_v2.2.json").touch()
    assert DatasetCatalog.get("ava_video_train_v2.2")["ann_file"] == str(other.with_name("ava_train_v2.2.json"))


def test_every_entry_has_the_same_keys():
    add("with.a-strange name/☃")
    for name in DatasetCatalog.DATASETS:
        entry = DatasetCatalog.get(name)
        assert entry.keys() == KEYS and entry["name"] == name


def test_the_guides_example():
    DatasetCatalog.DATASETS["your_dataset_val"] = {
        "video_root": "data/YOUR_DATASET/clips/val",
        "ann_file": "data/YOUR_DATASET/annotations/val.json",
        "box_file": "data/YOUR_DATASET/boxes/val_person_bbox.json",
        "eval_file_paths": {"eval_file": "data/YOUR_DATASET/annotations/val.csv"},
        "object_file": "",
    }
    entry = DatasetCatalog.get("your_dataset_val")
    assert entry["video_root"] == "data/YOUR_DATASET/clips/val"
    assert entry["ann_file"] == "data/YOUR_DATASET/annotations/val.json"
    assert entry["box_file"] == "data/YOUR_DATASET/boxes/val_person_bbox.json"
    assert entry["eval_file_paths"] == {"csv_gt_file": "data/YOUR_DATASET/annotations/val.csv"}
    assert entry["object_file"] == ""
    assert entry["root"] == "data/YOUR_DATASET"


@pytest.mark.parametrize(
    ("data_dir", "written", "resolved"),
    [
        ("data", "mine/clips", "data/mine/clips"),
        ("data", "data/mine/clips", "data/mine/clips"),
        ("data", "./data/mine/clips", "data/mine/clips"),
        ("data", "database/clips", "data/database/clips"),
        ("data", "/abs/clips", "/abs/clips"),
        ("data", "~/clips", "/home/me/clips"),
        ("data", pathlib.Path("mine"), "data/mine"),
        ("/big/disk", "mine/clips", "/big/disk/mine/clips"),
        ("/big/disk", "/big/disk/mine/clips", "/big/disk/mine/clips"),
        ("/big/disk", "data/mine/clips", "data/mine/clips"),
        ("~/sets", "mine/clips", "/home/me/sets/mine/clips"),
        ("sets/all/", "sets/all/mine", "sets/all/mine"),
        ("sets/all/", "sets/mine", "sets/all/sets/mine"),
        (".", "mine", "mine"),
        ("data", "data/link/../mine", "data/link/../mine"),
    ],
)
def test_paths(monkeypatch, data_dir, written, resolved):
    monkeypatch.setattr(DatasetCatalog, "DATA_DIR", data_dir)
    monkeypatch.setenv("HOME", "/home/me")
    assert DatasetCatalog.get(add(video_root=written))["video_root"] == resolved


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["walk", "run"], ["walk", "run"]),
        (("walk", "run"), ["walk", "run"]),
        ({1: "walk"}, {1: "walk"}),
        ("mine/list.pbtxt", "data/mine/list.pbtxt"),
        (None, None),
        ("", None),
    ],
)
def test_classes(classes, expected):
    assert DatasetCatalog.get(add(classes=classes))["classes"] == expected


def test_the_result_can_be_changed_without_harm():
    name = add(classes=["walk"], eval_file_paths={"csv_gt_file": "a.csv"})
    entry = DatasetCatalog.get(name)
    entry["classes"].append("run")
    entry["eval_file_paths"].clear()
    assert DatasetCatalog.get(name)["classes"] == ["walk"] and DatasetCatalog.get(name)["eval_file_paths"]


def test_absent_and_empty_files_are_none():
    entry = DatasetCatalog.get(add(box_file=None, object_file="", eval_file_paths=None))
    assert (entry["box_file"], entry["object_file"], entry["eval_file_paths"]) == ("", "", {})
    both = {"eval_file": "old.csv", "csv_gt_file": "new.csv", "labelmap_file": ""}
    assert DatasetCatalog.get(add(eval_file_paths=both))["eval_file_paths"] == {"csv_gt_file": "data/new.csv"}


def test_a_name_that_is_not_there():
    message = failure("ava_video_val_v2.1")
    assert message.startswith(
        "data set 'ava_video_val_v2.1' is not in the catalog; there are: ava_video_train_v2.2, ava_video_val_v2.2, "
        "quickstart_train, quickstart_val, interaction_train, interaction_val, tiny_train, tiny_val "
        "(the nearest one is ava_video_val_v2.2). "
        "Two ways to add one: an entry in DatasetCatalog.DATASETS of alphaction/config/paths_catalog.py; or, without "
        "touching code, a dataset.yaml"
    )
    assert "path/to/dataset.yaml:train" in message


def test_a_folder_is_told_from_its_dataset_file(tmp_path):
    (tmp_path / "dataset.yaml").write_text("videos: videos")
    told = f"data set '{tmp_path}' is a folder. Name the file in it: {tmp_path}/dataset.yaml, or "
    assert failure(str(tmp_path)).startswith(told)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"ann_file": ""}, "catalog entry mine: ann_file: is missing, expected the annotation file"),
        ({"video_root": None}, "catalog entry mine: video_root: is missing, expected the folder of the videos"),
        ({"anno_file": "x"}, "catalog entry mine: anno_file: unknown key; the nearest one is ann_file"),
        ({"eval_file": "x"}, "catalog entry mine: eval_file: unknown key; stands inside eval_file_paths"),
        ({"box_file": 3}, "catalog entry mine: box_file: got 3, expected a path (text)"),
        ({"ann_file": []}, "catalog entry mine: ann_file: got [], expected a path, or a list of paths"),
        ({"ann_file": ["a", 3]}, "catalog entry mine: ann_file: got ['a', 3], expected a path, or a list of paths"),
        ({"eval_file_paths": "a.csv"}, "eval_file_paths: got 'a.csv', expected keys with values"),
        ({"eval_file_paths": {"gt": "a"}}, "catalog entry mine: eval_file_paths: gt: unknown key; the nearest one is "),
        ({"classes": 5}, "catalog entry mine: classes: got 5, expected the path of a label file, a list of names"),
        ({"classes": {1: 5}}, "catalog entry mine: classes: 1: got 5, expected a class name"),
        ({"dataset_file": "a.yaml:train"}, "video_root: unknown key; the nearest one is "),
    ],
)
def test_faulty_entries(entry, expected):
    assert expected in failure(add(**entry))


def test_an_entry_that_is_no_mapping_or_names_no_yaml():
    DatasetCatalog.DATASETS["mine"] = "data/mine"
    assert failure("mine") == "catalog entry mine: got 'data/mine', expected keys with values"
    DatasetCatalog.DATASETS["mine"] = {"dataset_file": "mine/train.csv"}
    assert "dataset_file: got 'mine/train.csv', expected \"path/to/dataset.yaml:split\"" in failure("mine")
    DatasetCatalog.DATASETS["mine"] = {"dataset_file": "mine/dataset.yaml:train"}
    assert failure("mine", DataError).startswith("dataset file data/mine/dataset.yaml: no such file")


def test_an_entry_may_point_at_a_dataset_file():
    pathlib.Path("data/mine").mkdir(parents=True)
    pathlib.Path("data/mine/dataset.yaml").write_text("videos: v\nsplits: {train: {annotations: a.csv}}\n")
    DatasetCatalog.DATASETS["mine"] = {"dataset_file": "mine/dataset.yaml:train"}
    entry = DatasetCatalog.get("mine")
    assert entry.keys() == KEYS
    assert (entry["name"], entry["video_root"], entry["root"]) == ("mine", "data/mine/v", "data/mine")


# ------------------------------------------------------------------------------------------------- generated data sets


@pytest.fixture
def generator(monkeypatch):
    """A module `made_up` whose `generate` writes a small set and counts its calls."""
    module = types.ModuleType("made_up")
    module.calls = []

    def generate(folder):
        assert isinstance(folder, pathlib.Path)
        module.calls.append(str(folder))
        folder.mkdir(parents=True)
        (folder / "v").mkdir()
        (folder / "a.csv").touch()
        (folder / "dataset.yaml").write_text("classes: [x]\nvideos: v\nsplits: {train: {annotations: a.csv}}\n")

    module.generate = generate
    monkeypatch.setitem(sys.modules, "made_up", module)
    return module


def generated(generator="made_up:generate"):
    DatasetCatalog.DATASETS["made"] = {"dataset_file": "made/dataset.yaml:train", "generator": generator}
    return DatasetCatalog.get("made")


def test_a_set_is_generated_once(generator, caplog):
    caplog.set_level("INFO")
    entry = generated()
    assert generator.calls == []  # looking at the catalog makes nothing
    assert (entry["video_root"], entry["ann_file"], entry["root"]) == ("", "", "data/made")
    assert ensure_generated(entry) is True
    assert generator.calls == ["data/made"]
    assert "Making data set made in data/made (only the first time)" in caplog.text
    assert entry == DatasetCatalog.get("made")
    assert (entry["video_root"], entry["ann_file"], entry["classes"]) == ("data/made/v", "data/made/a.csv", ["x"])
    assert ensure_generated(entry) is False and ensure_generated(DatasetCatalog.get("made")) is False
    assert generator.calls == ["data/made"]


def test_a_plain_entry_may_be_generated_too(generator):
    entry = DatasetCatalog.get(add(video_root="made/v", ann_file="made/a.csv", generator="made_up:generate"))
    assert entry["root"] == "data/made"
    assert ensure_generated(entry) is True and ensure_generated(entry) is False
    assert pathlib.Path("data/made/a.csv").exists()


def test_a_set_without_generator_is_left_alone():
    assert ensure_generated(DatasetCatalog.get("ava_video_val_v2.2")) is False
    assert not pathlib.Path("data").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "no_such_module_here:generate",
            "data set made: generator 'no_such_module_here:generate': cannot import no_such",
        ),
        ("made_up:make", "data set made: generator 'made_up:make': made_up has no function make"),
        ("made_up:calls", "data set made: generator 'made_up:calls': made_up has no function calls"),
        ("made_up", "data set made: generator: got 'made_up', expected 'package.module:function'"),
        (":generate", "data set made: generator: got ':generate', expected 'package.module:function'"),
    ],
)
def test_generators_that_cannot_be_found(generator, name, expected):
    with pytest.raises(ConfigError) as caught:
        ensure_generated(generated(name))
    assert str(caught.value).startswith(expected)


def test_a_generator_that_cannot_write_or_does_not(generator):
    def full(folder):
        raise OSError(28, "No space left on device")

    generator.generate = full
    with pytest.raises(DataError, match="data set made: cannot be made in data/made: .*No space left on device"):
        ensure_generated(generated())
    generator.generate = lambda folder: None
    with pytest.raises(
        DataError, match="its generator made_up:generate ran, but data/made/dataset.yaml is still missing"
    ):
        ensure_generated(generated())


def test_the_quickstarts_generator_fits():
    """The real one, at its smallest size."""
    DatasetCatalog.DATASETS["tiny"] = {
        "dataset_file": "tiny/dataset.yaml:val",
        "generator": "alphaction.synthetic.quickstart:generate_tiny",
    }
    entry = DatasetCatalog.get("tiny")
    assert ensure_generated(entry) is True
    assert entry == DatasetCatalog.get("tiny")
    assert pathlib.Path(entry["ann_file"]).is_file() and any(pathlib.Path(entry["video_root"]).iterdir())
    for name in ("quickstart_train", "quickstart_val"):
        module, _, function = DatasetCatalog.get(name)["generator"].partition(":")
        assert callable(getattr(sys.modules[module], function))
