"""The linear scaling rule, against the numbers of the fine-tuning guide."""

import logging
from fractions import Fraction

import pytest

from alphaction.config import load_config, validate
from alphaction.solver import scale_to_batch
from alphaction.solver.scaling import ITERATIONS, RATES, scale, scale_iterations, scale_rate

GUIDE = {
    "BASE_LR": 0.0004,
    "MAX_ITER": 90000,
    "STEPS": (50000, 70000),
    "WARMUP_ITERS": 2000,
    "CHECKPOINT_PERIOD": 10000,
    "EVAL_PERIOD": 10000,
}


@pytest.fixture
def config(tmp_path):
    """The guide's configuration, for 16 clips."""
    lines = "".join(f"  {key}: {value}\n" for key, value in GUIDE.items())
    path = tmp_path / "guide.yaml"
    path.write_text(f"SOLVER:\n{lines}  VIDEOS_PER_BATCH: 16\n")
    return path


@pytest.fixture
def log(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("alphaction"), "propagate", True)
    caplog.set_level(logging.INFO, logger="alphaction")
    return caplog


def solver(config, *opts):
    """SOLVER as a run with these overrides has it."""
    cfg = load_config(config, [*opts])
    scale_to_batch(cfg, given=opts[::2])
    validate(cfg)
    return cfg.SOLVER


def schedule(node):
    return {key: node[key] for key in (*RATES, *ITERATIONS)}


@pytest.mark.parametrize(
    ("batch", "rate", "steps", "max_iter", "warmup", "period"),
    [
        (16, 0.0004, (50000, 70000), 90000, 2000, 10000),  # 8 GPUs: the configuration as it is
        (8, 0.0002, (100000, 140000), 180000, 4000, 20000),  # 4 GPUs: the numbers of the guide's command
        (2, 0.00005, (400000, 560000), 720000, 16000, 80000),  # 1 GPU by the guide's formula
        (32, 0.0008, (25000, 35000), 45000, 1000, 5000),
        (24, 0.0006, (33333, 46667), 60000, 1333, 6667),
    ],
)
def test_the_guides_rule(config, batch, rate, steps, max_iter, warmup, period):
    node = solver(config, "SOLVER.AUTO_SCALE", True, "SOLVER.VIDEOS_PER_BATCH", batch)
    assert schedule(node) == {
        "BASE_LR": rate,
        "MAX_ITER": max_iter,
        "STEPS": steps,
        "WARMUP_ITERS": warmup,
        "CHECKPOINT_PERIOD": period,
        "EVAL_PERIOD": period,
    }
    assert node.LOG_PERIOD == 20


def test_off_by_default_the_commands_of_the_guide_do_what_they_say(config):
    node = solver(config, "SOLVER.VIDEOS_PER_BATCH", 2, "SOLVER.BASE_LR", 0.000125)
    assert schedule(node) == GUIDE | {"BASE_LR": 0.000125}
    assert node.REFERENCE_BATCH == 0


def test_reference_batch_given(config):
    node = solver(config, "SOLVER.AUTO_SCALE", True, "SOLVER.REFERENCE_BATCH", 32)
    assert (node.BASE_LR, node.MAX_ITER) == (0.0002, 180000)


def test_a_file_without_batch_size_means_the_default(tmp_path):
    (tmp_path / "a.yaml").write_text("SOLVER: {BASE_LR: 0.02, AUTO_SCALE: True}\n")
    assert solver(tmp_path / "a.yaml", "SOLVER.VIDEOS_PER_BATCH", 8).BASE_LR == 0.005


def test_the_table_says_old_and_new_and_what_was_kept(config, log):
    node = solver(
        config, "SOLVER.AUTO_SCALE", "True", "SOLVER.VIDEOS_PER_BATCH", "2", "SOLVER.BASE_LR", "0.000125",
        "SOLVER.STEPS", "(560000, 720000)",
    )  # fmt: skip
    assert (node.BASE_LR, node.STEPS, node.MAX_ITER) == (0.000125, (560000, 720000), 720000)
    assert "a batch of 2 clips instead of 16: rates times 1/8, iterations times 8" in log.text
    lines = [" ".join(line.split()) for line in log.text.splitlines()]
    assert "SOLVER.BASE_LR 0.000125 kept: given on the command line" in lines
    assert "SOLVER.STEPS (560000, 720000) kept: given on the command line" in lines
    assert "SOLVER.MAX_ITER 90000 -> 720000" in lines


def test_adamw_is_scaled_linearly_and_says_so(config, log):
    node = solver(config, "SOLVER.AUTO_SCALE", True, "SOLVER.VIDEOS_PER_BATCH", 8, "SOLVER.OPTIMIZER", "adamw")
    assert node.BASE_LR == 0.0002
    assert "iterations times 2 (linear for adamw, too)" in log.text


def test_the_saved_configuration_gives_the_same_run_and_is_not_scaled_again(config, tmp_path, log):
    cfg = load_config(config, ["SOLVER.AUTO_SCALE", True, "SOLVER.VIDEOS_PER_BATCH", 4])
    scale_to_batch(cfg)
    saved = tmp_path / "config.yaml"
    saved.write_text(cfg.dump())
    again = load_config(saved)
    log.clear()
    scale_to_batch(again)
    assert again.dump() == cfg.dump()
    assert "meant for a batch of 4 clips already" in log.text
    # From there on to another batch: as if it had been scaled at once.
    assert solver(saved, "SOLVER.VIDEOS_PER_BATCH", 2).BASE_LR == 0.00005


def test_numbers_of_iterations_are_at_least_one_but_none_stay_none():
    values = GUIDE | {"WARMUP_ITERS": 0, "STEPS": (), "EVAL_PERIOD": 2}
    new = {change.key: change.new for change in scale(values, batch=64, reference=1)}
    assert (new["WARMUP_ITERS"], new["STEPS"], new["EVAL_PERIOD"], new["MAX_ITER"]) == (0, (), 1, 1406)


def test_no_dust_of_binary_fractions():
    assert scale_rate(0.0003, Fraction(1, 3)) == 0.0001
    assert scale_iterations(90000, Fraction(3, 16)) == 480000


@pytest.mark.parametrize(("batch", "reference"), [(0, 8), (8, 0)])
def test_no_batch_of_nothing(batch, reference):
    with pytest.raises(ValueError, match="expected 1 or more"):
        scale(GUIDE, batch=batch, reference=reference)
