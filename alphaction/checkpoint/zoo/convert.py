"""Recognises weights of other projects by their names, and gives them ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from alphaction.checkpoint.zoo.formats import (
    CAFFE2_SLOWFAST,
    FORMATS,
    MMACTION2_SLOWFAST,
    MMACTION2_SLOWONLY,
    PREDICTOR,
)
from alphaction.checkpoint.zoo.keys import KeyTable

_BACKGROUND_FIRST = (MMACTION2_SLOWFAST, MMACTION2_SLOWONLY)
_OPTIMIZER = "_momentum"  # Caffe2 files of a training keep these beside the weights


@dataclass(frozen=True)
class Converted:
    """Weights under our names.

    Attributes:
        title: the format that they had.
        weights: by our names; those that the format's table does not know keep their own.
        renamed: our name -> theirs.
        unknown: names that the table does not know.
        notes: what was left out or changed, for people.
    """

    title: str
    weights: Mapping[str, Tensor]
    renamed: Mapping[str, str]
    unknown: tuple[str, ...]
    notes: tuple[str, ...]


def recognised(weights: Mapping[str, Tensor]) -> KeyTable | None:
    """The format of another project that the weights have; None if it is none of them."""
    for table in FORMATS:
        if any(name in weights for name in table.signatures):
            return table
    # A Slow network in Caffe2 has the names of an I3D one. What tells them apart is how many frames the stem sees.
    stem = weights.get("conv1_w")
    if stem is not None and stem.ndim == 5 and stem.shape[2] == 1:
        return CAFFE2_SLOWFAST
    return None


def converted(weights: Mapping[str, Tensor], table: KeyTable) -> Converted:
    """The weights under our names. Nothing is lost without a note: what has no place with us keeps its name."""
    renamed, kept, unknown, notes = {}, {}, [], []
    left_out = []
    for name, tensor in weights.items():
        ours = table.to_ours(name)
        if ours is not None:
            renamed[ours] = name
            kept[ours] = tensor
        elif table is CAFFE2_SLOWFAST and name.endswith(_OPTIMIZER):
            left_out.append(name)
        else:
            unknown.append(name)
            kept[name] = tensor
    if left_out:
        notes.append(f"{len(left_out)} tensors of the optimizer left out ({left_out[0]} and so on)")
    if table in _BACKGROUND_FIRST:
        notes += _without_background(kept, renamed)
    return Converted(table.title, kept, renamed, tuple(unknown), tuple(notes))


def _without_background(weights: dict[str, Tensor], renamed: Mapping[str, str]) -> list[str]:
    """Drops the first row of the last layer: "background", which is no action and which sigmoid scores do not need."""
    names = [name for name in (PREDICTOR + "weight", PREDICTOR + "bias") if name in weights and len(weights[name])]
    for name in names:
        weights[name] = weights[name][1:]
    return [f"row 0 (background) of {' and '.join(renamed[name] for name in names)} left out"] if names else []
