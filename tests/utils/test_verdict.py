"""What counts as dead and as hanging, judged on made-up signs."""

import os
import subprocess
import sys

from alphaction.utils.verdict import SUSPICIOUS, Judge, Sign, first_sign, is_gone


def signs(*changes, number=1):
    """Of processes on machines of their own."""
    return [
        Sign(**{"host": f"node{rank}", "pid": 10 + rank, "place": "", "number": number} | change)
        for rank, change in enumerate(changes)
    ]


def judge(**options):
    return Judge(**{"rank": 0, "store_holder": "", "timeout": 100.0, "dead_after": 10.0} | options)


def looked(judge, looks, elapsed=1.0):
    """The verdict, and after how many looks."""
    for number, (rounds, now) in enumerate(looks, 1):
        verdict = judge.look(now, rounds=rounds, elapsed=elapsed)
        if verdict is not None:
            return verdict, number
    return None, len(looks)


def test_silence_is_death_after_the_stated_time():
    def looks(length):
        """Process 1 never tells anything new, process 2 does."""
        return [(i, signs({"number": i}, {"what": "iteration 7"}, {"number": i})) for i in range(length)]

    verdict, number = looked(judge(), looks(60))
    assert verdict.culprit == 1 and 10 <= number <= 13
    assert verdict.message.startswith("process 1 of 3 (node1, pid 11) gives no sign of life for 10 s (it was at: iter")
    # Once a message has failed, a shorter silence is enough.
    assert looked(judge(suspicious=True), looks(60))[1] <= SUSPICIOUS + 3


def test_a_store_that_does_not_answer():
    quiet = [(0, signs({}, {}))] * 60
    verdict, number = looked(judge(rank=1), quiet)
    assert verdict.culprit == 0 and "process 0 of 2 (node0, pid 10) died or hangs" in verdict.message
    assert 10 <= number <= 12
    verdict, _ = looked(judge(rank=1, store_holder="the launcher at node0:29500"), quiet)
    assert verdict == (-1, "the launcher at node0:29500 died or hangs (no answer for 10 s), so this run ends.")
    assert looked(judge(rank=1, lost="Connection reset"), quiet)[1] == 1  # at once


def hang(*changes):
    return judge().look(signs(*changes), rounds=1, elapsed=1.0)


def test_a_hang_is_of_the_one_that_others_wait_for():
    stuck = {"idle": 150.0, "what": "data of iteration 13", "steps": 12}
    verdict = hang({"idle": 140.0, "waiting": True, "steps": 13}, stuck)
    assert verdict.culprit == 1 and "hangs: no progress for 150 s (it is at: data of iteration 13)" in verdict.message
    # Not waiting by name, but further (in a message that the network itself sends).
    assert hang({"idle": 140.0, "steps": 13}, stuck).culprit == 1
    assert hang({"idle": 140.0, "steps": 12}, stuck, {"idle": 1.0, "steps": 13, "waiting": True}).culprit in (0, 1)


def test_no_hang():
    stuck = {"idle": 150.0, "steps": 12}
    assert hang(stuck, stuck) is None  # nobody is behind: the disk is slow for all
    assert hang({"idle": 500.0, "waiting": True}, {"idle": 50.0}) is None  # one works while the others wait
    assert hang({"idle": 500.0, "waiting": True}, {"idle": 500.0, "waiting": True}) is None
    assert hang({"idle": 5.0, "steps": 14}, stuck | {"end": ""}) is None  # has ended well


def test_ends():
    assert hang({}, {"end": ""}) is None
    assert hang({}, {"end": "no disk"}) == (1, "process 1 of 2 (node1, pid 11) ended with an error: no disk")
    blamed = {"end": "process 2 died", "verdict": "process 2 died"}
    assert hang({}, blamed, {}).message == "process 2 died"  # the same message everywhere


def test_a_process_of_this_machine_is_seen_to_be_gone():
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    own = first_sign()
    sign = Sign(own.host, other.pid, own.place)
    assert own.pid == os.getpid() and not is_gone(sign, own=own)
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, but its launcher has not noticed yet
    if own.place:
        assert is_gone(sign, own=own)
        assert not is_gone(Sign("elsewhere", other.pid, "another machine"), own=own)
    other.communicate()
    assert is_gone(sign, own=own) == bool(own.place)
    gone = [own, sign]
    verdict, number = looked(judge(), [(i, gone) for i in range(9)])
    assert (verdict is not None) == bool(own.place)
    if verdict is not None:  # not before its goodbye would have come
        assert number >= 3 and "died" in verdict.message
