"""What the command-line scripts share: how they end, and what they say when they end badly."""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

import torch
import torch.distributed as dist

from alphaction.errors import UserError, first_line
from alphaction.utils.logging import alike_in_all, tell_error
from alphaction.utils.stop import Interrupted

logger = alike_in_all(logging.getLogger(__name__))

# The processor's allocator has no exception class of its own; these are the words of its RuntimeError.
_CPU_MEMORY_WORDS = ("can't allocate memory", "not enough memory", "Cannot allocate memory")
# Not the software's fault: a full disk, a folder that was taken away from us.
_NOT_ALLOWED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS})
_SIGPIPE = 13  # the number of the signal, which Windows does not name

OUT_OF_MEMORY = (
    "out of memory. Three settings that help, in this order: a smaller batch (SOLVER.VIDEOS_PER_BATCH, when testing "
    "TEST.VIDEOS_PER_BATCH; scale SOLVER.BASE_LR with it), smaller clips (INPUT.MIN_SIZE_TRAIN, MIN_SIZE_TEST, e.g. "
    "224), fewer persons per clip (MODEL.ROI_ACTION_HEAD.PROPOSAL_PER_CLIP, e.g. 5). On the processor also fewer "
    "DATALOADER.NUM_WORKERS."
)

LOST_WORKER = (
    "a process that reads clips ended without a word. Most often the system stopped it for lack of memory: give fewer "
    "DATALOADER.NUM_WORKERS, or a smaller SOLVER.VIDEOS_PER_BATCH. A damaged video can crash the decoder, too. The "
    "same command goes on from the last checkpoint."
)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """`--config-file`, the launcher's `--local_rank` and the overrides at the end of the line."""
    parser.add_argument(
        "--config-file", required=True, metavar="FILE", help="YAML file, e.g. config_files/quickstart.yaml"
    )
    # torch.distributed.launch passes one spelling or the other, depending on its version; torchrun sets LOCAL_RANK.
    parser.add_argument(
        "--local_rank", "--local-rank", type=int, action=_LocalRank, help="set by torch.distributed.launch"
    )
    parser.add_argument(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="configuration keys to change, e.g. SOLVER.BASE_LR 0.0001 SOLVER.STEPS '(6000, 8000)'",
    )


class _LocalRank(argparse.Action):
    """Puts the number where `read_launch` looks for it, if the launcher has not done so itself."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        os.environ.setdefault("LOCAL_RANK", str(values))


def run_script(main: Callable[[], object]) -> None:
    """Runs `main`; a bad end leaves the process: status 1 after a `UserError` or lack of memory.

    A run that was asked to stop ends with 128 + the number of the signal: 143 after SIGTERM, 130 after Ctrl-C.

    A user's mistake is told in one message without a traceback; a fault of this software keeps its traceback.
    """
    try:
        _run(main)
    except BaseException as end:
        if not dist.is_initialized():
            raise
        # A message to another process hangs, and Python's own way out would wait for it.
        if not isinstance(end, SystemExit):
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end, SystemExit) and isinstance(end.code, int) else 1)


def _run(main: Callable[[], object]) -> None:
    for stream in (sys.stdout, sys.stderr):  # class and file names hold characters that a terminal may not know
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # by utils/script_start.py
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        _fail(str(error), on_terminal=not error.told_elsewhere)
    except (torch.cuda.OutOfMemoryError, MemoryError) as error:  # the name that PyTorch 2.4 knows as well
        _fail(f"{OUT_OF_MEMORY} ({first_line(error)})")
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            sys.exit(128 + _SIGPIPE)
        if error.errno == errno.ENOMEM:
            _fail(f"{OUT_OF_MEMORY} ({first_line(error)})")
        if error.errno not in _NOT_ALLOWED:
            raise
        place = error.filename or "a file of this run"
        _fail(f"{place}: cannot be read or written ({error.strerror}). Files from before are whole.")
    except RuntimeError as error:
        if _is_out_of_memory(error):
            _fail(f"{OUT_OF_MEMORY} ({first_line(error)})")
        if "DataLoader worker (pid" in str(error):
            _fail(f"{LOST_WORKER} ({first_line(error)})")
        raise
    except Interrupted as stopped:
        logger.warning("%s", stopped)
        sys.exit(128 + stopped.signal)
    except KeyboardInterrupt:
        logger.warning("stopped by the keyboard")
        sys.exit(130)


def _nobody_reads() -> bool:
    """Whether the reader of what this process prints has gone (`| head`); then nothing more is printed."""
    if not hasattr(select, "poll"):  # Windows
        return False
    poll = select.poll()
    poll.register(sys.stdout, 0)  # 0: whatever else happens, POLLERR is told
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for the rest of the process)
    return True


def _is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error)
    return any(words in text for words in _CPU_MEMORY_WORDS) or (
        # A worker that the system stopped for lack of memory (or of shared memory: bus error) says only this.
        "DataLoader worker" in text and ("Killed" in text or "Bus error" in text)
    )


def _fail(message: str, *, on_terminal: bool = True) -> NoReturn:
    tell_error(message, on_terminal=on_terminal)
    sys.exit(1)
