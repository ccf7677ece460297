"""How values from YAML files and the command line get into the configuration tree.

YAML 1.1 reads `(50000, 70000)` and `1e-7` as text, the command line is text altogether, and users write a list where a
tuple stands or an integer where a float does. Every value is brought to the type of its key here, or refused by name.
"""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from yacs.config import CfgNode

from alphaction.config.names import nearest, shown
from alphaction.config.yaml_file import read_yaml_mapping
from alphaction.errors import ConfigError

COMMAND_LINE = "command line"

#: Type of the items of each key that holds several; `list` keys hold texts, or lists of texts.
ITEM_TYPES: dict[str, type] = {
    "MODEL.IA_STRUCTURE.LENGTH": int,
    "MODEL.IA_STRUCTURE.I_BLOCK_LIST": list,
    "INPUT.PIXEL_MEAN": float,
    "INPUT.PIXEL_STD": float,
    "DATASETS.TRAIN": str,
    "DATASETS.TEST": str,
    "SOLVER.STEPS": int,
    "SOLVER.ADAMW_BETAS": float,
    "MODEL.ROI_ACTION_HEAD.CLASS_WEIGHTS": float,
    "MODEL.ROI_PERSON_HEAD.ANCHOR_SIZES": float,
    "MODEL.ROI_PERSON_HEAD.ANCHOR_RATIOS": float,
    "TEST.EXTEND_SCALE": float,
    "TEST.IOU_THRESHOLDS": float,
}

#: Keys whose default is an integer (files of the original write `2`) although any number has a meaning.
NUMBER_KEYS = frozenset({"SOLVER.BIAS_LR_FACTOR"})

#: Longer text is no value of any key, and Python's parser is not safe against hostile lengths.
_MAX_LITERAL = 10_000

_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})


class Config(CfgNode):
    """A yacs tree whose `merge_from_file` and `merge_from_list` convert and check as this module does.

    Both either take everything over or raise one `ConfigError` and change nothing.
    """

    def merge_from_file(self, cfg_filename: str | os.PathLike[str]) -> None:
        """Takes over the keys of a YAML file; see `load_config`."""
        content = read_yaml_mapping(cfg_filename, what="config file", error=ConfigError)
        merge_mapping(self, content, source=f"config file {os.fspath(cfg_filename)}")

    def merge_from_list(self, cfg_list: Sequence[Any]) -> None:
        """Takes over `[key, value, key, value, ...]`, e.g. the end of a command line."""
        merge_pairs(self, cfg_list, source=COMMAND_LINE)

    @classmethod
    def _load_cfg_py_source(cls, filename: str) -> NoReturn:
        # yacs would import the file, and so run it.
        raise ConfigError(f"config file {filename}: is Python code, expected YAML (a configuration is data, not code)")


def leaves(cfg: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every full key of the tree (`SOLVER.BASE_LR`) with its value, in the tree's order."""
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def merge_mapping(cfg: CfgNode, content: Mapping[Any, Any], *, source: str) -> None:
    """Takes over a nested mapping, as a YAML file holds it.

    Raises:
        ConfigError: naming `source` and every unknown key and every value of the wrong type.
    """
    known = dict(leaves(cfg))
    _apply(cfg, known, list(_flatten(content, known, "")), source=source)


def merge_pairs(cfg: CfgNode, pairs: Sequence[Any], *, source: str) -> None:
    """Takes over a flat `[key, value, key, value, ...]`; a later value of a key wins.

    Raises:
        ConfigError: naming `source` and every fault: an odd number of items, unknown keys, wrong types.
    """
    known = dict(leaves(cfg))
    if len(pairs) % 2:
        items = [str(item) for item in pairs]
        raise ConfigError(
            f"{source}: overrides come in pairs, KEY VALUE; got {len(pairs)} item(s): {_odd_one(items, known)}"
            + _flag_hint(items)
        )
    _apply(cfg, known, [(str(key), value) for key, value in zip(pairs[0::2], pairs[1::2], strict=True)], source=source)


def coerce(key: str, value: Any, default: Any) -> Any:
    """`value` in the type of `default`, the value that `key` has by default.

    Raises:
        ConfigError: "KEY: got ..., expected ...".
    """
    try:
        if isinstance(default, bool):
            return _boolean(value)
        if isinstance(default, str):
            return _text(value)
        if isinstance(default, (tuple, list)):
            items = _items(value, ITEM_TYPES.get(key, str))
            return tuple(items) if isinstance(default, tuple) else items
        if key in NUMBER_KEYS:
            number = _number(value)
            return int(number) if number.is_integer() else number
        if isinstance(default, float):
            return _number(value)
        return _integer(value)
    except _Unfit as unfit:
        kind = "" if value is None else f" ({_KINDS.get(type(value), type(value).__name__)})"
        raise ConfigError(f"{key}: got {shown(value)}{kind}, expected {unfit}") from None


class _Unfit(Exception):
    """The value cannot be what is expected; the text says what that is."""


_KINDS = {
    str: "text",
    bool: "true/false",
    int: "integer",
    float: "number",
    list: "list",
    tuple: "tuple",
    dict: "several keys",
}


def _flatten(content: Mapping[Any, Any], known: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """The mapping's (full key, value); goes down only into sections that exist."""
    for name, value in content.items():
        key = f"{prefix}{name}"
        if _is_section(key, known):
            if isinstance(value, Mapping):
                yield from _flatten(value, known, f"{key}.")
                continue
            if value is None:  # `SOLVER:` with all its keys commented out
                continue
        yield key, value


def _is_section(key: str, known: Mapping[str, Any]) -> bool:
    return any(full.startswith(f"{key}.") for full in known)


def _apply(cfg: CfgNode, known: Mapping[str, Any], pairs: Sequence[tuple[str, Any]], *, source: str) -> None:
    accepted: list[tuple[str, Any]] = []
    faults: list[str] = []
    for key, value in pairs:
        if key not in known:
            faults.append(_unknown(key, value, known))
            continue
        try:
            accepted.append((key, coerce(key, value, known[key])))
        except ConfigError as fault:
            faults.append(str(fault))
    if faults:
        faults[-1] += _flag_hint([key for key, _ in pairs] if source == COMMAND_LINE else [])
        lines = f" {faults[0]}" if len(faults) == 1 else "".join(f"\n  {fault}" for fault in faults)
        raise ConfigError(f"{source}:{lines}")
    for key, value in accepted:
        section, _, name = key.rpartition(".")
        node = cfg
        for part in section.split(".") if section else ():
            node = node[part]
        setattr(node, name, value)


def _unknown(key: str, value: Any, known: Mapping[str, Any]) -> str:
    if _is_section(key, known):
        inside = ", ".join(full for full in known if full.startswith(f"{key}."))
        return f"{key}: is a section, not a key; got {shown(value)}; its keys are {inside}"
    if isinstance(value, Mapping):
        sections = {full.rpartition(".")[0] for full in known} - {""}
        sections |= {section.partition(".")[0] for section in sections}
        return f"{key}: unknown section; the nearest one is {nearest(key, sections)}"
    return f"{key}: unknown key; the nearest one is {nearest(key, known)}"


def _odd_one(items: Sequence[str], known: Mapping[str, Any]) -> str:
    """What is wrong with an odd number of items: the first that is KEY=VALUE, or that a key or nothing follows."""
    for at in range(0, len(items), 2):
        if "=" in items[at]:
            return f"{shown(items[at])}: write KEY VALUE with a blank, not KEY=VALUE"
        if at + 1 == len(items) or items[at + 1] in known:
            return f"{shown(items[at])} has no value"
    raise ValueError(f"items: got {len(items)}, expected an odd number")


def _flag_hint(keys: Sequence[str]) -> str:
    flags = [key for key in keys if key.startswith("--")]
    return f" (flags such as {flags[0]} stand before the first KEY VALUE)" if flags else ""


def _literal(value: Any) -> Any:
    """Text that spells a Python number, tuple, list, text or truth value becomes that; the rest stays as it is."""
    if not isinstance(value, str) or len(value) > _MAX_LITERAL:
        return value
    try:
        with warnings.catch_warnings():  # the parser's remarks about what is no literal anyway
            warnings.simplefilter("ignore")
            return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else None
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise _Unfit("True or False")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _Unfit("text (in a file: put it in quotes)")
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        inner = _literal(value)
        return inner if isinstance(inner, str) else value
    return value


def _number(value: Any) -> float:
    number = _literal(value)
    if isinstance(number, str):  # spellings that are no Python literals: inf, nan
        try:
            number = float(number)
        except ValueError:
            raise _Unfit("a number") from None
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise _Unfit("a number")
    try:
        return float(number)
    except OverflowError:
        raise _Unfit("a number (this one is too large)") from None


def _integer(value: Any) -> int:
    number = _literal(value)
    if isinstance(number, float) and number.is_integer():  # 9e4
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int):
        raise _Unfit("an integer")
    return number


def _items(value: Any, item_type: type) -> list[Any]:
    content = _literal(value)
    if content is None or content == "":
        return []
    if isinstance(content, str) and content.lstrip()[:1] in ("(", "[") and item_type in (str, list):
        raise _Unfit("""texts in quotes, e.g. '("a", "b")' (on the command line the whole in other quotes)""")
    if isinstance(content, Mapping):
        raise _Unfit(_SEVERAL[item_type])
    # One item alone stands for a tuple of one: `("a")` and `(50000)` are no tuples, and what is meant is plain.
    items = content if isinstance(content, (tuple, list)) else [content]
    try:
        return [_item(item, item_type) for item in items]
    except _Unfit:
        raise _Unfit(_SEVERAL[item_type]) from None


_SEVERAL = {
    int: "integers, e.g. (50000, 70000)",
    float: "numbers, e.g. (0.1, 0.05)",
    str: 'texts, e.g. ("name",)',
    list: "texts or lists of texts, e.g. ['P', 'O', 'M']",
}


def _item(value: Any, item_type: type) -> Any:
    if item_type is list and isinstance(value, (tuple, list)):
        return [_item(inner, str) for inner in value]
    if item_type in (str, list):
        if not isinstance(value, str):
            raise _Unfit("text")
        return value
    return _integer(value) if item_type is int else _number(value)
