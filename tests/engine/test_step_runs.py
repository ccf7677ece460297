"""Whole short runs with the keys of the training step; a run that is killed goes on exactly with each of them."""

import json

import pytest
import run_kit
import torch

from alphaction.config import load_config
from alphaction.modeling import build_detection_model

HEAD = "MODEL.ROI_ACTION_HEAD."
MANY = [
    *["SOLVER.OPTIMIZER", "adamw", "SOLVER.BASE_LR", 0.001, "SOLVER.MAX_GRAD_NORM", 0.5, "SOLVER.EMA_DECAY", 0.5],
    *["SOLVER.ACCUMULATION_STEPS", 2, HEAD + "CLASS_WEIGHTS", (1.0, 2.0, 0.5), HEAD + "CLASS_BALANCE", 0.5],
    *["MODEL.BACKBONE.ACTIVATION_CHECKPOINTING", True, "SOLVER.ON_NONFINITE", "skip"],
]


def same(a, b):
    """Bit for bit, whatever nests in what."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize(
    "opts",
    [MANY, ["SOLVER.PRECISION", "bfloat16", "SOLVER.EMA_DECAY", 0.9], ["SOLVER.PRECISION", "float16"]],
    ids=["many", "bfloat16", "float16"],
)
def test_a_killed_run_goes_on_exactly(opts, config, tmp_path):
    run_kit.train(config, tmp_path / "whole", *opts, skip_final_test=True)
    run_kit.train(config, tmp_path / "halves", *opts, "SOLVER.MAX_ITER", 2, skip_final_test=True)
    (tmp_path / "halves" / "model_final.pth").unlink()  # a run that is killed leaves no final model
    (tmp_path / "halves" / "last_checkpoint").write_text("model_0000002.pth")
    run_kit.train(config, tmp_path / "halves", *opts, skip_final_test=True)
    whole, halves = (
        torch.load(tmp_path / name / "model_0000004.pth", weights_only=True) for name in ("whole", "halves")
    )
    for entry in ("model", "optimizer", "scheduler", "averaged_model", "gradient_scaler", "random_states"):
        assert (entry in whole) == (entry in halves) and same(whole.get(entry), halves.get(entry)), entry
    assert ("averaged_model" in whole) == ("SOLVER.EMA_DECAY" in opts)
    assert ("gradient_scaler" in whole) == ("float16" in opts)


def test_what_the_log_says_of_the_keys(config, tmp_path):
    run_kit.train(config, tmp_path, *MANY, "SOLVER.MAX_ITER", 2, skip_final_test=True)
    log = (tmp_path / "log.txt").read_text()
    assert "Weights of the classes' losses: walk 0.87, run 2.13, wave 0.533" in log
    assert (
        "Training step: ACCUMULATION_STEPS 2, OPTIMIZER adamw, MAX_GRAD_NORM 0.5, ON_NONFINITE skip, EMA_DECAY 0.5"
        in log
    )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(line["grad_norm"] > 0 for line in lines if "loss_action" in line)


def test_validation_looks_at_the_mean_of_the_weights(config, tmp_path, monkeypatch):
    """The validation of iteration 2 sees the averaged weights that the checkpoint of iteration 2 holds."""
    seen = []

    def look(self, dataset, **options):
        seen.append({name: value.clone() for name, value in self._model.state_dict().items()})
        return run(self, dataset, **options)

    from alphaction.engine.testing.build import Tester

    run = Tester.run
    monkeypatch.setattr(Tester, "run", look)
    opts = ["SOLVER.EMA_DECAY", 0.5, "TEST.EVAL_AT_START", True]
    run_kit.train(config, tmp_path, *opts, "SOLVER.MAX_ITER", 4)
    torch.manual_seed(2)
    cfg = load_config(str(config), [])
    assert same(seen[0], dict(build_detection_model(cfg).state_dict()))  # before training: the weights as they begin
    for state, name in ((seen[1], "model_0000002"), (seen[2], "model_0000004")):
        saved = torch.load(tmp_path / f"{name}.pth", weights_only=True)
        averaged = {key.removeprefix("module."): value for key, value in saved["averaged_model"].items()}
        assert all(torch.equal(averaged[key], value) for key, value in state.items())
        key = "roi_heads.action.predictor.cls_score.weight"
        assert not torch.equal(saved["model"][key], state[key])


def test_class_weights_that_are_not_as_many_as_the_classes(config, tmp_path, capsys):
    message = run_kit.fail_train(capsys, config, tmp_path, HEAD + "CLASS_WEIGHTS", (1.0, 2.0))
    assert message.startswith("MODEL.ROI_ACTION_HEAD.CLASS_WEIGHTS: got 2 weights, expected 3, one per class")


def test_bad_batches_that_are_left_out_are_counted(config, tmp_path, monkeypatch):
    from alphaction.modeling.losses import ActionCriterion

    calls = []
    whole = ActionCriterion.__call__

    def sometimes(self, logits, labels, num_boxes):
        calls.append(1)
        return whole(self, logits * (float("nan") if len(calls) == 2 else 1.0), labels, num_boxes)

    monkeypatch.setattr(ActionCriterion, "__call__", sometimes)
    run_kit.train(config, tmp_path, "SOLVER.ON_NONFINITE", "skip", skip_final_test=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    counts = [line.get("skipped_batches", 0) for line in lines if "learning_rate" in line]
    assert counts == [0, 1, 1, 1]
    log = (tmp_path / "log.txt").read_text()
    assert "Left out (SOLVER.ON_NONFINITE skip): the loss is nan in iteration 2 (loss_multi_label nan); clips of" in log
    assert "skipped 1" in log
