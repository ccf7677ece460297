"""Notices that a process of the run has died or hangs, and ends the others with a message that names it.

Every process has two threads: one tells the store of the run each second what the process is doing and reads what the
others do, one judges it (two, since the store itself may stop answering). Judged are

- death: no sign of life for `dead_after` seconds; at once if the process is of this machine and is gone,
- a hang: no progress for `timeout` seconds, while others have come further or wait for it,
- the end with an error, which a process tells before it goes.

Time during which a process did not run itself (a computer that sleeps, a job that is suspended) does not count.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pathlib
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import NoReturn

import torch.distributed as dist

from alphaction.errors import UserError
from alphaction.utils.logging import tell_error

logger = logging.getLogger(__name__)

PERIOD = 1.0  # seconds from one sign of life to the next
GRACE = 2.0  # seconds that the main thread has to notice and end by itself
SUSPICIOUS = 5.0  # seconds of silence that are death once a message to the others has failed
_ASKED_FOR = 10.0  # seconds that a failed message waits for an explanation
_PUBLISH = 2.0  # seconds that the last news may take to reach the store
_LINGER = 5.0  # seconds that the process with the store waits for the others to read them


class LostProcess(UserError):
    """Another process of the run died, hangs, or ended with an error."""


@dataclass(frozen=True)
class Sign:
    """What a process tells of itself.

    Attributes:
        number: of this sign; a process whose number does not grow is silent.
        steps: `beat`s so far; who has fewer is behind.
        what: it is doing.
        waiting: for the others.
        idle: seconds since it last got on.
        end: None while it runs, "" after a good end, else the error.
        verdict: its end is the fault of another process: the message.
    """

    host: str
    pid: int
    place: str
    number: int = 0
    steps: int = 0
    what: str = "starting"
    waiting: bool = False
    idle: float = 0.0
    end: str | None = None
    verdict: str = ""


_Verdict = tuple[int, str]  # number of the process to blame (-1: none of them), message ("": all is well)


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
        self._store_holder = store_holder
        self._own = Sign(socket.gethostname(), os.getpid(), _place())
        self._signs: list[Sign] = []
        self._progress = (0, 0, self._own.what)  # replaced as a whole, never locked: workers are forked at any moment
        self._told = self._progress
        self._waiting = 0
        self._rounds = 0
        self._lost = ""
        self._silent = [0.0] * size
        self._gone_since: dict[int, int] = {}
        self._asked = False
        self._verdict = ""
        self._culprit = -1
        self._decided, self._closing = threading.Event(), threading.Event()
        self._wake, self._published = threading.Event(), threading.Event()
        self.set_limits(timeout=timeout, dead_after=dead_after)

    def set_limits(self, *, timeout: float, dead_after: float) -> None:
        """From now on."""
        self._timeout, self._dead_after = timeout, dead_after
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
        for target in (self._talk, self._judge):
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
        self._asked = True
        self._decided.wait(_ASKED_FOR)
        return self._verdict

    def close(self, *, error: str = "", verdict: str = "") -> None:
        """Says goodbye, so that the others do not take this process for dead.

        Args:
            error: why it ends, if not in good order: the others will end, too.
            verdict: the same, if another process is to blame.
        """
        self._own = replace(self._own, end=error or verdict, verdict=verdict)
        self._closing.set()
        self._wake.set()
        self._published.wait(_PUBLISH)
        if self._holds_store:
            self._linger()
        _set_current(None)

    def _talk(self) -> None:
        last = time.monotonic()
        while True:
            closing, now = self._closing.is_set(), time.monotonic()
            try:
                self._round(min(now - last, 2 * self._period))
            except (RuntimeError, ValueError) as error:
                self._lost = str(error).strip().partition("\n")[0] or type(error).__name__
            last = now
            if closing or self._lost:
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
        self._signs = [Sign(**json.loads(text)) for text in self._store.multi_get(self._keys)]
        self._rounds += 1

    def _judge(self) -> None:
        last, before, stuck, rounds = time.monotonic(), self._signs, 0.0, self._rounds
        while not self._closing.wait(self._period):
            now = time.monotonic()
            elapsed, last = min(now - last, 2 * self._period), now
            signs, done = self._signs, self._rounds
            if done == rounds:
                stuck += elapsed
            else:
                stuck = 0.0
                for rank, (old, new) in enumerate(zip(before, signs, strict=True)):
                    self._silent[rank] = 0.0 if new.number != old.number else self._silent[rank] + elapsed
                before, rounds = signs, done
            culprit, verdict = self._store_fault(signs, stuck) or self._process_fault(signs) or self._hang(signs)
            if verdict:
                self._culprit, self._verdict = culprit, verdict
                self._decided.set()
                if not self._closing.wait(GRACE) and not self._asked:
                    self._end_process(verdict)
                return

    def _store_fault(self, signs: list[Sign], stuck: float) -> _Verdict | None:
        """The store, on which the run hangs, cannot be reached."""
        if not self._lost and stuck < self._dead_after:
            return None
        if not self._store_holder and signs[0].end is not None:  # the news of its end came through
            return self._ended(signs, 0)
        reason = self._lost or f"no answer for {stuck:.0f} s"
        if self._store_holder:
            return -1, f"the connection to {self._store_holder} is lost ({reason}): it died or hangs, so this run ends."
        died = "died" if self._is_gone(signs[0]) else "died or hangs"
        return 0, f"{self._name(signs, 0)} {died} ({reason}; it was at: {signs[0].what}), so this run ends."

    def _process_fault(self, signs: list[Sign]) -> _Verdict | None:
        """A process that ended with an error, is gone or is silent."""
        limit = min(SUSPICIOUS, self._dead_after) if self._asked else self._dead_after
        for rank, sign in enumerate(signs):
            if rank == self._rank:
                continue
            if sign.end is not None:
                ended = self._ended(signs, rank)
                if ended is not None:
                    return ended
                continue
            if self._silent[rank] >= limit:
                return rank, (
                    f"{self._name(signs, rank)} gives no sign of life for {self._silent[rank]:.0f} s "
                    f"(it was at: {sign.what}), so this run ends."
                )
            if not self._is_gone(sign):
                self._gone_since.pop(rank, None)
            elif self._rounds >= self._gone_since.setdefault(rank, self._rounds) + 2:  # its goodbye would have come
                return rank, f"{self._name(signs, rank)} died (it was at: {sign.what}), so this run ends."
        return None

    def _ended(self, signs: list[Sign], rank: int) -> _Verdict | None:
        """None after a good end."""
        sign = signs[rank]
        if sign.verdict:
            return rank, sign.verdict
        return (rank, f"{self._name(signs, rank)} ended with an error: {sign.end}") if sign.end else None

    def _hang(self, signs: list[Sign]) -> _Verdict:
        """A process that others wait for, or that has fallen behind, and does not get on."""
        running = [rank for rank, sign in enumerate(signs) if sign.end is None]
        stalled = [rank for rank in running if not signs[rank].waiting and signs[rank].idle >= self._timeout]
        for rank in sorted(stalled, key=lambda rank: signs[rank].steps):
            if any(signs[other].waiting or signs[other].steps > signs[rank].steps for other in running):
                return rank, (
                    f"{self._name(signs, rank)} hangs: no progress for {signs[rank].idle:.0f} s "
                    f"(it is at: {signs[rank].what}) while others wait, so this run ends. "
                    "If this work may take so long, raise DISTRIBUTED.TIMEOUT."
                )
        return -1, ""

    def _is_gone(self, sign: Sign) -> bool:
        """Whether a process of this machine has ended; False where that cannot be known."""
        if not self._own.place or sign.place != self._own.place:
            return False
        try:
            state = pathlib.Path(f"/proc/{sign.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return True
        return state.rpartition(")")[2].split()[0] in "ZX"

    def _name(self, signs: list[Sign], rank: int) -> str:
        return f"process {rank} of {len(signs)} ({signs[rank].host}, pid {signs[rank].pid})"

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
        """Keeps the store until all others have read the last news and said goodbye."""
        until = time.monotonic() + _LINGER
        try:
            while time.monotonic() < until:
                signs = [Sign(**json.loads(text)) for text in self._store.multi_get(self._keys)]
                others = [sign for rank, sign in enumerate(signs) if rank not in (self._rank, self._culprit)]
                if all(sign.end is not None or self._is_gone(sign) for sign in others):
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


def current() -> Watch | None:
    """The watch of this process; None in a run of one process."""
    return _current


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


def _place() -> str:
    """The same for processes that can see each other's ids; "" where that cannot be known."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _numbers(ranks: list[int]) -> str:
    return f"process{'es' * (len(ranks) != 1)} {', '.join(map(str, ranks))}"
