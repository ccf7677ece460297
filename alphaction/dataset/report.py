"""What a data set holds and what of its files could not be used: the lines that open a run's log."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from alphaction.structures import ClassList

EXAMPLES = 5  # names kept per reason
WIDTH = 110  # characters of a line


@dataclass
class Tally:
    """How often something happened, and to whom first."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.examples:
            return str(self.count)
        more = "; ..." if self.count > len(self.examples) else ""
        return f"{self.count}: {'; '.join(self.examples)}{more}"


@dataclass
class DataReport:
    """Counts of one split.

    Attributes:
        name: of the data set.
        source: path of the annotation file.
        classes: the K classes.
        videos, keyframes, persons: what is usable.
        empty_keyframes: keyframes without an annotated person.
        labels: int64 [K], persons per class; empty until they are counted.
        dropped: what was left out, by reason.
        changed: what was kept after a correction (clipped boxes), by reason.
        notes: other remarks.
    """

    name: str
    source: str
    classes: ClassList
    videos: int = 0
    keyframes: int = 0
    persons: int = 0
    empty_keyframes: int = 0
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    dropped: dict[str, Tally] = field(default_factory=dict)
    changed: dict[str, Tally] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def drop(self, reason: str, count: int, examples: Sequence[str] = ()) -> None:
        _add(self.dropped, reason, count, examples)

    def change(self, reason: str, count: int, examples: Sequence[str] = ()) -> None:
        _add(self.changed, reason, count, examples)

    def num_dropped(self, reason: str) -> int:
        return self.dropped[reason].count if reason in self.dropped else 0

    def summary(self) -> str:
        """Several lines for the log."""
        labels = int(self.labels.sum())
        lines = [
            f"Data set {self.name}: {self.source}",
            f"  {_plural(self.videos, 'video')}, {_plural(self.keyframes, 'keyframe')} "
            f"({self.empty_keyframes} without persons), {_plural(self.persons, 'person')}, "
            f"{_plural(labels, 'label')} of {len(self.classes)} classes",
            *self._class_lines(),
        ]
        lines += [f"  dropped, {reason}: {tally}" for reason, tally in self.dropped.items()]
        lines += [f"  corrected, {reason}: {tally}" for reason, tally in self.changed.items()]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def reasons(self) -> str:
        """What was left out and why, for an error message."""
        return "; ".join(f"{reason}: {tally}" for reason, tally in self.dropped.items()) or "nothing was dropped"

    def _class_lines(self) -> list[str]:
        """Label counts; then the classes that have no example."""
        if len(self.labels) != len(self.classes):
            return []
        named = [
            f"{name} {count}" for name, count in zip(self.classes.names, self.labels.tolist(), strict=True) if count
        ]
        lines = textwrap.wrap(", ".join(named), WIDTH, initial_indent="    ", subsequent_indent="    ")
        missing = [name for name, count in zip(self.classes.names, self.labels.tolist(), strict=True) if not count]
        if missing:
            shown = ", ".join(missing[:20]) + (", ..." if len(missing) > 20 else "")
            lines.append(f"    without an example: {shown} ({len(missing)} of {len(self.classes)} classes)")
        return lines


def _add(tallies: dict[str, Tally], reason: str, count: int, examples: Sequence[str]) -> None:
    if count:
        tally = tallies.setdefault(reason, Tally())
        tally.count += count
        tally.examples += list(examples[: EXAMPLES - len(tally.examples)])


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
