"""Reads YAML as data: no tags that build objects, no key that silently wins over its namesake."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Hashable
from typing import Any

import yaml

from alphaction.errors import UserError, first_line


class _Loader(yaml.SafeLoader):
    """yaml.SafeLoader that refuses a key written twice in one mapping (YAML forbids it, PyYAML keeps the last)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} stands here a second time", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_yaml_mapping(path: str | os.PathLike[str], *, what: str, error: type[UserError]) -> dict[Any, Any]:
    """The mapping that a YAML file holds; an empty file gives an empty one.

    Args:
        path: the file.
        what: what the file is, for messages, e.g. "config file".
        error: class of the exceptions.

    Raises:
        error: the file is missing, cannot be read, is not YAML, or is no mapping of keys to values.
    """
    name = f"{what} {os.fspath(path)}"
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise error(f"{name}: no such file (looked for it from {os.getcwd()})") from None
    except IsADirectoryError:
        raise error(f"{name}: this is a folder, expected a YAML file") from None
    except UnicodeDecodeError:
        raise error(f"{name}: not a text file in UTF-8, expected YAML") from None
    except (OSError, ValueError) as fault:
        raise error(f"{name}: cannot be read: {fault}") from None
    try:
        # The loader is a SafeLoader: plain data only, whatever the file's tags say.
        content = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise error(f"{name}{where}: not valid YAML: {fault.problem or fault.context}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as fault:
        raise error(f"{name}: not valid YAML: {first_line(fault)}") from None
    except RecursionError:
        raise error(f"{name}: not valid YAML: nested too deeply") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise error(f"{name}: holds a {type(content).__name__}, expected keys with values (`KEY: value` lines)")
    return content
