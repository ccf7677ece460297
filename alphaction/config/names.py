"""Which known name a mistyped one probably means."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from difflib import SequenceMatcher

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 120
_repr.maxlist = _repr.maxtuple = _repr.maxdict = 12
_repr.maxlevel = 3
_MAX_LENGTH = 200


def shown(value: object) -> str:
    """`repr` cut to a length that fits into a message."""
    text = _repr.repr(value)
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 4] + " ..."


def nearest(name: str, known: Iterable[str]) -> str:
    """The most similar of the known names ("" if there are none).

    Names with dots are compared as a whole and by their last part, so that a key under the wrong section is found too.
    """

    def similarity(candidate: str) -> float:
        a, b = name.upper(), candidate.upper()
        last = SequenceMatcher(None, a.rpartition(".")[2], b.rpartition(".")[2]).ratio()
        return SequenceMatcher(None, a, b).ratio() + last

    return max(sorted(known), key=similarity, default="")
