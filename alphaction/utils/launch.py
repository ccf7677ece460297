"""Starts what a run of several processes needs, and takes it down: the store, the watch, the process group.

A launcher (torchrun, torch.distributed.launch, a cluster's) starts the processes and tells each its place by the
environment variables WORLD_SIZE, RANK, LOCAL_RANK, MASTER_ADDR and MASTER_PORT.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist

from alphaction.errors import ConfigError, UserError, first_line
from alphaction.utils import watch
from alphaction.utils.distributed import ALONE, Processes, first_error
from alphaction.utils.logging import setup_logging
from alphaction.utils.stop import Interrupted

logger = logging.getLogger(__name__)

PATIENCE = 600.0  # seconds that the processes of a run wait for each other at the start
_TAKE_DOWN = 5.0  # seconds after which a group that hangs is left as it is
_SPARE = 30.0  # seconds by which the group's own time limit is longer than that of the watch

_HOW = "Start the run with torchrun, with python -m torch.distributed.launch, or with plain python (one process)."


@dataclass(frozen=True)
class Launch:
    """This process's place, as the launcher tells it."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    address: str = ""
    port: int = 0


def read_launch(environment: Mapping[str, str] | None = None) -> Launch:
    """What the environment says; one process if it says nothing.

    Raises:
        ConfigError: a variable is missing, not a number or contradicts another.
    """
    env = os.environ if environment is None else environment
    size = _number(env, "WORLD_SIZE", least=1)
    rank, local_rank = _number(env, "RANK", least=0), _number(env, "LOCAL_RANK", least=0)
    if size is None and rank is None:
        if local_rank:
            raise ConfigError(f"LOCAL_RANK is {local_rank}, but WORLD_SIZE and RANK are not set. {_HOW}")
        return Launch()
    if size == 1 and not rank:
        return Launch()
    names = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in names if not env.get(name)]
    if size is None or rank is None or local_rank is None or missing:
        there = ", ".join(f"{name} {env[name]}" for name in names if env.get(name))
        raise ConfigError(f"{there}: for several processes {', '.join(missing)} must be set as well. {_HOW}")
    if rank >= size:
        raise ConfigError(f"RANK is {rank}, expected 0 to {size - 1}, since WORLD_SIZE is {size}. {_HOW}")
    if local_rank > rank:
        raise ConfigError(f"LOCAL_RANK is {local_rank}, expected at most RANK, which is {rank}. {_HOW}")
    port = _number(env, "MASTER_PORT", least=1)
    if port is None or port > 65535:
        raise ConfigError(f"MASTER_PORT is {env['MASTER_PORT']}, expected 1 to 65535")
    return Launch(rank=rank, size=size, local_rank=local_rank, address=env["MASTER_ADDR"], port=port)


def processes_of_this_machine() -> int:
    """Of the run, as the launcher tells; 1 if it does not.

    Raises:
        ConfigError: the variable is no number.
    """
    return _number(os.environ, "LOCAL_WORLD_SIZE", least=1) or 1


def _number(env: Mapping[str, str], name: str, *, least: int) -> int | None:
    text = env.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise ConfigError(f"{name} is {text!r}, expected a whole number, {least} or more. {_HOW}")
    return int(text)


@contextmanager
def connected(launch: Launch, *, patience: float = PATIENCE) -> Iterator[Connection | None]:
    """The other processes of the run, met and watched over, until the block ends; None in a run of one process.

    However the block ends, nobody waits for this process afterwards. An error that another process is to blame for
    (it is gone, and a message to it failed) becomes a `LostProcess` that names it.

    Raises:
        UserError: they cannot be met.
    """
    if launch.size == 1:
        yield None
        return
    setup_logging(None, rank=launch.rank)
    connection = Connection(launch, patience=patience)
    watcher = connection.watch
    try:
        yield connection
        connection.processes.wait()
        watcher.close()
    except Interrupted:
        watcher.close()
        raise
    except BaseException as error:
        _end_badly(watcher, error)
    finally:
        _take_down()


def _end_badly(watcher: watch.Watch, error: BaseException) -> NoReturn:
    if threading.current_thread() is threading.main_thread():
        # A launcher ends all processes as soon as one has died; first this one says what has happened.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    verdict = watcher.explain() if _is_failed_message(error) else ""
    if verdict:
        watcher.close(verdict=verdict)
        raise watch.LostProcess(verdict) from error
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    if isinstance(error, KeyboardInterrupt):
        text = "stopped by the keyboard"
    watcher.say_end(error=text)
    if isinstance(error, UserError) and error.told_elsewhere is None:
        error.told_elsewhere = watcher.is_told_before(text)
    watcher.leave()
    raise error


class Connection:
    """The store of the run, and the watch.

    Raises:
        UserError: the store cannot be opened or reached, or not all processes come.
    """

    def __init__(self, launch: Launch, *, patience: float = PATIENCE) -> None:
        self._launch = launch
        self._patience = patience
        self.processes = ALONE
        # A launcher that starts failed processes again starts them with the store of the first attempt.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._store = dist.PrefixStore(f"alphaction/{attempt}", self._open())
        agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        own = dist.TCPStore(
            launch.address, launch.port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=patience)
        )
        self.watch = watch.Watch(
            dist.PrefixStore(f"alphaction/{attempt}/watch", own),
            rank=launch.rank,
            size=launch.size,
            holds_store=launch.rank == 0 and not agent,
            store_holder=f"the launcher at {launch.address}:{launch.port}" if agent else "",
        )
        self.watch.start(patience=patience)

    def _open(self) -> dist.Store:
        launch = self._launch
        try:
            rendezvous = dist.rendezvous("env://", launch.rank, launch.size, timeout=timedelta(seconds=self._patience))
            store, _, _ = next(iter(rendezvous))
        except (RuntimeError, OSError) as error:
            if launch.rank == 0 and ("in use" in str(error) or "EADDRINUSE" in str(error)):
                raise ConfigError(
                    f"MASTER_PORT {launch.port} on this machine is taken by another program, perhaps another run. "
                    f"Choose another one, e.g. --master_port={launch.port + 1 if launch.port < 65535 else 29500}"
                ) from error
            raise ConfigError(
                f"process {launch.rank} cannot reach process 0 at MASTER_ADDR {launch.address}, MASTER_PORT "
                f"{launch.port}, within {self._patience:g} s. Is process 0 started, is the address right, and does no "
                f"firewall stand between? ({first_line(error)})"
            ) from error
        return store

    def raise_first(self, error: UserError | None, *, step: str) -> None:
        """`Processes.raise_first` for the time before the process group is open.

        Args:
            step: name of the step, to be used once.
        """
        told = "" if error is None else str(error)
        self._store.set(f"{step}/{self._launch.rank}", told)
        with watch.waiting():
            texts = [self._store.get(f"{step}/{rank}").decode() for rank in range(self._launch.size)]
        others = [UserError(text) if text else None for text in texts]
        raised = first_error([*others[: self._launch.rank], error, *others[self._launch.rank + 1 :]], self._launch.rank)
        if raised is not None:
            raise raised

    def open_group(self, device: torch.device, *, backend: str, timeout: float, dead_after: float) -> Processes:
        """Opens the process group; `timeout` and `dead_after`: limits of the watch, in seconds."""
        launch = self._launch
        self.watch.set_limits(timeout=timeout, dead_after=dead_after)
        if device.type != "cpu":
            torch.cuda.set_device(device)  # NCCL's messages of plain values use the current GPU
        dist.init_process_group(
            backend,
            store=dist.PrefixStore("group", self._store),
            rank=launch.rank,
            world_size=launch.size,
            timeout=timedelta(seconds=max(timeout, PATIENCE) + dead_after + _SPARE),
        )
        self.processes = Processes(
            rank=launch.rank,
            size=launch.size,
            local_rank=launch.local_rank,
            device=device if backend == "nccl" else torch.device("cpu"),
        )
        return self.processes


def _is_failed_message(error: BaseException) -> bool:
    """Whether a message between processes may have failed: gloo has no exception class of its own."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in ("gloo", "nccl", "connection", "tcpstore"))


def _take_down() -> None:
    """Takes the group down; a message that still hangs in it is left behind."""
    if dist.is_initialized():
        thread = threading.Thread(target=dist.destroy_process_group, daemon=True)
        thread.start()
        thread.join(_TAKE_DOWN)
