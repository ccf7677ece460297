import logging

import pytest

from alphaction.utils.logging import FILE_ONLY, ROOT, alike_in_all, setup_logging


@pytest.fixture
def lines(capsys):
    """What comes to the terminal of a process, warnings of its own and such as all processes give."""

    def lines(file, *, rank):
        setup_logging(file, rank=rank)
        logging.getLogger(f"{ROOT}.own").warning("broken.mp4")
        logging.getLogger(f"{ROOT}.own").info("a figure")
        alike_in_all(logging.getLogger(f"{ROOT}.alike")).warning("another schedule")
        return [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]

    yield lines
    for handler in list(logging.getLogger(ROOT).handlers):
        logging.getLogger(ROOT).removeHandler(handler)
        handler.close()


def test_the_first_process_tells_all(lines):
    assert lines(None, rank=0) == ["broken.mp4", "a figure", "another schedule"]


def test_of_the_others_the_terminal_gets_only_what_is_their_own(lines, tmp_path):
    assert lines(tmp_path / "log_rank1.txt", rank=1) == ["[process 1] broken.mp4"]
    log = (tmp_path / "log_rank1.txt").read_text()
    assert "broken.mp4" in log and "a figure" in log and "another schedule" in log


def test_what_is_for_the_file_alone(lines, tmp_path, capsys):
    lines(tmp_path / "log.txt", rank=0)
    logging.getLogger(f"{ROOT}.own").info("220 lines", extra=FILE_ONLY)
    assert not capsys.readouterr().out
    assert (tmp_path / "log.txt").read_text().endswith("220 lines\n")


def test_a_message_that_cannot_be_written_ends_no_run(lines, capsys):
    lines(None, rank=0)
    logging.getLogger(f"{ROOT}.own").warning("%d clips", "many")
    assert "--- Logging error ---" in capsys.readouterr().err
