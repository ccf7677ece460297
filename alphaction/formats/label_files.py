"""Class lists: from the files that data sets bring, or from plain names.

Understood: `.pbtxt` label maps (AVA's `label {name, label_id}` and TensorFlow's `item {name, id}`), text files with
`1: name` or one name per line, `.csv` files `id,name`, and JSON (a list of names, a list of {"id", "name"}, or
{"1": "name"}). Names without ids are numbered from 1.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from alphaction.errors import DataError
from alphaction.structures import ClassList

_QUOTED = r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'"
_COMMENT = re.compile(rf"({_QUOTED})|#[^\n]*")
_BLOCK = re.compile(rf"\w+\s*:?\s*\{{((?:{_QUOTED}|[^{{}}\"'])*)\}}")
_NAME = re.compile(rf"(?<!\w)name\s*:\s*({_QUOTED})")
_ID = re.compile(r"(?<!\w)(?:label_)?id\s*:\s*\"?(-?\d+)")
_NUMBERED = re.compile(r"^\s*(-?\d+)\s*(?:[:;,=\t]|\s)\s*(\S.*?)\s*$")

ClassSource = str | os.PathLike | Sequence | Mapping


def read_classes(source: ClassSource) -> ClassList:
    """The class list that `source` describes.

    Args:
        source: path of a label file, a list of names (ids 1..K), or a mapping id -> name.

    Raises:
        DataError: the file is missing or unreadable, empty, or repeats an id or a name.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return _checked(_from_file(path), origin=str(path))
    if isinstance(source, Mapping):
        return _checked(list(source.items()), origin="classes")
    return _checked(_from_list(source, origin="classes"), origin="classes")


def as_id(value: object) -> int | str:
    """A class id in its normal form: whole numbers become int (`"3"` -> 3), anything else stays text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"class id: got {value!r}, expected a whole number or text")
    if isinstance(value, str):
        text = value.strip()
        return int(text) if re.fullmatch(r"-?\d+", text) else text
    if value != int(value):
        raise ValueError(f"class id: got {value!r}, expected a whole number or text")
    return int(value)


def _from_file(path: Path) -> list[tuple[object, object]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: the file with the class names does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the file with the class names cannot be read ({error})") from None
    suffix = path.suffix.lower()
    if suffix in (".pbtxt", ".pbtx") or re.search(r"^\s*(label|item)\s*:?\s*\{", text, re.MULTILINE):
        return _from_pbtxt(text, path)
    if suffix == ".json":
        return _from_json(text, path)
    return _from_lines(text)


def _from_pbtxt(text: str, path: Path) -> list[tuple[object, object]]:
    pairs: list[tuple[object, object]] = []
    text = _COMMENT.sub(lambda match: match[1] or "", text)
    for block in _BLOCK.finditer(text):
        name, class_id = _NAME.search(block[1]), _ID.search(block[1])
        if name is None or class_id is None:
            line = text.count("\n", 0, block.start()) + 1
            raise DataError(
                f"{path}: the block in line {line} has no name or no label_id: {' '.join(block[1].split())!r}; "
                'expected `name: "..."` and `label_id: NUMBER` (or `id`)'
            )
        pairs.append((int(class_id[1]), re.sub(r"\\(.)", r"\1", name[1][1:-1])))
    return pairs


def _from_json(text: str, path: Path) -> list[tuple[object, object]]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not valid JSON ({error})") from None
    if isinstance(content, dict):
        content = content.get("categories", content)
    if isinstance(content, dict):
        return list(content.items())
    if isinstance(content, list):
        return _from_list(content, origin=str(path))
    raise DataError(f"{path}: expected a list of class names or an object id -> name, got {type(content).__name__}")


def _from_list(entries: Iterable[object], *, origin: str) -> list[tuple[object, object]]:
    """Names, or {"id": ..., "name": ...} as COCO's categories."""
    pairs: list[tuple[object, object]] = []
    for position, entry in enumerate(entries, start=1):
        if not isinstance(entry, Mapping):
            pairs.append((position, entry))
        elif "id" in entry:
            pairs.append((entry["id"], entry.get("name", str(entry["id"]))))
        else:
            raise DataError(f"{origin}: class {position} has no id: {dict(entry)!r}")
    return pairs


def _from_lines(text: str) -> list[tuple[object, object]]:
    """`1: name`, `1,name`, `1 name`, or a name per line; `#` begins a comment line, a header line is passed over."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    matches = [_NUMBERED.match(line) for line in lines]
    if len(matches) > 1 and matches[0] is None and all(matches[1:]):
        matches = matches[1:]  # label_id,label_name
    if matches and all(matches):
        return [(int(match.group(1)), _unquoted(match.group(2))) for match in matches if match]
    return list(enumerate(map(_unquoted, lines), start=1))


def _unquoted(text: str) -> str:
    """Without the quotes around the whole; within them a doubled one is one, as in a cell of a CSV file."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1].replace(text[0] * 2, text[0])
    return text


def _checked(pairs: list[tuple[object, object]], *, origin: str) -> ClassList:
    if not pairs:
        raise DataError(f"{origin}: no class names found; expected for example a line `1: walk` per class")
    ids: list[int | str] = []
    names: list[str] = []
    for class_id, name in pairs:
        try:
            ids.append(as_id(class_id))
        except (ValueError, OverflowError) as error:
            raise DataError(f"{origin}: {error}") from None
        if isinstance(name, (Mapping, list, tuple)) or name is None or not str(name).strip():
            raise DataError(f"{origin}: class {class_id} has no name, got {name!r}")
        names.append(str(name).strip())
    for what, values in (("id", ids), ("name", names)):
        repeated = [value for value, count in Counter(values).items() if count > 1]
        if repeated:
            raise DataError(f"{origin}: the class {what} {repeated[0]!r} occurs more than once")
    if all(isinstance(class_id, int) for class_id in ids):
        order = sorted(range(len(ids)), key=lambda i: ids[i])
        ids, names = [ids[i] for i in order], [names[i] for i in order]
    return ClassList(tuple(ids), tuple(names))
