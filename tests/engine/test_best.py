import logging
import math

from alphaction.engine.best import BEST_MEAN, BestValidation

NAN = float("nan")


def test_the_mean_over_the_data_sets_decides():
    best = BestValidation(patience=2)
    assert not best.is_known
    assert best.note({"a": 0.2, "b": 0.6}, iteration=10)
    assert not best.note({"a": 0.5, "b": 0.2}, iteration=20) and not best.is_exhausted
    assert not best.note({"a": 0.4, "b": 0.4}, iteration=30)  # as good is not better
    assert best.is_exhausted
    assert best.describe() == "mean mAP 0.4000 at iteration 10, 2 validations ago"


def test_data_sets_without_ground_truth_do_not_count():
    best = BestValidation(patience=1)
    assert not best.note({"a": NAN}, iteration=1)
    assert not best.is_known and not best.is_exhausted
    assert best.note({"a": NAN, "b": 0.1}, iteration=2)
    assert not best.note({"a": NAN}, iteration=3) and not best.is_exhausted


def test_a_resumed_run_goes_on_counting():
    first = BestValidation(patience=2)
    first.note({"a": 0.5}, iteration=1)
    first.note({"a": 0.4}, iteration=2)
    second = BestValidation(patience=2)
    second.load({BEST_MEAN: first.state_dict()})
    assert not second.is_exhausted
    second.note({"a": 0.45}, iteration=3)
    assert second.is_exhausted
    second.load({})  # an older file says nothing
    assert second.is_exhausted


def test_patience_0_never_ends():
    best = BestValidation()
    for iteration in range(1, 50):
        best.note({"a": 0.5}, iteration=iteration)
    assert not best.is_exhausted and math.isclose(best.state_dict()["mAP"], 0.5)


def test_validations_on_other_data_sets_are_not_compared(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("alphaction"), "propagate", True)
    first = BestValidation(patience=1)
    first.note({"easy": 0.9, "empty": NAN}, iteration=1)
    second = BestValidation(patience=1)
    second.load({BEST_MEAN: first.state_dict()})
    assert second.note({"hard": 0.2, "easy": 0.6}, iteration=2) and not second.is_exhausted
    assert "Validated on easy, hard, but before on easy: the best validation so far does not count" in caplog.text
    assert not second.note({"easy": 0.6, "hard": 0.2}, iteration=3)
    assert second.describe() == "mean mAP 0.4000 at iteration 2, 1 validation ago"
    assert len(caplog.records) == 1
