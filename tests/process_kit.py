"""Real runs of several processes, with a time limit, so that a hang fails a test instead of blocking it.

`start` forks processes from a server that has imported the package once: they begin within a moment. `launch` runs the
scripts as users do.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from run_kit import ROOT

LIMIT = 120.0  # seconds; much more than is needed, for busy machines

_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload(["torch", "torch.distributed", "alphaction.engine.build", "process_kit"])


def free_port() -> int:
    """A port for a store that is opened later.

    Not one of those that the system gives to connections: it might give the same one to another program meanwhile.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port


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
        self.until(lambda: words in self.text)

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits until this is so."""
        until = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < until, f"what was waited for did not come: {self.text}"
            assert self.process.is_alive() or condition(), self.text
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
    if own_store:
        from torch.distributed import TCPStore

        launcher = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        port = launcher.port
    else:
        port, launcher = free_port(), None
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


# A script or module of this repository as its own process runs it. Data loading processes are forked, too: this
# process's own start method would load all libraries in each of them.
_SCRIPT = """
import multiprocessing, os, runpy, sys
multiprocessing.set_start_method("fork", force=True)
os.chdir({root!r})
sys.path.insert(0, {root!r})
{before}
sys.argv = {argv!r}
if sys.argv[0] == "-m":
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Script:
    """A running script, forked like `Member`; what it writes on the two streams is kept apart."""

    def __init__(self, member: Member, errors: pathlib.Path) -> None:
        self.member = member
        self._errors = errors

    def ends(self) -> subprocess.CompletedProcess[str]:
        """How it ended."""
        status = self.member.ends()
        return subprocess.CompletedProcess((), status, self.member.text, self._errors.read_text(encoding="utf-8"))


@contextlib.contextmanager
def script(
    *command: object, folder: pathlib.Path, before: str = "", stdin: pathlib.Path | str = os.devnull
) -> Iterator[Script]:
    """A script of this repository and its arguments, or "-m" and a module; it is ended with the block.

    Args:
        folder: for what it writes on its streams.
        before: code that it runs first.
    """
    errors = folder / "errors.txt"
    streams = f"""
import os
os.dup2(os.open({str(errors)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 2)
os.dup2(os.open({str(stdin)!r}, os.O_RDONLY), 0)
"""
    with start(streams + code_of(*command, before=before), 1, folder) as [member]:
        yield Script(member, errors)


def code_of(*command: object, before: str = "") -> str:
    """Code that runs a script of this repository, after `before`; "-m" and a module are possible."""
    return _SCRIPT.format(root=str(ROOT), before=before, argv=[*map(str, command)])


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
