"""events.csv: who did what from when to when, one line per event. docs/PREDICT.md describes it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from alphaction.prediction.events import Event
from alphaction.prediction.line_file import LineFile

COLUMNS = ("person", "action", "start", "end", "mean_score")


class EventWriter(LineFile):
    """Writes the header, then the events one by one, as they end."""

    def __init__(self, path: str | Path, *, class_names: Sequence[str]) -> None:
        super().__init__(path)
        self._names = tuple(class_names)
        self.write(_line(COLUMNS))

    def add(self, event: Event) -> None:
        """Adds an event and hands its line to the system at once."""
        times = (f"{event.start:.3f}", f"{event.end:.3f}")
        self.write(_line((event.track, self._names[event.action], *times, f"{event.score:.4f}")))


def _line(values: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
