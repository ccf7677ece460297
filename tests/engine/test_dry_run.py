"""--dry-run: what it says, and that it leaves no trace."""

import re
from dataclasses import replace

import process_kit
import pytest
import run_kit
import torch
from torch import nn

from alphaction.engine.trial.report import (
    Estimate,
    Plan,
    ScoredSet,
    Sizes,
    count_between,
    shown_bytes,
    shown_time,
    tensor_bytes,
)
from alphaction.engine.trial.times import MOST_STEPS, BatchTime, Machine, seconds_per_batch, time_reading, time_steps
from alphaction.errors import DataError

CPU = torch.device("cpu")
MIB = 2**20


def contents(folder):
    """Every file with its content and time."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def row(text, name):
    """The text of a row of the table."""
    return re.search(rf"^  {name} +(.*)$", text, re.MULTILINE).group(1)


def test_a_dry_run_makes_no_folder_and_says_what_to_expect(config, tmp_path, capsys):
    run_kit.train(config, tmp_path / "a" / "b", "TEST.EVAL_AT_START", True, "SOLVER.KEEP_BEST", True, dry_run=True)
    shown = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert f"ESTIMATE of what the whole run will take, from {MOST_STEPS} training steps" in shown
    assert row(shown, "training") == "4 iterations of 2 clips: 1.3 passes (epochs) over 6 clips"
    assert "by the training process itself (NUM_WORKERS 0)" in row(shown, "one iteration")
    assert ": 2 batches, " in row(shown, "test on tiny_val")
    assert row(shown, "time for validations").endswith(": 2 of them")  # one before, one at iteration 2 of 4
    assert "2 periodic, 1 final, 1 of the best weights" in row(shown, "disk for all of them")
    assert "Not counted: the evaluation after a test" in shown
    assert "training starts from scratch" in shown  # what a real start says is said


def test_a_run_in_the_folder_is_not_touched_and_taken_as_the_start(config, tmp_path, capsys):
    run_kit.train(config, tmp_path, "SOLVER.MAX_ITER", 2, skip_validation=True, skip_final_test=True)
    before = contents(tmp_path)
    capsys.readouterr()
    run_kit.train(config, tmp_path, dry_run=True, skip_validation=True, tensorboard=True)
    shown = capsys.readouterr().out
    assert contents(tmp_path) == before
    assert "this run CONTINUES from" in shown
    assert "2 iterations of 2 clips, from iteration 2: 0.7 passes" in row(shown, "training")
    assert row(shown, "time for validations").endswith(": 0 of them")
    # Two tensors for each trainable weight (the momentum), one for each buffer; what else is in the file is small.
    told = float(row(shown, "a checkpoint").split(" MiB")[0])
    assert told == pytest.approx((tmp_path / "model_0000002.pth").stat().st_size / MIB, rel=0.05)


def test_a_finished_run_can_be_tried_out_too(config, tmp_path, capsys):
    options = ("SOLVER.MAX_ITER", 2)
    run_kit.train(config, tmp_path, *options, skip_validation=True, skip_final_test=True)
    run_kit.train(config, tmp_path, *options, dry_run=True)
    assert row(capsys.readouterr().out, "training").startswith("0 iterations of 2 clips")


def test_two_passes_and_the_memory(config, tmp_path, capsys):
    options = {
        "ACTIVE": True, "I_BLOCK_LIST": "['P', 'M']", "DIM_IN": 576, "DIM_INNER": 8, "DIM_OUT": 8, "MAX_PERSON": 5,
        "MEMORY_STEP": 0.5, "LENGTH": "(1, 1)",
    }  # fmt: skip
    opts = [item for key, value in options.items() for item in (f"MODEL.IA_STRUCTURE.{key}", value)]
    run_kit.train(config, tmp_path / "a", *opts, "DATALOADER.NUM_WORKERS", 1, dry_run=True)
    shown = capsys.readouterr().out
    assert row(shown, "remembered persons") == f"{12 * 576 * 4 / 1024:.1f} KiB when full, in training"
    assert f"{6 * 576 * 4 * 2 / 1024:.1f} KiB in a test: features and memory" in shown
    assert "batches held ready" in shown and "+ workers " in row(shown, "memory so far")


def test_faults_are_those_of_a_real_run(config, tmp_path, capsys):
    wrong = ("MODEL.WEIGHT", tmp_path / "nowhere.pth")
    real = run_kit.fail_train(capsys, config, tmp_path / "real", *wrong)
    dry = run_kit.fail_train(capsys, config, tmp_path / "dry", *wrong, dry_run=True)
    assert dry == real
    file = tmp_path / "file"
    file.write_text("")
    told = run_kit.fail_train(capsys, config, file, dry_run=True)
    assert told.startswith(f"OUTPUT_DIR {file}: cannot be written to")
    assert not (tmp_path / "dry").exists()


def test_two_processes_one_table(config, tmp_path):
    texts, folder = tmp_path / "texts", tmp_path / "run"
    texts.mkdir()
    command = ["train_net.py", "--config-file", str(config), "--dry-run", "OUTPUT_DIR", str(folder / "a")]
    folder.mkdir()
    with process_kit.start(process_kit.code_of(*command), 2, texts) as members:
        assert [member.ends() for member in members] == [0, 0], members[0].text + members[1].text
    text = members[0].text + members[1].text
    assert text.count("ESTIMATE") == 1
    assert "4 iterations of 2 clips in 2 processes" in row(text, "training")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("compute", "read", "workers", "cores", "threads", "expected"),
    [
        (1.0, 0.5, 0, 8, 0, 1.5),  # reads itself
        (1.0, 3.0, 4, 8, 0, 1.0),  # a GPU, reading is quicker
        (1.0, 8.0, 4, 8, 0, 2.0),  # reading is slower
        (1.0, 8.0, 16, 3, 0, 4.0),  # more workers than cores that are left
        (1.0, 1.0, 1, 2, 2, 1.5),  # network and worker share two cores
        (1.0, 1.0, 1, 2, 1, 1.0),
    ],
)
def test_the_slower_one_sets_the_pace(compute, read, workers, cores, threads, expected):
    machine = Machine(workers=workers, cores=cores, threads=threads)
    assert seconds_per_batch(BatchTime(compute, read), machine) == pytest.approx(expected)


def estimate(**sizes):
    plan = Plan(
        start_iter=100, max_iter=1100, videos_per_batch=8, clips=400, validations=4, final_tests=1, checkpoints=3,
        keep_best=True, processes=2,
    )  # fmt: skip
    bytes_of = {"checkpoint": 200 * MIB, "weights": 90 * MIB, "waiting": 0, "remembered": 10 * MIB} | sizes
    return Estimate(
        plan=plan,
        train=BatchTime(compute=0.75, read=2.0, first=9.0),
        tests=[ScoredSet("val", 50, BatchTime(compute=0.5, read=1.0))],
        machine=Machine(workers=2, cores=8, threads=0),
        sizes=Sizes(**{"remembered_in_test": None, "free": 2**40} | bytes_of),
        memory_so_far="1.00 GiB",
        steps=6,
        output_dir="out",
    )


def test_the_sums_of_the_table():
    made = estimate()
    text = made.table()
    assert row(text, "training").startswith(
        "1000 iterations of 8 clips in 2 processes, from iteration 100: 20.0 passes"
    )
    assert row(text, "data wait") == "25 % of the time"
    assert row(text, "time for training") == "0:16:40"
    assert row(text, "test on val") == "0:00:25: 50 batches, 0.500 s each"
    assert row(text, "time for validations") == "0:01:40: 4 of them"
    assert row(text, "time of the whole run") == "0:18:45"
    assert row(text, "a checkpoint") == "210.0 MiB"
    assert made.disk_bytes == (4 * 210 + 200 + 90) * MIB
    assert "NOT ENOUGH" not in text
    assert "NOT ENOUGH" in row(estimate(free=2**30).table(), "disk for all of them")


def test_quick_looks_and_both_kinds_of_boxes():
    made = estimate()
    made = replace(made, plan=replace(made.plan, every_n=5, final_tests=2))
    assert row(made.table(), "time for validations") == "0:00:20: 4 of them, each of 1 of 5 keyframes"
    assert row(made.table(), "time for final test") == "0:00:50"
    assert row(made.table(), "time of the whole run") == "0:17:50"


def test_counting():
    assert [count_between(*numbers) for numbers in ((2, 0, 4), (2, 2, 4), (3, 0, 2), (0, 0, 9), (5, 9, 4))] == [
        2, 1, 0, 0, 0,
    ]  # fmt: skip
    layer = nn.Linear(3, 2)
    twice = {"a": [layer.state_dict()], "b": (layer.weight, 1.0, "text")}
    assert tensor_bytes(twice) == 4 * (3 * 2 + 2)
    assert [shown_bytes(count) for count in (12, 2048, 3 * 2**30)] == ["12 B", "2.0 KiB", "3.0 GiB"]
    assert (shown_time(0.25), shown_time(3661.4)) == ("0.2 s", "1:01:01")


class Batch:
    num_persons = 1


def test_two_steps_of_the_loader_then_the_same_batches_again():
    seen = []
    first, second = Batch(), Batch()
    times, steps = time_steps(
        lambda batch, iteration: seen.append((batch, iteration)), [first, second], start_iter=10, device=CPU
    )
    assert steps == MOST_STEPS == 6
    assert seen == [(first, 11), (second, 12), (first, 13), (second, 14), (first, 15), (second, 16)]
    assert times.first > 0 and times.compute >= 0


def test_no_person_to_train_on():
    with pytest.raises(DataError, match="the first 2 batches of the training set hold no readable clip"):
        time_steps(lambda batch, iteration: None, [None, None], start_iter=0, device=CPU)


def test_reading_as_a_worker_does_uses_one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        reader = (torch.get_num_threads() for _ in range(4))
        assert time_reading(reader, 2, as_worker=True)[1] == [1, 1]
        assert time_reading(reader, 2, as_worker=False)[1] == [2, 2]
    finally:
        torch.set_num_threads(threads)
