"""Reads an annotation file of any of the known forms into one schema.

The form is told from the content: JSON (`json_annotations`) or CSV (`csv_annotations`); the docstring of each shows it.
"""

from __future__ import annotations

import os
from pathlib import Path

from alphaction.dataset.csv_annotations import read_csv_annotations
from alphaction.dataset.faults import STRICT, Faults
from alphaction.dataset.json_annotations import read_json_annotations
from alphaction.dataset.raw import NUM_CLASSES_KEY, ClassIndex, RawAnnotations, numbered_classes, paused_gc
from alphaction.errors import ConfigError, DataError
from alphaction.structures import ClassList

MOST_CLASSES = 10000  # a larger id is not the number of classes, whatever it is


def read_annotations(
    ann_file: str | os.PathLike,
    classes: ClassList | None = None,
    num_classes: int = 0,
    *,
    classes_origin: str = "the data set's class list",
    faults: Faults = STRICT,
) -> RawAnnotations:
    """Reads keyframes, boxes and actions.

    Args:
        ann_file: JSON or CSV file.
        classes: the data set's class list. None: the categories of the file, else the ids 1..num_classes.
        num_classes: the number of classes that the model is configured for; 0 = whatever the data has.
        classes_origin: where `classes` comes from, for messages.
        faults: gets the faulty entries; by default the first one raises.

    Raises:
        DataError: the file is missing, of no known form, or an entry in it is wrong.
        ConfigError: `num_classes` is not the number of classes of the data.
    """
    path = Path(ann_file)

    def choose(categories: ClassList | None, largest_id: int) -> ClassIndex:
        return _choose_classes(path, classes, classes_origin, categories, largest_id, num_classes)

    read = read_json_annotations if _is_json(path) else read_csv_annotations
    with paused_gc():
        return read(path, choose, faults)


def check_num_classes(num_classes: int, count: int, origin: str) -> None:
    """Raises ConfigError unless `num_classes` is 0 or the number of classes that `origin` defines."""
    if num_classes not in (0, count):
        raise ConfigError(
            f"{NUM_CLASSES_KEY} is {num_classes}, but {origin} defines {count} classes. "
            f"Set {NUM_CLASSES_KEY} to {count}, or to 0 to take the number from the data set."
        )


def _choose_classes(
    path: Path, given: ClassList | None, origin: str, categories: ClassList | None, largest_id: int, num_classes: int
) -> ClassIndex:
    if given is not None:
        check_num_classes(num_classes, len(given), origin)
        return ClassIndex(given, origin=origin, categories=categories)
    if categories is not None:
        origin = f"'categories' of {path}"
        check_num_classes(num_classes, len(categories), origin)
        return ClassIndex(categories, origin=origin)
    if num_classes:
        return ClassIndex(numbered_classes(num_classes), origin=f"{NUM_CLASSES_KEY} is {num_classes}", numbered=True)
    if not 0 < largest_id <= MOST_CLASSES:
        raise DataError(
            f"{path}: the number of classes cannot be told from this file (no class list, largest action id "
            f"{largest_id or 'missing'}). Name the classes in the data set's entry ('classes'), or set "
            f"{NUM_CLASSES_KEY}."
        )
    origin = f"the largest action id in {path} is {largest_id}"
    return ClassIndex(numbered_classes(largest_id), origin=origin, numbered=True)


def _is_json(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError:
        raise DataError(
            f"{path}: the annotation file does not exist. Check the data set's entry (catalog or dataset.yaml); "
            "DATA.md shows the files of AVA and of sets of your own."
        ) from None
    except OSError as error:
        raise DataError(f"{path}: the annotation file cannot be read ({error.strerror})") from None
    if not head.strip():
        raise DataError(f"{path}: the annotation file is empty")
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return path.suffix.lower() == ".json" or start[:1] in (b"{", b"[")
