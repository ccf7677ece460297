"""Carries the rows of the last layer over to a model with other classes, by the classes' names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from alphaction.errors import CheckpointError

#: Set to True in the configuration: rows go by name.
SWITCH = "MODEL.ROI_ACTION_HEAD.COPY_ROWS_BY_NAME"


@dataclass(frozen=True)
class ClassNames:
    """The classes of a file and of a model, each in the order of the outputs.

    Attributes:
        theirs, ours: names in the file and in the model.
        by_name: carry rows over by name (otherwise the names serve messages only).
    """

    theirs: Sequence[str]
    ours: Sequence[str]
    by_name: bool = False

    @property
    def differ(self) -> bool:
        """Other classes, or the same in another order."""
        return [_key(name) for name in self.theirs] != [_key(name) for name in self.ours]

    def pairs(self) -> list[tuple[int, int]]:
        """(index in the model, index in the file) of the classes of the same name.

        Upper and lower case and blanks around the name do not count. A name that stands twice on a side fits nothing.
        """
        theirs, ours = [_key(name) for name in self.theirs], [_key(name) for name in self.ours]
        twice = {name for side in (theirs, ours) for name, count in Counter(side).items() if count > 1}
        place = {name: index for index, name in enumerate(theirs)}
        return [(i, place[name]) for i, name in enumerate(ours) if name in place and name not in twice]


@dataclass(frozen=True)
class RowReport:
    """What became of the last layer's rows, by class name.

    Attributes:
        carried: classes of the model whose rows come from the file.
        fresh: classes of the model whose rows stay as initialised.
        unused: classes of the file that the model does not have.
    """

    carried: Sequence[str]
    fresh: Sequence[str]
    unused: Sequence[str]


def carry_rows(
    names: Mapping[str, str],
    weights: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    *,
    classes: ClassNames,
    source: str,
) -> tuple[dict[str, Tensor], RowReport]:
    """The file's last layer, rearranged for the model: rows of the same class, else the model's own.

    Args:
        names: tensors of the last layer: name in the model -> name in the file.
        weights: the file's.
        expected: the model's state.

    Returns:
        The rearranged tensors by their names in the file, and the report. Tensors that do not fit for another reason
        are left out.

    Raises:
        CheckpointError: the file's last layer does not have as many rows as the file names classes.
    """
    pairs = classes.pairs()
    ours, theirs = [i for i, _ in pairs], [j for _, j in pairs]
    rearranged = {}
    for name, entry in names.items():
        given, wanted = weights[entry], expected[name]
        if given.ndim == 0 or given.shape[1:] != wanted.shape[1:] or len(wanted) != len(classes.ours):
            continue
        if len(given) != len(classes.theirs):
            raise CheckpointError(
                f"{source}: names {len(classes.theirs)} classes, but {entry} has {len(given)} rows; rows cannot be "
                f"carried over by name ({SWITCH})"
            )
        rows = wanted.detach().clone()
        rows[ours] = given[theirs].to(rows)
        rearranged[entry] = rows
    report = RowReport(
        carried=[classes.ours[i] for i in ours],
        fresh=[name for i, name in enumerate(classes.ours) if i not in set(ours)],
        unused=[name for j, name in enumerate(classes.theirs) if j not in set(theirs)],
    )
    return rearranged, report


def _key(name: object) -> str:
    return str(name).strip().casefold()
