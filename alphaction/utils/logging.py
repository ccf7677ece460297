"""Log lines on the terminal and in a file of the run's folder."""

from __future__ import annotations

import logging
import pathlib
import sys

from tqdm import tqdm

ROOT = "alphaction"


class _TerminalHandler(logging.Handler):
    """Writes through tqdm, so that a log line does not tear a progress bar apart."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()
        except (BrokenPipeError, ValueError):  # the reader of a pipe has gone; there is nobody left to tell
            pass


def setup_logging(file: pathlib.Path | None) -> logging.Logger:
    """Sends the package's log to the terminal and, when given, to the end of `file`. May be called again."""
    logger = logging.getLogger(ROOT)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    terminal = _TerminalHandler()
    terminal.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logger.addHandler(terminal)
    if file is not None:
        stream = logging.FileHandler(file, encoding="utf-8")
        stream.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
        logger.addHandler(stream)
    return logger
