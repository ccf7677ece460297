"""Parts that not every run has, facts of the data, the number of kept checkpoints, several processes."""

import logging
import os
import re

import pytest
import torch
from pretended import Pretended
from torch import nn

from alphaction.checkpoint import Checkpointer, read_checkpoint
from alphaction.errors import CheckpointError
from alphaction.solver import WarmupMultiStep
from alphaction.solver.ema import AveragedWeights


@pytest.fixture(autouse=True)
def log(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("alphaction"), "propagate", True)
    caplog.set_level(logging.INFO, logger="alphaction")
    return caplog


class Run:
    def __init__(self, folder, *, averaged=True, value=1.0, **options):
        self.model = nn.Linear(2, 2)
        nn.init.constant_(self.model.weight, value)
        self.averaged = AveragedWeights(self.model, decay=0.5)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1.0)
        parts = {"averaged_model": self.averaged} if averaged else {}
        self.checkpointer = Checkpointer(
            folder,
            self.model,
            optimizer=self.optimizer,
            scheduler=WarmupMultiStep(self.optimizer, milestones=[5]),
            parts=parts,
            **options,
        )

    def learn(self, *values):
        for value in values:
            nn.init.constant_(self.model.weight, value)
            self.averaged.update()

    @property
    def values(self):
        return self.model.weight[0, 0].item(), self.averaged.model.weight[0, 0].item()


def test_averaged_weights_are_resumed(tmp_path):
    run = Run(tmp_path)
    run.learn(2.0, 4.0)
    assert run.values == (4.0, 3.0)
    run.checkpointer.save("model_0000002", iteration=2)
    again = Run(tmp_path)
    again.checkpointer.resume_or_load("")
    assert again.values == (4.0, 3.0)
    again.learn(8.0)
    assert again.values == (8.0, 5.5)  # 3, 8: the mean goes on, it does not begin again
    assert "averaged" not in again.checkpointer.resume_or_load("").extra


def test_averaging_turned_on_and_off_is_told(tmp_path, log):
    without = Run(tmp_path, averaged=False)
    without.checkpointer.save("model_0000001", iteration=1)
    Run(tmp_path).checkpointer.resume_or_load("")
    assert "model_0000001.pth holds no averaged weights: they begin here." in log.text
    Run(tmp_path).checkpointer.save("model_0000002", iteration=2)
    without.checkpointer.resume_or_load("")
    assert "holds averaged weights, which this run does not go on with (SOLVER.EMA_DECAY is off)." in log.text


def test_averaged_weights_are_tested_and_started_from(tmp_path, log):
    run = Run(tmp_path / "")
    run.learn(2.0, 4.0)
    path = run.checkpointer.save("model_0000002", iteration=2)
    tested = nn.Linear(2, 2)
    Checkpointer(tmp_path, tested).load_for_test(command_line="", config="")
    assert tested.weight[0, 0].item() == 3.0
    assert f"Of {path} the averaged weights are taken" in log.text
    new = Run(tmp_path / "new")
    assert new.checkpointer.resume_or_load(str(path), transfer=True).iteration == 0
    assert new.values == (3.0, 3.0)
    resumed = Run(tmp_path / "new")
    assert resumed.checkpointer.resume_or_load(str(path)).iteration == 2
    assert resumed.values == (4.0, 3.0)


def test_a_loss_scale_is_resumed(tmp_path):
    first, second = (torch.amp.GradScaler("cpu", init_scale=scale) for scale in (2.0**7, 2.0**3))
    Run(tmp_path, averaged=False).checkpointer.save("model_0000001", iteration=1)
    for scaler, save in ((first, True), (second, False)):
        model = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        checkpointer = Checkpointer(tmp_path, model, optimizer=optimizer, parts={"gradient_scaler": scaler})
        scaler.scale(torch.ones(1))  # it makes its scale when it is first used
        if save:
            checkpointer.save("model_0000002", iteration=2)
        else:
            checkpointer.resume_or_load("")
    assert second.get_scale() == 2.0**7


def test_parts_that_do_not_fit(tmp_path):
    path = Run(tmp_path).checkpointer.save("model_0000001", iteration=1)
    content = torch.load(path)  # not mapped: the file is written over
    torch.save(content | {"averaged_model": {"module.weight": torch.zeros(3)}}, path)
    with pytest.raises(CheckpointError, match="its averaged weights cannot be continued .* Go on without"):
        Run(tmp_path).checkpointer.resume_or_load("")
    with pytest.raises(ValueError, match="parts: got memory, expected averaged_model or gradient_scaler"):
        Checkpointer(tmp_path, nn.Linear(2, 2), parts={"memory": nn.Linear(2, 2)})


def test_weights_to_keep(tmp_path, log):
    run = Run(tmp_path, class_names=["sit", "fly"])
    run.learn(2.0, 4.0)
    run.checkpointer.save("model_0000002", iteration=2)
    run.learn(8.0)
    path = run.checkpointer.save_weights("model_best", iteration=3)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000002.pth"
    assert read_checkpoint(path).keys() == {
        "model",
        "averaged_model",
        "iteration",
        "best",
        "config",
        "classes",
        "version",
    }
    tested = nn.Linear(2, 2)
    state = Checkpointer("", tested).load_for_test(command_line=str(path), config="")
    assert tested.weight[0, 0].item() == 5.5 and state.iteration == 3
    assert Run(tmp_path / "new").checkpointer.resume_or_load(str(path)).iteration == 0


@pytest.mark.parametrize("keep", [1, 2])
def test_the_latest_checkpoints_are_kept(tmp_path, keep):
    run = Run(tmp_path, keep=keep)
    run.checkpointer.save_weights("model_best", iteration=1)
    (tmp_path / "model_0000009.pth").write_bytes(b"of another run")
    for iteration in (1, 2, 3, 10):
        if iteration == 10:
            run.checkpointer.save("model_final", iteration=3)
        run.checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
        left = sorted(path.name for path in tmp_path.glob("model_0*"))
    assert left == ["model_0000009.pth", "model_0000010.pth"][2 - keep :]
    assert (tmp_path / "model_best.pth").is_file() and (tmp_path / "model_final.pth").is_file()


def test_later_checkpoints_are_of_another_run_and_stay(tmp_path):
    (tmp_path / "model_0000900.pth").write_bytes(b"of another run")
    run = Run(tmp_path, keep=1)
    for iteration in (1, 2):
        run.checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
    assert sorted(path.name for path in tmp_path.glob("model_0*")) == ["model_0000002.pth", "model_0000900.pth"]


def test_nothing_is_deleted_before_the_new_one_is_safe(tmp_path, monkeypatch):
    run = Run(tmp_path, keep=1)
    run.checkpointer.save("model_0000001", iteration=1)

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    for place in ("alphaction.checkpoint.writing.torch.save", "alphaction.checkpoint.last_checkpoint.write"):
        with monkeypatch.context() as patched, pytest.raises(CheckpointError, match="No space left on device"):
            patched.setattr(place, full)
            run.checkpointer.save("model_0000002", iteration=2)
        assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"
        assert read_checkpoint(tmp_path / "model_0000001.pth", verify=True)["iteration"] == 1


def test_a_checkpoint_that_cannot_be_deleted_is_warned_of(tmp_path, monkeypatch, log):
    run = Run(tmp_path, keep=1)
    run.checkpointer.save("model_0000001", iteration=1)

    def refused(path, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.unlink", refused)
    run.checkpointer.save("model_0000002", iteration=2)
    assert "model_0000001.pth could not be deleted (Permission denied)." in log.text


FACTS = {"clips": 100, "videos_per_batch": 8, "seed": 2, "processes": 2}


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({}, ""),
        ({"clips": 90}, "training clips 90 (saved: 100)"),
        ({"videos_per_batch": 4, "seed": 3}, "SOLVER.VIDEOS_PER_BATCH 4 (saved: 8), --seed 3 (saved: 2)"),
        ({"processes": 1}, "processes 1 (saved: 2)"),
    ],
)
def test_other_data_than_in_the_interrupted_run(tmp_path, log, changed, text):
    Run(tmp_path, facts=FACTS).checkpointer.save("model_0000001", iteration=1)
    Run(tmp_path, facts=FACTS | changed).checkpointer.resume_or_load("")
    told = re.findall(r"was another one in this: (.*)\. It goes on soundly, but", log.text)
    assert told == [text] * bool(text)


def test_a_file_that_does_not_say_is_not_judged(tmp_path, log):
    Run(tmp_path).checkpointer.save("model_0000001", iteration=1)
    Run(tmp_path, facts=FACTS).checkpointer.resume_or_load("")
    assert "another one" not in log.text


def test_random_states_of_all_processes_are_in_the_file(tmp_path):
    path = Run(tmp_path, processes=Pretended(rank=0, size=3)).checkpointer.save("model_0000001", iteration=1)
    assert len(read_checkpoint(path)["random_states"]) == 3
    os.remove(path)
    Run(tmp_path, processes=Pretended(rank=1, size=3)).checkpointer.save("model_0000001", iteration=1)
    assert not path.exists()
