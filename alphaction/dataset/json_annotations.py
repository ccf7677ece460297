"""Reads annotation files in JSON: the original's AVA form and the COCO form of the fine-tuning guide.

Both have `images` and `annotations`. In the AVA form an image says `movie` and `timestamp` and an annotation lists all
its `action_ids`. In the COCO form an image says `file_name: "movie_id/frame_id.jpg"` (frame_id = seconds) and each
annotation has one action, `category_id`: annotations with the same image and the same box are one person. Boxes are
`x, y, width, height` in pixels in both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from itertools import chain
from pathlib import Path

import numpy as np

from alphaction.dataset.faults import STRICT, Faults
from alphaction.dataset.raw import (
    ClassIndex,
    KeyframeTable,
    RawAnnotations,
    count_names,
    find_row,
    parse_boxes,
    parse_file_name,
    person_ids,
    remark_repeats,
)
from alphaction.errors import DataError
from alphaction.formats.ava_columns import parse_time
from alphaction.formats.label_files import read_classes
from alphaction.structures import ClassList

# (the file's own classes or None, the largest whole-number id in use) -> the classes to use
ChooseClasses = Callable[[ClassList | None, int], ClassIndex]


def read_json_annotations(path: Path, choose_classes: ChooseClasses, faults: Faults = STRICT) -> RawAnnotations:
    """Reads either form; an annotation with `action_ids` makes it the AVA form."""
    source = str(path)
    images, annotations, categories = _load(path, faults)
    rows, table, notes = _read_images(images, source, faults)
    annotations, keyframe, dropped = _assign_images(annotations, rows, source, faults)
    names = [annotation.get("id", position) for position, annotation in enumerate(annotations)]
    boxes = parse_boxes(
        [annotation.get("bbox") for annotation in annotations],
        names=(f"annotation {name}" for name in names),
        source=source,
        faults=faults,
    )
    ava = any("action_ids" in annotation for annotation in annotations)
    read_actions = _ava_actions if ava else _coco_actions
    person, ids = read_actions(annotations, names, source, faults)
    index = choose_classes(_class_categories(categories, source, ava=ava), _largest(ids))
    columns = _class_columns(index, person, ids, names, source, faults)
    first = np.arange(len(annotations)) if ava else _merge_persons(keyframe, boxes)
    kept, group = np.unique(first, return_inverse=True)
    labels = np.zeros((len(kept), len(index.classes)), dtype=bool)
    labels[group[person[columns >= 0]], columns[columns >= 0]] = True
    if faults.collecting:
        remark_repeats(group[person], columns, [f"annotation {names[i]}" for i in person.tolist()], source, faults)
    if index.by_name:
        notes.append(f"{source}: its categories were matched with the class list by their names")
    identities = person_ids([annotation.get("person_id") for annotation in annotations])
    order = kept[np.argsort(keyframe[kept], kind="stable")]
    movie, time, size = table.arrays()
    return RawAnnotations(
        source=source,
        classes=index.classes,
        numbered=index.numbered,
        movies=tuple(table.movies),
        movie=movie,
        time=time,
        size=size,
        image_rows=rows,
        keyframe=keyframe[order],
        boxes=boxes[order],
        normalised=False,
        labels=labels[np.searchsorted(kept, order)],
        person_id=identities[order],
        entry=[names[i] for i in order.tolist()],
        entry_name="annotation",
        notes=tuple(notes),
        dropped=dropped,
    )


def _load(path: Path, faults: Faults) -> tuple[list[dict], list[dict], list[object]]:
    try:
        with path.open("rb") as file:
            content = json.loads(file.read())
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: the annotation file is not valid JSON (not text: {error})") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: the annotation file is not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: expected a JSON object with the lists 'images' and 'annotations', got a {type(content).__name__}"
        )
    lists = []
    for key in ("images", "annotations"):
        value = content.get(key)
        if not isinstance(value, list):
            raise DataError(
                f"{path}: the annotation file has no list {key!r} (its keys: {', '.join(map(str, content)) or 'none'})"
            )
        for position, entry in enumerate(value):
            if not isinstance(entry, dict):
                what = f"{path}: entry {position} of {key!r} is {entry!r}, expected an object"
                faults.refuse("bad-row", f"entry {position} of {key}", what)
        lists.append([entry for entry in value if isinstance(entry, dict)] if faults.collecting else value)
    if not lists[0]:
        raise DataError(f"{path}: the annotation file has no images ('images' is empty)")
    categories = content.get("categories") or []
    return lists[0], lists[1], categories if isinstance(categories, list) else [categories]


def _read_images(
    images: list[dict], source: str, faults: Faults
) -> tuple[dict[Hashable, int], KeyframeTable, list[str]]:
    """Keyframes in the order of the image ids where these are numbers (the original's order), else of the file."""
    if all(isinstance(image.get("id"), (int, float)) for image in images):
        images = sorted(images, key=lambda image: image["id"])
    table = KeyframeTable()
    rows: dict[Hashable, int] = {}
    for image in images:
        image_id = image.get("id")
        if not isinstance(image_id, (int, float, str)):
            what = f"{source}: an image has the id {image_id!r}, expected a number or text: {image!r}"
            faults.refuse("bad-image", f"image {image_id!r}", what)
            continue
        if image_id in rows:
            what = f"{source}: the image id {image_id!r} occurs more than once"
            faults.refuse("bad-image", f"image {image_id!r}", what)
            continue
        located = _locate(image, source, faults)
        if located is not None:
            size = _pixels(image, "height", source, faults), _pixels(image, "width", source, faults)
            rows[image_id] = table.add(*located, size)
    notes = []
    if len(table.sizes) < len(rows):
        notes.append(f"{source}: {len(rows) - len(table.sizes)} images repeat the movie and time of another; merged")
    return rows, table, notes


def _locate(image: dict, source: str, faults: Faults) -> tuple[str, float] | None:
    """(movie, seconds) of an image: keys `movie` and `timestamp` first, then `file_name`, then the other keys."""
    name = image.get("file_name")
    from_name = parse_file_name(name) if isinstance(name, str) else None
    movie = image.get("movie")
    if movie is None:
        movie = from_name[0] if from_name else image.get("video_id")
    time = parse_time(image.get("timestamp"))
    if time is None and image.get("timestamp") is None:
        time = from_name[1] if from_name else parse_time(image.get("frame_id"))
    if movie is None or isinstance(movie, (dict, list)) or not str(movie).strip() or time is None:
        what = (
            f"{source}: image {image.get('id')!r} does not say its movie and its time in seconds. Expected 'movie' and "
            f"'timestamp', or a 'file_name' such as 'movie_id/0012.jpg' (second 12), got file_name {name!r}, "
            f"movie {image.get('movie')!r}, timestamp {image.get('timestamp')!r}"
        )
        faults.refuse("bad-image", f"image {image.get('id')!r}", what)
        return None
    return str(movie).strip(), time


def _pixels(image: dict, key: str, source: str, faults: Faults) -> int:
    value = image.get(key)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**31:
        what = f"{source}: image {image.get('id')!r} has the {key} {value!r}, expected pixels"
        faults.refuse("bad-image", f"image {image.get('id')!r}", what)
        return 0
    return int(value)


def _assign_images(
    annotations: list[dict], rows: Mapping[Hashable, int], source: str, faults: Faults
) -> tuple[list[dict], np.ndarray, dict[str, tuple[int, list[str]]]]:
    """The annotations whose image is listed, with their keyframes int64 [n]; the others counted."""
    found = [find_row(rows, annotation.get("image_id")) for annotation in annotations]
    lost = [
        f"annotation {annotation.get('id', position)} (image_id {annotation.get('image_id')!r})"
        for position, (annotation, row) in enumerate(zip(annotations, found, strict=True))
        if row is None
    ]
    if lost and len(lost) == len(annotations):
        raise DataError(f"{source}: no annotation belongs to a listed image, for example {lost[0]}")
    for name in lost:
        faults.remark("unlisted-image", name.split(" (")[0], f"{source}: {name}: 'images' does not list this image")
    kept = [annotation for annotation, row in zip(annotations, found, strict=True) if row is not None]
    keyframe = np.asarray([row for row in found if row is not None], np.int64)
    dropped = {"annotations of an image that is not listed": count_names(lost)} if lost else {}
    return kept, keyframe, dropped


def _ava_actions(annotations: list[dict], names: list, source: str, faults: Faults) -> tuple[np.ndarray, list]:
    """(annotation int64 [L], action id [L]) for every label."""
    lists = [annotation.get("action_ids", []) for annotation in annotations]
    for position, ids in enumerate(lists):
        if not isinstance(ids, list):
            entry = f"annotation {names[position]}"
            faults.refuse(
                "bad-row", entry, f"{source}: {entry} has the action_ids {ids!r}, expected a list of class ids"
            )
            lists[position] = []
    return np.repeat(np.arange(len(lists)), [len(ids) for ids in lists]), list(chain.from_iterable(lists))


def _coco_actions(annotations: list[dict], names: list, source: str, faults: Faults) -> tuple[np.ndarray, list]:
    kept = []
    for position, annotation in enumerate(annotations):
        if isinstance(annotation.get("category_id"), (int, float, str)):
            kept.append(position)
            continue
        entry = f"annotation {names[position]}"
        what = (
            f"{source}: {entry} has the category_id {annotation.get('category_id')!r}, "
            "expected the id of one action (or 'action_ids' with a list of them)"
        )
        faults.refuse("bad-row", entry, what)
    return np.asarray(kept, np.int64), [annotations[position]["category_id"] for position in kept]


def _class_columns(
    index: ClassIndex, person: np.ndarray, ids: list, names: list, source: str, faults: Faults
) -> np.ndarray:
    """Class index per label, int64 [L]; -1 for those that are not in the list."""
    try:
        table, unknown = index.table(ids)
    except TypeError:
        for i, class_id in enumerate(ids):
            if not isinstance(class_id, Hashable):
                index.refuse(source, f"annotation {names[person[i]]}", class_id, 1, faults)
        hashable = [class_id if isinstance(class_id, Hashable) else None for class_id in ids]
        table, unknown = index.table(hashable)
        ids, unknown = hashable, unknown - {None}
    if unknown:
        wrong = [i for i, class_id in enumerate(ids) if class_id in unknown]
        for i in wrong:
            index.refuse(source, f"annotation {names[person[i]]}", ids[i], len(wrong), faults)
    return np.asarray([table.get(class_id, -1) for class_id in ids], np.int64)


def _merge_persons(keyframe: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """For each annotation the first one with the same image and box, int64 [n]."""
    seen: dict[tuple, int] = {}
    keys = zip(keyframe.tolist(), map(tuple, boxes.round(3).tolist()), strict=True)
    return np.fromiter((seen.setdefault(key, i) for i, key in enumerate(keys)), np.int64, len(keyframe))


def _class_categories(categories: list[object], source: str, *, ava: bool) -> ClassList | None:
    """The file's categories as a class list; in the AVA form a lone "person" is the detector's class, not an action."""
    if not categories:
        return None
    names = [str(entry.get("name", "")).casefold() for entry in categories if isinstance(entry, dict)]
    if ava and names == ["person"]:
        return None
    try:
        return read_classes(categories)
    except DataError as error:
        raise DataError(f"{source}: 'categories': {error}") from None


def _largest(ids: list) -> int:
    """The largest whole-number id; 0 when there is none."""
    numbers = [int(i) for i in set(filter(lambda i: isinstance(i, (int, str)), ids)) if str(i).strip().isdecimal()]
    return max(numbers, default=0)
