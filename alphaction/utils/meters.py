"""Running figures of a training loop, bounded in memory."""

from __future__ import annotations

from collections import deque


class Meter:
    """Mean over the last `window` values and over all of them. Keeps the window only."""

    def __init__(self, window: int = 20) -> None:
        self._recent: deque[float] = deque(maxlen=window)
        self._total = 0.0
        self._count = 0

    def add(self, value: float) -> None:
        self._recent.append(value)
        self._total += value
        self._count += 1

    @property
    def recent(self) -> float:
        """Mean of the window; 0 before the first value."""
        return sum(self._recent) / len(self._recent) if self._recent else 0.0

    @property
    def mean(self) -> float:
        """Mean since the start; 0 before the first value."""
        return self._total / self._count if self._count else 0.0


class Meters:
    """Meters by name, made on first use."""

    def __init__(self, window: int = 20) -> None:
        self._window = window
        self._meters: dict[str, Meter] = {}

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._meters.setdefault(name, Meter(self._window)).add(value)

    def __getitem__(self, name: str) -> Meter:
        return self._meters[name]

    def recent(self) -> dict[str, float]:
        return {name: meter.recent for name, meter in self._meters.items()}
