"""Whether a process of the run has died or hangs, judged by what the processes tell of themselves.

Judged are

- death: no sign of life for `dead_after` seconds; at once if the process is of this machine and is gone,
- a hang: no progress for `timeout` seconds, while others have come further or wait for it,
- the end with an error, which a process tells before it goes.

Time during which the judging process did not run itself (a computer that sleeps, a job that is suspended) does not
count: see `Judge.look`.
"""

from __future__ import annotations

import os
import pathlib
import socket
from dataclasses import dataclass, field
from typing import NamedTuple

SUSPICIOUS = 5.0  # seconds of silence that are death once a message to the others has failed


@dataclass(frozen=True)
class Sign:
    """What a process tells of itself.

    Attributes:
        host, pid: its machine and its number there.
        place: the same for processes that can see each other's numbers; "" = unknown.
        number: of this sign; a process whose number does not grow is silent.
        steps: `beat`s so far; who has fewer is behind.
        what: it is doing.
        waiting: for the others.
        idle: seconds since it last got on.
        end: None while it runs, "" after a good end, else the error.
        verdict: its end is the fault of another process: the message.
        left: it will not use the store again.
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
    left: bool = False


class Verdict(NamedTuple):
    """Why the run ends.

    Attributes:
        culprit: number of the process to blame; -1 = none of them.
        message: names it.
    """

    culprit: int
    message: str


@dataclass
class Judge:
    """One process's view of the others.

    Attributes:
        rank: of this process.
        store_holder: what to call who holds the run's store, where that is none of the processes; "" = process 0.
        timeout: seconds without progress that are a hang.
        dead_after: seconds without a sign of life that are death.
        suspicious: a message to the others has failed: a shorter silence is enough.
        lost: why the connection to the store is lost.
    """

    rank: int
    store_holder: str
    timeout: float
    dead_after: float
    suspicious: bool = False
    lost: str = ""
    _before: list[Sign] = field(default_factory=list)
    _rounds: int = 0
    _stuck: float = 0.0
    _silent: list[float] = field(default_factory=list)
    _gone_since: dict[int, int] = field(default_factory=dict)

    def look(self, signs: list[Sign], *, rounds: int, elapsed: float) -> Verdict | None:
        """To be called regularly.

        Args:
            signs: the latest of each process.
            rounds: how often they have been read so far.
            elapsed: seconds since the last look, not more than two usual ones.
        """
        if not self._before:
            self._before, self._silent = signs, [0.0] * len(signs)
        if rounds == self._rounds:
            self._stuck += elapsed
        else:
            self._stuck = 0.0
            for rank, (old, new) in enumerate(zip(self._before, signs, strict=True)):
                self._silent[rank] = 0.0 if new.number != old.number else self._silent[rank] + elapsed
            self._before, self._rounds = signs, rounds
        return self._store_fault(signs) or self._process_fault(signs) or self._hang(signs)

    def _store_fault(self, signs: list[Sign]) -> Verdict | None:
        """The store, on which the run hangs, cannot be reached."""
        if not self.lost and self._stuck < self.dead_after:
            return None
        if not self.store_holder and signs[0].end is not None:  # the news of its end came through
            return _ended(signs, 0)
        reason = self.lost or f"no answer for {self._stuck:.0f} s"
        if self.store_holder:
            return Verdict(-1, f"{self.store_holder} died or hangs ({reason}), so this run ends.")
        died = "died" if is_gone(signs[0], own=signs[self.rank]) else "died or hangs"
        return Verdict(0, f"{_name(signs, 0)} {died} ({reason}; it was at: {signs[0].what}), so this run ends.")

    def _process_fault(self, signs: list[Sign]) -> Verdict | None:
        """A process that ended with an error, is gone or is silent."""
        limit = min(SUSPICIOUS, self.dead_after) if self.suspicious else self.dead_after
        for rank, sign in enumerate(signs):
            if rank == self.rank:
                continue
            if sign.end is not None:
                ended = _ended(signs, rank)
                if ended is not None:
                    return ended
            elif self._silent[rank] >= limit:
                told = f"gives no sign of life for {self._silent[rank]:.0f} s (it was at: {sign.what})"
                return Verdict(rank, f"{_name(signs, rank)} {told}, so this run ends.")
            elif not is_gone(sign, own=signs[self.rank]):
                self._gone_since.pop(rank, None)
            elif self._rounds >= self._gone_since.setdefault(rank, self._rounds) + 2:  # its goodbye would have come
                return Verdict(rank, f"{_name(signs, rank)} died (it was at: {sign.what}), so this run ends.")
        return None

    def _hang(self, signs: list[Sign]) -> Verdict | None:
        """A process that others wait for, or that has fallen behind, and does not get on."""
        running = [rank for rank, sign in enumerate(signs) if sign.end is None]
        stalled = [rank for rank in running if not signs[rank].waiting and signs[rank].idle >= self.timeout]
        for rank in sorted(stalled, key=lambda rank: signs[rank].steps):
            sign = signs[rank]
            if any(signs[other].waiting or signs[other].steps > sign.steps for other in running):
                return Verdict(
                    rank,
                    f"{_name(signs, rank)} hangs: no progress for {sign.idle:.0f} s (it is at: {sign.what}) while "
                    "others wait, so this run ends. If this work may take so long, raise DISTRIBUTED.TIMEOUT.",
                )
        return None


def is_gone(sign: Sign, *, own: Sign) -> bool:
    """Whether a process of this machine has ended; False where that cannot be known."""
    if not own.place or sign.place != own.place:
        return False
    try:
        state = pathlib.Path(f"/proc/{sign.pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return state.rpartition(")")[2].split()[0] in "ZX"


def first_sign() -> Sign:
    """Of this process."""
    return Sign(socket.gethostname(), os.getpid(), _place())


def _ended(signs: list[Sign], rank: int) -> Verdict | None:
    """None after a good end."""
    sign = signs[rank]
    if sign.verdict:
        return Verdict(rank, sign.verdict)
    return Verdict(rank, f"{_name(signs, rank)} ended with an error: {sign.end}") if sign.end else None


def _name(signs: list[Sign], rank: int) -> str:
    return f"process {rank} of {len(signs)} ({signs[rank].host}, pid {signs[rank].pid})"


def _place() -> str:
    """The same for processes that can see each other's ids; "" where that cannot be known."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
