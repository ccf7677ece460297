"""What every key means, taken from the comments beside the defaults, so that no page about it can drift."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alphaction.config.defaults import get_cfg
from alphaction.config.merge import leaves
from alphaction.config.rules import RULES

_FOLDER = Path(__file__).parent
_SOURCES = (("model_defaults.py", "MODEL", "MODEL"), ("defaults.py", "_C", ""))
_RULER = re.compile(r"# -{3,}")

_HEAD = """\
# Configuration

Every key with its default, what it may be, and what it means. "Ours" marks keys that the original AlphAction does not
have: its YAML files run unchanged. This page is made by `python -m alphaction.config --page` from the comments beside
the defaults (`alphaction/config/model_defaults.py`, `defaults.py`); a test compares the two.

- A YAML file (`--config-file`) holds what differs from here; the end of a command line overrides both:
  `SOLVER.BASE_LR 0.001`. Tuples stand in quotes there: `SOLVER.STEPS '(6000, 8000)'`. An unknown key, a wrong type or a
  value out of range is an error that names the key.
- `python -m alphaction.config WORD` shows the keys whose name or meaning has the word.
- A finished run's `config.yaml` holds every key.
"""


@dataclass(frozen=True)
class KeyText:
    """A key of the configuration in words.

    Attributes:
        key: full name, `SOLVER.BASE_LR`.
        default: as it would stand in Python.
        allowed: what the value may be; "" where the type says all.
        meaning: the comment beside the default; keys that share one all have it.
        shares: the comment stands above the key before.
    """

    key: str
    default: str
    allowed: str
    meaning: str
    shares: bool = False


def key_texts() -> list[KeyText]:
    """Every key in the order of the tree.

    Raises:
        ValueError: a key has no comment.
    """
    comments = _comments()
    texts: list[KeyText] = []
    for key, value in leaves(get_cfg()):
        # The fast pathway's keys are those of the slow one.
        own = comments.get(key) or comments.get(key.replace(".FAST.", ".SLOW."), "")
        if not own and (not texts or _section(texts[-1].key) != _section(key)):
            own = comments.get(_section(key), "")
        meaning = own or texts[-1].meaning
        if not meaning:
            raise ValueError(f"{key}: has no comment")
        texts.append(KeyText(key, _shown(key, value), _allowed(key, value), meaning, shares=not own))
    return texts


def find_keys(words: Sequence[str]) -> list[KeyText]:
    """The keys whose name or meaning has all the words, upper and lower case alike."""
    return [text for text in key_texts() if all(w.lower() in f"{text.key} {text.meaning}".lower() for w in words)]


def reference_page() -> str:
    """docs/CONFIG.md: a table per section."""
    comments, sections = _comments(), dict[str, list[KeyText]]()
    for text in key_texts():
        sections.setdefault(_section(text.key), []).append(text)
    lines = [_HEAD]
    for section, texts in sections.items():
        lines += ["", f"## {section or 'At the top'}", ""]
        if section in comments:
            lines += [comments[section], ""]
        lines += ["| key | default | allowed | meaning |", "| --- | --- | --- | --- |"]
        for text in texts:
            cells = [f"`{text.key.rpartition('.')[2]}`", f"`{text.default}`", text.allowed]
            cells.append("as above" if text.shares else text.meaning)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _section(key: str) -> str:
    return key.rpartition(".")[0]


@cache
def _comments() -> dict[str, str]:
    """{key or section: the comment right above it}."""
    found: dict[str, str] = {}
    for file, variable, prefix in _SOURCES:
        words: list[str] = []
        assignment = re.compile(rf"{variable}\.([A-Z0-9_.]+) = ")
        for line in (_FOLDER / file).read_text(encoding="utf-8").splitlines():
            key = assignment.match(line)
            if line.startswith("#") and not _RULER.match(line):
                words.append(line.lstrip("# "))
                continue
            if key and words:
                found[".".join(filter(None, (prefix, key[1])))] = " ".join(words)
            words = []
    return found


def _shown(key: str, value: object) -> str:
    fraction = {"MODEL.ROI_ACTION_HEAD.POOLER_SCALE": "1/16", "SOLVER.WARMUP_FACTOR": "1/3"}
    return fraction.get(key, repr(value))


def _allowed(key: str, value: object) -> str:
    if key in RULES:
        return RULES[key].allowed
    return "True or False" if isinstance(value, bool) else ""
