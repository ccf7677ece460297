"""Reads Caffe2 weight files (.pkl): a pickled dict of numpy arrays, plain or under "blobs"; no code in it is run.

The files name their arrays in their own way. One rule computes the name for each of our tensors: the I3D bodies have
one for every tensor, SlowFast only for the last layer (the original had no table for it).
"""

from __future__ import annotations

import io
import os
import pathlib
import pickle
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alphaction.errors import CheckpointError, first_line

_PLAIN_DTYPE = re.compile(r"[biufSU]\d{1,3}")
_NUMBERS = "biuf"

_LAST_LAYER = {
    "roi_heads.action.predictor.cls_score.weight": "pred_w",
    "roi_heads.action.predictor.cls_score.bias": "pred_b",
}
_PART = r"(?P<part>weight|bias|running_mean|running_var)"
_BLOCK = r"backbone\.res_nl(?P<stage>\d)\.res_(?P<block>\d+)\.(?:btnk\.conv(?P<branch>[123])|shortcut)"
_NONLOCAL = r"backbone\.res_nl(?P<stage>\d)\.nonlocal_(?P<block>\d+)\.(?P<layer>theta|phi|g|out|bn)"
# Our name -> pattern of theirs; `{stage}` is one more than ours (the stem is their first), `{branch}` a letter.
_RULES = (
    (re.compile(rf"backbone\.conv1\.{_PART}"), "conv1_{conv}"),
    (re.compile(rf"backbone\.bn1\.{_PART}"), "res_conv1_bn_{bn}"),
    (re.compile(rf"{_BLOCK}\.conv\.{_PART}"), "res{stage}_{block}_branch{branch}_{conv}"),
    (re.compile(rf"{_BLOCK}\.bn\.{_PART}"), "res{stage}_{block}_branch{branch}_bn_{bn}"),
    (re.compile(rf"{_NONLOCAL}\.{_PART}"), "nonlocal_conv{stage}_{block}_{layer}_{any}"),
)
_CONV = {"weight": "w", "bias": "b"}
_BN = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
_BRANCHES = {None: "1", "1": "2a", "2": "2b", "3": "2c"}


class Caffe2Weights(dict[str, Tensor]):
    """Tensors by their Caffe2 names."""


def caffe2_name(name: str) -> str | None:
    """The Caffe2 name of one of our tensors, or None if there is none."""
    if name in _LAST_LAYER:
        return _LAST_LAYER[name]
    for pattern, theirs in _RULES:
        found = pattern.fullmatch(name)
        if found:
            return _filled(theirs, found.groupdict())
    return None


def _filled(theirs: str, found: Mapping[str, str]) -> str | None:
    part = found["part"]
    is_bn = "{bn}" in theirs or found.get("layer") == "bn"
    ending = (_BN if is_bn else _CONV).get(part)
    if ending is None:
        return None
    return theirs.format(
        conv=ending,
        bn=ending,
        any=ending,
        stage=int(found.get("stage") or 0) + 1,
        block=found.get("block"),
        branch=_BRANCHES[found.get("branch")],
        layer=found.get("layer"),
    )


def renamed(weights: Mapping[str, Tensor], model_names: Iterable[str]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors that have a place in the model, by the model's names, and the names of the others."""
    places = {caffe2_name(name): name for name in model_names}
    places.pop(None, None)
    known = {places[name]: tensor for name, tensor in weights.items() if name in places}
    return known, [name for name in weights if name not in places]


def read_pickle(path: pathlib.Path) -> Caffe2Weights:
    """The arrays of a Caffe2 file.

    Raises:
        CheckpointError: damaged, no arrays in it, or anything but numpy arrays and plain values.
    """
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(_Bounded(file)).load()
    except _Forbidden as error:
        raise CheckpointError(
            f"{path}: refused, it holds a Python object ({error}) whose reading could run code. Of pickles (.pkl) only "
            "dicts of numpy arrays are read."
        ) from None
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise CheckpointError(
            f"{path}: the file is damaged, or no pickle of numpy arrays ({first_line(error)})"
        ) from error
    return _arrays(content, path)


def _arrays(content: object, path: pathlib.Path) -> Caffe2Weights:
    if isinstance(content, dict) and isinstance(content.get("blobs", content.get(b"blobs")), dict):
        content = content.get("blobs", content.get(b"blobs"))
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, expected a dict of numpy arrays")
    weights = Caffe2Weights()
    for name, value in content.items():
        if isinstance(value, _Array):
            value = value.value
        if isinstance(value, np.ndarray) and value.dtype.kind in _NUMBERS:
            # Python 2 wrote its names as bytes.
            name = name.decode("utf-8", errors="replace") if isinstance(name, bytes) else str(name)
            weights[name] = _tensor(value)
    if not weights:
        found = ", ".join(repr(key) for key in list(content)[:8]) or "nothing"
        raise CheckpointError(
            f"{path}: holds no numpy arrays; expected them by name, plain or under 'blobs', got {found}"
        )
    return weights


def _tensor(array: np.ndarray) -> Tensor:
    native = array.astype(array.dtype.newbyteorder("="))
    if native.dtype.kind == "u" and native.dtype.itemsize > 1:
        native = native.astype(np.int64)  # counters; not every PyTorch has these types
    if native.dtype.itemsize > 8:
        native = native.astype(np.float64)
    return torch.from_numpy(np.array(native, order="C"))


class _Forbidden(pickle.UnpicklingError):
    """The pickle asks for something that is not in the table."""


class _Dtype:
    """Stand-in for numpy.dtype: numbers and texts of fixed width only."""

    def __init__(self, code: Any, *_: object) -> None:
        code = code.decode("ascii") if isinstance(code, bytes) else code
        if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
            raise _Forbidden(f"numpy type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order == "<":
            self.dtype = self.dtype.newbyteorder("<")
        elif order == ">":
            self.dtype = self.dtype.newbyteorder(">")


class _Array:
    """Stand-in for numpy.ndarray; `value` is the array."""

    value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, data = state
        self.value = _frombuffer(data, dtype, shape, "F" if is_fortran else "C")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _frombuffer(data: Any, dtype: _Dtype, shape: Any, order: Any) -> np.ndarray:
    data = data.encode("latin1") if isinstance(data, str) else bytes(data)
    return np.frombuffer(data, dtype.dtype).reshape(tuple(shape), order="F" if order in ("F", b"F") else "C")


def _scalar(dtype: _Dtype, data: Any) -> np.ndarray:
    return _frombuffer(data, dtype, (), "C")


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes."""
    if encoding != "latin1":
        raise _Forbidden(f"text encoding {encoding!r}")
    return text.encode("latin1")


_GLOBALS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): dict,
    **{(module, "bytes"): bytes for module in ("builtins", "__builtin__")},
    **{
        (f"numpy.{core}.{place}", name): function
        for core in ("core", "_core")
        for place, name, function in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
}


class _Bounded:
    """A file that does not try to read more than it has, whatever length the pickle announces."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self.readinto = file.readinto

    def readline(self) -> bytes:
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise EOFError("its end is missing")
        return line

    def read(self, count: int) -> bytes:
        if count > self._size - self._file.tell():
            raise EOFError("its end is missing")
        return self._file.read(count)


# The unpickler written in Python: unlike the one in C it does not reserve memory for numbers that a file makes up, and
# what "set the state of this object" does can be limited.
class _ArrayUnpickler(pickle._Unpickler):
    stack: list[Any]
    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module_name: str, name: str, /) -> Any:
        try:
            return _GLOBALS[module_name, name]
        except KeyError:
            raise _Forbidden(f"{module_name}.{name}") from None

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], (_Array, _Dtype)):
            raise _Forbidden(f"state of a {type(self.stack[-2]).__name__}")
        super().load_build()  # type: ignore[misc]  # of the unpickler in Python, which type stubs leave out

    dispatch[pickle.BUILD[0]] = load_build  # type: ignore[assignment]
