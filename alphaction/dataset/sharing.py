"""Lets a data set travel to newly started processes as shared memory instead of as copies.

Forked processes share the arrays anyway. Where processes begin anew (spawn, forkserver: macOS, Windows, Python from
3.14 on), each would get a copy through a pipe, and the next one would not be started before the last one has read it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alphaction.dataset.action_dataset import ActionDataset
from alphaction.structures import Annotations, PackedBoxes

SMALL = 1 << 12  # bytes; less is sent as it is: every shared array takes an open file

_shared: dict[int, dict[str, Any]] = {}  # by the id of a live object; kept, so that all processes share one copy


def share_datasets() -> None:
    """From now on data sets that are sent to a new process share the arrays of this one. Plain pickling stays."""
    for kind in (ActionDataset, Annotations, PackedBoxes):
        ForkingPickler.register(kind, _reduce)


def _reduce(value: Any) -> tuple[Callable[..., Any], tuple[type, Mapping[str, Any]]]:
    if id(value) not in _shared:
        _shared[id(value)] = {
            name: _SharedArray(array)
            for name, array in vars(value).items()
            if isinstance(array, np.ndarray) and array.nbytes >= SMALL
        }
        weakref.finalize(value, _shared.pop, id(value), None)
    return _rebuild, (type(value), {**vars(value), **_shared[id(value)]})


def _rebuild(kind: type, state: Mapping[str, Any]) -> Any:
    value: Any = object.__new__(kind)
    vars(value).update(
        {name: part.tensor.numpy() if isinstance(part, _SharedArray) else part for name, part in state.items()}
    )
    return value


class _SharedArray:
    """An array's content in shared memory; sent as a handle."""

    tensor: Tensor

    def __init__(self, array: np.ndarray) -> None:
        self.tensor = torch.from_numpy(np.array(array)).share_memory_()
