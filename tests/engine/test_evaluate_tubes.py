"""Video mAP in an evaluation: which sets have one, and where it is told."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from toy_set import ToySet

from alphaction.engine.evaluate import evaluate_dataset
from alphaction.structures import Annotations, ClassList, PackedBoxes, Predictions

STEPS = 6


@pytest.fixture
def toy():
    """Two videos of six keyframes; in each one person walks all the time and one runs in the second half only."""
    keyframes = 2 * STEPS
    labels = np.zeros((2 * keyframes, 2), bool)
    labels[0::2, 0] = True
    labels[1::2, 1] = np.arange(keyframes) % STEPS >= STEPS // 2
    return ToySet(
        Annotations(
            classes=ClassList((1, 2), ("walk", "run")),
            movies=("a", "b"),
            movie=np.repeat(np.arange(2, dtype=np.int32), STEPS),
            time=np.tile(np.arange(STEPS) / 2, 2),
            size=np.full((keyframes, 2), 64, np.int32),
            boxes=PackedBoxes(
                np.arange(keyframes + 1) * 2,
                np.tile(np.array([[4, 6, 27, 41], [34, 6, 57, 41]], np.float32), (keyframes, 1)),
            ),
            labels=labels,
            person_id=np.tile(np.array([7, 3], np.int32), keyframes),
        )
    )


def predictions_of(annotations, scores):
    owner = np.repeat(np.arange(len(annotations)), 2)
    return Predictions(
        keyframe=owner,
        boxes=annotations.boxes.xyxy * 2,
        clip_size=annotations.size[owner] * 2,
        box_scores=np.ones(len(owner), np.float32),
        scores=scores.astype(np.float32),
    )


def evaluated(toy, scores, tmp_path, **options):
    options = {"num_pictures": 0, "action_threshold": 0.2, "with_video_map": True} | options
    result = evaluate_dataset(predictions_of(toy.annotations, scores), toy, tmp_path, **options)
    name = "toy" if result.every_n == 1 else f"toy_every{result.every_n}"
    return result, json.loads((tmp_path / "inference" / name / "metrics.json").read_text())


def test_perfect_predictions_have_video_map_one(toy, tmp_path):
    result, metrics = evaluated(toy, np.where(toy.annotations.labels, 0.9, 0.1), tmp_path)
    found = metrics["video_mAP"]
    assert [found[name] for name in ("0.2", "0.5", "0.5:0.95")] == [1, 1, 1]
    assert (found["true_tubes"], found["tubes"]) == (4, 4)
    assert found["mean_length_of_true_tubes"] == found["mean_length_of_tubes"] == 4.5
    assert [entry["true_tubes"] for entry in found["classes"]] == [2, 2]
    table = result.table()
    for name in ("0.2", "0.5", "0.5:0.95"):
        assert re.search(rf"^video mAP@{name} = 1\.0000$", table, re.MULTILINE)
    assert "  4 true tubes, 4.5 keyframes long on average" in table
    assert "  4 predicted tubes, 4.5 keyframes long on average" in table


def test_an_action_that_is_seen_too_long_counts_less_than_in_the_frame_map(toy, tmp_path):
    scores = np.where(toy.annotations.labels, 0.9, 0.1)
    scores[1::2, 1] = 0.8 + 0.1 * toy.annotations.labels[1::2, 1]  # running from the start, a little less sure
    result, metrics = evaluated(toy, scores, tmp_path)
    assert result.mAP == 1
    assert metrics["video_mAP"]["0.5"] == 1  # half of the time is right
    assert metrics["video_mAP"]["0.5:0.95"] == pytest.approx((1 + 0.1) / 2)
    assert metrics["video_mAP"]["classes"][1]["0.5:0.95"] == pytest.approx(0.1)


def test_a_set_without_person_ids_says_so(toy, tmp_path):
    toy.annotations = replace(toy.annotations, person_id=np.full(4 * STEPS, -1, np.int32))
    result, metrics = evaluated(toy, np.where(toy.annotations.labels, 0.9, 0.1), tmp_path)
    assert "video_mAP" not in metrics
    assert result.notes == ("video mAP: not computed, no annotated person of the set has an id (person_id)",)


def test_persons_without_an_id_are_counted(toy, tmp_path):
    toy.annotations.person_id[0] = -1
    result, metrics = evaluated(toy, np.where(toy.annotations.labels, 0.9, 0.1), tmp_path)
    assert metrics["video_mAP"]["true_rows_without_person_id"] == 1
    assert "  1 annotated rows are in no true tube: their persons have no id" in result.table()


def test_a_quick_look_has_none(toy, tmp_path):
    result, metrics = evaluated(toy, np.where(toy.annotations.labels, 0.9, 0.1), tmp_path, every_n=2)
    assert "video_mAP" not in metrics
    assert any(note.startswith("video mAP: not computed, a quick look") for note in result.notes)


def test_excluded_keyframes_and_classes_that_do_not_count(toy, tmp_path):
    (tmp_path / "out.csv").write_text("".join(f"b,{i / 2}\n" for i in range(STEPS)))
    (tmp_path / "labels.pbtxt").write_text('item {\n  name: "run"\n  id: 2\n}\n')
    toy.spec["eval_file_paths"] = {
        "exclusion_file": str(tmp_path / "out.csv"),
        "labelmap_file": str(tmp_path / "labels.pbtxt"),
    }
    _, metrics = evaluated(toy, np.where(toy.annotations.labels, 0.9, 0.1), tmp_path)
    found = metrics["video_mAP"]
    assert (found["0.5"], found["true_tubes"], found["tubes"]) == (1, 1, 1)
    assert [entry["name"] for entry in found["classes"]] == ["run"]


def test_nobody_was_predicted(toy, tmp_path):
    _, metrics = evaluated(toy, np.zeros((4 * STEPS, 2)), tmp_path)
    found = metrics["video_mAP"]
    assert (found["0.5"], found["tubes"], found["mean_length_of_tubes"]) == (0, 0, None)
