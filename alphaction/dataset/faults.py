"""What is wrong with single entries of an annotation file: the first one ends the reading, or all are collected.

Readers call `refuse` for what a run cannot go on with and `remark` for what it silently puts right. A run reads with
`STRICT`; the data set checker collects with a `FaultList` and the entry is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from alphaction.errors import DataError


@dataclass(frozen=True)
class EntryFault:
    """A fault of one entry.

    Attributes:
        code: what kind of fault, such as "unknown-class".
        entry: where in the file, such as "line 12" or "annotation 7".
        message: the whole story.
    """

    code: str
    entry: str
    message: str


class Faults:
    """Ends the reading at the first fault that is refused."""

    collecting = False

    def refuse(self, code: str, entry: str, message: str) -> None:
        """A fault that a run cannot go on with.

        Raises:
            DataError: always, unless faults are collected.
        """
        raise DataError(message)

    def remark(self, code: str, entry: str, message: str) -> None:
        """Something odd that reading puts right by itself."""


class FaultList(Faults):
    """Collects all faults.

    Attributes:
        found: in the order of reading.
    """

    collecting = True

    def __init__(self) -> None:
        self.found: list[EntryFault] = []

    def refuse(self, code: str, entry: str, message: str) -> None:
        self.found.append(EntryFault(code, entry, message))

    def remark(self, code: str, entry: str, message: str) -> None:
        self.found.append(EntryFault(code, entry, message))


STRICT = Faults()
