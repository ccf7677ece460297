"""What a checkpoint says about the run that wrote it."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from alphaction.checkpoint.matching import LoadReport, without_wrapper
from alphaction.errors import CheckpointError

#: Entries of parts that not every run has: the running mean of the weights, the scale of the loss in float16.
AVERAGED, SCALER = "averaged_model", "gradient_scaler"
PARTS = (AVERAGED, SCALER)
OWN_ENTRIES = (
    "model",
    "optimizer",
    "scheduler",
    "iteration",
    "random_states",
    "best",
    "config",
    "classes",
    "version",
    "data",
    *PARTS,
)


@dataclass(frozen=True)
class LoadedState:
    """Where a run stands after loading.

    Attributes:
        iteration: finished iterations; 0 for a new run.
        source: the file that was read, or None (from scratch).
        resumed: optimizer, schedule and iteration come from the file, too.
        best: best validation per data set: {"mAP": in 0..1, "iteration": when}.
        report: which weights were loaded.
        class_ids, class_names: of the file, in the order of the model's outputs; empty if it does not say.
        class_counts: persons of each class in the training set; empty if the file does not say.
        config_text: the configuration (YAML) of the run that wrote the file.
        version: of this package, when the file was written.
        project: the format of another project that the weights had; "" = ours.
        extra: further entries of the file, as given to `save`.
    """

    iteration: int = 0
    source: pathlib.Path | None = None
    resumed: bool = False
    best: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    report: LoadReport | None = None
    class_ids: Sequence[int | str] = ()
    class_names: Sequence[str] = ()
    class_counts: Sequence[int] = ()
    config_text: str = ""
    version: str = ""
    project: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


def describe(
    content: Mapping[str, Any],
    path: pathlib.Path,
    *,
    report: LoadReport,
    iteration: int,
    resumed: bool = False,
) -> LoadedState:
    """The state of a file that was read, of which `report` tells what was loaded."""
    ids, counts = (entry(content, "classes").get(name) for name in ("ids", "counts"))
    return LoadedState(
        iteration=iteration,
        source=path,
        resumed=resumed,
        best=entry(content, "best") if resumed else {},
        report=report,
        class_ids=tuple(ids) if isinstance(ids, (list, tuple)) else (),
        class_names=tuple(class_names(content)),
        class_counts=tuple(counts) if isinstance(counts, (list, tuple)) else (),
        config_text=str(content.get("config", "")),
        version=str(content.get("version", "")),
        project=str(content.get("zoo", "")),
        extra={key: value for key, value in content.items() if key not in OWN_ENTRIES} if resumed else {},
    )


def entry(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An entry that should be a dict; empty if it is missing or something else."""
    value = content.get(name)
    return value if isinstance(value, Mapping) else {}


def class_names(content: Mapping[str, Any]) -> list[str]:
    """The classes that a file names, in the order of the outputs; empty if it names none."""
    names = entry(content, "classes").get("names")
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else []


def averaged_weights(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The averaged weights of a file by the names of its "model", empty if it has none."""
    names = without_wrapper(content["model"])
    averaged = {name.removeprefix("module."): value for name, value in entry(content, AVERAGED).items()}
    return {name: value for name, value in averaged.items() if name in names and isinstance(value, Tensor)}


def finished_iterations(content: Mapping[str, Any], path: pathlib.Path) -> int:
    """The entry "iteration" of a file, 0 if it has none.

    Raises:
        CheckpointError: it is no number.
    """
    iteration = content.get("iteration", 0)
    if not isinstance(iteration, int) or iteration < 0:
        raise CheckpointError(f"{path}: its entry 'iteration' is {iteration!r}, expected a number")
    return iteration


def check_plain(value: Any, *, where: str) -> None:
    """Refuses what could not be read back without running code."""
    if value is None or isinstance(value, Tensor) or type(value) in (bool, int, float, str):
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_plain(key, where=f"a key of {where}")
            check_plain(item, where=f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            check_plain(item, where=f"{where}[{index}]")
    else:
        raise TypeError(
            f"{where}: got {type(value).__name__}, expected tensors, numbers, texts, and dicts and lists of them"
        )
