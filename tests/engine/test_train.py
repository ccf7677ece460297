"""The training loop, driven with stand-ins for everything around it."""

import json
import logging
import types

import pytest
import torch
from torch import nn

from alphaction.engine.milestones import VALIDATED, Milestones, Periods
from alphaction.engine.progress import Progress
from alphaction.engine.scalars import ScalarLog
from alphaction.engine.step import TrainingError, TrainStep
from alphaction.engine.train import TrainOptions, train
from alphaction.structures import ClipKey

pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # first batch empty
CPU = torch.device("cpu")


class Batch:
    """As much of a ClipBatch as the loop looks at; the value is what the model is fed with."""

    def __init__(self, value, persons=2):
        self.value = value
        self.num_persons = persons
        self.labels = torch.zeros(persons, 1)
        self.keys = (ClipKey("park", 2.5), ClipKey("street", 7.0))

    def __len__(self):
        return len(self.keys)

    def to(self, device, *, non_blocking):
        return self


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.seen = []

    def forward(self, batch):
        assert self.training
        self.seen.append(batch.value)
        return types.SimpleNamespace(logits=self.weight * batch.value)


class Events(list):
    """What the loop asked for, in order; also a checkpointer and a writer."""

    def save(self, name, *, iteration, extra):
        self.append(f"save {name} ({extra[VALIDATED]})")

    def save_weights(self, name, *, iteration):
        self.append(f"save weights {name}")

    def current_random_state(self):
        return {}

    def set_random_state(self, state):
        self.append("set random state")

    def write(self, scalars, iteration):
        self.append((iteration, scalars))

    def validate(self, iteration):
        self.append(f"validate {iteration}")
        return {"set": 0.5}

    @property
    def names(self):
        return [event for event in self if isinstance(event, str)]

    @property
    def written(self):
        return [event for event in self if not isinstance(event, str)]


def criterion(logits, labels, num_boxes):
    assert num_boxes == len(labels)
    return types.SimpleNamespace(
        losses={"loss_pose_action": logits / 4, "loss_object_interaction": logits / 2},
        total=logits,
        metrics={"accuracy_pose_action": torch.tensor(0.5), "accuracy_object_interaction": torch.tensor(1.0)},
        counted={},
    )


class Run:
    def __init__(self):
        self.model = Model()
        self.events = Events()
        self.options = {}
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [2])

    def __call__(self, batches, *, validate=True, start_iter=0, validated=0, writer=None, **periods):
        periods = {"checkpoint_period": 100, "eval_period": 100, "log_period": 100} | periods
        max_iter = start_iter + len(batches)
        extra = {name: periods[name] for name in ("max_empty_batches",) if name in periods}
        train(
            self.model,
            TrainStep(self.model, criterion, self.optimizer, device=CPU),
            batches,
            self.optimizer,
            self.scheduler,
            milestones=Milestones(
                self.model,
                self.events,
                self.events.validate if validate else None,
                periods=Periods(max_iter, checkpoint=periods["checkpoint_period"], validation=periods["eval_period"]),
                validated=validated,
                memory=None,
                **self.options,
            ),
            progress=Progress(writer or self.events, max_iter=max_iter, period=periods["log_period"], device=CPU),
            options=TrainOptions(max_iter=max_iter, **extra),
            start_iter=start_iter,
        )
        return self.events


@pytest.fixture
def run():
    return Run()


@pytest.fixture
def log(caplog, monkeypatch):
    """The package's log lines, whatever an earlier test did to its logger."""
    monkeypatch.setattr(logging.getLogger("alphaction"), "propagate", True)
    caplog.set_level(logging.INFO, logger="alphaction")
    return caplog


def batches(count):
    return [Batch(1.0) for _ in range(count)]


def test_checkpoints_and_validations_come_at_their_periods(run):
    events = run(batches(7), checkpoint_period=3, eval_period=2)
    assert events.names == [
        "validate 2",
        "save model_0000003 (2)",
        "validate 4",
        "save model_0000006 (4)",
        "validate 6",
        "save model_0000006 (6)",  # once more, now with the validation's result
        "save model_final (6)",
    ]


def test_the_last_iteration_is_saved_twice_and_left_to_the_final_test(run):
    assert run(batches(2), checkpoint_period=2, eval_period=2).names == [
        "save model_0000002 (0)",
        "save model_final (0)",
    ]


def test_names_of_checkpoints_have_seven_digits(run):
    assert run(batches(1), start_iter=99, checkpoint_period=100).names[0] == "save model_0000100 (0)"


@pytest.mark.parametrize("how", [{"validate": False, "eval_period": 1}, {"eval_period": 0}])
def test_no_validation_when_it_is_switched_off(run, how):
    assert run(batches(3), **how).names == ["save model_final (0)"]


def test_a_resumed_run_makes_up_for_the_validation_that_was_cut_off(run, log):
    assert run(batches(1), start_iter=4, eval_period=2).names[0] == "validate 4"
    assert "Validation at iteration 4, which has not been made yet" in log.text


@pytest.mark.parametrize("at", [{"start_iter": 4, "validated": 4}, {"start_iter": 3}, {"start_iter": 0}])
def test_a_resumed_run_repeats_no_other_validation(run, at):
    assert run(batches(1), eval_period=2, **at).names == [f"save model_final ({at.get('validated', 0)})"]


def test_a_resumed_run_counts_on(run):
    events = run(batches(2), start_iter=5, log_period=1)
    assert [iteration for iteration, _ in events.written] == [6, 7]


@pytest.mark.parametrize("written", [True, False])
def test_nothing_left_to_train_writes_at_most_the_final_checkpoint(run, log, written):
    """A run that was killed between its last periodic checkpoint and the final one makes up for that."""
    run.options = {"final_is_written": written}
    assert run([], start_iter=4, eval_period=2) == ([] if written else ["save model_final (0)"])
    assert "Nothing left to train: iteration 4 of 4 is done." in log.text


def test_every_batch_is_one_step_with_its_learning_rate(run):
    events = run([Batch(1.0), Batch(2.0), Batch(4.0)], log_period=1)
    assert run.model.seen == [1.0, 2.0, 4.0]
    # The gradient is the batch's value, the rate falls to a tenth after two steps.
    assert run.model.weight.item() == pytest.approx(1 - 0.1 * 1 - 0.1 * 2 - 0.01 * 4)
    assert [scalars["learning_rate"] for _, scalars in events.written] == pytest.approx([0.1, 0.1, 0.01])


def test_logged_figures_have_the_guides_names(run):
    [(iteration, scalars)] = run([Batch(2.0)]).written
    assert iteration == 1
    assert scalars.keys() == {
        "loss_action",
        "loss_pose_action",
        "loss_object_interaction",
        "accuracy",
        "accuracy_pose_action",
        "accuracy_object_interaction",
        "learning_rate",
        "time",
        "data_time",
        "host_memory_mib",
    }
    assert (scalars["loss_action"], scalars["loss_pose_action"], scalars["accuracy"]) == (2.0, 0.5, 0.75)


def test_log_line(run, log):
    run(batches(4), log_period=2)
    lines = [record.getMessage() for record in log.records if record.getMessage().startswith("iteration")]
    assert [line.split("  ")[0] for line in lines] == ["iteration 2/4", "iteration 4/4"]
    for word in ("eta 0:00:00", "loss_action 0.", "accuracy 0.7500", "lr 0.01", " s/it", "data wait "):
        assert word in lines[1]
    assert "GPU" not in lines[1]


def test_the_last_iteration_is_logged_whatever_the_period(run):
    assert [iteration for iteration, _ in run(batches(5), log_period=3).written] == [3, 5]


def test_empty_batches_are_counted_but_not_trained_on(run):
    run([Batch(1.0), None, Batch(1.0, persons=0), Batch(1.0)], checkpoint_period=2)
    assert run.model.seen == [1.0, 1.0]
    assert run.events.names == ["save model_0000002 (0)", "save model_0000004 (0)", "save model_final (0)"]


def test_a_run_of_only_empty_batches_can_still_log(run):
    [(_, scalars)] = run([None, None]).written
    assert scalars.keys() == {"learning_rate", "time", "data_time", "empty_batches", "host_memory_mib"}
    assert scalars["empty_batches"] == 2


def test_too_many_empty_batches_in_a_row_end_the_run(run):
    run([None, None, Batch(1.0), None, None, Batch(1.0)], max_empty_batches=3)
    with pytest.raises(TrainingError, match=r"3 batches in a row \(up to iteration 4\) held no readable clip"):
        Run()([Batch(1.0), None, None, None], max_empty_batches=3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_the_clips_and_changes_nothing(run, value):
    with pytest.raises(TrainingError) as caught:
        run([Batch(1.0), Batch(value)], checkpoint_period=1)
    text = str(caught.value)
    assert f"the loss is {value} in iteration 2 (loss_pose_action {value}, " in text
    assert "clips of this batch: park at 2.5 s, street at 7 s" in text
    assert "SOLVER.BASE_LR" in text
    assert run.events.names == ["save model_0000001 (0)"]
    assert run.model.weight.item() == pytest.approx(0.9)


def test_the_model_trains_on_after_a_validation(run):
    run.events.validate = lambda iteration: run.model.eval() and {"set": 0.0}
    run(batches(3), eval_period=1)  # the model itself checks its mode
    assert len(run.model.seen) == 3


def test_scalars_become_one_json_line_per_call(run, tmp_path):
    writer = ScalarLog(tmp_path, tensorboard=False)
    run(batches(3), log_period=1, writer=writer)
    writer.write({"val_mAP_0.5IOU": float("nan")}, 3)
    writer.close()
    again = ScalarLog(tmp_path, tensorboard=False)  # a resumed run adds to the file
    again.write({"loss_action": 1.5}, 4)
    again.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2, 3, 3, 4]
    assert lines[0]["loss_action"] == 1.0
    assert lines[3] == {"iteration": 3, "val_mAP_0.5IOU": None}  # NaN is no JSON
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_line_that_a_killed_run_left_unfinished_is_cut_off(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"iteration": 1}\n{"iterat')
    writer = ScalarLog(tmp_path, tensorboard=False)
    writer.write({"loss_action": 2.0}, 2)
    writer.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"iteration": 1}\n{"iteration": 2, "loss_action": 2.0}\n'


def test_tensorboard_forgets_iterations_that_a_resumed_run_repeats(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    first = ScalarLog(tmp_path, tensorboard=True)
    for iteration in (1, 2, 3):
        first.write({"loss_action": 1.0}, iteration)
    first.close()
    (first_file,) = tmp_path.glob("events*")
    first_file.rename(tmp_path / "events.out.tfevents.1.first")  # names hold the second: both files may be of the same
    again = ScalarLog(tmp_path, tensorboard=True, start_iter=2)
    again.write({"loss_action": 5.0}, 3)
    again.close()
    events = reader.EventAccumulator(str(tmp_path)).Reload().Scalars("loss_action")
    assert [(event.step, event.value) for event in events] == [(1, 1.0), (2, 1.0), (3, 5.0)]
