"""Parts of the data set checker: JSON faults, whole-file faults, exit status, and that it agrees with the loader."""

import copy
import json
import pathlib
import random
import shutil

import numpy as np
import pytest
from videos import write_video

from alphaction.dataset.annotations import read_annotations
from alphaction.dataset.faults import FaultList
from alphaction.dataset.resolve import resolve
from alphaction.dataset.video_index import VideoIndex
from alphaction.errors import UserError
from alphaction.preparation.check import check_dataset
from alphaction.preparation.check_findings import KINDS, LEVELS
from alphaction.preparation.check_script import main
from alphaction.preparation.check_split import SplitFacts, split_names
from alphaction.preparation.check_text import report_text
from alphaction.preparation.check_videos import fitting_rate
from alphaction.structures import ClassList

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "DATA_CHECKS.md"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "v.mp4", 60)


@pytest.fixture
def folder(tmp_path, video):
    (tmp_path / "videos").mkdir()
    shutil.copy(video, tmp_path / "videos" / "v.mp4")
    return tmp_path


def put(folder, train, val=None, *, classes="[walk, run]", kind="csv"):
    """Writes the annotation files and a dataset.yaml; returns its path."""
    splits = ""
    for name, content in (("train", train), ("val", val)):
        if content is not None:
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / f"{name}.{kind}").write_text(text)
            splits += f"  {name}: {{annotations: {name}.{kind}}}\n"
    classes = f"classes: {classes}\n" if classes else ""
    (folder / "dataset.yaml").write_text(f"videos: videos\n{classes}splits:\n{splits}")
    return str(folder / "dataset.yaml")


def coco(annotations=(), images=(), size=(96, 48)):
    width, height = size
    return {
        "images": [{"id": 1, "file_name": "v/1.jpg", "width": width, "height": height}, *images],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 5, 40, 30]}, *annotations],
        "categories": [{"id": 1, "name": "walk"}, {"id": 2, "name": "run"}],
    }


def found(path, code, **options):
    return [(finding.row, finding.message) for finding in check_dataset([path], **options).findings.of(code)]


@pytest.mark.parametrize(
    ("annotation", "code", "words"),
    [
        ({"category_id": 9}, "unknown-class", "action id 9"),
        ({"category_id": None}, "bad-row", "category_id None"),
        ({"bbox": [1, 2, 3]}, "bad-row", "four numbers"),
        ({"bbox": [10, 5, 0, 30]}, "box-empty", "zero or negative"),
        ({"bbox": [200, 5, 10, 30]}, "box-outside", "outside"),
        ({"bbox": [None, 5, 10, 30]}, "box-nan", "nan"),
        ({"image_id": 99}, "unlisted-image", "does not list"),
        ({"bbox": [10, 5, 40, 30], "category_id": 1}, "duplicate-row", "repeats annotation 1"),
        ({"bbox": [10.2, 5, 40, 30]}, "box-duplicate", "annotation 1"),
    ],
)
def test_faults_of_json_annotations(folder, annotation, code, words):
    entry = {"id": 7, "image_id": 1, "category_id": 2, "bbox": [50, 5, 20, 20], **annotation}
    rows = found(put(folder, coco([entry]), kind="json"), code)
    assert [row for row, _ in rows] == ["annotation 7"] and words in rows[0][1]


@pytest.mark.parametrize(
    ("image", "row", "words"),
    [
        ({"id": 1, "file_name": "v/2.jpg"}, "image 1", "more than once"),
        ({"id": [2], "file_name": "v/2.jpg"}, "image [2]", "expected a number or text"),
        ({"id": 2, "file_name": "frame.jpg"}, "image 2", "does not say its movie"),
        ({"id": 2, "file_name": "v/2.jpg", "width": -4}, "image 2", "the width -4"),
    ],
)
def test_faults_of_json_images(folder, image, row, words):
    rows = found(put(folder, coco(images=[image]), kind="json"), "bad-image")
    assert [name for name, _ in rows] == [row] and words in rows[0][1]


def test_person_without_action(folder):
    content = coco()
    content["annotations"] = [
        {"id": i, "image_id": 1, "action_ids": ids, "bbox": [10 + 20 * i, 5, 18, 30]} for i, ids in enumerate([[1], []])
    ]
    assert [row for row, _ in found(put(folder, content, kind="json"), "no-label")] == ["annotation 1"]


def test_boxes_in_pixels_are_one_error_and_no_more(folder):
    report = check_dataset([put(folder, "v,1,10,5,50,35,1,1\nv,2,10,5,60,40,2,1\n")], clip_seconds=1)
    assert [finding.code for finding in report.findings if finding.level != "note"] == ["pixel-boxes"]
    assert report.summary()[0]["usable_persons"] == 2


def test_size_that_is_not_the_videos(folder):
    rows = found(put(folder, coco(size=(640, 480)), kind="json"), "size-mismatch")
    assert rows[0][0] == "image 1" and "640 x 480 pixels, the video has 96 x 48" in rows[0][1]
    assert not found(put(folder, coco(size=(192, 96)), kind="json"), "size-mismatch")


def test_frame_numbers_as_times(folder):
    path = put(folder, "".join(f"v,{n},0.1,0.1,0.5,0.5,1\n" for n in range(0, 60, 5)))
    assert "times go up to 55" in found(path, "times-are-frames")[0][1]


def test_splits_with_different_classes(folder):
    val = coco()
    val["categories"][1]["name"] = "jump"
    path = put(folder, coco(), val, classes="", kind="json")
    assert "id 2 is 'jump' here and 'run' in" in found(path, "classes-differ")[0][1]


def test_files_that_cannot_be_read_do_not_stop_the_check(folder):
    path = put(folder, "v,1,0.1,0.1,0.5,0.5,1\n", "\x00\x01 nothing")
    report = check_dataset([path])
    assert [f.file for f in report.findings.of("file")] == [str(folder / "val.csv")]
    assert [split.name for split in report.splits] == ["train"]
    shutil.rmtree(folder / "videos")
    assert "the video folder does not exist" in found(path, "file")[0][1]


def test_status(folder, capsys):
    good = put(folder, "v,1,0.1,0.1,0.5,0.5,1\n")
    assert main([good]) == 0
    assert "fit to train on" in capsys.readouterr().out
    assert main(["--dataset-name", f"{good}:train", "--no-decode"]) == 0
    bad = put(folder, "v,1,0.1,0.1,0.5,0.5,9\n")
    assert main([bad]) == 1
    none = str(folder / "none.yaml")
    missing = {f"{good}:test": "has no split", "no_such_set": "the nearest one is", none: "no such file"}
    for wrong, words in missing.items():
        capsys.readouterr()
        assert main([wrong]) == 1
        shown = capsys.readouterr()
        assert shown.err.startswith("error: ") and words in shown.err and not shown.out
    for wrong in ([], [good, "--rows", "x"], [good, "--pictures", "-1"], [good, "--clip-seconds", "0"]):
        with pytest.raises(SystemExit) as stopped:
            main(wrong)
        assert stopped.value.code == 2
    assert "--clip-seconds: above 0" in capsys.readouterr().err


def test_names_of_splits(folder):
    path = put(folder, "v,1,0.1,0.1,0.5,0.5,1\n", "v,1,0.1,0.1,0.5,0.5,1\n")
    assert split_names([path]) == [("train", f"{path}:train"), ("val", f"{path}:val")]
    assert split_names([f"{path}:val"]) == [("val", f"{path}:val")]
    assert split_names(["tiny_train"]) == [("tiny_train", "tiny_train")]


@pytest.mark.parametrize(
    ("name", "training", "testing"),
    [
        ("train", True, False),
        ("carnival_train_v2", True, False),
        ("trainval", True, False),
        ("ava_video_val_v2.2", False, True),
        ("data/train/dataset.yaml:test", False, True),
        ("all", False, False),
    ],
)
def test_split_that_is_trained_on(name, training, testing):
    split = object.__new__(SplitFacts)
    split.name = name
    assert (split.training, split.testing) == (training, testing)


@pytest.mark.parametrize(
    ("times", "fps", "rate"),
    [
        (np.arange(1, 60, 3) / 25, 30.0, 25.0),
        ((np.arange(1, 60) / 30).round(2), 25.0, 30.0),
        (np.arange(1, 60, 3) / 25, 25.0, None),
        (np.arange(1, 60) / 10, 25.0, None),  # a grid of 0.1 s was chosen by hand
        (np.arange(60), 25.0, None),
        (np.random.default_rng(0).uniform(0, 9, 60).round(2), 25.0, None),
        (np.random.default_rng(0).uniform(0, 9, 60), 25.0, None),
    ],
)
def test_rate_that_times_fit(times, fps, rate):
    assert fitting_rate(np.asarray(times, float), fps) == (None if rate is None else pytest.approx(rate))


def test_collecting_finds_what_stops_a_run(folder):
    """Random damage: reading that stops has at least one finding, reading that goes on has none that stops it."""
    base = coco([{"id": i, "image_id": 1, "category_id": 1 + i % 2, "bbox": [3 * i, 5, 20, 20]} for i in range(2, 6)])
    odd = [None, -1, 0, 2.5, "", "x", [], {}, [1], float("nan"), 10**30, [None] * 4, True, "2"]
    rng, path = random.Random(0), folder / "spoiled.json"
    stopped = 0
    for _ in range(300):
        content = copy.deepcopy(base)
        entry = rng.choice(content[rng.choice(["images", "annotations", "categories"])])
        entry[rng.choice(list(entry))] = rng.choice(odd)
        path.write_text(json.dumps(content))
        faults = FaultList()
        try:
            read_annotations(path, None, faults=faults)
            refused = [fault for fault in faults.found if KINDS[fault.code].level == "error"]
        except UserError:
            refused = ["file"]
        try:
            read_annotations(path)
        except UserError:
            stopped += 1
            assert refused, content
        else:
            assert not refused, content
    assert stopped > 50


def test_any_table_of_rows_is_checked_to_the_end(folder):
    """Random damage of a CSV: the check ends well, and has an error whenever a run could not read the file."""
    odd = ["", "x", "nan", "inf", "-1", "1e400", "0.5", '"', "\u0663", "9" * 40, "v", "w", "7", "1,1"]
    rng = random.Random(1)
    stopped = 0
    for _ in range(60):
        rows = [["v", f"{i % 3}", "0.1", "0.1", "0.5", "0.6", f"{1 + i % 2}", f"{i}"] for i in range(6)]
        for _ in range(rng.choice([1, 1, 3])):
            rng.choice(rows)[rng.randrange(8)] = rng.choice(odd)
        path = put(folder, "".join(",".join(row) + "\n" for row in rows))
        report = check_dataset([path], decode=False)
        assert report_text(report) and json.dumps(report.as_json())
        try:
            read_annotations(folder / "train.csv", ClassList((1, 2), ("walk", "run")))
        except UserError:
            stopped += 1
            assert report.findings.count("error")
    assert stopped > 20


def test_usable_persons_are_those_of_the_loader(folder):
    rng = np.random.default_rng(0)
    corners = rng.uniform(-0.3, 1.2, (200, 4)).round(3)
    rows = [f"v,{rng.integers(0, 40) / 10},{','.join(map(str, box))},{1 + i % 2}" for i, box in enumerate(corners)]
    totals = check_dataset([put(folder, "\n".join(rows))]).summary()[0]
    raw = read_annotations(folder / "train.csv")
    report = resolve(raw, VideoIndex(folder / "videos"), name="x").report
    assert 0 < report.persons < 200
    assert (totals["usable_persons"], totals["usable_keyframes"]) == (report.persons, report.keyframes)
    assert totals["labels"] == report.labels.sum()


def test_every_kind_is_documented():
    text = DOCS.read_text(encoding="utf-8")
    for code, kind in KINDS.items():
        assert f"`{code}`" in text, code
        assert kind.level in LEVELS


def test_clips_of_a_second_are_decoded(folder, monkeypatch):
    """Of many clips only one per movie is opened when a run starts: the check decodes three."""
    monkeypatch.setattr("alphaction.dataset.keyframe_check.PROBE_ALL", 1)
    for second in range(4):
        write_video(folder / "videos" / "c" / f"{second}.mp4", 10)
    (folder / "videos" / "c" / "3.mp4").write_bytes(b"no video")
    path = put(folder, "".join(f"c,{second},0.1,0.1,0.5,0.5,1\n" for second in range(4)))
    assert not found(path, "video-unreadable", decode=False)
    assert "3.mp4: not a video" in found(path, "video-unreadable")[0][1]
