"""A large data set in reading processes: shared arrays, no Python object per box, the same samples."""

from __future__ import annotations

import gc
import io
import multiprocessing
import pathlib
import pickle
from dataclasses import fields
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from videos import write_video

from alphaction.dataset import sharing
from alphaction.dataset.collate import collate
from alphaction.dataset.sharing import share_datasets
from alphaction.structures import Annotations, PackedBoxes

BENCHMARKS = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"
KEYFRAMES = 20_000


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """20,000 keyframes with 40,000 persons in one video."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        from loader_start import large_dataset

    video = write_video(tmp_path_factory.mktemp("large") / "v.mp4", 50)
    share_datasets()
    return large_dataset(KEYFRAMES, str(video))


def arrays(dataset):
    yield "keyframes", dataset.keyframes
    for packed in (dataset.annotations, dataset.annotations.boxes):
        for field in fields(packed):
            if isinstance(getattr(packed, field.name), np.ndarray):
                yield field.name, getattr(packed, field.name)


def sent(dataset) -> bytes:
    out = io.BytesIO()
    ForkingPickler(out).dump(dataset)
    return out.getvalue()


def test_no_python_object_per_box(large):
    """Sixteen times the boxes make no more objects."""
    from loader_start import large_dataset

    def objects(keyframes):
        gc.collect()
        before = len(gc.get_objects())
        dataset = large_dataset(keyframes, large._paths[0])
        gc.collect()
        return len(gc.get_objects()) - before, len(pickle.dumps(dataset)) / keyframes, dataset

    few, _, _ = objects(1000)
    many, size, dataset = objects(16_000)
    assert abs(many - few) < 100
    # bytes of the arrays alone: 28 + 2 x (80 + 16 + 4) and the keyframe's number
    assert size < 260
    assert all(array.dtype != object for _, array in arrays(dataset))


def test_a_new_process_gets_handles(large):
    size = sum(array.nbytes for _, array in arrays(large))
    assert size > 4e6
    content = sent(large)
    assert len(content) < 32_000  # a pipe holds 64 KiB: the process that sends does not wait for the one that reads
    assert len(pickle.dumps(large)) > size  # plain pickling copies, as ever


def test_all_processes_share_one_copy(large):
    content = [large.annotations.labels, large.annotations.boxes.xyxy]
    sent(large)
    shared = sharing._shared[id(large.annotations)]["labels"].tensor
    sent(large)
    assert sharing._shared[id(large.annotations)]["labels"].tensor is shared and shared.is_shared()
    assert np.array_equal(shared.numpy(), content[0])
    kept = len(sharing._shared)
    packed = PackedBoxes.pack(np.arange(2000), np.zeros((2000, 4)), 2000)
    sent(packed)
    assert len(sharing._shared) == kept + 1
    del packed
    gc.collect()
    assert len(sharing._shared) == kept


def test_spawned_workers_give_the_same_samples(large):
    loader = DataLoader(
        large,
        batch_size=2,
        sampler=[0, 7, KEYFRAMES - 1, 5],
        num_workers=1,
        collate_fn=collate,
        multiprocessing_context=multiprocessing.get_context("spawn"),
    )
    batches = list(loader)
    for batch, rows in zip(batches, ([0, 7], [KEYFRAMES - 1, 5]), strict=True):
        expected = collate([large[row] for row in rows])
        assert torch.equal(batch.fast, expected.fast) and torch.equal(batch.labels, expected.labels)
        assert batch.keys == expected.keys and isinstance(large.annotations, Annotations)
        for ours, theirs in zip(batch.regions, expected.regions, strict=True):
            assert torch.equal(ours.xyxy, theirs.xyxy)
