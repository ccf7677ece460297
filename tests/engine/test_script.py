"""How a script ends whose output nobody reads to its end."""

import contextlib
import os
import sys

import pytest

from alphaction.engine.script import run_script

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows does not tell")


@contextlib.contextmanager
def printing_into_a_pipe(*, is_read):
    """Within the block; pytest would undo it between a fixture and a test."""
    reader, writer = os.pipe()
    stream = open(writer, "w")  # noqa: SIM115 (closed below, where that may fail)
    before, sys.stdout = sys.stdout, stream
    if not is_read:
        os.close(reader)
    try:
        yield
    finally:
        sys.stdout = before
        with contextlib.suppress(BrokenPipeError):
            stream.close()
        if is_read:
            os.close(reader)


@pytest.mark.parametrize("count", [1, 100_000])  # less, and more, than Python holds back before it writes
def test_a_reader_that_has_seen_enough(count):
    with printing_into_a_pipe(is_read=False), pytest.raises(SystemExit) as end:
        run_script(lambda: print("." * count))
    assert end.value.code == 141  # as other programs before `| head`


def test_another_broken_pipe_keeps_its_traceback():
    def main():
        raise BrokenPipeError("to a process that reads clips")

    with printing_into_a_pipe(is_read=True), pytest.raises(BrokenPipeError, match="that reads clips"):
        run_script(main)
