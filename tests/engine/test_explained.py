"""An evaluation with next to no mAP says why: in the table and in metrics.json."""

import json
from dataclasses import replace

import numpy as np
import pytest
from toy_set import ToySet

from alphaction.engine.evaluate import evaluate_dataset
from alphaction.structures import Annotations, ClassList, PackedBoxes, Predictions


@pytest.fixture
def toy():
    boxes = np.tile(np.array([[4, 6, 27, 41], [34, 6, 57, 41]], np.float32), (4, 1))
    return ToySet(
        Annotations(
            classes=ClassList((1, 2), ("walk", "run")),
            movies=("v",),
            movie=np.zeros(4, np.int32),
            time=np.arange(4.0),
            size=np.full((4, 2), 64, np.int32),
            boxes=PackedBoxes(np.arange(5) * 2, boxes),
            labels=np.tile(np.eye(2, dtype=bool), (4, 1)),
            person_id=np.full(8, -1, np.int32),
        )
    )


def predictions(toy):
    return Predictions(
        keyframe=np.repeat(np.arange(4), 2),
        boxes=toy.annotations.boxes.xyxy,
        clip_size=np.full((8, 2), 64, np.int32),
        box_scores=np.ones(8, np.float32),
        scores=np.where(toy.annotations.labels, 0.9, 0.1).astype(np.float32),
    )


def test_low_map_is_explained(toy, tmp_path):
    good = predictions(toy)
    wrong = replace(good, boxes=np.ascontiguousarray(good.boxes[:, [1, 0, 3, 2]]))
    result = evaluate_dataset(wrong, toy, tmp_path, num_pictures=0)
    assert result.mAP == 0
    assert "overlaps by 0.5 or more  <-- nothing is left" in result.explanation
    assert "they match with x and y exchanged" in result.explanation
    folder = tmp_path / "inference" / "toy"
    assert result.explanation in (folder / "result.log").read_text(encoding="utf-8")
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["explanation"] == result.explanation


def test_nothing_is_explained_where_all_is_well_unless_asked(toy, tmp_path):
    good = predictions(toy)
    assert evaluate_dataset(good, toy, tmp_path, num_pictures=0).explanation == ""
    asked = evaluate_dataset(good, toy, tmp_path, num_pictures=0, explained=True).explanation
    assert "8  predicted boxes" in asked and "nothing is left" not in asked


def test_no_predictions_at_all(toy, tmp_path):
    none = Predictions(
        np.zeros(0, np.int64),
        np.zeros((0, 4), np.float32),
        np.zeros((0, 2), np.int32),
        *[np.zeros((0, 2), np.float32)] * 2,
    )
    toy.uses_detections = True
    text = evaluate_dataset(none, toy, tmp_path, num_pictures=0).explanation
    assert "0  predicted boxes  <-- nothing is left" in text and "TEST.BOX_THRESH" in text
