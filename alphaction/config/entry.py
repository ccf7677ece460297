"""What a data set's description may hold, whether it stands in the catalog or in a dataset.yaml."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from alphaction.config.names import nearest, shown
from alphaction.errors import UserError

#: Files of the official AVA evaluation, each optional.
EVALUATION_KEYS = ("csv_gt_file", "labelmap_file", "exclusion_file")
#: A name of the fine-tuning guide for the first of them.
_EVALUATION_ALIASES = {"eval_file": "csv_gt_file"}

#: Turns a path of the description into one relative to the working directory (or absolute).
Resolve = Callable[[str], str]


class Fields:
    """Reads the fields of one mapping, naming the place of every fault.

    Args:
        content: the mapping.
        where: what the mapping is, put in front of every message.
        error: class of the exceptions.
        resolve: applied to every path.
    """

    def __init__(self, content: Any, *, where: str, error: type[UserError], resolve: Resolve) -> None:
        self.where = where
        self._error = error
        self._resolve = resolve
        if not isinstance(content, Mapping):
            raise self.fault("", content, "keys with values")
        self._content = content

    def fault(self, key: str, value: Any, expected: str) -> UserError:
        """The exception for a value that is not what is expected."""
        place = f"{self.where}: {key}:" if key else f"{self.where}:"
        return self._error(f"{place} got {shown(value)}, expected {expected}")

    def only(self, known: tuple[str, ...], *, notes: Mapping[str, str] | None = None) -> None:
        """Refuses keys that are not known, all at once; `notes` says more about some of them."""
        unknown = [key for key in self._content if key not in known]
        if unknown:
            told = [
                f"{key}: unknown key; {(notes or {}).get(key) or f'the nearest one is {nearest(str(key), known)}'}"
                for key in map(str, unknown)
            ]
            raise self._error(f"{self.where}: " + "; ".join(told))

    def text(self, key: str) -> str:
        """A text, "" where the key is missing or empty."""
        value = self._content.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.fault(key, value, "text (in quotes)")
        return value

    def path(self, key: str, *, required: str = "") -> str:
        """A path, resolved; "" where the key is missing or empty, unless `required` says what must stand there."""
        value = self._content.get(key)
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if value is None or value == "":
            if required:
                raise self._error(f"{self.where}: {key}: is missing, expected {required}")
            return ""
        if not isinstance(value, str):
            raise self.fault(key, value, "a path (text)")
        return self._resolve(value)

    def value(self, key: str) -> Any:
        """Whatever stands there; None where the key is missing."""
        return self._content.get(key)

    def evaluation(self, key: str) -> dict[str, str]:
        """The paths of the evaluation files that are given."""
        content = self._content.get(key)
        if not content:
            return {}
        inner = Fields(content, where=f"{self.where}: {key}", error=self._error, resolve=self._resolve)
        inner.only((*EVALUATION_KEYS, *_EVALUATION_ALIASES))
        paths = {_EVALUATION_ALIASES.get(name, name): inner.path(name) for name in _EVALUATION_ALIASES}
        paths.update({name: path for name in EVALUATION_KEYS if (path := inner.path(name))})
        return {name: paths[name] for name in EVALUATION_KEYS if paths.get(name)}

    def classes(self, key: str) -> None | str | list[str] | dict[int | str, str]:
        """The class list: None, the path of a label file, names (ids 1..K), or id -> name."""
        value = self._content.get(key)
        if value is None or value == "":
            return None
        if isinstance(value, (str, os.PathLike)):
            return self.path(key)
        if isinstance(value, (list, tuple)) and value:
            for position, name in enumerate(value):
                self._class_name(f"{key}[{position}]", name)
            return list(value)
        if isinstance(value, Mapping) and value:
            for class_id, name in value.items():
                if isinstance(class_id, bool) or not isinstance(class_id, (int, str)):
                    raise self.fault(key, class_id, "class ids that are integers or texts")
                self._class_name(f"{key}: {class_id}", name)
            return dict(value)
        raise self.fault(key, value, "the path of a label file, a list of names, or names by id ({1: walk, 2: run})")

    def _class_name(self, key: str, name: Any) -> None:
        # YAML reads the words on, off, yes and no as truth values.
        if not isinstance(name, str) or not name.strip():
            raise self.fault(key, name, "a class name (text; put it in quotes)")
