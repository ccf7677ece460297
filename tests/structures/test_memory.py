"""The memory of features against a slow twin: a dict of (video, slot)."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from memory_kit import dense, loss_of

from alphaction.structures import ClipKey, FeatureMemory, MemorySpan

C = 3
SPAN = MemorySpan(before=2, after=1, rate=1, persons=2)


def features_of(*counts, seed=0):
    return torch.randn(sum(counts), C, generator=torch.Generator().manual_seed(seed))


class Twin:
    """What the memory should do, one clip at a time."""

    def __init__(self, step):
        self.step, self.slots = step, {}

    def put(self, key, persons, loss):
        movie, time = key
        slot = math.floor(time / self.step + 0.5)
        here = (abs(time - slot * self.step), time)
        known = self.slots.get((movie, slot))
        if known is not None and (here > known[0] or (not len(persons) and time != known[0][1])):
            return
        if len(persons):
            self.slots[movie, slot] = (here, persons.clone(), loss)
        else:
            self.slots.pop((movie, slot), None)

    def window(self, keys, span, factor):
        out = torch.zeros(len(keys), span.moments, span.persons, C)
        for i, (movie, time) in enumerate(keys):
            for j in range(span.moments):
                away = j - span.before
                slot = math.floor(time / self.step + 0.5) + away * span.rate
                if away and (movie, slot) in self.slots:
                    _, persons, loss = self.slots[movie, slot]
                    shown = persons[: span.persons]
                    out[i, j, : len(shown)] = shown * factor(loss)
        return out


def writes(max_time):
    clip = st.tuples(st.sampled_from("abc"), st.floats(0, max_time), st.integers(0, 4), st.floats(0.5, 8))
    return st.lists(st.lists(clip, min_size=1, max_size=4), max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    batches=writes(6),
    step=st.sampled_from([0.2, 0.5, 1.0, 3.0]),
    before=st.integers(0, 3),
    after=st.integers(0, 3),
    rate=st.integers(1, 2),
    persons=st.integers(1, 5),
)
def test_equals_a_dict(batches, step, before, after, rate, persons):
    memory, twin = FeatureMemory(C, step=step, block_bytes=5 * C * 4), Twin(step)
    for number, batch in enumerate(batches):
        counts = [count for *_, count, _ in batch]
        features = features_of(*counts, seed=number)
        keys = [ClipKey(movie, time) for movie, time, *_ in batch]
        losses = [loss for *_, loss in batch]
        memory.put(keys, features.view(-1, C, 1, 1, 1), counts, losses=losses)
        for key, part, loss in zip(keys, features.split(counts), losses, strict=True):
            twin.put(key, part, loss)
    span = MemorySpan(before=before, after=after, rate=rate, persons=persons)
    keys = [ClipKey(movie, time) for movie in "abcd" for time in (0.0, 0.3, 2.0, 5.7)]
    assert torch.equal(dense(memory.window(keys, span)), twin.window(keys, span, lambda loss: 1.0))
    weighed = dense(memory.window(keys, span, weigh=lambda losses: 1 / losses))
    torch.testing.assert_close(weighed, twin.window(keys, span, lambda loss: 1 / loss), rtol=1e-6, atol=0)
    assert len(memory) == len(twin.slots)
    assert memory.num_persons == sum(len(persons) for _, persons, _ in twin.slots.values())

    again = FeatureMemory(C, step=step, block_bytes=7 * C * 4)
    again.load_state_dict(memory.state_dict())
    assert torch.equal(dense(again.window(keys, span)), dense(memory.window(keys, span)))
    assert (len(again), again.num_persons) == (len(memory), memory.num_persons)


@settings(max_examples=60, deadline=None)
@given(batches=writes(40), rows=st.integers(1, 12))
def test_a_full_memory_holds_the_latest(batches, rows):
    memory = FeatureMemory(C, max_bytes=rows * C * 4, block_bytes=5 * C * 4)
    latest = {}  # slot -> persons, the oldest first
    for number, batch in enumerate(batches):
        batch = [(movie, round(time), count) for movie, time, count, _ in batch if count]
        counts = [count for *_, count in batch]
        features = features_of(*counts, seed=number)
        memory.put([(movie, time) for movie, time, _ in batch], features, counts)
        for (movie, time, _), part in zip(batch, features.split(counts), strict=True):
            part = part[:rows]
            known = len(latest.pop((movie, time), []))
            room = rows - sum(map(len, latest.values())) - known
            latest[movie, time] = part  # now the newest
            while len(part) - known > room:
                oldest = next(iter(latest))
                room += len(latest.pop(oldest))
        assert memory.num_persons <= rows
        assert memory.num_persons == sum(map(len, latest.values()))
        assert all(torch.equal(memory.get(key), persons) for key, persons in latest.items())
    assert len(memory) == len(latest)
    assert sum(len(block) for block in memory.state_dict()["blocks"]) <= rows + 4


def test_nobody_is_remembered_at_first():
    memory = FeatureMemory(C)
    assert memory.get(ClipKey("m", 1.0)).shape == (0, C)
    assert memory.window([ClipKey("m", 1.0)], SPAN).rows.shape == (1, 0, C)


def test_what_was_forgotten_is_counted():
    memory = FeatureMemory(C, max_bytes=4 * C * 4)
    for second in range(4):
        memory.put([("a", second)], features_of(2), [2])
    assert memory.num_forgotten == 2
    assert [second for second in range(4) if ("a", second) in memory] == [2, 3]


def test_movie_ends_and_other_movies():
    memory = FeatureMemory(C)
    keys = [("a", second) for second in range(3)] + [("b", 3)]
    memory.put(keys, torch.arange(4.0).repeat_interleave(C).view(4, C) + 1, [1] * 4)
    shown = dense(memory.window([("a", 0), ("a", 2), ("b", 3), ("nobody", 1)], SPAN))[:, :, 0, 0]
    assert shown.tolist() == [[0, 0, 0, 2], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert ("nobody", 1) not in memory and len(memory) == 4  # asking leaves nothing behind


def test_half_seconds_and_rates():
    memory = FeatureMemory(C, step=0.5)
    times = [0.0, 0.49, 1.02, 1.5, 2.0]
    memory.put([("a", time) for time in times], (torch.arange(5.0) + 1).repeat_interleave(C).view(5, C), [1] * 5)
    span = MemorySpan(before=2, after=1, rate=2, persons=1)  # a second from moment to moment
    assert dense(memory.window([("a", 2.0), ("a", 1.01), ("a", 0.5)], span))[:, :, 0, 0].tolist() == [
        [1, 3, 0, 0],
        [0, 1, 0, 5],
        [0, 0, 0, 4],
    ]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_of_keyframes_in_one_slot_the_nearest_is_remembered_whatever_the_order(order):
    memory = FeatureMemory(C)
    times = [4.8, 4.9, 5.2]
    features = features_of(1, 1, 1)
    for i in order:
        memory.put([("a", times[i])], features[i : i + 1], [1])
    assert torch.equal(memory.get(("a", 5.0)), features[1:2])
    memory.put([("a", 4.9)], features[2:], [1])  # the same keyframe, seen again
    assert torch.equal(memory.get(("a", 5.0)), features[2:])


def test_a_clip_that_has_lost_its_persons_is_forgotten():
    memory = FeatureMemory(C)
    memory.put([("a", 1), ("a", 2)], features_of(2, 1), [2, 1])
    memory.put([("a", 1), ("a", 2.2)], features_of(), [0, 0])
    assert ("a", 1) not in memory and ("a", 2) in memory


def test_features_are_copies_without_gradient():
    memory = FeatureMemory(C)
    features = features_of(2).requires_grad_()
    memory.put([("a", 1)], features * 2, [2])
    expected = features.detach() * 2
    with torch.no_grad():
        features.zero_()
    window = dense(memory.window([("a", 0)], SPAN))
    assert not window.requires_grad and torch.equal(window[0, 3], expected)
    window.zero_()
    assert torch.equal(memory.get(("a", 1)), expected)


def test_a_memory_made_in_inference_mode_can_be_written_later():
    memory = FeatureMemory(C)
    with torch.inference_mode():
        memory.put([("a", 1)], features_of(1), [1])
    memory.put([("a", 1)], features_of(1, seed=1), [1])
    assert torch.equal(memory.get(("a", 1)), features_of(1, seed=1))


def test_half_precision():
    memory = FeatureMemory(C, dtype=torch.float16)
    features = torch.cat([features_of(2), torch.full((1, C), 1e6)])
    memory.put([("a", 1)], features, [3])
    shown = dense(memory.window([("a", 0)], MemorySpan(before=0, after=1, rate=1, persons=3)))[0, 1]
    assert shown.dtype == torch.float32
    torch.testing.assert_close(shown[:2], features[:2], rtol=2**-11, atol=1e-7)
    assert torch.equal(shown[2], torch.full((C,), 65504.0))  # cut off, not infinite
    assert memory.num_bytes == 3 * C * 2


def test_more_persons_than_places():
    memory = FeatureMemory(C)
    features = features_of(4, 2)
    memory.put([("a", 1), ("a", 2)], features, [4, 2])
    asked = []

    def choose(count, places):
        asked.append((count, places))
        return torch.tensor([3, 1])

    span = MemorySpan(before=1, after=2, rate=1, persons=2)
    assert torch.equal(dense(memory.window([("a", 0)], span))[0, 2:], torch.stack([features[:2], features[4:]]))
    chosen = dense(memory.window([("a", 0)], span, choose=choose))[0, 2:]
    assert torch.equal(chosen, torch.stack([features[[3, 1]], features[4:]]))
    assert asked == [(4, 2)]
    assert torch.equal(memory.get(("a", 1)), features[:4])  # choosing changes nothing


@pytest.mark.parametrize("change", [{"step": 0.5}, {"dtype": torch.float16}, {"max_bytes": 4 * C * 4}])
def test_loading_into_another_kind_of_memory(change):
    memory = FeatureMemory(C, step=1.0)
    memory.put([("a", 1.0), ("a", 1.6), ("b", 7.0)], features_of(2, 1, 2), [2, 1, 2], losses=[1.0, 2.0, 3.0])
    other = FeatureMemory(C, **change)
    other.put([("c", 1)], features_of(1), [1])
    other.load_state_dict(memory.state_dict())
    assert ("c", 1) not in other and loss_of(other, ("b", 7)) == 3.0
    assert torch.equal(other.get(("b", 7)), memory.get(("b", 7)).to(other.dtype))
    assert len(other) == (2 if "max_bytes" in change else 3)


def test_the_state_is_plain_and_loads_after_being_written(tmp_path):
    memory = FeatureMemory(C, block_bytes=2 * C * 4)
    memory.put([("a", 1.0), ("b", 2.0)], features_of(2, 1), [2, 1], losses=[0.1, 0.2])
    torch.save(memory.state_dict(), tmp_path / "memory.pth")
    again = FeatureMemory(C)
    again.load_state_dict(torch.load(tmp_path / "memory.pth", weights_only=True, mmap=True))
    (tmp_path / "memory.pth").unlink()
    assert torch.equal(again.get(("a", 1)), memory.get(("a", 1))) and loss_of(again, ("b", 2)) == 0.2
    again.load_state_dict(FeatureMemory(C).state_dict())
    assert len(again) == 0


def test_a_mapped_file_is_taken_as_it_is(tmp_path):
    """Nothing is copied, and what is written later is not written to the file."""
    memory = FeatureMemory(C, block_bytes=2 * C * 4)
    memory.put([("a", 1.0), ("b", 2.0), ("b", 3.0)], features_of(2, 1, 2), [2, 1, 2])
    memory.put([("b", 3.0)], features_of(1, seed=1), [1])  # leaves a free row
    path = tmp_path / "memory.pth"
    torch.save(memory.state_dict(), path)
    before = path.read_bytes()
    state = torch.load(path, weights_only=True, mmap=True)
    again = FeatureMemory(C)
    again.load_state_dict(state)
    assert [block.data_ptr() for block in again.state_dict()["blocks"]] == [b.data_ptr() for b in state["blocks"]]
    for each in (memory, again):
        each.put([("a", 1.0), ("c", 1.0)], features_of(2, 3, seed=2), [2, 3])
    span = MemorySpan(before=3, after=3, rate=1, persons=3)
    keys = [(movie, 0.0) for movie in "abc"]
    assert torch.equal(dense(again.window(keys, span)), dense(memory.window(keys, span)))
    assert again.num_persons == memory.num_persons == 7 and path.read_bytes() == before


def test_persons_that_are_expected_lie_in_one_block():
    memory = FeatureMemory(C, block_bytes=2 * C * 4)
    memory.reserve(5)
    memory.put([("a", float(second)) for second in range(4)], features_of(2, 1, 2, 2), [2, 1, 2, 2])
    blocks = memory.state_dict()["blocks"]
    assert [len(block) for block in blocks] == [5, 2]
    # A checkpoint takes no more than what is remembered.
    assert blocks[-1].untyped_storage().nbytes() == 2 * C * 4
    bounded = FeatureMemory(C, max_bytes=4 * C * 4)
    bounded.reserve(100)
    bounded.put([("a", 1.0)], features_of(1), [1])
    assert bounded._starts.tolist() == [0, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"movie": torch.tensor([0, 2])}, r"movie: expected 0 \.\. 0"),
        ({"count": torch.tensor([2, 0])}, r"count: expected 1 \.\. 2"),
        ({"rows": torch.tensor([[0, 1], [1, 0]])}, r"rows: expected each of 0 \.\. 2 at most once"),
        ({"rows": torch.tensor([[0, 1], [3, 0]])}, r"rows: expected each of 0 \.\. 2 at most once"),
        ({"time": torch.tensor([1.0, float("nan")])}, "expected finite numbers"),
        ({"slot": torch.tensor([1, 1])}, "slot: does not fit the times"),
        ({"slot": torch.tensor([1, 1]), "time": torch.tensor([1.0, 1.0])}, "slot: expected each one of a movie at"),
        ({"loss": torch.zeros(3)}, r"entries: got .*'loss': 3.*, expected 2 of each"),
        ({"blocks": [torch.zeros(2, C), torch.zeros(1, C).half()]}, r"blocks: got \[1, 3\], torch.float16, expected"),
    ],
)
def test_a_damaged_state_is_found_when_it_is_loaded(change, message):
    memory = FeatureMemory(C)
    memory.put([("a", 1.0), ("a", 2.0)], features_of(2, 1), [2, 1])
    with pytest.raises(ValueError, match=message):
        FeatureMemory(C).load_state_dict(memory.state_dict() | change)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([("a", 1)], features_of(2), [1]), r"features: got \(2, 3\), expected \(1, 3\)"),
        (([("a", 1)], torch.zeros(1, C + 1), [1]), r"features: got \(1, 4\), expected \(1, 3\)"),
        (([("a", float("nan"))], features_of(1), [1]), "expected finite times"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FeatureMemory(C).put(*arguments)


def test_wrong_options():
    with pytest.raises(ValueError, match="losses: expected finite"):
        FeatureMemory(C).put([("a", 1)], features_of(1), [1], losses=[float("inf")])
    with pytest.raises(ValueError, match="step: got 0, expected seconds above 0"):
        FeatureMemory(C, step=0)
    with pytest.raises(ValueError, match="dtype: got torch.int8"):
        FeatureMemory(C, dtype=torch.int8)


def test_many_slots_in_many_blocks():
    memory = FeatureMemory(C, block_bytes=100 * C * 4)
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 6, 2000).tolist()
    features = features_of(*counts)
    keys = [(f"movie{i // 500}", float(i % 500)) for i in range(2000)]
    for first in range(0, 2000, 16):
        part = slice(first, first + 16)
        rows = slice(sum(counts[:first]), sum(counts[: first + 16]))
        memory.put(keys[part], features[rows], counts[part])
    for key, persons in zip(keys, features.split(counts), strict=True):
        assert torch.equal(memory.get(key), persons)
