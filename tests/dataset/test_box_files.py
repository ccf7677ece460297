import json

import pytest

from alphaction.dataset.annotations import read_annotations
from alphaction.dataset.box_files import read_boxes
from alphaction.errors import DataError


def write(tmp_path, content, name="boxes.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def raw(tmp_path):
    images = [{"id": i, "file_name": f"vid/{i:04d}.jpg", "width": 64, "height": 48} for i in (2, 1, 3)]
    annotations = [{"id": 0, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}]
    return read_annotations(
        write(tmp_path, {"images": images, "annotations": annotations, "categories": []}, "train.json")
    )


@pytest.fixture
def raw_csv(tmp_path):
    return read_annotations(write(tmp_path, "vid,1,0,0,1,1,1\nvid,2.5,0,0,1,1,1\n", "train.csv"))


def box(image, score, x=0):
    return {"image_id": image, "bbox": [x, 1, 10, 20], "score": score, "category_id": 1}


def test_list(tmp_path, raw):
    content = [box(2, 0.8), box("1", 0.79), box(1, 0.9, x=5), box(2, 1, x=3), box(9, 0.9)]
    boxes = read_boxes(write(tmp_path, content), raw, min_score=0.8)
    assert boxes.keyframe.tolist() == [0, 1, 1]
    assert boxes.xywh[:, 0].tolist() == [5, 0, 3] and boxes.scores.tolist() == [0.9, 0.8, 1]
    assert (boxes.unknown, boxes.unknown_images, boxes.below) == (1, ("9",), 1)


def test_all_scores(tmp_path, raw):
    assert len(read_boxes(write(tmp_path, [box(2, 0.01), box(1, 0)]), raw).scores) == 2


def test_guide(tmp_path, raw):
    content = {"vid/0001.jpg": [{"bbox": [0, 0, 5, 5], "score": 0.9}], "vid/3.jpg": [], "train/vid/0002.jpg": [
        {"bbox": [1, 0, 5, 5], "score": 0.5}]}  # fmt: skip
    boxes = read_boxes(write(tmp_path, content), raw)
    assert boxes.keyframe.tolist() == [0, 1] and boxes.scores.tolist() == [0.9, 0.5]


def test_set_without_image_ids(tmp_path, raw_csv):
    boxes = read_boxes(write(tmp_path, [box("vid/2.5", 0.5), box("vid/0001", 0.6)]), raw_csv)
    assert boxes.keyframe.tolist() == [0, 1] and boxes.scores.tolist() == [0.6, 0.5]
    guide = {"vid/2.5.jpg": [{"bbox": [0, 0, 5, 5], "score": 0.9}]}
    assert read_boxes(write(tmp_path, guide), raw_csv).keyframe.tolist() == [1]


def test_no_boxes_at_all(tmp_path, raw):
    assert len(read_boxes(write(tmp_path, []), raw).scores) == 0
    assert len(read_boxes(write(tmp_path, {}), raw).scores) == 0


def test_box_file_of_another_split(tmp_path, raw, raw_csv):
    with pytest.raises(DataError, match=r"none of its 1 boxes belongs to an image of .*train.json.* such as 77, the"):
        read_boxes(write(tmp_path, [box(77, 0.9)]), raw)
    with pytest.raises(DataError, match=r"such as 77, the .* file such as 'vid/1'. Is it the box file of another"):
        read_boxes(write(tmp_path, [box(77, 0.9)]), raw_csv)


FAULTS = [
    ("not json", "{", "not valid JSON"),
    ("a number", 3, "expected a list of .*; got a int"),
    ("text in the list", ["a"], "entry 0 is 'a'"),
    ("no image", [{"bbox": [0, 0, 1, 1], "score": 1}], "expected a list of .*image_id.*entry 0"),
    ("annotation file", {"images": [], "info": {}}, "got an object whose 'info' is not a list"),
    ("no score", [{"image_id": 1, "bbox": [0, 0, 1, 1]}], r"entry 0 .image 1. has the score None"),
    ("score is text", [box(1, "0.9")], "has the score '0.9'"),
    ("three numbers", [{"image_id": 1, "bbox": [0, 0, 1], "score": 1}], r"image 1 .entry 0. has the bbox \[0, 0, 1\]"),
]


@pytest.mark.parametrize("content, message", [case[1:] for case in FAULTS], ids=[case[0] for case in FAULTS])
def test_faults(tmp_path, raw, content, message):
    path = write(tmp_path, content)
    with pytest.raises(DataError, match=message) as error:
        read_boxes(path, raw)
    assert str(path) in str(error.value)


def test_missing(tmp_path, raw):
    with pytest.raises(DataError, match="none.json: the box file does not exist"):
        read_boxes(tmp_path / "none.json", raw)
    with pytest.raises(DataError, match="cannot be read"):
        read_boxes(tmp_path, raw)
