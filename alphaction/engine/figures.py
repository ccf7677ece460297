"""Losses and metrics of a batch that is computed in parts, by several processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from alphaction.utils.distributed import Processes

#: The weighted sum of the losses of the actions, by the name it is logged with.
TOTAL = "loss_action"
#: All that is minimised: that sum and, with a person head, the weighted sum of its losses. Not logged.
WHOLE = "whole"
_METRIC, _SUM, _COUNT = "metric ", "sum ", "count "


class LossOutput(Protocol):
    """Of one part: scalars that are summed over the parts, or means over `counted` persons of the part."""

    @property
    def losses(self) -> Mapping[str, Tensor]: ...

    @property
    def total(self) -> Tensor: ...

    @property
    def metrics(self) -> Mapping[str, Tensor]: ...

    @property
    def counted(self) -> Mapping[str, Tensor]: ...


class Figures:
    """Collects the results of a process's parts; they stay on the device until they are read."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._rows: list[Tensor] = []

    def add(self, result: LossOutput, persons: LossOutput | None = None) -> Tensor:
        """Notes a part's losses, those of the person head among them; returns what is to be minimised."""
        whole = result.total if persons is None else result.total + persons.total
        named = {WHOLE: whole, TOTAL: result.total} | dict(result.losses)
        if persons is not None:
            named |= persons.losses
        for name, value in result.metrics.items():
            if name in result.counted:
                named |= {_SUM + name: value * result.counted[name], _COUNT + name: result.counted[name]}
            else:
                named[_METRIC + name] = value
        self._names = list(named)
        self._rows.append(torch.stack([value.detach().double() for value in named.values()]))
        return whole

    def read(self) -> list[dict[str, float]]:
        """The figures of each part, in one transfer from the device."""
        if not self._rows:
            return []
        return [dict(zip(self._names, row, strict=True)) for row in torch.stack(self._rows).tolist()]


def joined(parts: Sequence[Mapping[str, float]], processes: Processes, *, everyone: bool) -> dict[str, float]:
    """The sums over all parts of all processes.

    Args:
        everyone: each process has parts; else those without do not know the names of the figures.
    """
    sums = added(parts)
    if everyone:
        return dict(zip(sums, processes.sum(list(sums.values())), strict=True))
    return added(processes.gather(sums))


def added(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Sums by name; what a part does not have counts 0."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0.0) for part in parts) for name in names}


def logged(sums: Mapping[str, float]) -> dict[str, float]:
    """From sums over the whole batch to what is logged: losses, metrics, and the total and mean of them."""
    losses = {name: value for name, value in sums.items() if name.startswith("loss_") and name != TOTAL}
    metrics = {}
    for name, value in sums.items():
        if name.startswith(_METRIC):
            metrics[name.removeprefix(_METRIC)] = value
        elif name.startswith(_SUM):
            metric = name.removeprefix(_SUM)
            metrics[metric] = value / max(sums[_COUNT + metric], 1.0)
    figures = losses | metrics | {TOTAL: sums[TOTAL]}
    if metrics:
        figures["accuracy"] = sum(metrics.values()) / len(metrics)
    return figures
