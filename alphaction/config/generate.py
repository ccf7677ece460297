"""Makes the data sets that are made rather than downloaded, on first use."""

from __future__ import annotations

import importlib
import logging
import os
import pathlib
from collections.abc import Callable
from typing import Any

from alphaction.config.dataset_file import read_dataset_file, split_reference
from alphaction.errors import ConfigError, DataError

logger = logging.getLogger(__name__)


def ensure_generated(entry: dict[str, Any]) -> bool:
    """Makes a data set whose catalog entry names a generator and whose files do not exist yet.

    The generator, a function named "package.module:function", is called with the set's folder (`pathlib.Path`). It
    must make the folder's content visible all at once, since other processes may look for it or make it as well.

    Args:
        entry: as `DatasetCatalog.get` returns it; the paths that were not known before are filled in.

    Returns:
        Whether the generator was called.

    Raises:
        ConfigError: the entry's generator cannot be found.
        DataError: it could not write, or did not make what the entry names.
    """
    generator = entry["generator"]
    if not generator or not _missing(entry):
        return False
    where = f"data set {entry['name']}"
    generate = _find(generator, where=where)
    folder = pathlib.Path(entry["root"])
    logger.info("Making %s in %s (only the first time)", where, folder)
    try:
        generate(folder)
    except OSError as fault:
        raise DataError(f"{where}: cannot be made in {folder}: {fault}") from fault
    missing = _missing(entry)
    if missing:
        raise DataError(f"{where}: its generator {generator} ran, but {missing} is still missing")
    if entry["dataset_file"]:
        path, split = split_reference(entry["dataset_file"]) or (entry["dataset_file"], "")
        kept = {key: entry[key] for key in ("name", "generator", "root", "dataset_file")}
        entry.update({**read_dataset_file(path, split), **kept})
    return True


def _missing(entry: dict[str, Any]) -> str:
    """The first path of the entry that does not exist, "" if all do."""
    if entry["dataset_file"]:
        reference = split_reference(entry["dataset_file"])
        paths = [reference[0] if reference else entry["dataset_file"]]
    else:
        paths = [entry["video_root"], entry["ann_file"]]
    return next((path for path in paths if not os.path.exists(path)), "")


def _find(generator: str, *, where: str) -> Callable[[pathlib.Path], object]:
    module_name, colon, function_name = generator.partition(":")
    if not (colon and module_name and function_name):
        raise ConfigError(f"{where}: generator: got {generator!r}, expected 'package.module:function'")
    try:
        module = importlib.import_module(module_name)
    except ImportError as fault:
        raise ConfigError(f"{where}: generator {generator!r}: cannot import {module_name}: {fault}") from fault
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ConfigError(f"{where}: generator {generator!r}: {module_name} has no function {function_name}")
    return function
