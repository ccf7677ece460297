import itertools
import time

import goldens
import numpy as np
import pytest

from alphaction.dataset.samplers import (
    TestBatchSampler,
    TrainBatchSampler,
    aspect_group_ids,
    group_batches,
    pass_order,
)
from alphaction.errors import DataError

GOLDEN = goldens.load("samplers")


def _groups(case):
    return aspect_group_ids(np.array(case["sizes_wh"])[:, ::-1])


def _indices(batches):
    return [[index for _, index in batch] for batch in batches]


def _sampler(case, rank, **changes):
    options = {
        "batch_size": case["batch_size"],
        "num_iterations": case["num_iterations"],
        "start_iter": case["start_iter"],
        "group_ids": _groups(case),
        "drop_uneven": case["drop_uneven"],
        "rank": rank,
        "world_size": case["world_size"],
    }
    # The recorded batch size is that of a process, whatever the number of processes.
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
        numbers = [{number for number, _ in batch} for batch in _sampler(case, rank, start_iter=0, num_iterations=60)]
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
        sampler = TrainBatchSampler(1, batch_size=1, num_iterations=3, rank=rank, world_size=4)
        assert list(sampler) == [[(0, 0)], [(1, 0)], [(2, 0)]]


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
    length, passes = 200_000, 10
    groups = np.random.default_rng(0).integers(0, 2, length)
    begin = time.process_time()
    sampler = TrainBatchSampler(length, batch_size=16, num_iterations=length // 16 * passes, group_ids=groups)
    count = sum(1 for _ in sampler)
    seconds = time.process_time() - begin
    assert count == len(sampler)
    assert seconds < 2 * 4  # 0.7 s alone; the machine may be shared

    begin = time.process_time()
    late = TrainBatchSampler(
        length, batch_size=16, num_iterations=length // 16 * passes, start_iter=length // 16 * 9, group_ids=groups
    )
    next(iter(late))
    assert time.process_time() - begin < seconds + 0.5
