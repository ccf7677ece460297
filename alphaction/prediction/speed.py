"""How fast each part of a prediction is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass
class StageSpeed:
    """Time that a stage took.

    Attributes:
        seconds: in it.
        count: what it dealt with, frames or moments.
    """

    seconds: float = 0.0
    count: int = 0

    @property
    def per_second(self) -> float:
        return self.count / self.seconds if self.seconds > 0 else 0.0


@dataclass
class Speed:
    """The stages of a run in the order of their first use."""

    stages: dict[str, StageSpeed] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, *, count: int = 1) -> Iterator[None]:
        """Adds the block's time to a stage."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            stage = self.stages.setdefault(name, StageSpeed())
            stage.seconds += time.perf_counter() - begin
            stage.count += count

    def taken(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """The items; the time that each takes to come is added to a stage."""
        iterator = iter(items)
        while True:
            begin = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            stage = self.stages.setdefault(name, StageSpeed())
            stage.seconds += time.perf_counter() - begin
            stage.count += 1
            yield item
