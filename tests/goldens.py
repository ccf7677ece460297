"""Where the recorded numbers are and how tests read them.

The folder is `tests/golden`, or the one that the environment variable ALPHACTION_GOLDEN names (another set recorded in
the same way is checked by the same tests). What the kit keeps beside the goldens, `keys/` and `configs/`, may lie in
that folder or next to it; where there is none, the repository's is used. `fill` and `parity` are the kit's helper
modules.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import json
import math
import os
import pathlib
from types import ModuleType

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
FOLDER = pathlib.Path(os.environ.get("ALPHACTION_GOLDEN", HERE / "golden"))

# What the original did and ours does only when asked (QUIRKS.md): recorded numbers are compared with these on.
REFERENCE_OPTS: list[object] = [
    "QUIRKS.SWAP_CLIP_SIZE", True,
    "QUIRKS.KEEP_OBJECTS_UNFLIPPED", True,
    "QUIRKS.UNLABELLED_POSE_IS_FIRST_CLASS", True,
]  # fmt: skip


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / "golden" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fill = _module("fill")
parity = _module("parity")


def quick_bell(name, shape, salt=0, std=1.0, dtype=np.float32):
    """`fill.bell`, bit for bit, in half the time."""
    shape, n = fill._size(shape)
    words = fill.raw(name, n, salt).view(np.uint16)  # the order of a number's four parts does not matter to their sum
    sums = words[0::4].astype(np.int32)
    for part in (1, 2, 3):
        sums += words[part::4]
    sums -= 2 * 65535
    unit_std = math.sqrt(4.0 * (65536.0**2 - 1.0) / 12.0)
    return (sums * (std / unit_std)).astype(dtype).reshape(shape)


slow_bell, fill.bell = fill.bell, quick_bell
# Most of the recorded networks have the same weights: they are made once. The kit copies what it gets.
fill.tensor_for_key = functools.cache(fill.tensor_for_key)


def load(name: str) -> object:
    """npz: (meta, arrays); json: the object."""
    return parity.load(name, str(FOLDER))


def record_files(folder: str, pattern: str = "**/*") -> dict[str, pathlib.Path]:
    """Records of `keys` or `configs` by name, e.g. "resnet50_4x16f_serial"; `pattern` chooses among them."""
    places = (FOLDER / folder, FOLDER.parent / folder, HERE / "golden" / folder)
    place = next(path for path in places if path.is_dir())
    found = (path for ending in (".json", ".json.gz") for path in place.glob(pattern + ending))
    return {path.name.split(".")[0]: path for path in sorted(found)}


def read_record(path: pathlib.Path) -> dict:
    """A json file, compressed or not (ours of `keys` are: they are as large as all else otherwise)."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return json.load(file)


def config_record(name: str) -> dict:
    """The recorded "defaults", or what a released configuration file sets on top of them."""
    return read_record(record_files("configs")[name])


def available(prefix: str) -> list[str]:
    """Names of the goldens whose name begins with `prefix`, for parametrising."""
    return sorted(path.stem for path in FOLDER.glob(f"{prefix}*") if path.suffix in (".npz", ".json"))
