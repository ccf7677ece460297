"""What whole runs write for people: the report, quick looks, both kinds of boxes, where predictions are lost."""

import json
import runpy
import sys

import pytest
import run_kit
import torch


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The detector finds one of two persons on the first two keyframes of three."""
    folder = tmp_path_factory.mktemp("reports")
    dataset = run_kit.write_dataset(folder / "data")
    found = [row for row in run_kit.rows_of(run_kit.VAL_VIDEOS) if row.box[0] == 36 and row.time < 1.5]
    boxes = [{"image_id": f"{row.movie}/{row.time:g}", "bbox": row.box, "score": 0.95} for row in found]
    (dataset.parent / "persons.json").write_text(json.dumps(boxes))
    dataset.write_text(dataset.read_text().replace("val.csv}", "val.csv, person_boxes: persons.json}"))
    return run_kit.write_config(folder / "config.yaml", dataset)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """A run that validates with quick looks at every second keyframe and tests with both kinds of boxes."""
    folder = tmp_path_factory.mktemp("finished")
    run_kit.train(config, folder, "TEST.EVERY_N", 2, "TEST.BOXES", "both", tensorboard=True)
    return folder


def metrics(folder, name="tiny_val"):
    return json.loads((folder / "inference" / name / "metrics.json").read_text())


def test_validations_are_quick_looks_and_the_test_is_whole(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    at = {name: line["iteration"] for line in lines for name in line if "_mAP_" in name}
    assert at["tiny_val_every2_mAP_0.5IOU"] == 2
    assert at["tiny_val_mAP_0.5IOU"] == at["tiny_val_true_boxes_mAP_0.5IOU"] == 4
    quick, whole = metrics(finished, "tiny_val_every2"), metrics(finished)
    assert quick["every_n"] == 2 and "every_n" not in whole
    # Of the keyframes at 0.5, 1, 1.5 the first and the last are looked at; the last has no detected person.
    assert quick["counts"]["predicted boxes"] == 1 and quick["counts"]["keyframes with true boxes"] == 2
    assert quick["detector_recall"] == 0.25
    assert whole["counts"]["predicted boxes"] == 2 and whole["counts"]["keyframes with true boxes"] == 3
    assert "tiny_val_every2: quick look at 1 of 2 keyframes" in (finished / "log.txt").read_text()
    best = torch.load(finished / "model_final.pth", weights_only=True)["best"]
    assert best.keys() == {"tiny_val_every2"}
    assert not (finished / "inference" / "tiny_val_every2" / "report.html").exists()


def test_both_boxes_tell_the_share_of_the_detector(finished):
    whole, upper = metrics(finished), metrics(finished, "tiny_val_true_boxes")
    assert whole["boxes"] == "detected boxes" and upper["boxes"] == "ground-truth boxes (upper bound)"
    assert whole["detector_recall"] == pytest.approx(2 / 6)
    assert upper["counts"]["predicted boxes"] == 6
    assert whole["true_boxes"]["mAP"] == upper["mAP"]
    assert whole["lost_with_detected_boxes"] == pytest.approx(upper["mAP"] - whole["mAP"])
    page = (finished / "inference" / "tiny_val" / "report.html").read_text()
    assert "The detected boxes find 33.3 % of the true ones" in page and "model_final.pth" in page
    assert (finished / "inference" / "tiny_val_true_boxes" / "report.html").exists()


def test_test_net_knows_the_training_set_from_the_checkpoint(config, finished, tmp_path):
    [result] = run_kit.test(config, tmp_path, "MODEL.WEIGHT", finished / "model_final.pth", "TEST.NUM_PICTURES", 0)
    assert [one["training"] for one in metrics(tmp_path)["classes"]] == [6, 4, 4]
    assert result.num_training.tolist() == [6, 4, 4]
    assert "<img" not in (tmp_path / "inference" / "tiny_val" / "report.html").read_text()
    assert result.mAP == metrics(finished)["mAP"]  # "auto" takes the detected ones, too
    assert result.upper is None


def test_explain(config, finished, tmp_path, monkeypatch, capsys):
    line = ["--config-file", config, "--explain", "MODEL.WEIGHT", finished / "model_final.pth", "OUTPUT_DIR", tmp_path]
    monkeypatch.setattr(sys, "argv", ["test_net.py", *map(str, line), "TEST.BOXES", "ground_truth"])
    with run_kit.own_state():
        runpy.run_path(str(run_kit.ROOT / "test_net.py"), run_name="__main__")
    assert metrics(tmp_path)["mAP"] > 0.05
    shown = capsys.readouterr().out
    assert "annotated keyframes" in shown and "6  predicted boxes" in shown


def test_both_needs_detected_boxes(config, tmp_path, capsys):
    bare = run_kit.write_dataset(tmp_path / "bare")
    message = run_kit.fail_train(
        capsys, config, tmp_path / "out", "TEST.BOXES", "both", "DATASETS.TEST", f"('{bare}:val',)"
    )
    assert "TEST.BOXES is 'both', but data set tiny_val has no file of detected persons" in message
