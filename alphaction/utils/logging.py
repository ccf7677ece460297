"""Log lines on the terminal and in a file of the run's folder."""

from __future__ import annotations

import logging
import pathlib
import sys

from tqdm import tqdm

ROOT = "alphaction"
#: `logger.info(..., extra=FILE_ONLY)`: for the log file, too long for the terminal.
FILE_ONLY = {"file_only": True}
_ALIKE = "alike_in_all_processes"


class _TerminalHandler(logging.Handler):
    """Writes through tqdm, so that a log line does not tear a progress bar apart."""

    def __init__(self, rank: int) -> None:
        super().__init__(logging.WARNING if rank else logging.INFO)
        self.process = f"[process {rank}] " if rank else ""
        self.addFilter(lambda record: not getattr(record, "file_only", False))
        if rank:
            self.addFilter(lambda record: not getattr(record, _ALIKE, False))
        self.setFormatter(logging.Formatter(f"%(asctime)s {self.process}%(message)s", datefmt="%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader of a pipe has gone; there is nobody left to tell
            pass
        except Exception:  # a message and values that do not fit together, a closed terminal: no reason to end a run
            self.handleError(record)


def setup_logging(file: pathlib.Path | None, *, rank: int = 0) -> logging.Logger:
    """Sends the package's log to the terminal and, when given, to the end of `file`. May be called again.

    Args:
        rank: number of this process. Of all but the first only warnings and errors come to the terminal, with its
            number, and only those that the first one does not give as well (`alike_in_all`): otherwise every line
            would stand there many times.
    """
    logger = logging.getLogger(ROOT)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.addHandler(_TerminalHandler(rank))
    if file is not None:
        stream = logging.FileHandler(file, encoding="utf-8")
        stream.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
        logger.addHandler(stream)
    return logger


def alike_in_all(logger: logging.Logger) -> logging.Logger:
    """For a module whose warnings are the same in all processes: process 0's on the terminal are enough."""
    logger.addFilter(_mark_as_alike)
    return logger


def _mark_as_alike(record: logging.LogRecord) -> bool:
    setattr(record, _ALIKE, True)
    return True


def rank_file(file: pathlib.Path, rank: int) -> pathlib.Path:
    """The log file of a process: `log.txt` of the first, `log_rank1.txt` of the next."""
    return file.with_name(f"{file.stem}_rank{rank}{file.suffix}") if rank else file


def tell_error(message: str, *, on_terminal: bool = True) -> None:
    """One message with which this process ends: on stderr for the caller, in the log file for later."""
    logger = logging.getLogger(ROOT)
    process = ""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(logger.makeRecord(logger.name, logging.ERROR, "", 0, message, (), None))
        elif isinstance(handler, _TerminalHandler):
            process = handler.process
    if on_terminal:
        sys.stderr.write(f"{process}error: {message}\n")
        sys.stderr.flush()
