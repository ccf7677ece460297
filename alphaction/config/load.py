"""From a YAML file and the end of a command line to a configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from alphaction.config.defaults import get_cfg
from alphaction.config.merge import Config, leaves
from alphaction.config.shipped import find_config


def load_config(config_file: str | os.PathLike[str], opts: Sequence[Any] = ()) -> Config:
    """The defaults, changed by the file, changed by the overrides.

    Values are brought to their key's type (see `merge`); `validate` then checks them against each other. With
    SOLVER.AUTO_SCALE, a REFERENCE_BATCH of 0 becomes what it stands for: the VIDEOS_PER_BATCH before the overrides.

    Args:
        config_file: a YAML file, also one of the shipped ones (`find_config`); "" for the defaults alone. It is read as
            data, nothing in it is ever executed.
        opts: `[key, value, key, value, ...]`, values as text (command line) or as Python values.

    Returns:
        A tree of its own, not frozen: NUM_CLASSES 0 may still be filled in. Call `freeze()` when it is complete.

    Raises:
        ConfigError: the file is missing or no YAML mapping; an unknown key (with the nearest that exists), a value of
            the wrong type, an override without a value. All faults of the file are told together.
    """
    cfg = get_cfg()
    if os.fspath(config_file):
        cfg.merge_from_file(find_config(config_file))
    batch_of_file = cfg.SOLVER.VIDEOS_PER_BATCH
    cfg.merge_from_list(opts)
    if cfg.SOLVER.AUTO_SCALE and cfg.SOLVER.REFERENCE_BATCH == 0:
        cfg.SOLVER.REFERENCE_BATCH = batch_of_file
    return cfg


def changed_keys(cfg: Config) -> dict[str, Any]:
    """{key: value} of the keys that do not have their default, in the order of the tree."""
    defaults = dict(leaves(get_cfg()))
    return {key: value for key, value in leaves(cfg) if value != defaults.get(key)}
