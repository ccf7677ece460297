"""Notices that a process of the run has died or hangs, and ends the others with a message that names it.

Every process has two threads: one tells the store of the run each second what the process is doing and reads what the
others do, one judges it by `utils/verdict.py` (two, since the store itself may stop answering).
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import timedelta
from typing import NoReturn

import torch.distributed as dist

from alphaction.errors import UserError, first_line
from alphaction.utils.logging import tell_error
from alphaction.utils.verdict import Judge, Sign, Verdict, first_sign, is_gone

logger = logging.getLogger(__name__)

PERIOD = 1.0  # seconds from one sign of life to the next
GRACE = 2.0  # seconds that the main thread has to notice and end by itself
_ASKED_FOR = 10.0  # seconds that a failed message waits for an explanation
_PUBLISH = 2.0  # seconds that the last news may take to reach the store
_LINGER = 5.0  # seconds that the process with the store waits for the others to read them


class LostProcess(UserError):
    """Another process of the run died, hangs, or ended with an error."""


class Watch:
    """The watch of one process over the others.

    Args:
        store: a connection to the run's store of its own.
        holds_store: the store lives in this process.
        store_holder: what to call who holds it, where that is none of the processes; "" = process 0.
        timeout: seconds without progress.
        dead_after: seconds without a sign of life.
    """

    def __init__(
        self,
        store: dist.Store,
        *,
        rank: int,
        size: int,
        holds_store: bool,
        store_holder: str = "",
        timeout: float = 1800.0,
        dead_after: float = 30.0,
    ) -> None:
        self._store = store
        self._rank = rank
        self._keys = [f"sign/{number}" for number in range(size)]
        self._holds_store = holds_store
        self._judge = Judge(rank, store_holder, timeout, dead_after)
        self._own = first_sign()
        self._signs: list[Sign] = []
        self._progress = (0, 0, self._own.what)  # replaced as a whole, never locked: workers are forked at any moment
        self._told = self._progress
        self._waiting = 0
        self._rounds = 0
        self._verdict: Verdict | None = None
        self._decided, self._closing = threading.Event(), threading.Event()
        self._wake, self._published = threading.Event(), threading.Event()
        self.set_limits(timeout=timeout, dead_after=dead_after)

    def set_limits(self, *, timeout: float, dead_after: float) -> None:
        """From now on."""
        self._judge.timeout, self._judge.dead_after = timeout, dead_after
        self._period = min(PERIOD, dead_after / 4)

    def start(self, *, patience: float) -> None:
        """Meets the other processes, then watches.

        Args:
            patience: seconds to wait for the others to appear.

        Raises:
            LostProcess: not all have come.
        """
        self._store.set(self._keys[self._rank], json.dumps(asdict(self._own)))
        try:
            self._store.wait(self._keys, timedelta(seconds=patience))
        except RuntimeError as error:
            missing = [number for number, key in enumerate(self._keys) if not self._store.check([key])]
            raise LostProcess(
                f"after {patience:g} s {_numbers(missing)} of {len(self._keys)} have not come. Is every machine "
                "started, with the same MASTER_ADDR, MASTER_PORT and number of processes?"
            ) from error
        self._round(0.0)
        for target in (self._talk, self._look):
            threading.Thread(target=target, name=f"watch{target.__name__}", daemon=True).start()
        _set_current(self)

    def beat(self, what: str) -> None:
        """This process gets on, at a point that all processes pass equally often."""
        steps, notes, _ = self._progress
        self._progress = (steps + 1, notes, what)

    def note(self, what: str) -> None:
        """This process gets on, at a point that others may pass more often or never."""
        steps, notes, _ = self._progress
        self._progress = (steps, notes + 1, what)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within the block this process waits for the others: that it does not get on is not its fault."""
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    def explain(self) -> str:
        """Which process is to blame for a message that failed; "" if all others live on. Waits a few seconds."""
        self._judge.suspicious = True
        self._decided.wait(_ASKED_FOR)
        return self._verdict.message if self._verdict is not None else ""

    def close(self, *, error: str = "", verdict: str = "") -> None:
        """`say_end`, then `leave`."""
        self.say_end(error=error, verdict=verdict)
        self.leave()

    def say_end(self, *, error: str = "", verdict: str = "") -> None:
        """Says that this process ends, so that the others do not take it for dead.

        Args:
            error: why it ends, if not in good order: the others will end, too.
            verdict: the same, if another process is to blame.
        """
        self._own = replace(self._own, end=error or verdict, verdict=verdict)
        self._closing.set()
        self._wake.set()
        self._published.wait(_PUBLISH)

    def leave(self) -> None:
        """The last thing this process has to do with the store; to be called after `say_end`."""
        _set_current(None)
        if self._published.is_set() and not self._judge.lost:
            self._own = replace(self._own, left=True)
            with suppress(RuntimeError):  # the store may have gone with process 0
                self._store.set(self._keys[self._rank], json.dumps(asdict(self._own)))
        if self._holds_store:
            self._linger()

    def is_told_before(self, error: str) -> bool:
        """Whether a process before this one ends with the same error: waits a moment for it.

        To be called between `say_end` and `leave`. What is wrong with a file or a key is found by all processes, and
        one message is enough.
        """
        until = time.monotonic() + GRACE
        try:
            while time.monotonic() < until:
                ends = [sign.end for sign in self._read()[: self._rank]]
                if error in ends or None not in ends:
                    return error in ends
                time.sleep(0.05)
        except RuntimeError:  # the store has gone with process 0
            pass
        return False

    def _talk(self) -> None:
        last = time.monotonic()
        while True:
            closing, now = self._closing.is_set(), time.monotonic()
            try:
                self._round(min(now - last, 2 * self._period))
            except (RuntimeError, ValueError) as error:
                self._judge.lost = first_line(error)
            last = now
            if closing or self._judge.lost:
                self._published.set()
                return
            self._wake.wait(self._period)

    def _round(self, elapsed: float) -> None:
        progress, own = self._progress, self._own
        idle = own.idle + elapsed if progress == self._told else 0.0
        self._told = progress
        steps, _, what = progress
        self._own = own = replace(
            self._own, number=own.number + 1, steps=steps, what=what, idle=idle, waiting=self._waiting > 0
        )
        self._store.set(self._keys[self._rank], json.dumps(asdict(own)))
        self._signs = self._read()
        self._rounds += 1

    def _read(self) -> list[Sign]:
        return [Sign(**json.loads(text)) for text in self._store.multi_get(self._keys)]

    def _look(self) -> None:
        last = time.monotonic()
        while not self._closing.wait(self._period):
            now = time.monotonic()
            verdict = self._judge.look(self._signs, rounds=self._rounds, elapsed=min(now - last, 2 * self._period))
            last = now
            if verdict is not None:
                self._verdict = verdict
                self._decided.set()
                if not self._closing.wait(GRACE) and not self._judge.suspicious:
                    self._end_process(verdict.message)
                return

    def _end_process(self, verdict: str) -> NoReturn:
        """Ends this process from its own thread: the main one hangs in a message to the lost process, or in itself."""
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        tell_error(verdict)
        logger.info("This process was at:\n%s", "".join(traceback.format_stack(frame)) if frame else "?")
        try:
            self.close(verdict=verdict)
            for child in multiprocessing.active_children():
                child.kill()
        finally:
            os._exit(1)

    def _linger(self) -> None:
        """Keeps the store until all others have left it: PyTorch tells pages to the terminal about one that is gone."""
        until = time.monotonic() + _LINGER
        left_out = {self._rank, -1 if self._verdict is None else self._verdict.culprit}
        try:
            while time.monotonic() < until:
                others = [sign for rank, sign in enumerate(self._read()) if rank not in left_out]
                if all(sign.left or is_gone(sign, own=self._own) for sign in others):
                    return
                time.sleep(0.05)
        except RuntimeError:
            return


_current: Watch | None = None


def _set_current(watch: Watch | None) -> None:
    global _current
    _current = watch


if hasattr(os, "register_at_fork"):  # a data loading process is no process of the run
    os.register_at_fork(after_in_child=lambda: _set_current(None))


def beat(what: str) -> None:
    """Tells the other processes that this one gets on; to be called in every process equally often.

    Args:
        what: it begins, e.g. "iteration 12".
    """
    if _current is not None:
        _current.beat(what)


def note(what: str) -> None:
    """`beat` for work of which each process has its own share, e.g. "test: batch 3"."""
    if _current is not None:
        _current.note(what)


@contextmanager
def waiting() -> Iterator[None]:
    """Around everything in which this process waits for the others."""
    if _current is None:
        yield
    else:
        with _current.waiting():
            yield


def _numbers(ranks: list[int]) -> str:
    return f"process{'es' * (len(ranks) != 1)} {', '.join(map(str, ranks))}"
