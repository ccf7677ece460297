"""What was taken for granted, and why: the lines of the report that a user should read."""

from __future__ import annotations

from typing import NamedTuple


class Assumption(NamedTuple):
    """One decision.

    Attributes:
        what: "boxes", "times", "classes", "split", ...
        value: what was decided.
        evidence: on what grounds.
        files: the annotation files that it holds for; "" = all.
    """

    what: str
    value: str
    evidence: str
    files: str = ""

    def __str__(self) -> str:
        place = f" ({self.files})" if self.files else ""
        return f"{self.what}{place}: {self.value}, because {self.evidence}"


def count(number: int, word: str) -> str:
    """`5,210 boxes`, `1 box`."""
    plural = word + ("es" if word.endswith(("x", "s", "ch")) else "s")
    return f"{number:,} {word if number == 1 else plural}"


def share(part: int, whole: int, word: str) -> str:
    """`all 5,210 boxes`, `12 of 5,210 boxes`."""
    return f"all {count(whole, word)}" if part == whole else f"{part:,} of {count(whole, word)}"
