"""In which order a test does its work."""

import logging
from dataclasses import replace

import pytest
import torch
from step_kit import batch_of
from torch import nn

from alphaction.engine import predict
from alphaction.engine.predict import _batches, _begun_features, _evaluating, _one_late
from alphaction.layers import Conv3d
from alphaction.structures import RoiFeatures


def test_a_batch_is_finished_when_the_next_one_has_been_started():
    done = []

    def begun():
        for number in range(4):
            done.append(f"start {number}")
            yield None if number == 1 else lambda number=number: done.append(f"finish {number}") or number

    assert list(_one_late(begun())) == [0, 2, 3]
    order = ["start 0", "start 1", "finish 0", "start 2", "start 3", "finish 2", "finish 3"]
    assert done == order
    assert list(_one_late(iter(()))) == []


def test_a_batch_that_fails_ends_the_pass():
    def fails():
        raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        list(_one_late([fails, lambda: 1]))


def test_the_log_says_how_much_was_waiting(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("alphaction"), "propagate", True)
    caplog.set_level(logging.INFO, logger="alphaction")
    clock = iter([0.0, 0.0, 1.0, 3.0, 4.0, 8.0, 8.0, 10.0])  # begin, three times asked and got, end
    monkeypatch.setattr("alphaction.engine.predict.time.perf_counter", lambda: next(clock))
    assert list(_batches(["a", "b"], "features", shown=True, should_stop=None)) == ["a", "b"]
    assert "features: 2 batches in 10.0 s, 20 % of it waiting for data" in caplog.text


def test_a_test_leaves_modes_and_memory_as_they_were():
    model = nn.Sequential(Conv3d(2, 3, 1), nn.Sequential(nn.Dropout(), nn.ReLU()))
    model[1].eval()
    modes = [module.training for module in model.modules()]
    with _evaluating(model), torch.inference_mode():
        assert not any(module.training for module in model.modules())
        model(torch.rand(1, 2, 1, 4, 4))
        assert model[0]._ready._kept is not None
    assert [module.training for module in model.modules()] == modes
    assert model[0]._ready._kept is None


def test_all_that_waits_for_the_second_pass_is_copied_to_main_memory(monkeypatch):
    copies = []

    def copying(x):
        copies.append(x.clone())
        return lambda copy=copies[-1]: copy

    monkeypatch.setattr(predict, "_copying", copying)
    batch = replace(batch_of(0, (2, 1)), person_scores=torch.tensor([0.9, 0.8, 0.7]))
    seen = _begun_features(batch, RoiFeatures(torch.rand(3, 4), [2, 1], None, None))()
    kept = [seen.features.person, *(boxes.xyxy for boxes in seen.batch.persons), seen.batch.person_scores]
    assert all(any(one is copy for copy in copies) for one in kept) and len(kept) == len(copies)
    assert [len(boxes) for boxes in seen.batch.persons] == [2, 1] and seen.batch.keys == batch.keys
    for ours, given in zip(seen.batch.persons, batch.persons, strict=True):
        assert torch.equal(ours.xyxy, given.xyxy) and ours.size == given.size
    assert not seen.batch.regions and seen.batch.slow is None and seen.batch.objects is None


def test_what_waits_for_the_second_pass_holds_no_memory_of_a_reading_process():
    """That is an open file for each batch, and a pass has more batches than a process may open files."""
    batch = replace(batch_of(0, (2, 1)), person_scores=torch.tensor([0.9, 0.8, 0.7]))
    batch = replace(batch, annotated=batch.persons)
    kept = _begun_features(batch, RoiFeatures(torch.rand(3, 4), [2, 1], None, None))().batch
    places = {boxes.xyxy.untyped_storage().data_ptr() for boxes in batch.persons}
    places.add(batch.person_scores.untyped_storage().data_ptr())
    assert not places & {boxes.xyxy.untyped_storage().data_ptr() for boxes in kept.persons}
    assert kept.person_scores.untyped_storage().data_ptr() not in places
    assert kept.labels is None and kept.annotated is None
