"""How a run ends: at its last iteration, early, or because it is asked to. Everything around it is a stand-in."""

import logging
import signal

import pytest
from torch import nn

from alphaction.engine.best import BEST_MEAN, BestValidation
from alphaction.engine.milestones import VALIDATED, Milestones, Periods
from alphaction.utils.stop import Interrupted, StopRequest


class Run:
    """Ten iterations with stand-ins; `events` says what was asked for, `scores` what the validations find."""

    def __init__(self, *, checkpoint=4, validation=2, scores=(), patience=0, validates=True, **options):
        self.events, self.extra = [], {}
        self.scores = dict(scores)
        self.stop = StopRequest()
        self.best = BestValidation(patience=patience)
        self.milestones = Milestones(
            nn.Identity(),
            self,
            self.validate if validates else None,
            periods=Periods(10, checkpoint=checkpoint, validation=validation),
            validated=options.pop("validated", 0),
            memory=None,
            best=self.best,
            stop=self.stop,
            **options,
        )

    def save(self, name, *, iteration, extra):
        self.events.append(f"{name} at {iteration}")
        self.extra = dict(extra)

    def save_weights(self, name, *, iteration):
        self.events.append(f"{name} at {iteration}")

    def current_random_state(self):
        return {"drawn": len(self.events)}

    def set_random_state(self, state):
        self.events.append("random state from before")

    def validate(self, iteration):
        self.events.append(f"validate {iteration}")
        score = self.scores.get(iteration, 0.0)
        if score == "asked":
            self.ask()
            raise Interrupted("asked to stop during the test", signal=self.stop.number)
        return {"set": score}

    def ask(self, number=signal.SIGTERM):
        self.stop._number = number

    def __call__(self, start=0, *, ask_at=None):
        """The last iteration."""
        iteration = start
        if not self.milestones.resume(start):
            return iteration
        for iteration in range(start + 1, 11):
            if iteration == ask_at:
                self.ask()
            if not self.milestones.reached(iteration):
                break
        return iteration


@pytest.fixture
def log(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("alphaction"), "propagate", True)
    caplog.set_level(logging.INFO, logger="alphaction")
    return caplog


def test_asked_to_stop_saves_this_iteration():
    run = Run(validation=0)
    with pytest.raises(Interrupted) as stopped:
        run(ask_at=3)
    assert run.events == ["model_0000003 at 3"]
    assert stopped.value.signal == signal.SIGTERM
    assert str(stopped.value) == (
        "SIGTERM: stopped after iteration 3 of 10, of which model_0000003.pth holds everything. "
        "The same command goes on from there."
    )


def test_a_checkpoint_that_is_there_is_not_written_twice():
    run = Run(validation=0)
    with pytest.raises(Interrupted):
        run(ask_at=4)
    assert run.events == ["model_0000004 at 4"]


def test_asked_before_a_validation_it_is_not_begun():
    run = Run()
    with pytest.raises(Interrupted):
        run(ask_at=2)
    assert run.events == ["model_0000002 at 2"] and run.extra[VALIDATED] == 0
    again = Run(validated=run.extra[VALIDATED])
    again(start=2)
    assert again.events[0] == "validate 2"


@pytest.mark.parametrize(("at", "events"), [(2, ["model_0000002 at 2"]), (4, [])])
def test_asked_during_a_validation(at, events):
    run = Run(scores={at: "asked"})
    with pytest.raises(Interrupted, match=rf"stopped after iteration {at} .* then makes up for the validation"):
        run()
    after = run.events[run.events.index(f"validate {at}") + 1 :]
    assert after == ["random state from before", *events]
    assert run.extra[VALIDATED] < at


def test_asked_during_a_validation_that_is_made_up_for():
    run = Run(scores={4: "asked"})  # resumed from another folder, or from model_final.pth of a shorter run
    with pytest.raises(Interrupted, match=r"of which model_0000004\.pth holds everything"):
        run(start=4)
    assert run.events == ["validate 4", "random state from before", "model_0000004 at 4"]


def test_asked_at_the_last_iteration_training_is_complete():
    run = Run(validation=0)
    assert run(ask_at=10) == 10
    assert run.events[-1] == "model_final at 10"


def test_the_best_validation_is_kept():
    run = Run(scores={2: 0.1, 4: 0.3, 6: 0.2, 8: 0.3}, keep_best=True)
    assert run() == 10
    assert [event for event in run.events if "best" in event] == ["model_best at 2", "model_best at 4"]
    # The weights first: a run killed before its checkpoint validates again and writes the same file.
    at = run.events.index("model_best at 4")
    assert run.events[at - 2 : at + 2] == ["model_0000004 at 4", "validate 4", "model_best at 4", "model_0000004 at 4"]


def test_patience_at_its_end_finishes_the_run(log):
    run = Run(scores={2: 0.3, 4: 0.2, 6: 0.25, 8: 0.9}, patience=2)
    assert run() == 6
    assert run.events[-2:] == ["validate 6", "model_final at 6"]
    assert (
        "Training ends early, at iteration 6 of 10: no validation was better than mean mAP 0.3000 at iteration 2, "
        "2 validations ago (SOLVER.EARLY_STOP_PATIENCE; 0 trains to the end)." in log.text
    )


def test_a_run_killed_on_the_way_ends_early_at_the_same_iteration():
    scores = {2: 0.3, 4: 0.2, 6: 0.25, 8: 0.9}
    whole = Run(scores=scores, patience=2)
    whole()
    for kill in range(2, 6):
        first = Run(checkpoint=1, scores=scores, patience=2)
        for iteration in range(1, kill + 1):
            first.milestones.reached(iteration)
        second = Run(checkpoint=1, scores=scores, patience=2, validated=first.extra[VALIDATED])
        second.best.load(first.extra)
        assert second(start=kill) == 6
        assert second.events[-1] == "model_final at 6"
        assert second.extra[BEST_MEAN] == whole.extra[BEST_MEAN]


@pytest.mark.parametrize("written", [True, False])
def test_a_run_that_ended_early_is_complete(written, log):
    """Killed before `model_final.pth` was written, or started once more after its end."""
    run = Run(patience=1, final_is_written=written, validated=4)
    run.best.load({BEST_MEAN: {"mAP": 0.3, "iteration": 2, "since": 1}})
    assert run(start=4) == 4
    assert run.events == ([] if written else ["model_final at 4"])
    assert "Training ends early" in log.text


def test_more_patience_goes_on():
    run = Run(patience=3, final_is_written=True, validated=4)
    run.best.load({BEST_MEAN: {"mAP": 0.3, "iteration": 2, "since": 1}})
    assert run(start=4) == 8


@pytest.mark.parametrize("options", [{"validates": False}, {"validation": 0}, {"validation": 10}])
@pytest.mark.parametrize("keys", [{"patience": 2}, {"keep_best": True}])
def test_keys_that_need_validations_without_any_are_warned_of(options, keys, log):
    Run(**options, **keys)()
    [record] = [record for record in log.records if record.levelno == logging.WARNING]
    assert ("SOLVER.EARLY_STOP_PATIENCE" if "patience" in keys else "SOLVER.KEEP_BEST") in record.getMessage()
    assert "without any validation" in record.getMessage()
