"""What the loops do with the memory, without a network."""

import logging
import math
import types

import numpy as np
import pytest
import torch
from goldens import FOLDER, load
from memory_kit import dense, loss_of

from alphaction.checkpoint import read_checkpoint
from alphaction.engine.memory import (
    MEMORY,
    REFERENCE_MEMORY,
    PersonMemory,
    check_memory,
    pack_rows,
    penalty_factors,
    unpack_rows,
)
from alphaction.errors import CheckpointError, ConfigError
from alphaction.structures import ClipKey, FeatureMemory, MemorySpan, RoiFeatures

C = 4
SPAN = MemorySpan(before=1, after=1, rate=1, persons=2)
KEYS = [ClipKey("park", float(second)) for second in range(10)]


def features_of(*counts, seed=0):
    person = torch.randn(sum(counts), C, 1, 1, 1, generator=torch.Generator().manual_seed(seed))
    return RoiFeatures(person=person, person_counts=counts)


def batch_of(*indices):
    return types.SimpleNamespace(indices=indices)


def memory_of(**options):
    options = {"penalty": False, "random_choice": False} | options
    return PersonMemory(FeatureMemory(C), SPAN, key_of=KEYS.__getitem__, device="cpu", **options)


@pytest.fixture
def log(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("alphaction"), "propagate", True)
    caplog.set_level(logging.INFO, logger="alphaction")
    return caplog


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_rows_there_and_back(dtype):
    features = features_of(2, 0, 3)
    rows = pack_rows([7, 2**24, 2**24 + 1], features, loss=0.1, dtype=dtype)
    assert rows.shape == (5, 24 + C * dtype.itemsize)
    indices, counts, losses, persons = unpack_rows(rows, dtype=dtype)
    assert (indices, counts) == ([7, 2**24 + 1], [2, 3])  # nothing to say of a clip without persons
    assert losses == [0.1] * 2
    assert torch.equal(persons, features.person.flatten(1).to(dtype))
    assert unpack_rows(pack_rows([1], features_of(0), loss=1.0, dtype=dtype), dtype=dtype)[:2] == ([], [])
    far = features_of(1)
    far.person.fill_(1e6)
    (largest,) = unpack_rows(pack_rows([1], far, loss=1.0, dtype=dtype), dtype=dtype)[3]
    assert largest.float().tolist() == [65504.0 if dtype == torch.float16 else 1e6] * C


def test_rows_of_several_processes_are_put_as_one():
    parts = [
        pack_rows(indices, features, loss=3.0, dtype=torch.float32)
        for indices, features in (([1, 4], features_of(1, 2)), ([4, 5], features_of(2, 1, seed=1)))
    ]
    memory = memory_of(gather=lambda rows: torch.cat(parts))
    memory.update(batch_of(1, 4), features_of(1, 2), loss=3.0)
    other = features_of(2, 1, seed=1).person.flatten(1)
    assert torch.equal(memory.store.get(KEYS[1]), features_of(1, 2).person.flatten(1)[:1])
    assert torch.equal(memory.store.get(KEYS[4]), other[:2])  # a clip that two processes had counts once
    assert torch.equal(memory.store.get(KEYS[5]), other[2:])
    memory.update(None, None, loss=3.0)  # the others' rows, without any of its own


def test_penalty():
    losses = np.array([2.0, 8.0, 4.0, 0.0])
    assert penalty_factors(losses, 4.0).tolist() == [0.5, 0.5, 1.0, 0.0]
    assert penalty_factors(losses, 0.0).tolist() == [0.0, 0.0, 0.0, 1.0]
    assert penalty_factors(losses, None).tolist() == [0.0] * 4  # no iteration before


def test_the_loss_now_is_that_of_the_iteration_before():
    memory = memory_of(penalty=True)
    memory.update(batch_of(1), features_of(1), loss=2.0)
    memory.update(batch_of(3), features_of(1, seed=1), loss=8.0)
    window = dense(memory.window([KEYS[2]]))
    assert torch.equal(window[0, 0, 0], features_of(1).person.flatten() * 0.25)
    assert torch.equal(window[0, 2, 0], features_of(1, seed=1).person.flatten())
    assert not window[0, 1].any()


def test_a_restored_memory_goes_on_where_it_was(log):
    memory = memory_of(penalty=True)
    memory.update(batch_of(1, 3), features_of(2, 1), loss=2.0)
    again = memory_of(penalty=True)
    again.load({MEMORY: memory.state_dict()})
    assert torch.equal(dense(again.window(KEYS)), dense(memory.window(KEYS))) and dense(memory.window(KEYS)).any()
    assert "The memory goes on with 3 persons of 2 keyframes, 0.0 MiB." in log.text


def test_a_checkpoint_without_memory(log):
    memory = memory_of()
    memory.load({})
    assert len(memory.store) == 0 and "goes on with nothing: it fills anew" in log.text


@pytest.mark.parametrize("change", [{"blocks": [torch.zeros(9, C + 1)]}, {"movies": []}, {"rows": None}, {"count": 3}])
def test_a_memory_that_does_not_fit_is_refused(change):
    memory = memory_of()
    memory.update(batch_of(1), features_of(2), loss=1.0)
    with pytest.raises(CheckpointError, match=r"the memory in the checkpoint cannot be used \(.*--transfer"):
        memory_of().load({MEMORY: memory.state_dict() | change})


def test_random_choice_draws_from_torchs_generator():
    memory = memory_of(random_choice=True)
    features = features_of(9)
    memory.update(batch_of(1), features, loss=1.0)
    torch.manual_seed(3)
    rows = torch.randperm(9)[:2]
    torch.manual_seed(3)
    assert torch.equal(dense(memory.window([KEYS[0]]))[0, 2], features.person.flatten(1)[rows])
    first = memory_of()
    first.update(batch_of(1), features, loss=1.0)
    assert torch.equal(dense(first.window([KEYS[0]]))[0, 2], features.person.flatten(1)[:2])


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("reference_checkpoint_*.pth")))
def test_the_memory_of_the_originals_checkpoints(name):
    recorded = load("reference_checkpoint")["pool"]
    width = len(recorded[0]["pooled_feature"][0])
    memory = PersonMemory(
        FeatureMemory(width), SPAN, key_of=KEYS.__getitem__, device="cpu", penalty=False, random_choice=False
    )
    memory.load({REFERENCE_MEMORY: read_checkpoint(FOLDER / name)[REFERENCE_MEMORY]})
    assert len(memory.store) == len(recorded)
    for entry in recorded:
        key = (entry["movie"], entry["second"])
        assert memory.store.get(key).tolist() == entry["pooled_feature"]
        assert loss_of(memory.store, key) == entry["loss_tag"]


def test_entries_of_the_original_that_would_spoil_the_loss_are_left_out(log):
    def boxes(loss, value=1.0):
        return {"extra_fields": {"pooled_feature": torch.full((1, C, 1, 1, 1), value), "loss_tag": loss}}

    pool = {"park": {1: boxes(2.0), 2: boxes(math.nan), 3: boxes(2.0, math.inf)}}
    memory = memory_of()
    memory.load({REFERENCE_MEMORY: pool})
    assert [second for second in (1, 2, 3) if ("park", second) in memory.store] == [1]
    assert "2 entries of the checkpoint's memory are not finite" in log.text


class Moments:
    """A data set as far as `check_memory` looks at it; moments are (video, seconds)."""

    name = "birds"

    def __init__(self, *moments, training=True, persons=2):
        movies = sorted({movie for movie, _ in moments})
        self.annotations = types.SimpleNamespace(
            movies=movies,
            movie=np.array([movies.index(movie) for movie, _ in moments]),
            time=np.array([time for _, time in moments]),
        )
        self.keyframes = np.arange(len(moments))
        self.is_training = training
        self._persons = persons

    def __len__(self):
        return len(self.keyframes)

    def person_counts(self):
        return np.full(len(self), self._persons)


def check(dataset, span=SPAN, **options):
    check_memory(dataset, FeatureMemory(C, **options), span)


def test_keyframes_that_cannot_remember_each_other(log):
    with pytest.raises(ConfigError, match=r"data set birds has nothing to remember: every video has keyframes at one"):
        check(Moments(("a", 0.0), ("b", 0.0), ("b", 0.0)))
    with pytest.raises(ConfigError, match=r"are too far apart\. Remembered are 1 moments before and 1 after"):
        check(Moments(("a", 0.0), ("a", 5.0)))
    assert not [record for record in log.records if record.levelname == "WARNING"]
    check(Moments(("a", 0.0), training=False))  # a test set may be like that
    assert "has nothing to remember" in log.text


def test_keyframes_that_can(log):
    check(Moments(("a", 0.0), ("a", 1.0), ("b", 7.0)))
    check(Moments(("a", 0.0), ("a", 5.0)), MemorySpan(before=0, after=1, rate=5, persons=1))
    check(Moments(("a", 0.0), ("a", 5.0)), MemorySpan(before=5, after=0, rate=1, persons=1))
    check(Moments(("a", 0.0)), MemorySpan(before=0, after=0, rate=1, persons=1))  # wants only the clip's own persons
    assert "nothing to remember" not in log.text
    assert "Memory of birds: up to 6 persons of 3 keyframes, 0.0 MiB (float32)" in log.text


def test_keyframes_that_share_a_slot(log):
    moments = Moments(("a", 0.0), ("a", 0.25), ("a", 1.0), ("a", 1.25))
    check(moments)
    assert "birds: 2 of its keyframes share a slot of 1 s with a nearer one" in log.text
    log.clear()
    check(moments, step=0.25, span=MemorySpan(before=2, after=2, rate=1, persons=1))
    assert "share a slot" not in log.text


def test_a_memory_that_is_too_small(log):
    many = [("a", float(second)) for second in range(100)]
    check(Moments(*many, persons=1000), max_bytes=2**20)
    assert (
        "100000 persons of 100 keyframes, 1.5 MiB (float32), but MODEL.IA_STRUCTURE.MEMORY_LIMIT_MB 1: the" in log.text
    )
    with pytest.raises(ConfigError, match=r"MEMORY_LIMIT_MB 1: the memory of data set birds has .* testing needs all"):
        check(Moments(*many, persons=1000, training=False), max_bytes=2**20)
