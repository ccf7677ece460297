"""Opens a run: reads and checks its configuration, its folder and its log, makes generated data sets."""

from __future__ import annotations

import logging
import os
import pathlib
import platform
import shlex
import tempfile
from collections.abc import Sequence

import av
import cv2
import numpy as np
import torch
import torchvision
from yacs.config import CfgNode

import alphaction
from alphaction.config import load_config, validate
from alphaction.config.generate import ensure_generated
from alphaction.config.paths_catalog import DatasetCatalog
from alphaction.errors import ConfigError
from alphaction.utils.atomic import write_text
from alphaction.utils.device import resolve_device
from alphaction.utils.logging import setup_logging

logger = logging.getLogger(__name__)


def open_run(
    config_file: str, opts: Sequence[str], *, keys: Sequence[str], log_name: str
) -> tuple[CfgNode, torch.device]:
    """Reads and checks the configuration, opens the run's folder and its log, makes generated data sets.

    Args:
        keys: those of the data sets that will be used; the first must name one.
    """
    cfg = load_config(config_file, opts)
    validate(cfg)
    device = resolve_device(cfg.MODEL.DEVICE)
    _refuse_processes()
    named = {"DATASETS.TRAIN": cfg.DATASETS.TRAIN, "DATASETS.TEST": cfg.DATASETS.TEST}
    if not named[keys[0]]:
        raise ConfigError(
            f"{keys[0]} is empty: name a data set, e.g. {keys[0]} \"('my/dataset.yaml:split',)\" at the end of the line"
        )
    names = dict.fromkeys(name for key in keys for name in named[key])
    entries = [DatasetCatalog.get(name) for name in names]
    output_dir = _writable(cfg.OUTPUT_DIR)
    setup_logging(output_dir / log_name)
    logger.info("%s", _environment(device))
    logger.info("Configuration %s %s\n%s", config_file, shlex.join(opts), cfg.dump())
    for entry in entries:
        ensure_generated(entry)
    return cfg, device


def _refuse_processes() -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}: this version trains and tests with one process. "
            "Start it with plain `python train_net.py ...` (or --nproc_per_node=1)."
        )


def _writable(output_dir: str) -> pathlib.Path:
    """OUTPUT_DIR, made if need be, after a file was written to it for a try."""
    folder = pathlib.Path(output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"OUTPUT_DIR {output_dir}: cannot be written to ({error.strerror}). "
            "Give another folder at the end of the line: OUTPUT_DIR path/to/folder"
        ) from error
    return folder


def _environment(device: torch.device) -> str:
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
    return f"Device {device} ({name}); " + ", ".join(f"{key} {value}" for key, value in versions.items())


def save_config(cfg: CfgNode) -> None:
    """The run's whole configuration, for people and for `--config-file`."""
    write_text(pathlib.Path(cfg.OUTPUT_DIR) / "config.yaml", text=cfg.dump())
