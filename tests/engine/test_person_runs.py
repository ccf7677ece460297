"""Whole runs with a person head: no box file anywhere, and everything else of a run goes on as it does without."""

import json

import process_kit
import pytest
import run_kit
import torch
from step_kit import PLAIN, Run

from alphaction.config import load_config
from alphaction.dataset import build_datasets
from alphaction.engine.step import StepOptions, TrainingError
from alphaction.modeling import build_person_criterion
from alphaction.modeling.losses import PERSON_LOSSES

PERSONS = "MODEL.ROI_PERSON_HEAD."
HEAD = [PERSONS + "ACTIVE", True, PERSONS + "CHANNELS", 8, PERSONS + "MLP_HEAD_DIM", 16, PERSONS + "MAX_PERSONS", 5]
ALL = [*HEAD, "TEST.BOX_THRESH", 0]  # whatever it finds
IA = "MODEL.IA_STRUCTURE."
MEMORY = [
    *[IA + "ACTIVE", True, IA + "DIM_IN", 576, IA + "DIM_INNER", 16, IA + "DIM_OUT", 16, IA + "LENGTH", (2, 2)],
    *[IA + "MAX_PERSON", 3, IA + "MAX_PER_SEC", 2, IA + "MEMORY_STEP", 0.5, IA + "I_BLOCK_LIST", ["P", "M"]],
    *[IA + "USE_ZERO_INIT_CONV", False],
]
MORE = [
    *["SOLVER.EMA_DECAY", 0.9, "SOLVER.ACCUMULATION_STEPS", 2, "SOLVER.MAX_GRAD_NORM", 1.0],
    *["SOLVER.PRECISION", "bfloat16", "MODEL.BACKBONE.ACTIVATION_CHECKPOINTING", True, "SOLVER.ON_NONFINITE", "skip"],
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return run_kit.write_dataset(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def config(dataset):
    return run_kit.write_config(dataset.parent / "tiny.yaml", dataset)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run_kit.train(config, folder, *ALL, "TEST.BOXES", "both", tensorboard=True)
    return folder


def metrics(folder, name="tiny_val"):
    return json.loads((folder / "inference" / name / "metrics.json").read_text())


def figures(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_tells_its_losses_and_where_its_boxes_come_from(finished):
    log, lines = (finished / "log.txt").read_text(), figures(finished)
    for name in ("loss_objectness", "loss_rpn_box", "loss_person", "loss_person_box"):
        assert sum(name in line for line in lines) == 4 and f"{name} " in log
    assert "Persons of tiny_val: found by the network's person head (TEST.BOXES both)" in log
    assert "first with the true boxes, then with those of the person head" in log
    assert "(protocol alphaction, boxes of the person head;" in log
    assert "AP of the persons at IoU 0.5: " in log and "detector recall at IoU 0.5: " in log
    assert any("tiny_val_person_AP" in line for line in lines)
    whole = metrics(finished)
    assert whole["boxes"] == "boxes of the person head" and 0 <= whole["person_AP"] <= 1
    assert 0 <= whole["detector_recall"] <= 1 and whole["true_boxes"]["mAP"] is not None
    assert 0 < whole["counts"]["predicted boxes"] <= 3 * 5
    assert metrics(finished, "tiny_val_true_boxes")["boxes"] == "ground-truth boxes (upper bound)"
    page = (finished / "inference" / "tiny_val" / "report.html").read_text()
    assert "As persons, whatever they do, they have AP" in page


def test_the_same_boxes_and_scores_as_find_persons_gives(config, finished, tmp_path):
    [result] = run_kit.test(config, tmp_path, *ALL, "MODEL.WEIGHT", finished / "model_final.pth", "TEST.BOXES", "head")
    assert result.mAP == metrics(finished)["mAP"] and result.person_ap == metrics(finished)["person_AP"]
    [result] = run_kit.test(config, tmp_path, *ALL, "MODEL.WEIGHT", finished / "model_final.pth")
    assert result.boxes == "boxes of the person head"  # "auto": there is no file
    weight = ["MODEL.WEIGHT", finished / "model_final.pth"]
    [result] = run_kit.test(config, tmp_path, *ALL, *weight, "TEST.BOXES", "ground_truth")
    assert result.boxes == "ground-truth boxes (upper bound)" and result.person_ap is None


def test_nobody_is_found(config, finished, tmp_path, capsys):
    opts = [*HEAD, "TEST.BOX_THRESH", 1, "MODEL.WEIGHT", finished / "model_final.pth"]
    [result] = run_kit.test(config, tmp_path, *opts)
    assert result.mAP == 0 and result.person_ap == 0 and result.counts["keyframes"] == 3
    assert "3 of 3 keyframes with true boxes have no prediction" in "".join(result.notes)


def test_a_file_of_boxes_comes_before_the_head(dataset, tmp_path):
    text = dataset.read_text().replace("val.csv}", "val.csv, person_boxes: val_boxes.json}")
    (dataset.parent / "with_boxes.yaml").write_text(text)
    box = {"image_id": "yard/0.5", "bbox": [5, 7, 20, 12], "score": 0.9}
    (dataset.parent / "val_boxes.json").write_text(json.dumps([box]))
    path = run_kit.write_config(tmp_path / "with_boxes.yaml", dataset.parent / "with_boxes.yaml")

    def test_set(boxes):
        cfg = load_config(str(path), list(map(str, [*ALL, "TEST.BOXES", boxes])))
        return build_datasets(cfg, "test")[0]

    assert not test_set("auto").finds_persons and len(test_set("auto")) == 1
    head = test_set("head")
    assert head.finds_persons and len(head) == 3 and head.uses_detections
    assert head.person_counts().tolist() == [5, 5, 5] and len(head[0].persons) == 0
    true = head.with_true_persons()
    assert not true.finds_persons and not true.uses_detections and true.person_counts().tolist() == [2, 2, 2]
    assert head.every(2).finds_persons and len(head.every(2)) == 2


@pytest.mark.parametrize("more", [MEMORY, MORE], ids=["memory", "the rest"])
def test_a_resumed_run_ends_with_the_same_bits(more, config, tmp_path):
    opts = [*ALL, *more, "SOLVER.STEPS", (9,)]
    run_kit.train(config, tmp_path / "whole", *opts)
    run_kit.train(config, tmp_path / "cut", *opts, "SOLVER.MAX_ITER", 2, skip_final_test=True)
    (tmp_path / "cut/model_final.pth").unlink()
    (tmp_path / "cut/last_checkpoint").write_text("model_0000002.pth")
    run_kit.train(config, tmp_path / "cut", *opts)
    assert run_kit.same_weights(tmp_path / "whole/model_final.pth", tmp_path / "cut/model_final.pth")


def test_dry_run(config, tmp_path):
    run_kit.train(config, tmp_path / "out", *ALL, *MEMORY, dry_run=True)
    assert not (tmp_path / "out").exists()


def test_weights_without_a_person_head(config, finished, tmp_path):
    """They start a run with one; and a trained one stays when the classes change."""
    run_kit.train(config, tmp_path / "plain", "SOLVER.MAX_ITER", 1, skip_final_test=True)
    weight = tmp_path / "plain/model_final.pth"
    once = ["SOLVER.MAX_ITER", 1, "SOLVER.BASE_LR", 1e-9]
    run_kit.train(config, tmp_path / "more", *HEAD, *once, "MODEL.WEIGHT", weight, transfer=True, skip_final_test=True)
    log = (tmp_path / "more/log.txt").read_text()
    assert f"{weight} holds no whole person head (MODEL.ROI_PERSON_HEAD): it has to be trained first." in log
    [result] = run_kit.test(config, tmp_path / "test", *HEAD, "MODEL.WEIGHT", weight, "TEST.BOXES", "ground_truth")
    assert result.mAP > 0 and "results will be poor" not in (tmp_path / "test/test_log.txt").read_text()

    weight = finished / "model_final.pth"
    start = {"transfer": True, "no_head": True, "skip_final_test": True}
    run_kit.train(config, tmp_path / "other", *HEAD, *once, "MODEL.WEIGHT", weight, **start)
    before, after = run_kit.weights(weight), run_kit.weights(tmp_path / "other/model_final.pth")
    head = "person_head.rpn.head.cls_logits.weight"
    torch.testing.assert_close(after[head], before[head], rtol=1e-4, atol=1e-7)
    fresh = "roi_heads.action.feature_extractor.fc1.weight"
    assert not torch.allclose(after[fresh], before[fresh], rtol=1e-2)


def step_run(**how):
    opts = [PERSONS + "ACTIVE", True, PERSONS + "CHANNELS", 16, PERSONS + "MLP_HEAD_DIM", 16]
    criterion = build_person_criterion(load_config("", list(map(str, opts))))
    return Run(*opts, person_criterion=criterion, **how)


def test_losses_of_persons_that_are_not_finite():
    run = step_run(options=StepOptions(skip_nonfinite=True))
    start = run.weights
    with torch.no_grad():
        run.model.person_head.rpn.head.bbox_pred.bias.fill_(float("nan"))
    run(PLAIN[:1])
    assert run.figures == [{"skipped_batches": 1.0}]
    assert all(torch.equal(value, start[name]) for name, value in run.weights.items() if "bbox_pred" not in name)
    run = step_run()
    with torch.no_grad():
        run.model.person_head.reduce.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"the loss is nan in iteration 1 \(loss_pose.*, loss_objectness nan"):
        run(PLAIN[:1])


def test_parts_of_a_batch():
    """Losses are those of the whole batch; which proposals are drawn differs, so they are near, not equal."""
    whole, cut = (step_run(options=StepOptions(parts=parts))(PLAIN[:1]).figures[0] for parts in (1, 4))
    for name in PERSON_LOSSES:
        assert cut[name] == pytest.approx(whole[name], rel=0.2)
    assert cut["loss_action"] == pytest.approx(whole["loss_action"], rel=1e-5)


def test_a_run_is_not_resumed_with_the_head_switched_off(config, finished, tmp_path, capsys):
    folder = run_kit.copied(finished, tmp_path / "run")
    message = run_kit.fail_train(capsys, config, folder, "SOLVER.MAX_ITER", 6)
    assert "its optimizer does not fit this run's (" in message and "parameters in the file" in message


TWO = """
from alphaction.engine.build import TrainFlags, train_from_config
from alphaction.engine.script import run_script
run_script(lambda: train_from_config({config!r}, {opts}, TrainFlags()))
"""


def test_two_processes(config, tmp_path):
    opts = [*ALL, *MEMORY, "TEST.BOXES", "both", "SOLVER.VIDEOS_PER_BATCH", 4, "OUTPUT_DIR", tmp_path / "out"]
    code = TWO.format(config=str(config), opts=list(map(str, opts)))
    with process_kit.start(code, 2, tmp_path) as members:
        assert [member.ends() for member in members] == [0, 0], [member.text for member in members]
    whole = metrics(tmp_path / "out")
    assert whole["boxes"] == "boxes of the person head" and whole["counts"]["keyframes"] == 3
    assert all(line["loss_objectness"] > 0 for line in figures(tmp_path / "out") if "loss_action" in line)
