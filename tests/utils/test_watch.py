"""A process that dies or hangs ends the others within the stated time, with a message that names it."""

import re
import signal

import process_kit
import pytest

from alphaction.utils import watch

# What every process runs: it meets the others and opens the group; the limits are short.
MEETING = """
import sys, time
import torch
from alphaction.utils import watch
watch.PERIOD, watch.GRACE = {period}, {grace}
from alphaction.engine.script import run_script
from alphaction.utils.launch import connected, read_launch
from alphaction.utils.watch import beat, note

def main():
    with connected(read_launch(), patience=30) as connection:
        limits = {{"timeout": {timeout}, "dead_after": {dead_after}}}
        processes = connection.open_group(torch.device("cpu"), backend="gloo", **limits)
        beat("iteration 1")
        processes.wait()
        print("ready", flush=True)
        work(processes)
        print("done", flush=True)

def work(processes):
    {work}

run_script(main)
"""
TALK = "while True: processes.sum([1]); time.sleep(0.05)"


SHORT = {"period": 0.2, "grace": 0.5}
USUAL = {"period": watch.PERIOD, "grace": watch.GRACE}


def code(*work, timeout=1000.0, dead_after=30.0, waits=SHORT):
    limits = {"timeout": timeout, "dead_after": dead_after} | waits
    return process_kit.each([MEETING.format(work=part, **limits) for part in work])


def message(member):
    """The one message with which a process ended."""
    assert member.ends() == 1, member.text
    told = re.findall(r"^(?:\[process \d\] )?error: (.*)", member.text, re.MULTILINE)
    assert len(told) == 1 and "Traceback" not in member.text, member.text
    return told[0]


@pytest.mark.parametrize(("victim", "own_store"), [(0, False), (1, True)], ids=["holds the store", "does not"])
def test_a_killed_process_is_named_at_once(tmp_path, victim, own_store):
    with process_kit.start(code(TALK, TALK, waits=USUAL), 2, tmp_path, own_store=own_store) as members:
        for member in members:
            member.says("ready")
        members[victim].kill()
        told = message(members[1 - victim])
    assert re.match(rf"process {victim} of 2 \(\S+, pid {members[victim].process.pid}\) died", told)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_stands_still_counts_as_dead(tmp_path, victim):
    with process_kit.start(code(TALK, TALK, dead_after=2.0), 2, tmp_path) as members:
        for member in members:
            member.says("ready")
        members[victim].kill(signal.SIGSTOP)
        told = message(members[1 - victim])
        assert re.match(rf"process {victim} of 2 \(\S+, pid {members[victim].process.pid}\) ", told)
        assert "no sign of life for 2 s" in told or "died or hangs (no answer for 2 s" in told
        members[victim].kill(signal.SIGCONT)  # woken up, it finds that the others have gone
        members[victim].ends()


def test_a_process_that_hangs_in_its_data_ends_all(tmp_path):
    slow = 'beat("iteration 2"); processes.wait(); note("data of iteration 3"); time.sleep(1000)'
    waits = 'beat("iteration 2"); processes.wait(); beat("iteration 3"); processes.sum([1])'
    with process_kit.start(code(waits, slow, timeout=2.0), 2, tmp_path) as members:
        told = [message(member) for member in members]
    assert told[0] == told[1]
    pid = members[1].process.pid
    assert re.match(rf"process 1 of 2 \(\S+, pid {pid}\) hangs: .* \(it is at: data of iteration 3\)", told[0])
    assert "DISTRIBUTED.TIMEOUT" in told[0]


def test_work_of_one_process_is_no_hang_of_those_who_wait(tmp_path):
    """Longer than the limit, but it gets on."""
    work = 'processes.on_main(lambda: [(note(f"evaluation {i}"), time.sleep(0.35)) for i in range(10)])'
    with process_kit.start(code(work, work, timeout=2.5), 2, tmp_path) as members:
        assert [member.ends() for member in members] == [0, 0], members[0].text + members[1].text
    assert all("done" in member.text and "error" not in member.text for member in members)


def test_who_finishes_first_does_not_count_as_dead(tmp_path):
    late = "time.sleep(3)"
    with process_kit.start(code("pass", late, dead_after=2.0), 2, tmp_path) as members:
        assert [member.ends() for member in members] == [0, 0], members[0].text + members[1].text
    assert all(member.text.split() == ["ready", "done"] for member in members)  # no warning of the process group


def test_an_error_of_one_process_is_told_by_the_others(tmp_path):
    fails = 'from alphaction.errors import VideoError; raise VideoError("yard.mp4: cannot be read")'
    with process_kit.start(code(TALK, fails), 2, tmp_path) as members:
        assert message(members[1]) == "yard.mp4: cannot be read"
        told = message(members[0])
    pid = members[1].process.pid
    assert re.fullmatch(rf"process 1 of 2 \(\S+, pid {pid}\) ended with an error: yard.mp4: cannot be read", told)


def test_a_slow_goodbye_leaves_one_message(tmp_path):
    """Process 0, which holds the store, stays until the other has read in it for the last time."""
    slow = "from alphaction.utils.watch import Watch; read = Watch._read; "
    slow += "Watch._read = lambda self: (self._closing.is_set() and time.sleep(1), read(self))[1]; "
    fails = 'from alphaction.errors import VideoError; raise VideoError("yard.mp4: cannot be read")'
    with process_kit.start(code(fails, slow + fails, waits=USUAL), 2, tmp_path) as members:
        assert message(members[0]) == "yard.mp4: cannot be read"
        assert members[1].ends() == 1
    assert members[1].text == "ready\n"  # neither the same message again nor what PyTorch says of a store that is gone


def test_a_fault_of_the_software_keeps_its_traceback(tmp_path):
    with process_kit.start(code("raise KeyError('blub')", TALK), 2, tmp_path) as members:
        assert members[0].ends() == 1 and "KeyError: 'blub'" in members[0].text and "Traceback" in members[0].text
        assert "ended with an error: KeyError: 'blub'" in message(members[1])


def test_a_process_that_never_comes(tmp_path):
    absent = "pass"
    here = MEETING.format(work="pass", timeout=10, dead_after=10, **SHORT).replace("patience=30", "patience=1")
    with process_kit.start(process_kit.each([here, absent]), 2, tmp_path, own_store=True) as members:
        told = message(members[0])
    assert "1 s" in told and "MASTER_ADDR" in told
