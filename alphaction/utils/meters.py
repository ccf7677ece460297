"""Running figures of a training loop, bounded in memory."""

from __future__ import annotations

from collections.abc import Mapping


class Means:
    """Means by name over the values since they were last taken. Keeps sums, not values."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value, count + 1)

    def take(self) -> dict[str, float]:
        """The means, names in the order of their first value; then starts anew."""
        means = {name: total / count for name, (total, count) in self._sums.items()}
        self._sums.clear()
        return means
