"""Reads the original's training checkpoints, which hold pickled objects of its memory pool, without running code.

A pickle names the classes and functions that rebuild its objects. Here a name means what the table below says and
nothing else: tensors, plain containers, numpy scalars, and stand-ins for the two classes of the original.
"""

from __future__ import annotations

import collections
import pickle
import re
import types
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np
import torch

_DTYPE_CODE = re.compile(r"[biufSU]\d+")


class ForbiddenGlobal(pickle.UnpicklingError):
    """The pickle asks for a class or function that is not in the table."""


class _Object:
    """Stand-in for an object of the original; its attributes are what the pickle says."""


class _Dtype:
    """Stand-in for numpy.dtype, simple types only."""

    def __init__(self, code: str, *_: object) -> None:
        if not _DTYPE_CODE.fullmatch(code):
            raise pickle.UnpicklingError(f"numpy type {code!r} is not a plain one")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


def _scalar(dtype: _Dtype, data: bytes) -> object:
    return np.frombuffer(data, dtype.dtype)[0].item()


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r} is not expected here")
    return text.encode("latin1")


_BUILTINS: dict[str, Callable[..., object]] = {
    kind.__name__: kind for kind in (dict, list, set, tuple, int, float, bool, str)
}

_GLOBALS: dict[tuple[str, str], Callable[..., object]] = {
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("alphaction.structures.memory_pool", "MemoryPool"): type("MemoryPool", (_Object,), {}),
    ("alphaction.structures.bounding_box", "BoxList"): type("BoxList", (_Object,), {}),
    **{(module, name): kind for module in ("builtins", "__builtin__") for name, kind in _BUILTINS.items()},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, name: str, /) -> object:
        try:
            return _GLOBALS[module_name, name]
        except KeyError:
            raise ForbiddenGlobal(f"{module_name}.{name}") from None


def _load(file: IO[bytes], *, encoding: str = "utf-8", **_: object) -> object:
    return _Unpickler(file, encoding=encoding).load()


# What torch.load takes as `pickle_module`: it derives its own unpickler from this one (for the storages).
RESTRICTED_PICKLE = types.SimpleNamespace(Unpickler=_Unpickler, load=_load, __name__=__name__)


def to_plain(value: Any) -> Any:
    """Stand-ins and special dicts as plain dicts: a memory pool becomes movie -> second -> attributes of the boxes."""
    if isinstance(value, _Object):
        attributes = to_plain(vars(value))
        return attributes["cache"] if set(attributes) == {"cache"} else attributes
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(to_plain(item) for item in value)
    return value
