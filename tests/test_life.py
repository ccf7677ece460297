"""Runs that are killed or asked to stop, and started again by the same command, end as one that nobody touched."""

import functools
import os
import signal

import life_kit
import pytest
import run_kit
from life_kit import KINDS, MEMORY, MORE, PLAIN, TWO, WORKERS, Kind, Life, difference

KILLED, TERMINATED, BY_KEYBOARD = -signal.SIGKILL, 128 + signal.SIGTERM, 128 + signal.SIGINT


ALONE = Kind("alone: 2 workers, memory, averaged weights, accumulation", [*WORKERS, *MEMORY, *MORE])
PAIR = KINDS[-1]
both = pytest.mark.parametrize("kind", [ALONE, PAIR], ids=lambda kind: kind.name)


@pytest.fixture(scope="module")
def untouched(config, tmp_path_factory):
    """A finished run of a kind."""

    @functools.cache
    def of(name):
        life = Life(
            config, tmp_path_factory.mktemp("untouched") / "run", {kind.name: kind for kind in (ALONE, PAIR)}[name]
        )
        life.finish()
        return life

    return lambda kind: of(kind.name)


@both
def test_killed_three_times(config, tmp_path, kind, untouched):
    life = Life(config, tmp_path / "run", kind)
    others = kind.size - 1
    # In the middle of an iteration, then while it saves, then between the file and the note of it.
    for before, last in (
        (life_kit.killed_in_step(5, rank=others), 3),
        (life_kit.killed_in_save(6), 3),
        (life_kit.killed_before_note(9), 6),
    ):
        statuses, text = life.run(before=before)
        assert KILLED in statuses and statuses.count(1) == others, text
        assert life.last == last
    life.finish()
    assert difference(life, untouched(kind)) == ""
    assert not list(life.folder.glob(".*"))  # the half file


def test_killed_before_the_final_checkpoint(config, tmp_path):
    life = Life(config, tmp_path / "run", PLAIN, "SOLVER.MAX_ITER", 3)
    statuses, _ = life.run(before=life_kit.killed_before_note(3).replace("0000003", "final"))
    assert statuses == [KILLED] and life.last == 3
    (life.folder / "model_final.pth").unlink()
    assert "average precision per class" in life.finish()
    assert life.result()["iteration"] == 3
    assert run_kit.same_weights(life.folder / "model_final.pth", life.folder / "model_0000003.pth")


@both
def test_asked_to_stop_again_and_again(config, tmp_path, kind, untouched):
    life = Life(config, tmp_path / "run", kind)
    rank = kind.size - 1
    for before, status, words in (
        (
            life_kit.signalled(signal.SIGTERM, iteration=2, rank=rank),
            TERMINATED,
            "SIGTERM: stopped after iteration 2 of",
        ),
        (life_kit.signalled(signal.SIGINT, in_test=1, rank=rank), BY_KEYBOARD, "SIGINT: stopped after iteration 4 of"),
        (life_kit.signalled(signal.SIGTERM, in_test=3, rank=rank), TERMINATED, "Training is complete"),
    ):
        statuses, text = life.run(before=before)
        assert statuses == [status] * kind.size, text
        assert words in text and "Traceback" not in text
        if "complete" not in words:
            assert f"model_{life.last:07d}.pth holds everything. The same command goes on from there." in text
    text = life.finish()
    assert "Nothing left to train" in text and "average precision per class" in text
    assert difference(life, untouched(kind)) == ""


def test_ctrl_c_reaches_all_processes_of_the_terminal(config, tmp_path):
    """Data loading processes get it, too, and may not end before the run has saved."""
    life = Life(config, tmp_path / "run", Kind("workers", WORKERS))
    code = life_kit.signalled(signal.SIGINT, iteration=4)
    code = f"import os\nos.setpgrp()\n{code}".replace("os.kill(os.getpid(), 2)", "os.killpg(0, 2)")
    statuses, text = life.run(before=code)
    assert statuses == [BY_KEYBOARD] and "SIGINT: stopped after iteration 4 of 12" in text
    assert "Traceback" not in text and life.last == 4


def test_sigterm_while_saving_lets_the_save_complete(config, tmp_path):
    life = Life(config, tmp_path / "run", PLAIN)
    code = life_kit.killed_in_save(6).replace(
        "signal.SIGKILL)", "signal.SIGTERM)\n        return file.seek(0) or save(content, file)"
    )
    statuses, text = life.run(before=code)
    assert statuses == [TERMINATED] and life.last == 6, text
    assert text.count("model_0000006.pth (") == 1  # saved once


def test_a_killed_data_loading_process_is_told_and_the_run_goes_on_exactly(config, tmp_path, untouched):
    life = Life(config, tmp_path / "run", ALONE)
    code = life_kit.killed_in_step(5).replace("os.kill(os.getpid()", "os.kill(multiprocessing.active_children()[0].pid")
    statuses, text = life.run(before=f"import multiprocessing\n{code}")
    assert statuses == [1] and text.count("error: ") == 1 and "Traceback" not in text, text
    life.finish()
    assert difference(life, untouched(ALONE)) == ""


def test_goes_on_with_another_number_of_processes(config, tmp_path):
    life = Life(config, tmp_path / "run", Kind("two", TWO, size=2))
    assert life.run("SOLVER.MAX_ITER", 3)[0] == [0, 0]
    alone = Life(config, life.folder, Kind("one", TWO), "SOLVER.MAX_ITER", 4)
    alone._starts = 9
    assert "processes 1 (saved: 2)" in alone.finish()
    assert alone.result()["iteration"] == 4
    assert os.path.exists(life.folder / "model_0000003.pth")
