import json

import goldens
import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from alphaction.errors import ConfigError
from alphaction.solver import HalfPeriodCosine, Warmup, WarmupMultiStep, build_optimizer, build_scheduler

META, ARRAYS = goldens.load("lr_schedule")


def _config(name, opts=()):
    cfg = CfgNode(goldens.config_record("defaults"))
    cfg.SOLVER.OPTIMIZER = "sgd"  # a key of ours, at its default
    if name:
        changes = goldens.config_record(name)
        cfg.merge_from_list([value for item in changes.items() for value in item])
    values = [tuple(value) if isinstance(value, list) else value for value in opts]
    cfg.merge_from_list(values)
    return cfg


class _Model(nn.Module):
    """One parameter with the base rate and one bias of the interaction structure (the golden's two columns)."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.roi_heads = nn.Module()
        self.roi_heads.action = nn.Module()
        self.roi_heads.action.feature_extractor = nn.Module()
        self.roi_heads.action.feature_extractor.ia_structure = nn.Linear(1, 1)
        self.roi_heads.action.feature_extractor.ia_structure.weight.requires_grad_(False)


def _rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def _make(case):
    cfg = _config(case["config"], case["opts"])
    optimizer = build_optimizer(cfg, _Model())
    return optimizer, build_scheduler(cfg, optimizer)


@pytest.mark.parametrize("name", META["cases"])
def test_rates_equal_the_recorded_ones(name):
    wanted = dict(zip(ARRAYS[f"{name}/in/iterations"].tolist(), ARRAYS[f"{name}/out/lr"], strict=True))
    case = META["cases"][name]
    report = goldens.parity.Report("lr_schedule")
    jumping_optimizer, jumping = _make(case)
    for iteration, rates in wanted.items():
        jumping.set_epoch(iteration)
        report.close(f"{iteration} by jump", _rates(jumping_optimizer), rates)

    stepped_optimizer, stepped = _make(case)
    for iteration in range(min(max(wanted) + 1, 3000)):
        if iteration in wanted:
            report.close(f"{iteration} by step", _rates(stepped_optimizer), wanted[iteration])
            assert stepped.get_last_lr() == _rates(stepped_optimizer)
        stepped_optimizer.step()
        stepped.step()
    report.finish()


@pytest.mark.parametrize("name", META["cases"])
@pytest.mark.parametrize("at", [0, 1, 7, 250])
def test_a_restored_schedule_goes_on_exactly(name, at):
    optimizer, scheduler = _make(META["cases"][name])
    for _ in range(at):
        optimizer.step()
        scheduler.step()
    saved = json.loads(json.dumps([optimizer.state_dict(), scheduler.state_dict()]))  # plain values only

    # The new run's own numbers differ; the file's must win.
    new_optimizer = build_optimizer(_config(None, ["SOLVER.BASE_LR", 123.0]), _Model())
    kind = type(scheduler)
    if kind is WarmupMultiStep:
        new = WarmupMultiStep(new_optimizer, milestones=[1, 2], gamma=0.9, warmup=Warmup(0.9, 3, "constant"))
    else:
        new = HalfPeriodCosine(new_optimizer, max_iter=5)
    new_optimizer.load_state_dict(saved[0])
    new.load_state_dict(saved[1])
    assert new.state_dict() == scheduler.state_dict()
    for _ in range(20):
        assert _rates(new_optimizer) == _rates(optimizer)
        for each in (optimizer, scheduler, new_optimizer, new):
            each.step()


def test_reads_a_schedule_without_our_own_entries():
    optimizer, scheduler = _make(next(iter(META["cases"].values())))
    state = {key: value for key, value in scheduler.state_dict().items() if key not in ("schedule", "_step_count")}
    scheduler.load_state_dict({**state, "last_epoch": 5, "_get_lr_called_within_step": False})
    assert scheduler.last_epoch == 5


def test_refuses_another_kind_and_another_model():
    optimizer, scheduler = _make(next(iter(META["cases"].values())))
    with pytest.raises(ValueError, match="'half_period_cosine', this one 'warmup_multi_step'"):
        scheduler.load_state_dict(HalfPeriodCosine(optimizer, max_iter=3).state_dict())
    with pytest.raises(ValueError, match="1 parameter groups, this optimizer 2"):
        scheduler.load_state_dict(scheduler.state_dict() | {"base_lrs": [1.0]})


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["SOLVER.SCHEDULER", "cosinus"], "SOLVER.SCHEDULER: got 'cosinus', expected one of warmup_multi_step, half"),
        (["SOLVER.WARMUP_METHOD", "exp"], "got 'exp', expected one of linear, constant"),
        (["SOLVER.STEPS", (20, 10)], "expected ascending numbers"),
        (["SOLVER.SCHEDULER", "half_period_cosine", "SOLVER.MAX_ITER", 0], "got 0, expected more than 0"),
        (["SOLVER.WARMUP_ITERS", -1], "got -1, expected 0 or more"),
    ],
)
def test_bad_values(opts, message):
    optimizer = build_optimizer(_config(None), _Model())
    with pytest.raises(ConfigError, match=message):
        build_scheduler(_config(None, opts), optimizer)


@pytest.mark.filterwarnings("error")
def test_an_iteration_without_a_step_counts_without_a_warning():
    # The first batch is left out: no person in it, a loss that is not finite, or a loss scale that is too high.
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    scheduler = WarmupMultiStep(optimizer, milestones=[2])
    scheduler.step()
    optimizer.step()
    scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([0.1])
