"""Predicting over batches in any order, and what an evaluation writes."""

import json
import re
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from toy_set import ToySet

from alphaction.engine.evaluate import (
    evaluate_dataset,
    load_predictions,
    result_folder,
)
from alphaction.engine.predict import merge_predictions, predict
from alphaction.errors import ConfigError, DataError, UserError, VideoError
from alphaction.structures import (
    Annotations,
    Boxes,
    ClassList,
    ClipBatch,
    ClipKey,
    DetectorOutput,
    PackedBoxes,
    Predictions,
    RoiFeatures,
)
from alphaction.structures.groups import ActionGroup

K = 3
SIZE = (48, 64)


def make_annotations(*, keyframes=4, classes=("stand", "walk", "wave"), with_boxes=True):
    """Two persons per keyframe: the left one stands, the right one walks and, in even keyframes, waves."""
    boxes = np.tile(np.array([[4, 6, 27, 41], [34, 6, 57, 41]], np.float32), (keyframes, 1))
    labels = np.zeros((2 * keyframes, K), bool)
    labels[0::2, 0] = labels[1::2, 1] = True
    labels[1::4, 2] = True
    count = 2 if with_boxes else 0
    return Annotations(
        classes=ClassList(tuple(range(1, K + 1)), tuple(classes)),
        movies=("film a", "b"),
        movie=(np.arange(keyframes) % 2).astype(np.int32),
        time=np.arange(keyframes) / 2,
        size=np.tile(np.array([SIZE], np.int32), (keyframes, 1)),
        boxes=PackedBoxes(np.arange(keyframes + 1) * count, boxes[: keyframes * count]),
        labels=labels[: keyframes * count],
        person_id=np.full(keyframes * count, -1, np.int32),
    )


def perfect_predictions(annotations):
    """The annotated boxes in a clip of twice the size, with the labels as scores."""
    owner = np.repeat(np.arange(len(annotations)), np.diff(annotations.boxes.first))
    return Predictions(
        keyframe=owner.astype(np.int64),
        boxes=annotations.boxes.xyxy * 2,
        clip_size=annotations.size[owner] * 2,
        box_scores=np.ones(len(owner), np.float32),
        scores=np.where(annotations.labels, 0.9, 0.1).astype(np.float32),
    )


@dataclass
class FakeSet(ToySet):
    name: str = "toy_val"

    def keyframe_image(self, i):
        if i == 1:
            raise VideoError("film.mp4: broken")
        return np.full((*SIZE, 3), 90, np.uint8)


def make_batch(indices, counts, *, scores=None):
    """Clips whose boxes and first pixel tell their index."""
    boxes = [Boxes(torch.full((n, 4), float(i)), (32 + i, 40)) for i, n in zip(indices, counts, strict=True)]
    slow = torch.tensor(indices, dtype=torch.uint8).view(-1, 1, 1, 1, 1).expand(-1, 3, 1, 2, 2)
    return ClipBatch(
        slow=slow,
        fast=None,
        sizes=[b.size for b in boxes],
        persons=boxes,
        regions=boxes,
        labels=None,
        person_scores=scores,
        objects=None,
        keys=[ClipKey("m", float(i)) for i in indices],
        indices=list(indices),
    )


class Echo(nn.Module):
    """Logits are the index of the clip; remembers in which mode it was called."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.BatchNorm1d(1)
        self.norm = nn.BatchNorm1d(1)
        self.frozen.eval()
        self.modes = []

    def forward(self, batch):
        self.modes.append(self.norm.training)
        rows = [
            slow[0, 0, 0, 0].float() for slow, b in zip(batch.slow, batch.persons, strict=True) for _ in range(len(b))
        ]
        logits = torch.stack(rows)[:, None].expand(-1, K)
        return DetectorOutput(logits, RoiFeatures(logits[:, :, None, None, None], [len(b) for b in batch.persons]))


def run(batches, model=None):
    return predict(model or Echo(), batches, lambda logits: logits / 100, torch.device("cpu"), progress=False)


def test_predictions_are_in_the_order_of_keyframes_whatever_the_batches():
    first, second = make_batch([5, 2], [1, 2]), make_batch([0, 9], [2, 1], scores=torch.tensor([0.7, 0.8, 0.9]))
    got = run([first, None, make_batch([3], [0]), second])
    np.testing.assert_array_equal(got.keyframe, [0, 0, 2, 2, 5, 9])
    np.testing.assert_array_equal(got.boxes[:, 0], got.keyframe)
    np.testing.assert_array_equal(got.clip_size, np.stack([32 + got.keyframe, np.full(6, 40)], axis=1))
    np.testing.assert_allclose(got.scores, np.tile(got.keyframe[:, None] / 100, (1, K)), rtol=1e-6)
    np.testing.assert_allclose(got.box_scores, [0.7, 0.8, 1, 1, 1, 0.9])
    assert got.scores.dtype == np.float32


def test_a_clip_that_comes_twice_counts_once():
    got = run([make_batch([1, 4], [2, 1]), make_batch([4, 1, 6], [1, 2, 1])])
    np.testing.assert_array_equal(got.keyframe, [1, 1, 4, 6])


def test_no_batch_at_all():
    got = run([None])
    assert len(got) == 0
    assert got.boxes.shape == (0, 4)


def test_modes_are_restored_even_after_an_error():
    model = Echo()
    model.train()
    model.frozen.eval()
    run([make_batch([0], [1])], model)
    assert model.modes == [False]
    assert (model.training, model.norm.training, model.frozen.training) == (True, True, False)
    with pytest.raises(RuntimeError):
        predict(model, [make_batch([0], [1])], _fail, "cpu", progress=False)
    assert (model.training, model.norm.training, model.frozen.training) == (True, True, False)


def _fail(logits):
    raise RuntimeError("no")


def test_parts_of_several_processes_are_merged():
    a, b = run([make_batch([0, 2], [1, 1])]), run([make_batch([1, 0], [2, 1])])
    merged = merge_predictions([a, b])
    np.testing.assert_array_equal(merged.keyframe, [0, 1, 1, 2])
    np.testing.assert_array_equal(merged.boxes[:, 0], [0, 1, 1, 2])


# --- Evaluating


def test_perfect_predictions_have_map_one_and_all_files_are_written(tmp_path):
    dataset = FakeSet(make_annotations())
    groups = [ActionGroup("pose", 0, 2, "softmax", 1.0), ActionGroup("hands", 2, 1, "sigmoid", 1.0)]
    result = evaluate_dataset(
        perfect_predictions(dataset.annotations), dataset, tmp_path, iou_threshold=(0.5, 0.75), groups=groups
    )
    assert result.mAP == 1
    assert result.per_class == {"stand": 1, "walk": 1, "wave": 1}
    assert result.mAP_by_iou == {0.5: 1, 0.75: 1}
    assert result.mAP_by_group == {"pose": 1, "hands": 1}
    np.testing.assert_array_equal(result.num_ground_truth, [4, 4, 2])

    folder = tmp_path / "inference" / "toy_val"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["metrics.json", "pictures", "predictions.pth", "result.csv", "result.log"]
    pictures = sorted(path.name for path in (folder / "pictures").iterdir())
    assert pictures == ["01_film_a_0000.jpg", "03_film_a_0001.jpg", "04_b_1.5.jpg"]  # the second cannot be read
    assert cv2.imread(str(folder / "pictures" / pictures[0])).shape[1] > 640
    lines = (folder / "result.csv").read_text().splitlines()
    assert len(lines) == 4 * 2 * K
    assert lines[0] == "film a,0000,0.06250,0.12500,0.43750,0.87500,1,0.90000"
    log = (folder / "result.log").read_text()
    assert "ground-truth boxes (upper bound)" in log
    assert "protocol alphaction" in log
    assert log == result.table() + "\n"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["mAP"] == 1
    assert metrics["protocol"] == "alphaction"
    assert metrics["per_class"]["walk"] == 1
    assert metrics["counts"]["rows"] == 24


def test_coco_metrics_are_in_the_table_and_the_file(tmp_path):
    dataset = FakeSet(make_annotations())
    evaluate_dataset(perfect_predictions(dataset.annotations), dataset, tmp_path, num_pictures=0, with_coco=True)
    folder = tmp_path / "inference" / "toy_val"
    coco = json.loads((folder / "metrics.json").read_text())["coco"]
    assert coco["AP"] == coco["AR"] == pytest.approx(1)
    assert [entry["name"] for entry in coco["classes"]] == ["stand", "walk", "wave"]
    assert "COCO metrics (AP: mean over IoU 0.50:0.95)" in (folder / "result.log").read_text()


def test_predictions_file_is_plain(tmp_path):
    dataset = FakeSet(make_annotations())
    predictions = perfect_predictions(dataset.annotations)
    evaluate_dataset(predictions, dataset, tmp_path, num_pictures=0)
    path = tmp_path / "inference" / "toy_val" / "predictions.pth"
    content = torch.load(path, weights_only=True)
    assert content["class_names"] == ["stand", "walk", "wave"]
    assert [content["movies"][i] for i in content["movie"][:3]] == ["film a", "film a", "b"]
    loaded = load_predictions(path)
    np.testing.assert_array_equal(loaded.scores, predictions.scores)
    np.testing.assert_array_equal(loaded.keyframe, predictions.keyframe)
    (tmp_path / "x.pth").write_text("no")
    with pytest.raises(DataError, match=r"x.pth: not a predictions.pth"):
        load_predictions(tmp_path / "x.pth")


def test_table_counts_and_notes(tmp_path):
    annotations = make_annotations()
    predictions = perfect_predictions(annotations)
    half = Predictions(*(getattr(predictions, name)[:4] for name in Predictions.__dataclass_fields__))
    annotations.labels[:, 2] = False
    result = evaluate_dataset(half, FakeSet(annotations, uses_detections=True), tmp_path, num_pictures=0)
    assert result.mAP == pytest.approx(0.5)
    assert np.isnan(result.ap[2])
    table = result.table()
    assert re.search(r"^2 walk +0\.5000 +4 +2 +4$", table, re.MULTILINE)
    assert re.search(r"^3 wave +n/a +0 +0 +4$", table, re.MULTILINE)
    assert "mAP@0.5 = 0.5000   (protocol alphaction, detected boxes; 2 of 3 classes have ground truth)" in table
    assert "2 of 4 keyframes with true boxes have no prediction (no detected box" in table
    assert result.summary().startswith("toy_val: mAP@0.5 = 0.5000")
    assert json.loads((tmp_path / "inference/toy_val/metrics.json").read_text())["per_class"]["wave"] is None


@pytest.mark.parametrize("protocol", ["alphaction", "activitynet"])
def test_nothing_to_compare_with_is_said(tmp_path, protocol):
    annotations = make_annotations(with_boxes=False)
    predictions = perfect_predictions(make_annotations())
    result = evaluate_dataset(predictions, FakeSet(annotations), tmp_path, protocol=protocol, num_pictures=2)
    assert np.isnan(result.mAP)
    assert "mAP@0.5 = n/a" in result.table()
    assert "there is no ground truth for any of the classes" in result.table()
    assert json.loads((tmp_path / "inference/toy_val/metrics.json").read_text())["mAP"] is None


def test_no_predictions_at_all(tmp_path):
    result = evaluate_dataset(merge_predictions([]), FakeSet(make_annotations()), tmp_path, num_pictures=1)
    assert result.mAP == 0
    assert "4 of 4 keyframes with true boxes have no prediction" in result.table()
    assert (tmp_path / "inference/toy_val/result.csv").read_text() == ""


def test_ground_truth_label_map_and_exclusions_from_files(tmp_path):
    annotations = make_annotations()
    (tmp_path / "gt.csv").write_text(
        "film a,0,0.0625,0.125,0.4375,0.875,1,0\nb,0.5,0.53125,0.125,0.90625,0.875,2,1\nb,0.5,0,0,1,1,77,1\n"
        "b,0.5,0.0625,0.125,0.4375,0.875,1,0\nb,1.5,0,0,0.1,0.1,2,1\n"
    )
    (tmp_path / "map.pbtxt").write_text('item { name: "Walk!" id: 2 }\nitem { name: "Stand!" id: 1 }')
    (tmp_path / "excluded.csv").write_text("b,1.5\n")
    files = {
        "csv_gt_file": str(tmp_path / "gt.csv"),
        "labelmap_file": str(tmp_path / "map.pbtxt"),
        "exclusion_file": str(tmp_path / "excluded.csv"),
    }
    dataset = FakeSet(annotations, spec={"eval_file_paths": files})
    groups = [ActionGroup("pose", 0, 2, "softmax", 1.0), ActionGroup("hands", 2, 1, "sigmoid", 1.0)]
    result = evaluate_dataset(
        perfect_predictions(annotations), dataset, tmp_path, groups=groups, num_pictures=0, protocol="activitynet"
    )
    assert result.per_class == {"Stand!": 1, "Walk!": 1}
    np.testing.assert_array_equal(result.num_ground_truth, [2, 1])
    assert result.mAP_by_group["pose"] == 1
    assert np.isnan(result.mAP_by_group["hands"])
    assert "1 class ids of" in result.table()
    assert "77 (1 rows)" in result.table()
    assert result.counts["keyframes excluded"] == 1


def test_ground_truth_of_other_videos_is_said(tmp_path):
    (tmp_path / "gt.csv").write_text("filmA,0,0,0,1,1,1\n")
    dataset = FakeSet(make_annotations(), spec={"eval_file_paths": {"csv_gt_file": str(tmp_path / "gt.csv")}})
    result = evaluate_dataset(perfect_predictions(dataset.annotations), dataset, tmp_path, num_pictures=0)
    assert result.mAP == 0
    assert "1 of 1 keyframes with true boxes are not in the data set" in result.table()
    assert "the set's are like 'film a,0000', the file's like 'filmA,0000'" in result.table()


def test_action_threshold_leaves_rows_out(tmp_path):
    dataset = FakeSet(make_annotations())
    predictions = perfect_predictions(dataset.annotations)
    evaluate_dataset(predictions, dataset, tmp_path, action_threshold=0.5, num_pictures=0)
    rows = (tmp_path / "inference/toy_val/result.csv").read_text().splitlines()
    assert len(rows) == int(dataset.annotations.labels.sum())


def test_new_pictures_replace_those_of_an_earlier_test(tmp_path):
    dataset = FakeSet(make_annotations())
    predictions = perfect_predictions(dataset.annotations)
    folder = tmp_path / "inference" / "toy_val" / "pictures"
    evaluate_dataset(predictions, dataset, tmp_path, num_pictures=4)
    (folder / "mine.jpg").write_text("")
    evaluate_dataset(predictions, dataset, tmp_path, num_pictures=1)
    assert sorted(path.name for path in folder.iterdir()) == ["01_film_a_0001.jpg", "mine.jpg"]


@pytest.mark.parametrize(
    ("name", "folder"),
    [("ava_video_val_v2.2", "ava_video_val_v2.2"), ("../x/dataset.yaml:val", "x_dataset.yaml_val"), ("...", "dataset")],
)
def test_result_folder(name, folder, tmp_path):
    assert result_folder(tmp_path, name) == tmp_path / "inference" / folder


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"protocol": "coco"}, ConfigError, "TEST.PROTOCOL: got 'coco', expected one of alphaction, activitynet"),
        ({"labelmap": 'item { name: "a" id: 99 }'}, DataError, "none of its ids"),
        ({"classes": 2}, ConfigError, "The model scores 2 classes, the data set has 3"),
        ({"file": True}, UserError, "cannot be written"),
    ],
)
def test_errors(tmp_path, change, error, message):
    dataset = FakeSet(make_annotations())
    predictions = perfect_predictions(dataset.annotations)
    if "classes" in change:
        arrays = {name: getattr(predictions, name) for name in Predictions.__dataclass_fields__}
        predictions = Predictions(**arrays | {"scores": predictions.scores[:, : change["classes"]]})
    if "labelmap" in change:
        (tmp_path / "map.pbtxt").write_text(change["labelmap"])
        dataset.spec = {"eval_file_paths": {"labelmap_file": str(tmp_path / "map.pbtxt")}}
    if "file" in change:
        (tmp_path / "inference").write_text("a file where a folder should be")
    with pytest.raises(error) as caught:
        evaluate_dataset(predictions, dataset, tmp_path, protocol=change.get("protocol", "alphaction"), num_pictures=0)
    assert message in str(caught.value)


def test_of_two_boxes_that_the_head_finds_on_a_person_the_surer_comes_first(tmp_path):
    annotations = make_annotations()
    predictions = perfect_predictions(annotations)
    twice = [np.concatenate([getattr(predictions, name)] * 2) for name in Predictions.__dataclass_fields__]
    doubled = Predictions(*twice)
    doubled.boxes[len(predictions) :, 1::2] *= (
        0.3  # beside the person, with higher scores of the actions, but less sure
    )
    doubled.scores[len(predictions) :] = 0.95
    doubled.box_scores[len(predictions) :] = 0.5
    order = np.argsort(doubled.keyframe, kind="stable")
    doubled = Predictions(*(getattr(doubled, name)[order] for name in Predictions.__dataclass_fields__))
    dataset = FakeSet(annotations, uses_detections=True)
    detected = evaluate_dataset(doubled, dataset, tmp_path / "file", num_pictures=0)
    dataset.finds_persons = True
    found = evaluate_dataset(doubled, dataset, tmp_path / "head", num_pictures=0)
    assert detected.mAP < found.mAP == pytest.approx(1.0)
