"""Names of tensors in two projects, as a table of patterns that is read in both directions.

A rule is a pair of patterns, ours and theirs, with the same fields in braces:

    backbone.{path}.bn1.{bn}    <->    s1.pathway{path}_stem.bn.{bn}

A field says which of our texts stands for which of theirs (`slow` for `0`), or is any number, equal on both sides.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

#: A field that is any number, the same on both sides.
NUMBER: Mapping[str, str] = {}

Field = Mapping[str, str]  # our text -> theirs


@dataclass(frozen=True)
class Rule:
    """Two patterns that name the same tensors.

    Attributes:
        ours, theirs: with fields in braces.
        last_block: a field of theirs alone: the number of the last residual block of the stage whose number in our
            names is that of the field named here, less one (Caffe2 names a connection after the block it leaves).
    """

    ours: str
    theirs: str
    last_block: str = ""


@dataclass(frozen=True)
class KeyTable:
    """The names of one format.

    Attributes:
        title: the format, for people.
        fields: by the names used in the rules.
        rules: of which at most one fits a name.
        signatures: names that only files of this format have, one of them in every such file.
    """

    title: str
    fields: Mapping[str, Field]
    rules: Sequence[Rule]
    signatures: Sequence[str]

    def to_ours(self, name: str) -> str | None:
        """Our name of one of their tensors; None if the table has none."""
        for theirs, rule in self._theirs:
            found = theirs.fullmatch(name)
            if found:
                values = found.groupdict()
                values.pop("last", None)
                return rule.ours.format(**{key: self._inverse[key].get(text, text) for key, text in values.items()})
        return None

    def to_theirs(self, names: Iterable[str]) -> dict[str, str]:
        """Their names of our tensors: ours -> theirs, without those that the table has no name for.

        Args:
            names: all of a network's, since some of theirs count the blocks of a stage.
        """
        names = list(names)
        last = _last_blocks(names)
        return {name: theirs for name in names if (theirs := self._one_to_theirs(name, last)) is not None}

    def _one_to_theirs(self, name: str, last: Mapping[int, int]) -> str | None:
        for ours, rule in self._ours:
            found = ours.fullmatch(name)
            if found:
                values = {key: self.fields[key].get(text, text) for key, text in found.groupdict().items()}
                if rule.last_block:
                    values["last"] = str(last.get(int(found[rule.last_block]) - 1, 0))
                return rule.theirs.format(**values)
        return None

    @cached_property
    def _inverse(self) -> dict[str, dict[str, str]]:
        return {key: {theirs: ours for ours, theirs in field.items()} for key, field in self.fields.items()}

    @cached_property
    def _ours(self) -> list[tuple[re.Pattern[str], Rule]]:
        return [(self._pattern(rule.ours, self.fields), rule) for rule in self.rules]

    @cached_property
    def _theirs(self) -> list[tuple[re.Pattern[str], Rule]]:
        return [(self._pattern(rule.theirs, self._inverse), rule) for rule in self.rules]

    def _pattern(self, template: str, fields: Mapping[str, Field]) -> re.Pattern[str]:
        pieces = []
        for text, field, _, _ in string.Formatter().parse(template):
            pieces.append(re.escape(text))
            if field:
                allowed = "|".join(re.escape(value) for value in fields.get(field, NUMBER)) or r"\d+"
                pieces.append(f"(?P<{field}>{allowed})")
        return re.compile("".join(pieces))


_BLOCK = re.compile(r"backbone\.(?:slow|fast)\.res_nl(\d+)\.res_(\d+)\.")


def _last_blocks(names: Iterable[str]) -> dict[int, int]:
    """Number of the last block of each stage."""
    last: dict[int, int] = {}
    for name in names:
        found = _BLOCK.match(name)
        if found:
            stage, block = int(found[1]), int(found[2])
            last[stage] = max(block, last.get(stage, 0))
    return last
