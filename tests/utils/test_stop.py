import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest
from torch.utils.data import DataLoader

from alphaction.utils import stop
from alphaction.utils.distributed import Processes
from alphaction.utils.stop import Interrupted, StopRequest, shield_worker, telling


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0)  # the handler runs before the next statement


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_earlier_handlers_come_back(number, capfd):
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with StopRequest() as request:
        assert (request.requested, request.number, request.agreed()) == ("", 0, False)
        send(number)
        assert (request.requested, request.number, request.agreed()) == (number.name, number, True)
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before
    assert f"{number.name}: stopping in good order; Ctrl-C (again) stops at once." in capfd.readouterr().err


def test_a_second_ctrl_c_stops_at_once(monkeypatch):
    with pytest.raises(KeyboardInterrupt), StopRequest() as request:
        send(signal.SIGINT)
        send(signal.SIGINT)  # the same keystroke, passed on by a launcher
        send(signal.SIGTERM)
        assert request.requested == "SIGINT"
        monkeypatch.setattr(stop, "_SAME_KEYSTROKE", -1.0)
        send(signal.SIGINT)


def test_nothing_is_noted_outside_of_the_main_thread():
    found = []

    def look():
        with StopRequest() as request:
            found.append((signal.getsignal(signal.SIGTERM) == before, request.requested))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [(True, "")]


class Two(Processes):
    """Of the two processes this one asks; the other has its own counts."""

    def sum(self, values):
        return [value + other for value, other in zip(values, self.others, strict=True)]


def test_all_processes_agree_on_the_signal():
    two = Two(rank=0, size=2)
    request = StopRequest()
    object.__setattr__(two, "others", [0, 0])
    assert not request.agreed(two)
    object.__setattr__(two, "others", [0, 1])  # the other one got SIGINT
    assert request.agreed(two) and request.requested == "SIGINT"


def test_the_exception_travels_between_processes():
    copy = pickle.loads(pickle.dumps(Interrupted("stopped", signal=15)))
    assert (str(copy), copy.signal) == ("stopped", 15)


def test_what_an_interrupted_run_says():
    with pytest.raises(Interrupted) as stopped, telling("stopped in the test."):
        raise Interrupted("batch 3", signal=signal.SIGTERM)
    assert (str(stopped.value), stopped.value.signal) == ("SIGTERM: stopped in the test.", signal.SIGTERM)
    with telling("nothing"):
        pass


class Pids:
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return os.getpid()


def _start(worker):
    shield_worker()


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="needs sigwaitinfo")
def test_workers_outlive_what_the_run_is_asked_to_end_by():
    pids = iter(DataLoader(Pids(), batch_size=1, num_workers=1, prefetch_factor=1, worker_init_fn=_start))
    worker = next(pids).item()
    # From another process than the worker's parent: SIGTERM of a cluster, Ctrl-C of a terminal.
    for name in ("SIGTERM", "SIGINT"):
        code = f"import os, signal; os.kill({worker}, signal.{name})"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert [each.item() for each in pids] == [worker] * 7


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="needs sigwaitinfo")
def test_the_parent_can_still_end_a_worker():
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    worker = context.Process(target=_hang, args=(ready,), daemon=True)
    worker.start()
    assert ready.wait(60)
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="needs sigwaitinfo")
def test_a_worker_that_hangs_does_not_outlive_its_parent():
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    parent = context.Process(target=_parent, args=(theirs,))
    parent.start()
    theirs.close()
    assert mine.recv() == "ready"
    parent.kill()
    parent.join(60)
    assert mine.poll(60)  # the other end is closed: the worker, which held it, is gone
    with pytest.raises(EOFError):
        mine.recv()


def _parent(pipe):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    context.Process(target=_hang, args=(ready,), daemon=True).start()
    ready.wait(60)
    pipe.send("ready")
    time.sleep(600)


def _hang(ready):
    shield_worker()
    ready.set()
    time.sleep(600)
