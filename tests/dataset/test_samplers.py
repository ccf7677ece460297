import itertools
import time

import goldens
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphaction.dataset.samplers import (
    TestBatchSampler,
    TrainBatchSampler,
    aspect_group_ids,
    draw_repeats,
    group_batches,
    pass_order,
    repeat_factors,
)
from alphaction.errors import DataError

GOLDEN = goldens.load("samplers")


def _groups(case):
    return aspect_group_ids(np.array(case["sizes_wh"])[:, ::-1])


def _indices(batches):
    return [[index for _, index, _ in batch] for batch in batches]


def _sampler(case, rank, **changes):
    options = {
        "batch_size": case["batch_size"] * case["world_size"],  # recorded is that of a process
        "share_each_pass": True,
        "num_iterations": case["num_iterations"],
        "start_iter": case["start_iter"],
        "group_ids": _groups(case),
        "drop_uneven": case["drop_uneven"],
        "rank": rank,
        "world_size": case["world_size"],
    }
    return TrainBatchSampler(len(case["sizes_wh"]), **(options | changes))


@pytest.mark.parametrize("case", GOLDEN["distributed"])
def test_order_of_a_pass(case):
    for rank, wanted in enumerate(case["ranks"]):
        order = pass_order(
            case["length"], seed=case["epoch"], shuffle=case["shuffle"], rank=rank, world_size=case["world_size"]
        )
        assert order.tolist() == wanted


@pytest.mark.parametrize("case", GOLDEN["grouped"])
def test_grouped_batches(case):
    order, groups = np.array(case["order"]), np.array(case["group_ids"])
    batches = group_batches(order, batch_size=case["batch_size"], group_ids=groups, drop_uneven=case["drop_uneven"])
    if "error" not in case:
        assert batches == case["batches"]
        return
    # The original fails when a share has no sample of a group; ours goes on (QUIRKS 82).
    assert set(groups[order]) != set(groups)
    assert all(len({int(groups[i]) for i in batch}) == 1 for batch in batches)
    members = [i for batch in batches for i in batch]
    if case["drop_uneven"]:
        assert all(len(batch) == case["batch_size"] for batch in batches)
        assert len(set(members)) == len(members)
    else:
        assert sorted(members) == sorted(case["order"])


@pytest.mark.parametrize("case", GOLDEN["iteration"])
def test_iterations(case):
    """The original draws anew at `start_iter`; ours does with `origin` = `start_iter` (QUIRKS 79)."""
    for rank, wanted in enumerate(case["ranks"]):
        sampler = _sampler(case, rank, origin=case["start_iter"])
        assert _indices(sampler) == wanted
        assert len(sampler) == len(wanted) == max(case["reported_length"][rank] - case["start_iter"], 0)
        starts = [start for _, start, _ in sampler.passes()]
        # The original also announces the pass that would follow the last iteration.
        assert starts == [start for start in case["epochs_set"][rank] if start < case["num_iterations"]]
        if case["world_size"] == 1:
            assert list(_sampler(case, rank, origin=case["start_iter"], share_each_pass=False)) == list(sampler)


@pytest.mark.parametrize("case", GOLDEN["iteration"])
def test_a_resumed_run_sees_the_batches_of_the_uninterrupted_one(case):
    for rank in range(case["world_size"]):
        whole = list(_sampler(case, rank, start_iter=0, num_iterations=60))
        assert len(whole) == 60
        for start in range(62):
            resumed = _sampler(case, rank, start_iter=start, num_iterations=60)
            assert list(resumed) == whole[start:]
            assert len(resumed) == len(whole[start:])


@pytest.mark.parametrize("case", GOLDEN["iteration"])
def test_passes_are_numbered_one_after_the_other(case):
    for rank in range(case["world_size"]):
        numbers = [
            {number for number, _, _ in batch} for batch in _sampler(case, rank, start_iter=0, num_iterations=60)
        ]
        assert all(len(number) == 1 for number in numbers)
        flat = [number.pop() for number in numbers]
        assert flat == sorted(flat)
        assert set(flat) == set(range(max(flat) + 1))
        pairs = [item for batch in _sampler(case, rank, start_iter=0, num_iterations=60) for item in batch]
        assert len(set(pairs)) == len(pairs) or case["world_size"] > 1


def test_aspect_groups():
    case = GOLDEN["aspect_groups"]
    assert _groups(case).tolist() == case["group_ids"]
    assert aspect_group_ids(np.zeros((0, 2))).shape == (0,)


def test_without_grouping():
    case = GOLDEN["no_grouping"]
    batches = group_batches(np.arange(case["length"]), batch_size=case["batch_size"], drop_uneven=case["drop_last"])
    assert batches == case["batches"]
    if not case["drop_last"]:
        assert list(TestBatchSampler(case["length"], batch_size=case["batch_size"])) == case["batches"]


def test_batches_for_testing():
    case = GOLDEN["test_time_grouped"]
    sampler = TestBatchSampler(len(case["sizes_wh"]), batch_size=case["batch_size"], group_ids=_groups(case))
    assert list(sampler) == case["batches"]
    assert len(sampler) == len(case["batches"])


@pytest.mark.parametrize(("length", "world_size"), list(itertools.product([0, 1, 3, 10, 11], [1, 2, 4, 8])))
def test_testing_takes_every_sample_once(length, world_size):
    groups = np.arange(length) % 2
    shares = [
        [
            i
            for batch in TestBatchSampler(length, batch_size=3, group_ids=groups, rank=r, world_size=world_size)
            for i in batch
        ]
        for r in range(world_size)
    ]
    assert sorted(sum(shares, [])) == list(range(length))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert [min(share) for share in shares if share] == sorted(min(share) for share in shares if share)


# --- several processes


@st.composite
def _runs(draw):
    """(length, options) of a short run."""
    length = draw(st.integers(1, 40))
    options = {
        "batch_size": draw(st.integers(1, 12)),
        "num_iterations": draw(st.integers(1, 40)),
        "seed": draw(st.integers(0, 5)),
        "drop_uneven": draw(st.booleans()),
        "group_ids": draw(st.none() | st.lists(st.integers(0, 1), min_size=length, max_size=length).map(np.array)),
        "factors": draw(st.none() | st.lists(st.floats(1, 4), min_size=length, max_size=length).map(np.array)),
    }
    return length, options


def _joined(length, options, world_size, start_iter):
    """The batches of all processes, and each iteration's shares by rank."""
    samplers = [
        TrainBatchSampler(length, **options, start_iter=start_iter, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    ranks = [list(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(batches) for batches in ranks]
    shares = list(zip(*ranks, strict=True))
    return [list(itertools.chain.from_iterable(share)) for share in shares], shares


@settings(max_examples=150, deadline=None)
@given(run=_runs(), world_size=st.integers(1, 8), start=st.integers(0, 45))
def test_the_number_of_processes_changes_no_batch(run, world_size, start):
    """Also when a run goes on with another number of them."""
    length, options = run
    whole, _ = _joined(length, options, 1, 0)
    batches, shares = _joined(length, options, world_size, start)
    assert len(whole) == options["num_iterations"]
    assert batches == whole[start:]
    for share in shares:
        assert max(map(len, share)) - min(map(len, share)) <= 1


@settings(max_examples=100, deadline=None)
@given(run=_runs(), world_size=st.integers(1, 8))
def test_each_pass_brings_every_clip(run, world_size):
    """Each of the clip's copies once; all of one batch are of one pass and one aspect."""
    length, options = run
    options["drop_uneven"] = False
    batches, _ = _joined(length, options, world_size, 0)
    groups = np.zeros(length, int) if options["group_ids"] is None else options["group_ids"]
    assert all(len({(number, groups[index]) for number, index, _ in batch}) == 1 for batch in batches)
    items = [item for batch in batches for item in batch]
    assert len(set(items)) == len(items)
    last = items[-1][0]
    factors = np.ones(length) if options["factors"] is None else options["factors"]
    for number in range(last):  # the last one may be cut short
        counts = np.zeros(length, int)
        for _, index, copy in (item for item in items if item[0] == number):
            counts[index] += 1
            assert copy < np.ceil(factors[index])
        assert np.all((counts >= np.floor(factors)) & (counts <= np.ceil(factors)))


@settings(max_examples=150, deadline=None)
@given(length=st.integers(0, 60), batch_size=st.integers(1, 9), world_size=st.integers(1, 8), data=st.data())
def test_testing_takes_every_sample_once_in_batches_of_one_aspect(length, batch_size, world_size, data):
    groups = np.array(data.draw(st.lists(st.integers(0, 1), min_size=length, max_size=length)), int)
    ranks = [
        list(TestBatchSampler(length, batch_size=batch_size, group_ids=groups, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    batches = list(itertools.chain.from_iterable(ranks))
    assert all(0 < len(batch) <= batch_size and len(set(groups[batch])) == 1 for batch in batches)
    assert sorted(itertools.chain.from_iterable(batches)) == list(range(length))
    sizes = [sum(map(len, rank)) for rank in ranks]
    assert max(sizes) - min(sizes) <= 1


def test_a_small_batch_leaves_some_processes_without_a_clip():
    shares = [list(TrainBatchSampler(2, batch_size=4, num_iterations=3, rank=r, world_size=4)) for r in range(4)]
    assert [[len(batch) for batch in share] for share in shares] == [[0] * 3, [1] * 3, [0] * 3, [1] * 3]


def test_a_pass_shared_as_the_original_does_needs_an_even_batch():
    with pytest.raises(ValueError, match=r"batch_size: got 3, expected a multiple of world_size \(2\)"):
        TrainBatchSampler(9, batch_size=3, num_iterations=1, share_each_pass=True, world_size=2)


# --- rare classes


def test_repeat_factors():
    labels = np.zeros((100, 4), bool)
    labels[:, 0] = True  # in all clips
    labels[:25, 1] = True
    labels[24:28, 2] = True  # 4 clips; class 3 in none
    clips, classes = repeat_factors(labels, 0.36)
    assert classes.tolist() == [1, np.sqrt(0.36 / 0.25), np.sqrt(0.36 / 0.04), 1]
    assert clips.tolist() == [classes[1]] * 24 + [classes[2]] * 4 + [1] * 72
    for threshold in (0.0, 0.04):
        assert all(np.all(factors == 1) for factors in repeat_factors(labels, threshold))
    assert [len(factors) for factors in repeat_factors(np.zeros((0, 4), bool), 0.5)] == [0, 4]
    assert repeat_factors(np.zeros((3, 4), bool), 0.5)[0].tolist() == [1, 1, 1]


def test_repeats_have_the_right_mean():
    factors = np.repeat([1.0, 1.25, 2.0, 3.5], 1000)
    clips, copies = draw_repeats(factors, seed=7)
    counts = np.bincount(clips, minlength=4000).reshape(4, 1000)
    assert counts[0].tolist() == [1] * 1000 and counts[2].tolist() == [2] * 1000
    assert set(counts[1]) == {1, 2} and set(counts[3]) == {3, 4}
    assert counts[1].mean() == pytest.approx(1.25, abs=0.05) and counts[3].mean() == pytest.approx(3.5, abs=0.06)
    assert copies[clips == 3999].tolist() == list(range(counts[3, -1]))
    assert not np.array_equal(draw_repeats(factors, seed=8)[0], clips)


def test_factors_of_one_change_nothing():
    plain, ones = (
        list(TrainBatchSampler(50, batch_size=4, num_iterations=40, seed=3, factors=factors))
        for factors in (None, np.ones(50))
    )
    assert plain == ones
    assert {copy for batch in plain for _, _, copy in batch} == {0}


def test_passes_of_unequal_length_are_counted_exactly():
    sampler = TrainBatchSampler(30, batch_size=2, num_iterations=200, factors=np.full(30, 1.4), drop_uneven=False)
    passes = list(sampler.passes())
    lengths = [len(batches) for _, _, batches in passes]
    assert len(set(lengths[:-1])) > 1
    assert [start for _, start, _ in passes] == [sum(lengths[:i]) for i in range(len(passes))]
    assert sum(lengths) == len(sampler) == 200


@pytest.mark.parametrize("factors", [[1, 1], [1, 1, 0.9], [1, 1, float("nan")]])
def test_wrong_factors(factors):
    with pytest.raises(ValueError, match="factors: expected 3 numbers of at least 1"):
        TrainBatchSampler(3, batch_size=1, num_iterations=1, factors=np.array(factors))


def test_empty_training_set_is_an_error_not_an_endless_loop():
    with pytest.raises(DataError, match="training set is empty"):
        TrainBatchSampler(0, batch_size=2, num_iterations=3)


@pytest.mark.parametrize("groups", [None, [0, 1, 0]])
def test_fewer_samples_than_a_batch(groups, caplog):
    groups = None if groups is None else np.array(groups)
    sampler = TrainBatchSampler(3, batch_size=8, num_iterations=5, group_ids=groups)
    batches = _indices(sampler)
    assert len(batches) == 5
    assert sorted(sum(batches[: 1 if groups is None else 2], [])) == [0, 1, 2]
    assert caplog.text.count("do not fill a batch of 8") == 1
    assert _indices(TrainBatchSampler(3, batch_size=8, num_iterations=5, start_iter=3, group_ids=groups)) == batches[3:]


def test_one_sample_and_many_processes():
    for rank in range(4):
        sampler = TrainBatchSampler(1, batch_size=4, num_iterations=3, share_each_pass=True, rank=rank, world_size=4)
        assert list(sampler) == [[(0, 0, 0)], [(1, 0, 0)], [(2, 0, 0)]]


def test_the_run_seed_changes_the_order():
    orders = [
        tuple(map(tuple, _indices(TrainBatchSampler(50, batch_size=5, num_iterations=20, seed=seed))))
        for seed in range(5)
    ]
    assert len(set(orders)) == len(orders)
    assert orders[0][:10] == tuple(map(tuple, group_batches(pass_order(50, seed=0), batch_size=5)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"batch_size": 1, "rank": 2, "world_size": 2}, "rank: got 2, expected 0 to 1"),
        ({"batch_size": 1, "group_ids": np.zeros(3)}, "got 3 entries for 4 samples"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        TestBatchSampler(4, **options)
    with pytest.raises(ValueError, match=message):
        TrainBatchSampler(4, num_iterations=1, **options)


def test_speed_on_a_large_data_set():
    length, passes = 200_000, 4
    groups = np.random.default_rng(0).integers(0, 2, length)
    begin = time.process_time()
    sampler = TrainBatchSampler(length, batch_size=16, num_iterations=length // 16 * passes, group_ids=groups)
    count = sum(1 for _ in sampler)
    seconds = time.process_time() - begin
    assert count == len(sampler)
    assert seconds < 4  # 0.3 s alone; the machine may be shared

    begin = time.process_time()
    late = TrainBatchSampler(
        length, batch_size=16, num_iterations=length // 16 * passes, start_iter=length // 16 * 3, group_ids=groups
    )
    next(iter(late))
    assert time.process_time() - begin < seconds + 0.5
