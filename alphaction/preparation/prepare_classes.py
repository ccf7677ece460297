"""Settles which classes there are and what the actions of the annotations mean."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from alphaction.errors import DataError
from alphaction.formats.label_files import read_classes
from alphaction.preparation.prepare_evidence import Assumption, count
from alphaction.preparation.sources import some
from alphaction.structures import ClassList

MOST_CLASSES = 10000  # a larger id is not the number of classes, whatever it is
CATEGORIES = "the files' categories"
Action = int | str


class Classes(NamedTuple):
    """The classes of the new set.

    Attributes:
        list: ids (from 1) and names.
        ids: id in the new set by action as the annotations write it.
        unknown: actions that are no class.
        assumption: how the numbers were read.
    """

    list: ClassList
    ids: dict[Action, int]
    unknown: frozenset[Action]
    assumption: Assumption

    @property
    def numbers(self) -> tuple[int, ...]:
        """The ids of the list."""
        return tuple(int(class_id) for class_id in self.list.ids)


def label_file(given: str, candidates: Sequence[Path]) -> tuple[ClassList | None, str]:
    """(class list of `--classes`, or of the one label file among the annotations; where it is from).

    Raises:
        DataError: it cannot be read, or several files say different things.
    """
    if given:
        return read_classes(given), f"--classes {given}"
    found: dict[Path, ClassList] = {}
    for path in candidates:
        try:
            found[path] = read_classes(path)
        except DataError:
            continue  # a text of something else, which nobody said to be a class list
    if not found:
        return None, ""
    if len({(classes.ids, classes.names) for classes in found.values()}) > 1:
        raise DataError(
            f"several class lists beside the annotations, and they differ: {some(found)}. Say which with --classes FILE"
        )
    return next(iter(found.values())), some(found)


def settle_classes(
    actions: Iterable[Action],
    *,
    given: tuple[ClassList | None, str],
    categories: Sequence[tuple[str, ClassList]],
    class_base: int | None = None,
) -> Classes:
    """Decides what the actions of the annotations mean.

    Args:
        actions: all that occur, as written.
        given: the user's class list and where it is from.
        categories: the files' own lists, with the files' names.
        class_base: number of the first class; None: to be found out.

    Raises:
        DataError: the numbers fit the list in no way or in two ways, or the files' lists differ.
    """
    used = {_id(action) for action in actions}
    numbers = sorted(action for action in used if isinstance(action, int))
    own, origin = given
    if own is None and categories:
        own, origin = _joined(categories)
    if own is None:
        own, origin, evidence = *_from_use(used, numbers, class_base), "there is no class list"
        shift = 0
    else:
        shift, evidence = _shift(own, numbers, origin, class_base)
    index = {class_id: i for i, class_id in enumerate(own.ids)}
    names = {name.casefold(): i for i, name in enumerate(own.names)}
    new = _renumbered(own)
    ids, unknown = {}, set()
    for action in used:
        place = index.get(action - shift if isinstance(action, int) else action)
        if place is None and isinstance(action, str):
            place = names.get(action.casefold())
        if place is None:
            unknown.add(action)
        else:
            ids[action] = int(new.ids[place])
    if unknown and not ids:
        raise DataError(
            f"none of the actions of the annotations ({some(sorted(used, key=str))}) is in the class list "
            f"({origin}: {some(f'{i} {n}' for i, n in zip(own.ids, own.names, strict=True))})"
        )
    value = f"{count(len(new), 'class')} from {origin}"
    return Classes(new, ids, frozenset(unknown), Assumption("classes", value, evidence))


def _renumbered(own: ClassList) -> ClassList:
    """Ids from 1 stay, others (from 0, texts) are numbered from 1; names are put on one line."""
    keep = all(isinstance(i, int) and i >= 1 for i in own.ids)
    names = tuple(" ".join(name.split()) for name in own.names)
    return ClassList(own.ids if keep else tuple(range(1, len(own) + 1)), names)


def class_id(action: Action) -> Action:
    """An action as `Classes.ids` knows it: whole numbers are int, also if they are written as text."""
    return _id(action)


def _id(action: Action) -> Action:
    if isinstance(action, str) and re.fullmatch(r"-?\d+", action.strip()):
        return int(action)
    return action.strip() if isinstance(action, str) else action


def _joined(categories: Sequence[tuple[str, ClassList]]) -> tuple[ClassList, str]:
    """One list out of those of several files, which must agree where they overlap."""
    joined: dict[Action, str] = {}
    for path, classes in categories:
        for class_id, name in zip(classes.ids, classes.names, strict=True):
            if joined.setdefault(class_id, name) != name:
                raise DataError(
                    f"{path}: its category {class_id} is {name!r}, in another file it is {joined[class_id]!r}. "
                    "Prepare one list for all and give it with --classes FILE"
                )
    return read_classes(joined), CATEGORIES


def _from_use(used: set[Action], numbers: list[int], class_base: int | None) -> tuple[ClassList, str]:
    texts = sorted((action for action in used if isinstance(action, str)), key=lambda text: (text.casefold(), text))
    if texts and numbers:
        raise DataError(
            f"some actions are names ({some(texts)}), others are numbers ({some(numbers)}), and there is no class "
            "list. Give one with --classes FILE (a line `1: walk` per class)"
        )
    alike = [pair for pair in itertools.pairwise(texts) if pair[0].casefold() == pair[1].casefold()]
    if alike:
        raise DataError(
            f"the actions {alike[0][0]!r} and {alike[0][1]!r} differ in upper and lower case only. Write them alike, "
            "or give the names that count with --classes FILE"
        )
    if texts:
        return ClassList(tuple(texts), tuple(texts)), "the names in use, in alphabetical order"
    first = min(numbers[0], 1) if class_base is None else class_base
    if not 0 <= first <= numbers[0] or numbers[-1] > MOST_CLASSES:
        raise DataError(f"the class ids {some(numbers)} need a class list: give it with --classes FILE")
    ids = range(first, numbers[-1] + 1)
    origin = f"the ids in use, {numbers[0]} to {numbers[-1]}; names are not known (--classes FILE)"
    return ClassList(tuple(ids), tuple(str(i) for i in ids)), origin


def _shift(own: ClassList, numbers: list[int], origin: str, class_base: int | None) -> tuple[int, str]:
    """(what to take from a number in use to get an id of the list, why)."""
    ids = [class_id for class_id in own.ids if isinstance(class_id, int)]
    if not numbers or len(ids) < len(own):
        return 0, "actions are names" if not numbers else f"ids are as in {origin}"
    first, last = min(ids), max(ids)
    if class_base is not None:
        return class_base - first, f"--class-base {class_base} says so"
    low, high = numbers[0], numbers[-1]
    text = f"the ids in use are {low} to {high}, those of the list {first} to {last}"
    if low >= first and high <= last:
        moved = first == 1 and low >= 1 and high < last
        return 0, text + ("; should they count from 0, say --class-base 0" if moved else "")
    shift = -1 if low == first - 1 else 1
    if not all(number - shift in ids for number in numbers):
        return 0, text  # there are unknown ids whichever way: told one by one
    if shift == -1 and low == 0 and not origin.endswith(CATEGORIES):
        return shift, f"{text}: the ids in use count from 0"
    raise DataError(
        f"{text} ({origin}): they would fit if the ids in use counted from {first + shift}. Say --class-base "
        f"{first + shift} if they do, or mend them"
    )
