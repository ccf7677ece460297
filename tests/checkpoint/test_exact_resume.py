"""A run that is stopped and continued by other objects ends with the very same bits as one that was not."""

import random

import numpy as np
import pytest
import torch
from pretended import Pretended
from torch import nn

from alphaction.checkpoint import Checkpointer
from alphaction.solver import HalfPeriodCosine, Warmup, WarmupMultiStep, parameter_groups
from alphaction.utils.distributed import Processes

SCHEDULES = {
    "multi_step": lambda optimizer: WarmupMultiStep(optimizer, milestones=[2, 4], warmup=Warmup(0.25, 3)),
    "cosine": lambda optimizer: HalfPeriodCosine(optimizer, max_iter=6, warmup=Warmup(0.25, 2)),
}
OPTIMIZERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "adamw": lambda groups: torch.optim.AdamW(groups),
}


class _Run:
    """A toy training with dropout, batch norm, and inputs drawn from Python's, numpy's and torch's generators."""

    def __init__(self, folder, schedule, optimizer):
        torch.manual_seed(3)
        random.seed(3)
        np.random.seed(3)  # noqa: NPY002
        self.model = nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3))
        groups = parameter_groups(self.model, base_lr=0.1, weight_decay=0.01, bias_lr_factor=2.0)
        self.optimizer = OPTIMIZERS[optimizer](groups)
        self.scheduler = SCHEDULES[schedule](self.optimizer)
        self.checkpointer = Checkpointer(folder, self.model, optimizer=self.optimizer, scheduler=self.scheduler)

    def train(self, start, end):
        self.model.train()
        losses = []
        for _ in range(start, end):
            inputs = torch.randn(8, 5) + random.random() + float(np.random.normal())  # noqa: NPY002
            loss = self.model(inputs).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            losses.append(loss.item())
        return losses


def _same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("by", ["last_checkpoint", "weight"])
@pytest.mark.parametrize("at", [1, 3, 5])
def test_bit_for_bit(tmp_path, schedule, optimizer, by, at):
    whole = _Run(tmp_path / "whole", schedule, optimizer)
    losses = whole.train(0, 6)

    (tmp_path / "first").mkdir()
    first = _Run(tmp_path / "first", schedule, optimizer)
    first_losses = first.train(0, at)
    path = first.checkpointer.save(f"model_{at:07d}", iteration=at)
    first.train(at, 6)  # goes on and is lost

    second = _Run(tmp_path / ("first" if by == "last_checkpoint" else "second"), schedule, optimizer)
    state = second.checkpointer.resume_or_load(str(path) if by == "weight" else "")
    assert (state.iteration, state.resumed) == (at, True)
    # Something draws numbers before the loop begins, as a data loader does.
    torch.rand(3), random.random(), np.random.rand(2)  # noqa: NPY002
    second.checkpointer.restore_random_state()
    assert first_losses + second.train(state.iteration, 6) == losses
    assert _same(dict(whole.model.state_dict()), dict(second.model.state_dict()))
    assert _same(whole.optimizer.state_dict(), second.optimizer.state_dict())
    assert whole.scheduler.state_dict() == second.scheduler.state_dict()


def test_every_process_gets_its_own_random_state_back(tmp_path, caplog, monkeypatch):
    run = _Run(tmp_path, "multi_step", "sgd")
    run.train(0, 1)
    states = []
    for seed in (10, 11):
        torch.manual_seed(seed)
        states.append(run.checkpointer.current_random_state())
    with monkeypatch.context() as patched:
        patched.setattr(Processes, "gather", lambda self, value: states)
        run.checkpointer.save("model_0000001", iteration=1)
    for rank, seed in enumerate((10, 11)):
        processes = Pretended(rank=rank, size=2)
        checkpointer = Checkpointer(
            tmp_path, run.model, optimizer=run.optimizer, scheduler=run.scheduler, processes=processes
        )
        checkpointer.resume_or_load("")
        drawn = torch.rand(4)
        torch.manual_seed(seed)
        assert torch.equal(drawn, torch.rand(4))
    processes = Pretended(rank=2, size=3)
    checkpointer = Checkpointer(
        tmp_path, run.model, optimizer=run.optimizer, scheduler=run.scheduler, processes=processes
    )
    checkpointer.resume_or_load("")
    assert "written by 2 processes: process 2 starts its random generators anew" in caplog.text


def test_a_checkpoint_is_not_changed_by_the_run_that_continues_it(tmp_path):
    """The file is mapped into memory while it is read: training on must not write to it."""
    run = _Run(tmp_path, "multi_step", "sgd")
    run.train(0, 2)
    path = run.checkpointer.save("model_0000002", iteration=2)
    data = path.read_bytes()
    other = _Run(tmp_path, "multi_step", "sgd")
    other.checkpointer.resume_or_load("")
    other.train(2, 5)
    assert path.read_bytes() == data
