"""Where the recorded numbers are and how tests read them.

The folder is `tests/golden`, or the one that the environment variable ALPHACTION_GOLDEN names (another set recorded in
the same way is checked by the same tests). `fill` and `parity` are the kit's helper modules.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
from types import ModuleType

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


def load(name: str) -> object:
    """npz: (meta, arrays); json: the object."""
    return parity.load(name, str(FOLDER))


def available(prefix: str) -> list[str]:
    """Names of the goldens whose name begins with `prefix`, for parametrising."""
    return sorted(path.stem for path in FOLDER.glob(f"{prefix}*") if path.suffix in (".npz", ".json"))
