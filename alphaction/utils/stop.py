"""Asked to stop: SIGTERM (a cluster takes its machine back) and SIGINT (Ctrl-C) end a run in good order."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from alphaction.utils.distributed import ALONE, Processes

_NOTED = (signal.SIGTERM, signal.SIGINT)
# Launchers pass Ctrl-C on to processes that the terminal told already: what comes so soon is the same Ctrl-C.
_SAME_KEYSTROKE = 1.0  # seconds
_ORPHAN_CHECK = 1.0  # seconds


class Interrupted(Exception):
    """The run was asked to stop and stopped in good order; the message says how to go on.

    Attributes:
        signal: number of the signal; the process ends with 128 + this.
    """

    def __init__(self, message: str, *, signal: int) -> None:
        super().__init__(message)
        self.signal = signal

    def __reduce__(self) -> tuple:  # exceptions travel between processes
        return _interrupted, (str(self), self.signal)


@contextlib.contextmanager
def telling(text: str) -> Iterator[None]:
    """An `Interrupted` that leaves the block says `text` after the signal's name, e.g. how to go on."""
    try:
        yield
    except Interrupted as asked:
        raise Interrupted(f"{signal.Signals(asked.signal).name}: {text}", signal=asked.signal) from asked


class StopRequest:
    """Notes SIGTERM and SIGINT within its block instead of dying of them; earlier handlers are back afterwards.

        with StopRequest() as stop:
            while not stop.agreed(processes): ...

    A second SIGINT raises KeyboardInterrupt at once. Outside of the main thread, where Python handles no signals,
    nothing is noted.
    """

    def __init__(self) -> None:
        self._number = 0
        self._noted_at = 0.0
        self._earlier: dict[int, Any] = {}

    @property
    def requested(self) -> str:
        """Name of the signal that came, in this process; "" as long as there was none."""
        return signal.Signals(self._number).name if self._number else ""

    @property
    def number(self) -> int:
        """Its number, or 0."""
        return self._number

    def agreed(self, processes: Processes = ALONE) -> bool:
        """Whether any process was asked to stop; all processes get the same answer, and the signal with it."""
        if processes.size > 1:
            counts = processes.sum([self._number == number for number in _NOTED])
            # Nothing is taken back: a signal that came after the answer counts the next time.
            told = next((number for number, count in zip(_NOTED, counts, strict=True) if count), 0)
            if told and not self._number:
                self._number = int(told)
            return bool(told)
        return bool(self._number)

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in _NOTED:
                self._earlier[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            # None: a handler that was not set from Python cannot be set back from it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._earlier.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._number:
            if number == signal.SIGINT and now - self._noted_at > _SAME_KEYSTROKE:
                raise KeyboardInterrupt
            return
        self._number, self._noted_at = number, now
        # Not the log: its stream may be in the middle of a line when the signal comes.
        with contextlib.suppress(OSError):
            os.write(2, f"\n{self.requested}: stopping in good order; Ctrl-C (again) stops at once.\n".encode())


def shield_worker() -> None:
    """To be called in a data loading process: it outlives the signals that ask the run to stop.

    A Ctrl-C goes to every process of the terminal, and clusters send SIGTERM to all. A worker that died of it would end
    the run before it has saved. SIGTERM from the process that started this one still ends it: so the loader gets rid of
    workers that hang. Nor does it outlive that process, even where it waits for a lock that a dead worker has taken.
    Holds for forked processes (Linux): a spawned one has threads of libraries from before, which do not wait.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # macOS, Windows: the loader's own handling stays
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_obey_parent, args=(os.getppid(),), name="sigterm", daemon=True).start()


def _obey_parent(parent: int) -> None:
    while os.getppid() == parent:
        told = signal.sigtimedwait({signal.SIGTERM}, _ORPHAN_CHECK)
        if told is not None and told.si_pid == parent:
            break
    os._exit(0)


def _interrupted(message: str, number: int) -> Interrupted:
    return Interrupted(message, signal=number)
