"""Every row of the guide's table of start flags: iteration, weights, optimizer and rates at the start, the log.

The training loop itself is replaced by one that looks at what it was given.
"""

import copy
import json
import logging
import os
import signal
from dataclasses import dataclass

import pytest
import run_kit
import torch

from alphaction.engine.testing import build as testing
from alphaction.utils.stop import Interrupted

HEAD = "roi_heads."
NEW_SCHEDULE = ("SOLVER.BASE_LR", 0.5, "SOLVER.STEPS", "(100,)")


@dataclass
class Start:
    """What the loop was given."""

    iteration: int
    weights: dict
    momentum: bool  # whether the optimizer has buffers
    rates: list  # of this and the next iterations
    log: str


@pytest.fixture(scope="module")
def first(config, tmp_path_factory):
    """A finished run: checkpoints of iterations 2 and 4. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    run_kit.train(config, folder, skip_final_test=True, skip_validation=True)
    return folder


@pytest.fixture
def begin(config, tmp_path, monkeypatch, capsys):
    """Starts train_net.py, but looks instead of training."""

    def begin(*opts, folder=tmp_path / "out", **flags):
        seen = []

        def look(model, step, loader, optimizer, scheduler, *, start_iter, **others):
            weights = copy.deepcopy(dict(model.state_dict()))
            momentum = any(entry.get("momentum_buffer") is not None for entry in optimizer.state.values())
            rates = []
            for _ in range(3):
                rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                scheduler.step()
            seen.append(Start(start_iter, weights, momentum, rates, ""))
            return start_iter

        with monkeypatch.context() as patched:
            patched.setattr("alphaction.engine.build.train", look)
            run_kit.train(config, folder, *opts, skip_final_test=True, **flags)
        [start] = seen
        start.log = (folder / "log.txt").read_text()
        return start

    return begin


def saved(path):
    return torch.load(path, weights_only=True)


def same(ours, theirs, *, prefix=""):
    return all(torch.equal(ours[name], theirs[name]) for name in theirs if name.startswith(prefix))


def test_from_scratch(begin, first):
    start = begin()
    assert (start.iteration, start.momentum) == (0, False)
    assert start.rates == pytest.approx([0.01 / 3, 0.02 / 3, 0.01])  # warm-up
    assert "MODEL.WEIGHT is empty: training starts from scratch." in start.log


def test_transfer(begin, first):
    path = first / "model_0000004.pth"
    start = begin("MODEL.WEIGHT", path, *NEW_SCHEDULE, transfer=True)
    assert (start.iteration, start.momentum) == (0, False)
    assert same(start.weights, saved(path)["model"])
    assert start.rates == pytest.approx([0.5 / 3, 1 / 3, 0.5])  # the warm-up of the new schedule
    assert f"Only the weights of {path} are taken (--transfer): iteration 0, fresh optimizer and schedule." in start.log


def test_transfer_without_the_head(begin, first):
    path = first / "model_0000004.pth"
    scratch, start = begin(folder=first.parent / "scratch"), begin("MODEL.WEIGHT", path, transfer=True, no_head=True)
    assert (start.iteration, start.momentum) == (0, False)
    assert same(start.weights, saved(path)["model"], prefix="backbone.")
    assert same(start.weights, scratch.weights, prefix=HEAD)
    assert not same(start.weights, saved(path)["model"], prefix=HEAD)
    assert "left out (--no-head)" in start.log and "Only the weights of" in start.log


def test_transfer_takes_averaged_weights(begin, first, tmp_path):
    content = saved(first / "model_0000004.pth")
    averaged = {f"module.{name}": 2 * value for name, value in content["model"].items()}
    torch.save(content | {"averaged_model": averaged | {"n_averaged": torch.tensor(4)}}, tmp_path / "averaged.pth")
    start = begin("MODEL.WEIGHT", tmp_path / "averaged.pth", transfer=True)
    assert same(start.weights, {name: 2 * value for name, value in content["model"].items()})
    assert "the averaged weights are taken" in start.log


def test_a_checkpoint_named_by_model_weight_is_resumed(begin, first):
    path = first / "model_0000002.pth"
    start = begin("MODEL.WEIGHT", path, *NEW_SCHEDULE)
    assert (start.iteration, start.momentum) == (2, True)
    assert same(start.weights, saved(path)["model"])
    assert start.rates == pytest.approx([0.01, 0.001, 0.001])  # the saved schedule: a step at 3
    assert f"Resumed {path} at iteration 2 with its optimizer and its learning rate schedule." in start.log
    assert "Add --adjust-lr to use the configuration's." in start.log


def test_a_finished_run_named_by_model_weight(begin, first):
    start = begin("MODEL.WEIGHT", first / "model_final.pth", "SOLVER.MAX_ITER", 3)
    assert (
        f"{first / 'model_final.pth'} is resumed, and its run has come to iteration 4 already (SOLVER.MAX_ITER 3): "
        "nothing will be trained. To start a new run from its weights add --transfer." in start.log
    )
    assert begin("MODEL.WEIGHT", first / "model_0000002.pth").log.count("nothing will be trained") == 1  # as before


def test_a_finished_run_goes_on_to_its_test(begin, first, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "last_checkpoint").write_text(str(first / "model_final.pth"))  # as the original wrote it
    start = begin()
    assert start.iteration == 4
    assert "nothing will be trained" not in start.log  # and --transfer would have no effect


def test_adjust_lr(begin, first):
    path = first / "model_0000002.pth"
    start = begin("MODEL.WEIGHT", path, *NEW_SCHEDULE, adjust_lr=True)
    assert (start.iteration, start.momentum) == (2, True)
    assert same(start.weights, saved(path)["model"])
    assert start.rates == pytest.approx([0.5, 0.5, 0.5])
    assert "with its optimizer and this configuration's schedule (--adjust-lr)" in start.log


@pytest.mark.parametrize(
    ("flags", "unused"),
    [({}, ""), ({"transfer": True}, ", --transfer"), ({"transfer": True, "no_head": True}, ", --transfer, --no-head")],
)
def test_last_checkpoint_comes_first(begin, first, tmp_path, flags, unused):
    folder = run_kit.copied(first, tmp_path / "out")
    (folder / "last_checkpoint").write_text("model_0000002.pth")
    start = begin("MODEL.WEIGHT", first / "model_0000004.pth", *NEW_SCHEDULE, **flags)
    assert (start.iteration, start.momentum) == (2, True)
    assert same(start.weights, saved(folder / "model_0000002.pth")["model"])
    assert start.rates == pytest.approx([0.01, 0.001, 0.001])
    note = folder / "last_checkpoint"
    assert (
        f"{note} exists: this run CONTINUES from {folder / 'model_0000002.pth'}. Not used, because they only start a "
        f"run: MODEL.WEIGHT {first / 'model_0000004.pth'}{unused}. To start afresh delete {note} or choose another "
        "OUTPUT_DIR." in start.log
    )


def test_last_checkpoint_with_adjust_lr(begin, first, tmp_path):
    folder = run_kit.copied(first, tmp_path / "out")
    (folder / "last_checkpoint").write_text("model_0000002.pth")
    start = begin(*NEW_SCHEDULE, adjust_lr=True, transfer=True)
    assert (start.iteration, start.momentum) == (2, True)
    assert start.rates == pytest.approx([0.5, 0.5, 0.5])


def test_which_weights_are_tested(config, first, tmp_path, caplog, monkeypatch):
    class Looked(Exception):
        pass

    def look(cfg, model, *args, **options):
        seen.append(copy.deepcopy(dict(model.state_dict())))
        raise Looked

    def tested(folder, *opts):
        with pytest.raises(Looked):
            run_kit.test(config, folder, *opts)
        log = (folder / "test_log.txt").read_text()
        (folder / "test_log.txt").unlink()
        return seen.pop(), log

    seen = []
    monkeypatch.setattr("alphaction.engine.build.Tester", look)
    second, fourth = first / "model_0000002.pth", first / "model_0000004.pth"
    folder = run_kit.copied(first, tmp_path / "out")
    weights, log = tested(folder, "MODEL.WEIGHT", second)
    assert same(weights, saved(second)["model"])
    assert f"Testing {second} (given on the command line; {folder / 'last_checkpoint'} is not used)" in log
    weights, log = tested(folder)
    assert same(weights, saved(fourth)["model"])
    assert f"Testing {folder / 'model_final.pth'} (from {folder / 'last_checkpoint'})" in log
    named = config.with_name("named.yaml")
    named.write_text(config.read_text().replace("MODEL:\n", f"MODEL:\n  WEIGHT: {second}\n", 1))
    config = named
    weights, log = tested(tmp_path / "empty")
    assert same(weights, saved(second)["model"])
    assert f"Testing {second} (MODEL.WEIGHT of the configuration file)" in log


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_best_weights_are_kept_and_named(config, tmp_path):
    opts = ("SOLVER.KEEP_BEST", True, "SOLVER.EMA_DECAY", 0.5, "SOLVER.EVAL_PERIOD", 1)
    run_kit.train(config, tmp_path, *opts, skip_final_test=True)
    scores = {line["iteration"]: line["tiny_val_mAP_0.5IOU"] for line in lines_of(tmp_path) if len(line) == 2}
    best = max(scores, key=lambda iteration: (scores[iteration], -iteration))
    content = saved(tmp_path / "model_best.pth")
    assert content["iteration"] == best and "averaged_model" in content and "optimizer" not in content
    log = (tmp_path / "log.txt").read_text()
    command = f"python test_net.py --config-file {tmp_path}/config.yaml MODEL.WEIGHT {tmp_path}/model_best.pth"
    assert f"Best validation: mean mAP {scores[best]:.4f} at iteration {best}" in log and command in log
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    [result] = run_kit.test(tmp_path / "config.yaml", tmp_path, "MODEL.WEIGHT", tmp_path / "model_best.pth")
    assert result.mAP == pytest.approx(scores[best])


def test_keep_best_switched_on_after_the_best_validation(config, tmp_path, capsys):
    opts = ("SOLVER.EVAL_PERIOD", 1, "SOLVER.CHECKPOINT_PERIOD", 3, "SOLVER.MAX_ITER", 5)
    run_kit.train(config, tmp_path / "first", *opts, skip_final_test=True)
    third = tmp_path / "first/model_0000003.pth"
    content = saved(third) | {"best_mean": {"mAP": 2.0, "iteration": 2, "since": 1}}  # nothing is better than that
    torch.save(content, third)
    run_kit.train(config, tmp_path, *opts, "MODEL.WEIGHT", third, "SOLVER.KEEP_BEST", True, skip_final_test=True)
    assert not (tmp_path / "model_best.pth").exists()
    log = (tmp_path / "log.txt").read_text()
    assert f"mean mAP 2.0000 at iteration 2, 1 validation ago, is not in {tmp_path}: model_best.pth" in log
    assert "Its weights are tested by" not in log


def test_early_stop_goes_to_the_final_test(config, tmp_path, capsys):
    nothing = ("SOLVER.BASE_LR", 1e-20, "MODEL.BACKBONE.FROZEN_BN", True)  # is learned: no validation is better
    lengths = ("SOLVER.EVAL_PERIOD", 1, "SOLVER.MAX_ITER", 50, "SOLVER.CHECKPOINT_PERIOD", 60)
    opts = (*nothing, *lengths, "SOLVER.EARLY_STOP_PATIENCE", 1)
    run_kit.train(config, tmp_path, *opts)
    assert saved(tmp_path / "model_final.pth")["iteration"] == 2
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    log = (tmp_path / "log.txt").read_text()
    assert "Training ends early, at iteration 2 of 50" in log and "average precision per class" in log
    assert "Not all of the schedule happens within SOLVER.MAX_ITER 50:\n  SOLVER.CHECKPOINT_PERIOD 60: no" in log
    assert lines_of(tmp_path)[-1]["iteration"] == 2
    before = (tmp_path / "model_final.pth").read_bytes()
    capsys.readouterr()
    run_kit.train(config, tmp_path, *opts)  # once more: it stays so
    shown = capsys.readouterr().out
    assert "Training ends early, at iteration 2 of 50" in shown and "average precision per class" in shown
    assert "\n  SOLVER.MAX_ITER 50\n" in shown and "MOMENTUM" not in shown  # what differs from the defaults alone
    assert "\n  MAX_ITER: 50\n" in log and "\n  MOMENTUM: 0.9\n" in log  # everything
    assert (tmp_path / "model_final.pth").read_bytes() == before
    run_kit.train(config, tmp_path, *opts, "SOLVER.EARLY_STOP_PATIENCE", 2, skip_final_test=True)
    assert saved(tmp_path / "model_final.pth")["iteration"] == 3


@pytest.fixture(autouse=True)
def _log(caplog):
    caplog.set_level(logging.INFO)


def test_stopped_in_the_validation_before_training(config, tmp_path, monkeypatch):
    def signalled(*args, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return run(*args, **options)

    run = testing.Tester.run
    monkeypatch.setattr(testing.Tester, "run", signalled)
    with pytest.raises(Interrupted) as stopped:
        run_kit.train(config, tmp_path, "TEST.EVAL_AT_START", True)
    assert stopped.value.signal == signal.SIGTERM
    assert str(stopped.value) == (
        "SIGTERM: stopped before training; nothing is saved yet. The same command begins again."
    )
    assert not list(tmp_path.glob("*.pth"))
