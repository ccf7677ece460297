"""Describes what a weight file holds, for people. Texts out of the file are cleaned before they are shown."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from torch import Tensor

from alphaction.checkpoint.caffe2 import Caffe2Weights
from alphaction.checkpoint.files import LEGACY, file_format, read_checkpoint
from alphaction.checkpoint.matching import BACKBONE_PREFIX, HEAD_PREFIX, without_wrapper
from alphaction.checkpoint.state import class_names, entry

_MIB = 2**20
_SHOWN_CLASSES = 12
_LONGEST_CONFIG = 2**20
_INTERACTION = "MODEL.IA_STRUCTURE."
_CONFIG_KEYS = (
    "MODEL.BACKBONE.CONV_BODY",
    _INTERACTION + "ACTIVE",
    _INTERACTION + "STRUCTURE",
    _INTERACTION + "I_BLOCK_LIST",
    "MODEL.ROI_ACTION_HEAD.NUM_CLASSES",
    "INPUT.FRAME_NUM",
    "INPUT.FRAME_SAMPLE_RATE",
    "INPUT.TAU",
    "INPUT.ALPHA",
    "DATASETS.TRAIN",
)


@dataclass(frozen=True)
class FileContents:
    """A weight file and what there is to say about it.

    Attributes:
        path: the file.
        weights: name -> tensor, without `module.`; by their own names for Caffe2 files.
        rows: (title, text) in the order to be shown.
        project: the format of another project that the weights had; "" = ours.
    """

    path: pathlib.Path
    weights: Mapping[str, Tensor]
    rows: Sequence[tuple[str, str]]
    project: str = ""

    def text(self) -> str:
        """The rows as a table below the file's name."""
        width = max(len(title) for title, _ in self.rows)
        before = ["", *(title for title, _ in self.rows)]
        titles = ["" if title == last else title for (title, _), last in zip(self.rows, before, strict=False)]
        lines = [f"  {title:<{width}}  {text}" for title, (_, text) in zip(titles, self.rows, strict=True)]
        return "\n".join([clean(self.path), *lines])


def read_contents(path: str | os.PathLike[str]) -> FileContents:
    """Reads a file and describes it.

    Raises:
        CheckpointError: as `read_checkpoint`.
    """
    path = pathlib.Path(path)
    content = read_checkpoint(path)
    weights = without_wrapper(content["model"])
    rows = [("format", f"{_kind(content, path)}, {_size(path.stat().st_size)}"), ("weights", _weights(weights))]
    if "iteration" in content:
        rows.append(("iteration", clean(content["iteration"])))
    classes = class_names(content)
    if classes:
        more = f", and {len(classes) - _SHOWN_CLASSES} more" if len(classes) > _SHOWN_CLASSES else ""
        rows.append(("classes", f"{len(classes)}: {', '.join(map(clean, classes[:_SHOWN_CLASSES]))}{more}"))
    for name, best in entry(content, "best").items():
        if isinstance(best, Mapping):
            rows.append(
                ("best", f"{clean(name)}: mAP {clean(best.get('mAP'))} at iteration {clean(best.get('iteration'))}")
            )
    rows += [("configuration", line) for line in _config_lines(content.get("config"))]
    rows += [("converted", clean(note)) for note in content.get("zoo_notes", ())]
    told = {"model", "iteration", "classes", "best", "config", "version", "zoo", "zoo_notes"}
    rows += [("also holds", f"{clean(name)}: {_sketch(value)}") for name, value in content.items() if name not in told]
    return FileContents(path, weights, rows, project=str(content.get("zoo", "")))


def clean(value: object, *, longest: int = 120) -> str:
    """A value as one short line without control characters, which could talk to the terminal."""
    text = value if isinstance(value, str) else str(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in text[: longest + 1])
    return text if len(text) <= longest else text[:longest] + "..."


def _kind(content: Mapping[str, Any], path: pathlib.Path) -> str:
    if "zoo" in content:
        return f"weights of {content['zoo']}"
    if isinstance(content["model"], Caffe2Weights):
        return "Caffe2 weights (pickled arrays)"
    form = " (the format before 1.6)" if file_format(path) == LEGACY else ""
    if isinstance(content.get("version"), str) and content["version"]:
        return f"checkpoint of alphaction {clean(content['version'])}{form}"
    if "optimizer" in content:
        return f"training checkpoint of the original or of another program{form}"
    return f"weights{form}"


def _weights(weights: Mapping[str, Tensor]) -> str:
    parts = [
        (name.removesuffix("."), sum(key.startswith(name) for key in weights))
        for name in (BACKBONE_PREFIX, HEAD_PREFIX)
    ]
    others = len(weights) - sum(count for _, count in parts)
    parts += [("others", others)]
    count = sum(tensor.numel() for tensor in weights.values())
    shares = ", ".join(f"{name} {number}" for name, number in parts if number)
    return f"{len(weights)} tensors ({shares}), {count:,} numbers, {_size(_bytes(weights.values()))}"


def _config_lines(text: object) -> Iterator[str]:
    if not isinstance(text, str) or not text:
        return
    lines = len(text.splitlines())
    tree: object = None
    if len(text) <= _LONGEST_CONFIG:
        try:
            tree = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError):
            tree = None
    if not isinstance(tree, Mapping):
        yield f"a text of {lines} lines that is no configuration"
        return
    values = {key: _at(tree, key) for key in _CONFIG_KEYS}
    for key, value in values.items():
        unused = key.startswith(_INTERACTION) and not values[_INTERACTION + "ACTIVE"]
        if value is not None and not unused:
            yield f"{key} {clean(value)}"


def _at(tree: object, key: str) -> object:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def _sketch(value: object) -> str:
    """What an entry is, without its content."""
    if isinstance(value, Tensor):
        return f"tensor {list(value.shape)}"
    if isinstance(value, (Mapping, list, tuple)):
        tensors = list(_tensors(value))
        held = f" with {len(tensors)} tensors, {_size(_bytes(tensors))}" if tensors else ""
        return f"{type(value).__name__} of {len(value)}{held}"
    return clean(repr(value))


def _tensors(value: object) -> Iterator[Tensor]:
    """All tensors inside, each container once: a file may hold a list that contains itself."""
    waiting, seen = [value], set()
    while waiting:
        each = waiting.pop()
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, (Mapping, list, tuple)) and id(each) not in seen:
            seen.add(id(each))
            waiting.extend(each.values() if isinstance(each, Mapping) else each)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _size(count: int) -> str:
    return f"{count / _MIB:,.1f} MiB" if count >= _MIB / 10 else f"{count / 1024:,.1f} KiB"
