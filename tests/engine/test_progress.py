"""The log line, the hint about waiting for data, peak memory, and who writes figures."""

import logging
import multiprocessing
import re
import time

import pytest
import run_kit
import torch

from alphaction.engine.data_wait import AGAIN_AFTER, DataWaitHint
from alphaction.engine.progress import Progress
from alphaction.engine.scalars import NoScalars, ScalarLog, open_scalars
from alphaction.utils import peak_memory
from alphaction.utils.distributed import Processes

CPU = torch.device("cpu")
THREE_GROUPS = {
    "loss_pose_action": 0.25,
    "loss_object_interaction": 0.5,
    "accuracy_pose_action": 0.5,
    "accuracy_object_interaction": 1.0,
    "loss_action": 0.75,
    "accuracy": 0.75,
}


@pytest.fixture
def log(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("alphaction"), "propagate", True)
    caplog.set_level(logging.INFO, logger="alphaction")
    return caplog


class Writer(list):
    def write(self, scalars, iteration):
        self.append((iteration, scalars))


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def run(steps, *, period=2, waited=0.0, **options):
    """(writer) after one `add` per step of one second."""
    writer = Writer()
    progress = Progress(writer, max_iter=len(steps), period=period, device=CPU, **options)
    for iteration, scalars in enumerate(steps, 1):
        wait = waited if isinstance(waited, float) else waited[iteration - 1]
        progress.add(scalars, iteration=iteration, learning_rate=0.01, seconds=1.0, waited=wait)
    return writer


def lines(log):
    return [record.getMessage() for record in log.records if record.getMessage().startswith("iteration ")]


def test_a_whole_line(log, monkeypatch):
    monkeypatch.setattr("alphaction.engine.progress.peak_memory", lambda device: {"host_memory_mib": 1536.0})
    run([THREE_GROUPS | {"grad_norm": 2.5, "loss_scale": 65536.0, "skipped_batches": 3.0}] * 2, waited=0.25)
    assert lines(log) == [
        "iteration 2/2  eta 0:00:00  loss_action 0.7500 (pose_action 0.2500, object_interaction 0.5000)  "
        "accuracy 0.7500 (pose_action 0.5000, object_interaction 1.0000)  grad_norm 2.5  lr 0.01  skipped 3  "
        "loss scale 65536  1.000 s/it  data wait 25 %  memory 1.50 GiB"
    ]


def test_the_only_class_group_is_not_told_twice(log):
    run([{"loss_pose_action": 0.5, "accuracy_pose_action": 1.0, "loss_action": 0.5, "accuracy": 1.0}], period=1)
    assert "  loss_action 0.5000  accuracy 1.0000  lr" in lines(log)[0]


def test_figures_are_means_since_the_last_line(log):
    writer = run([{"loss_action": float(k)} for k in range(1, 6)])
    assert [(iteration, scalars["loss_action"]) for iteration, scalars in writer] == [(2, 1.5), (4, 3.5), (5, 5.0)]
    assert [line.split("  ")[1] for line in lines(log)] == ["eta 0:00:03", "eta 0:00:01", "eta 0:00:00"]


def test_counts_are_told_when_there_are_some(log):
    steps = [{"skipped_batches": 0.0}, {"skipped_batches": 1.0}, None, {"skipped_batches": 2.0}]
    first, second, third, fourth = (scalars for _, scalars in run(steps, period=1))
    assert [line.count("skipped") for line in lines(log)] == [0, 1, 1, 1]
    assert "empty" not in lines(log)[1] and "empty 1" in lines(log)[2] and "empty 1" in lines(log)[3]
    assert (first["skipped_batches"], fourth["skipped_batches"], fourth["empty_batches"]) == (0, 2, 1)


class Two(Processes):
    """This process and one that waits longer and needs more."""

    def gather(self, value):
        return [value, {name: 2 * figure for name, figure in value.items() if name != "time"} | {"time": 1.25}]


def test_of_several_processes_the_slowest_and_the_fullest_are_told(log, monkeypatch):
    monkeypatch.setattr("alphaction.engine.progress.peak_memory", lambda device: {"host_memory_mib": 1024.0})
    [(_, scalars)] = run([{"loss_action": 1.0}], processes=Two(), waited=0.25)
    assert (scalars["time"], scalars["data_time"], scalars["host_memory_mib"]) == (1.25, 0.5, 2048.0)
    assert scalars["loss_action"] == 1.0  # is the same everywhere
    assert "data wait 40 %  memory 2.00 GiB" in lines(log)[0]


def hints(log):
    return [record.getMessage() for record in log.records if "waited" in record.getMessage()]


def test_hint_after_the_first_window(log):
    run([{}] * 6, waited=[0.9, 0.9, 0.5, 0.3, 0.9, 0.9], hint=DataWaitHint(num_workers=1, cores=16, least=2))
    assert hints(log) == [
        "The network waited 40 % of the time for its data (iterations 3 to 4). What helps: more processes that read "
        "(DATALOADER.NUM_WORKERS is 1; this machine has 16 cores); INPUT.TRANSFORM device (these processes only "
        "decode, the rest is computed on the GPU); videos of fewer pixels, with a key frame every second or two, on a "
        "local NVMe disk. python benchmarks/data.py --config-file FILE --own measures where the time goes."
    ]


def test_no_advice_that_is_followed_already(log):
    hint = DataWaitHint(num_workers=1, cores=16, least=2, device_could_transform=False)
    run([{}] * 6, waited=[0.9, 0.9, 0.5, 0.3, 0.9, 0.9], hint=hint)
    assert "16 cores); videos of fewer pixels" in hints(log)[0] and "INPUT.TRANSFORM" not in hints(log)[0]


def test_no_hint_where_the_network_is_busy(log):
    run([{}] * 6, waited=[0.9, 0.9, 0.3, 0.3, 0.1, 0.4], hint=DataWaitHint(num_workers=1, cores=16, least=2))
    assert hints(log) == []


def test_lines_that_stand_close_are_looked_at_together(log):
    run([{}] * 20, period=1, waited=[0.0] * 10 + [0.9, 0.1] * 5, hint=DataWaitHint(num_workers=1, cores=16))
    assert len(hints(log)) == 1
    assert "waited 50 % of the time for its data (iterations 11 to 20)" in hints(log)[0]


def test_the_hint_comes_again_after_an_hour(log):
    clock = Clock()
    hint = DataWaitHint(num_workers=4, cores=16, clock=clock, least=2)
    for clock.now in (0.0, 1.0, 2.0, AGAIN_AFTER, AGAIN_AFTER + 1.0, AGAIN_AFTER + 2.0):
        hint.look(0.5, first=1, last=2)
    assert len(hints(log)) == 2


@pytest.mark.parametrize(
    ("workers", "processes", "words"),
    [
        (0, 1, "processes of their own that read (DATALOADER.NUM_WORKERS is 0; this machine has 8 cores)"),
        (2, 2, "more processes that read (DATALOADER.NUM_WORKERS is 2; this machine has 8 cores for 2 processes)"),
        (4, 2, "DATALOADER.NUM_WORKERS is 4, and this machine has 8 cores for 2 processes: more will hardly help"),
    ],
)
def test_the_hint_fits_the_machine(log, workers, processes, words):
    hint = DataWaitHint(num_workers=workers, num_processes=processes, cores=8, least=2)
    hint.look(0.5, first=1, last=2)
    hint.look(0.5, first=3, last=4)
    assert words in hints(log)[0]


def test_the_launcher_says_how_many_processes_share_the_machine(log, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    hint = DataWaitHint(num_workers=1, cores=8, least=2)
    hint.look(0.5, first=1, last=2)
    hint.look(0.5, first=3, last=4)
    assert "8 cores for 3 processes" in hints(log)[0]


def test_peak_memory_never_falls():
    before = peak_memory.peak_memory(CPU)[peak_memory.HOST]
    tensor = torch.ones(2**26)  # 256 MiB
    with_tensor = peak_memory.peak_memory(CPU)[peak_memory.HOST]
    del tensor
    assert with_tensor >= max(before, 256)
    assert peak_memory.peak_memory(CPU)[peak_memory.HOST] >= with_tensor


def test_units_of_the_systems(monkeypatch):
    usage = type("Usage", (), {"ru_maxrss": 4096})
    monkeypatch.setattr(peak_memory.resource, "getrusage", lambda who: usage)
    monkeypatch.setattr(peak_memory.sys, "platform", "linux")
    assert peak_memory.peak_of_this_process() == 4096 * 1024
    monkeypatch.setattr(peak_memory.sys, "platform", "darwin")
    assert peak_memory.peak_of_this_process() == 4096
    monkeypatch.setattr(peak_memory, "resource", None)
    assert peak_memory.peak_memory(CPU) == {}
    assert peak_memory.shown_memory({}) == ""


def test_workers_count_while_they_run():
    worker = multiprocessing.Process(target=time.sleep, args=(60,))
    worker.start()
    try:
        shown = peak_memory.shown_memory(peak_memory.peak_memory(CPU))
        assert re.search(
            r"GiB \+ workers \d+\.\d", shown
        )  # how much depends on the tests before, which it is forked from
    finally:
        worker.terminate()
        worker.join()
    assert peak_memory.WORKERS not in peak_memory.peak_memory(CPU)


def test_memory_of_a_gpu_in_words():
    figures = {peak_memory.HOST: 3072.0, peak_memory.GPU: 8192.0, peak_memory.GPU_RESERVED: 9216.0}
    assert peak_memory.shown_memory(figures) == "GPU memory 8.00 GiB (reserved 9.00 GiB)  memory 3.00 GiB"


def test_only_the_main_process_writes(tmp_path):
    other = open_scalars(tmp_path, tensorboard=True, is_main=False)
    assert isinstance(other, NoScalars)
    other.write({"loss_action": 1.0}, 1)
    other.close()
    assert list(tmp_path.iterdir()) == []
    main = open_scalars(tmp_path, tensorboard=False)
    assert isinstance(main, ScalarLog)
    main.close()


def test_a_run_gives_the_hint_with_its_own_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr("alphaction.engine.data_wait.SHARE", -1.0)  # the tiny clips are read in no time
    dataset = run_kit.write_dataset(tmp_path / "set")
    config = run_kit.write_config(tmp_path / "tiny.yaml", dataset)
    options = ("SOLVER.MAX_ITER", 20, "SOLVER.CHECKPOINT_PERIOD", 20, "SOLVER.LOG_PERIOD", 5)
    run_kit.train(config, tmp_path / "out", *options, skip_validation=True, skip_final_test=True)
    log = (tmp_path / "out" / "log.txt").read_text()
    assert log.count("% of the time for its data") == 1
    assert "INPUT.TRANSFORM device" not in log  # on a processor it costs more than it saves
    assert "(iterations 11 to 20)" in log and "(DATALOADER.NUM_WORKERS is 0; this machine has " in log
