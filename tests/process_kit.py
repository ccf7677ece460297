"""Real runs of several processes, with a time limit, so that a hang fails a test instead of blocking it.

`start` forks processes from a server that has imported the package once: they begin within a moment. `launch` runs the
scripts as users do.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from run_kit import ROOT

LIMIT = 120.0  # seconds; much more than is needed, for busy machines

_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload(["torch", "torch.distributed", "alphaction.engine.build", "process_kit"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Member:
    """One of several processes."""

    def __init__(self, code: str, rank: int, size: int, port: int, folder: pathlib.Path, store: bool) -> None:
        self.output = folder / f"output{rank}.txt"
        environment = {
            "RANK": str(rank),
            "WORLD_SIZE": str(size),
            "LOCAL_RANK": str(rank),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_USE_AGENT_STORE": str(store),
        }
        self.process = _fork.Process(target=_member, args=(code, environment, str(self.output)))
        self.process.start()

    @property
    def text(self) -> str:
        """What it has written so far, on both streams."""
        return self.output.read_text(encoding="utf-8") if self.output.exists() else ""

    def says(self, words: str) -> None:
        """Waits until it has written `words`."""
        until = time.monotonic() + LIMIT
        while words not in self.text:
            assert time.monotonic() < until, f"{words!r} did not come: {self.text}"
            assert self.process.is_alive() or words in self.text, self.text
            time.sleep(0.02)

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.process.pid, number)

    def ends(self, within: float = LIMIT) -> int:
        """Its exit status; a process that goes on is an error."""
        self.process.join(within)
        assert self.process.exitcode is not None, f"does not end within {within} s: {self.text}"
        return self.process.exitcode


@contextlib.contextmanager
def start(code: str, size: int, folder: pathlib.Path, *, own_store: bool = False) -> Iterator[list[Member]]:
    """So many processes, each of which runs `code`; all are ended with the block.

    Args:
        own_store: the store of the run lives in a launcher, as with torchrun, instead of process 0.
    """
    port, launcher = free_port(), None
    if own_store:
        from torch.distributed import TCPStore

        launcher = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    members = [Member(code, rank, size, port, folder, own_store) for rank in range(size)]
    try:
        yield members
    finally:
        for member in members:
            member.process.kill()
            member.process.join()
        del launcher


def launch(
    *command: object, size: int = 2, launcher: str = "run", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A script of this repository, started by torchrun ("run") or by torch.distributed.launch ("launch")."""
    options = [f"--nproc_per_node={size}", f"--master_port={free_port()}"]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH", "")])]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"} | (environment or {})
    line = [sys.executable, "-m", f"torch.distributed.{launcher}", *options, *map(str, command)]
    return subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, timeout=2 * LIMIT, check=False)


def each(parts: Sequence[str]) -> str:
    """Code of which process i runs part i."""
    return f"import os\nexec({list(parts)!r}[int(os.environ['RANK'])])"


def _member(code: str, environment: dict[str, str], output: str) -> None:
    os.environ.update(environment)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 (for the life of the process)
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    import torch

    torch.set_num_threads(1)
    exec(code, {"__name__": "__main__"})
