"""Joining samples to a batch: recorded padding, order, what is missing; normalisation of the padded batch."""

from __future__ import annotations

from dataclasses import replace

import goldens
import pytest
import torch

from alphaction.dataset.collate import collate, pad_clips
from alphaction.structures.annotations import ClipKey
from alphaction.structures.batch import ClipSample, normalize_clips
from alphaction.structures.boxes import Boxes

META, ARRAYS = goldens.load("collate")


@pytest.mark.parametrize("name", META["cases"])
def test_recorded_padding(name: str) -> None:
    case = META["cases"][name]
    clips = [torch.from_numpy(goldens.fill.bell(i["name"], i["shape"], i["salt"])) for i in case["inputs"]]
    report = goldens.parity.Report("collate")
    report.close(name, pad_clips(clips, size_divisibility=case["size_divisible"]), ARRAYS[f"{name}/out/batch"])
    report.finish()


def sample(index: int, *, size: tuple[int, int] = (20, 30), persons: int = 2, **changes: object) -> ClipSample:
    boxes = Boxes(torch.arange(persons * 4, dtype=torch.float32).reshape(persons, 4) + index, size)
    made = ClipSample(
        slow=torch.full((3, 2, *size), 10 * index + 1, dtype=torch.uint8),
        fast=torch.full((3, 8, *size), 10 * index + 2, dtype=torch.uint8),
        persons=boxes,
        regions=boxes.extend((0.1, 0.1)),
        labels=torch.ones(persons, 5, dtype=torch.bool),
        person_scores=None,
        objects=None,
        key=ClipKey(f"m{index}", float(index)),
        index=100 + index,
    )
    return replace(made, **changes)


def test_batch_keeps_the_order_and_says_the_sizes() -> None:
    batch = collate([sample(0), sample(1, size=(24, 17), persons=0), sample(2, persons=3)], 16)
    assert batch.slow.shape == (3, 3, 2, 32, 32)
    assert batch.fast.shape == (3, 3, 8, 32, 32)
    assert batch.slow.dtype == torch.uint8
    assert batch.sizes == [(20, 30), (24, 17), (20, 30)]
    assert batch.keys == [("m0", 0.0), ("m1", 1.0), ("m2", 2.0)]
    assert batch.indices == [100, 101, 102]
    assert [len(boxes) for boxes in batch.persons] == [2, 0, 3]
    assert batch.num_persons == 5
    assert batch.labels.shape == (5, 5)
    assert batch.person_scores is None
    assert batch.objects is None
    assert (batch.fast[1, :, :, :24, :17] == 12).all()
    assert (batch.fast[1, :, :, 24:] == 0).all()
    assert (batch.fast[1, :, :, :, 17:] == 0).all()


def test_recorded_shapes_of_the_tuple() -> None:
    """Clips of the recorded tuple's batch: what the original padded to, ours pads to."""
    recorded = META["tuple"]
    _, _, frames, height, width = recorded["slow_shape"]
    fast_frames = recorded["fast_shape"][2]
    parts = [
        sample(
            i,
            size=(height - i, width),
            slow=torch.zeros(3, frames, height - i, width, dtype=torch.uint8),
            fast=torch.zeros(3, fast_frames, height - i, width, dtype=torch.uint8),
        )
        for i in range(len(recorded["ids"]))
    ]
    batch = collate(parts, 16)
    assert list(batch.slow.shape) == recorded["slow_shape"]
    assert list(batch.fast.shape) == recorded["fast_shape"]


def test_unreadable_samples_are_left_out() -> None:
    assert collate([None, None]) is None
    assert collate([]) is None
    batch = collate([None, sample(4), None])
    assert len(batch) == 1
    assert batch.indices == [104]
    assert batch.slow.shape == (1, 3, 2, 20, 30)


def test_objects_and_scores_of_mixed_sets() -> None:
    objects = Boxes(torch.ones(3, 4), (20, 30))
    batch = collate([sample(0, objects=objects), sample(1, person_scores=torch.tensor([0.5, 0.25]))])
    assert [len(boxes) for boxes in batch.objects] == [3, 0]
    assert batch.objects[1].size == (20, 30)
    assert batch.person_scores.tolist() == [1.0, 1.0, 0.5, 0.25]


def test_single_pathway() -> None:
    batch = collate([sample(0, slow=None), sample(1, slow=None)], 16)
    assert batch.slow is None
    assert batch.fast.shape == (2, 3, 8, 32, 32)
    assert batch.sizes == [(20, 30)] * 2


def test_samples_that_do_not_go_together() -> None:
    with pytest.raises(ValueError, match=r"labels: missing in \[ClipKey\(movie='m1'"):
        collate([sample(0), sample(1, labels=None)])
    with pytest.raises(ValueError, match="slow: missing in"):
        collate([sample(0), sample(1, slow=None)])
    with pytest.raises(ValueError, match="got no clip"):
        collate([sample(0, slow=None, fast=None)])
    with pytest.raises(ValueError, match="clips: got none"):
        pad_clips([])
    with pytest.raises(ValueError, match="of one C"):
        pad_clips([torch.zeros(3, 2, 4, 4), torch.zeros(1, 2, 4, 4)])


def test_normalised_padding_is_zero() -> None:
    mean, std = torch.tensor([100.0, 110.0, 120.0]), torch.tensor([50.0, 60.0, 70.0])
    batch = collate([sample(1), sample(2, size=(24, 17))], 16)
    before = batch.fast.clone()
    out = normalize_clips(batch.fast, batch.sizes, mean, std)
    assert out.dtype == torch.float32
    assert torch.equal(batch.fast, before)
    assert torch.allclose(out[0, :, 0, 0, 0], (12 - mean) / std)
    for clip, (height, width) in zip(out, batch.sizes, strict=True):
        assert (clip[:, :, :height, :width] != 0).all()
        assert (clip[:, :, height:] == 0).all()
        assert (clip[:, :, :, width:] == 0).all()
    twice = normalize_clips(out, batch.sizes, mean, std)
    assert twice.data_ptr() != out.data_ptr()
    with pytest.raises(ValueError, match="got 1, expected one for each of 2 clips"):
        normalize_clips(batch.fast, batch.sizes[:1], mean, std)


def test_the_boxes_of_a_batch_are_one_tensor() -> None:
    """What a reading process sends takes an open file per tensor, however many clips there are."""
    things = Boxes(torch.rand(3, 4), (20, 30))
    samples = [sample(0, objects=things), sample(1, persons=0), sample(2, persons=3, annotated=things)]
    batch = collate(samples)
    kinds = [batch.persons, batch.regions, batch.objects, batch.annotated]
    assert len({boxes.xyxy.untyped_storage().data_ptr() for kind in kinds for boxes in kind}) == 1
    for kind, name in ((batch.persons, "persons"), (batch.regions, "regions")):
        for ours, given in zip(kind, samples, strict=True):
            assert torch.equal(ours.xyxy, getattr(given, name).xyxy) and ours.size == given.size
    assert torch.equal(batch.objects[0].xyxy, things.xyxy) and [len(boxes) for boxes in batch.objects] == [3, 0, 0]
    assert torch.equal(batch.annotated[2].xyxy, things.xyxy) and batch.annotated[0] is batch.persons[0]
