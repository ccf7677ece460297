"""Opens a run: its processes, its configuration, its folder and its log, generated data sets."""

from __future__ import annotations

import logging
import pathlib
import platform
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np
import torch
import torchvision
from yacs.config import CfgNode

import alphaction
from alphaction.config import changed_keys, load_config, validate
from alphaction.config.generate import ensure_generated
from alphaction.config.paths_catalog import DatasetCatalog
from alphaction.errors import ConfigError, UserError
from alphaction.utils.atomic import write_text
from alphaction.utils.device import resolve_device
from alphaction.utils.distributed import ALONE, Processes
from alphaction.utils.launch import Connection, Launch, connected, read_launch
from alphaction.utils.logging import FILE_ONLY, rank_file, setup_logging
from alphaction.utils.watch import note

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What a run starts with.

    Attributes:
        cfg: complete and checked.
        device: that the model shall be on.
        processes: this one among those of the run.
    """

    cfg: CfgNode
    device: torch.device
    processes: Processes


@contextmanager
def open_run(config_file: str, opts: Sequence[str], *, keys: Sequence[str], log_name: str | None) -> Iterator[Run]:
    """Meets the run's other processes, reads and checks the configuration, opens the run's folder and its log.

    Generated data sets that are missing are made. When the block ends, with or without an error, so do the ties to
    the other processes.

    Args:
        keys: those of the data sets that will be used; the first must name one.
        log_name: file in OUTPUT_DIR; process 1 writes `<log_name>_rank1` and so on. None = the run leaves nothing in
            OUTPUT_DIR, which is only looked at.

    Raises:
        UserError: anything the user can mend, also a `LostProcess`.
    """
    launch = read_launch()
    with connected(launch) as connection:
        try:
            cfg, device, entries = _start(config_file, opts, keys=keys, launch=launch, writes=log_name is not None)
        except UserError as fault:
            if connection is not None:
                connection.raise_first(fault, step="start")
            raise
        if connection is not None:
            connection.raise_first(None, step="start")
        if device.type == "cuda":
            torch.cuda.set_device(device)  # else pinned memory and messages take up some of GPU 0, too
        processes = ALONE if connection is None else _group(cfg, device, connection)
        log_file = None if log_name is None else rank_file(pathlib.Path(cfg.OUTPUT_DIR) / log_name, launch.rank)
        setup_logging(log_file, rank=launch.rank)
        logger.info("%s", _environment(device, processes))
        changed = "\n".join(f"  {key} {value}" for key, value in changed_keys(cfg).items())
        logger.info("Configuration %s: what differs from the defaults\n%s", shlex.join([config_file, *opts]), changed)
        logger.info("All keys:\n%s", cfg.dump(), extra=FILE_ONLY)
        _make_data(entries, processes)
        note("data sets and network")
        yield Run(cfg, device, processes)


def _start(
    config_file: str, opts: Sequence[str], *, keys: Sequence[str], launch: Launch, writes: bool
) -> tuple[CfgNode, torch.device, list[dict[str, Any]]]:
    """Everything that can be wrong before the processes have to work together."""
    cfg = load_config(config_file, opts)
    validate(cfg, world_size=launch.size)
    device = resolve_device(cfg.MODEL.DEVICE, local_rank=launch.local_rank)
    if launch.size > 1:
        _check_processes(cfg, device, launch)
    if cfg.MODEL.BACKBONE.SYNC_BN and device.type == "cpu" and keys[0] == "DATASETS.TRAIN":
        raise ConfigError(
            "MODEL.BACKBONE.SYNC_BN is True, but the run is on the processor, where PyTorch has no batch norm over "
            "several processes. Set it False, or train on GPUs."
        )
    named = {"DATASETS.TRAIN": cfg.DATASETS.TRAIN, "DATASETS.TEST": cfg.DATASETS.TEST}
    if not named[keys[0]]:
        raise ConfigError(
            f"{keys[0]} is empty: name a data set, e.g. {keys[0]} \"('my/dataset.yaml:split',)\" at the end of the line"
        )
    names = dict.fromkeys(name for key in keys for name in named[key])
    entries = [DatasetCatalog.get(name) for name in names]
    _try_folder(cfg.OUTPUT_DIR, make=writes)
    return cfg, device, entries


def _check_processes(cfg: CfgNode, device: torch.device, launch: Launch) -> None:
    """Whether the processes can talk as the configuration says."""
    backend = _backend(cfg, device)
    if backend == "nccl" and device.type == "cpu":
        raise ConfigError(
            "DISTRIBUTED.BACKEND is 'nccl', which needs a GPU for each process, but the run is on the processor "
            f"(MODEL.DEVICE {cfg.MODEL.DEVICE}). Set it to 'auto' or 'gloo'."
        )
    if backend == "nccl" and ":" in cfg.MODEL.DEVICE:
        raise ConfigError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE}: one GPU for all {launch.size} processes, but NCCL needs one of its "
            "own for each. Set it to 'cuda' or 'auto'; CUDA_VISIBLE_DEVICES=2,3 in front of the command chooses GPUs."
        )


def _backend(cfg: CfgNode, device: torch.device) -> str:
    if cfg.DISTRIBUTED.BACKEND != "auto":
        return cfg.DISTRIBUTED.BACKEND
    return "gloo" if device.type == "cpu" else "nccl"


def _group(cfg: CfgNode, device: torch.device, connection: Connection) -> Processes:
    node = cfg.DISTRIBUTED
    return connection.open_group(
        device, backend=_backend(cfg, device), timeout=node.TIMEOUT, dead_after=node.DEAD_AFTER
    )


def _make_data(entries: Sequence[dict[str, Any]], processes: Processes) -> None:
    """Makes generated data sets that are missing: one process first, then one on each machine that has no part in the
    first one's folder; at last all read what is there.
    """
    note("generated data sets")
    for mine in (processes.is_main, processes.local_rank == 0, True):
        error = None
        if mine:
            try:
                for entry in entries:
                    ensure_generated(entry)
            except UserError as fault:
                error = fault
        processes.raise_first(error)


def _try_folder(output_dir: str, *, make: bool) -> None:
    """Writes a file to OUTPUT_DIR for a try; makes it if need be, or tries the nearest folder that exists."""
    folder = pathlib.Path(output_dir)
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder = next(part for part in (folder.absolute(), *folder.absolute().parents) if part.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"OUTPUT_DIR {output_dir}: cannot be written to ({error.strerror}). "
            "Give another folder at the end of the line: OUTPUT_DIR path/to/folder"
        ) from error


def _environment(device: torch.device, processes: Processes) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    versions = {
        "alphaction": alphaction.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "av": av.__version__,
    }
    place = f"Process {processes.rank} of {processes.size}, device" if processes.size > 1 else "Device"
    return f"{place} {device} ({name}); " + ", ".join(f"{key} {value}" for key, value in versions.items())


def save_config(cfg: CfgNode) -> None:
    """The run's whole configuration, for people and for `--config-file`."""
    write_text(pathlib.Path(cfg.OUTPUT_DIR) / "config.yaml", text=cfg.dump())
