"""Numbers of the schedule that do nothing within the run's length."""

import logging

import pytest

from alphaction.config import get_cfg, load_config
from alphaction.config.schedule import TRIAL, schedule_remarks, warn_of_schedule
from alphaction.config.shipped import shipped_folder

SHORT = ["SOLVER.MAX_ITER", 300, "SOLVER.WARMUP_ON", False, "SOLVER.STEPS", (), "SOLVER.CHECKPOINT_PERIOD", 100,
         "SOLVER.EVAL_PERIOD", 100]  # fmt: skip


def remarks(*opts, validates=True):
    cfg = get_cfg()
    cfg.merge_from_list([*SHORT, *opts])
    return list(schedule_remarks(cfg, validates=validates))


@pytest.mark.parametrize("path", sorted(shipped_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_configurations_do_all_they_say(path):
    assert not list(schedule_remarks(load_config(path), validates=True))


def test_the_defaults_and_a_short_schedule_that_fits():
    assert not list(schedule_remarks(get_cfg(), validates=True))
    assert not remarks()


@pytest.mark.parametrize(
    ("opts", "expected"),
    [
        (
            ["SOLVER.WARMUP_ITERS", 500, "SOLVER.BASE_LR", 0.5, "SOLVER.WARMUP_METHOD", "constant"],
            "SOLVER.WARMUP_ITERS 500: the run never leaves its warm-up; its highest learning rate is 0.166667, not "
            "SOLVER.BASE_LR 0.5",
        ),
        (
            ["SOLVER.WARMUP_ITERS", 598, "SOLVER.BASE_LR", 0.5, "SOLVER.WARMUP_FACTOR", 0.5],
            "SOLVER.WARMUP_ITERS 598: the run never leaves its warm-up; its highest learning rate is 0.375, not "
            "SOLVER.BASE_LR 0.5",
        ),
        (["SOLVER.STEPS", (300, 400)], "SOLVER.STEPS (300, 400): the learning rate never falls"),
        (["SOLVER.STEPS", (200, 300, 400)], "SOLVER.STEPS (200, 300, 400): 300 is not reached"),
        (
            ["SOLVER.CHECKPOINT_PERIOD", 301],
            "SOLVER.CHECKPOINT_PERIOD 301: no checkpoint before the end; a run that is killed begins anew",
        ),
        (["SOLVER.EVAL_PERIOD", 301], "SOLVER.EVAL_PERIOD 301: no validation on the way, only the test at the end"),
        (
            ["SOLVER.EMA_DECAY", 0.999],
            "SOLVER.EMA_DECAY 0.999: the mean that is tested is made of the weights at the start to 74%",
        ),
    ],
)
def test_remarks(opts, expected):
    opts = [*opts, "SOLVER.WARMUP_ON", True] if "SOLVER.WARMUP_ITERS" in opts else opts
    assert remarks(*opts) == [expected]


def test_numbers_without_a_part_in_the_run_are_left_alone():
    assert not remarks("SOLVER.WARMUP_ITERS", 500)  # WARMUP_ON False
    assert not remarks("SOLVER.WARMUP_ON", True, "SOLVER.WARMUP_ITERS", 299)
    assert not remarks("SOLVER.STEPS", (400,), "SOLVER.SCHEDULER", "half_period_cosine")
    assert not remarks("SOLVER.EVAL_PERIOD", 400, validates=False)
    assert not remarks("SOLVER.EMA_DECAY", 0.99)


def test_one_warning_and_none_of_a_run_to_try_something_out(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("alphaction"), "propagate", True)
    quickstart = shipped_folder() / "quickstart.yaml"
    warn_of_schedule(load_config(quickstart, ["SOLVER.MAX_ITER", "4"]), validates=True)
    warn_of_schedule(load_config(quickstart, ["SOLVER.MAX_ITER", str(TRIAL - 1)]), validates=True)
    assert not caplog.records
    warn_of_schedule(load_config(quickstart, ["SOLVER.MAX_ITER", "60", "SOLVER.WARMUP_ITERS", "60"]), validates=True)
    [record] = caplog.records
    assert record.levelname == "WARNING" and record.getMessage().splitlines() == [
        "Not all of the schedule happens within SOLVER.MAX_ITER 60:",
        "  SOLVER.WARMUP_ITERS 60: the run never leaves its warm-up; its highest learning rate is 0.04925, not "
        "SOLVER.BASE_LR 0.05",
        "  SOLVER.CHECKPOINT_PERIOD 230: no checkpoint before the end; a run that is killed begins anew",
        "  SOLVER.EVAL_PERIOD 230: no validation on the way, only the test at the end",
    ]
