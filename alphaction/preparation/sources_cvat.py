"""Reads CVAT's XML 1.1, "for video" (tracks) and "for images".

Actions are the values of a label's attributes, or the labels themselves where they have none: a checkbox that is on is
the action of its name, any other attribute (select, radio, text) says the action; several in a text are separated by
`,` `;` or `|`. A box with `outside="1"` shows that the person has left. Frames count from 0 of the original video, also
where CVAT showed only every n-th.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from alphaction.errors import DataError
from alphaction.preparation.sources import NotAnnotations, Record, Source, box_of, number, some
from alphaction.preparation.sources_json import moment_from_name

_NOTHING = {"", "none", "no", "null", "false", "n/a", "-", "__undefined__", "undefined"}
_IDENTITIES = {"id", "track_id", "person_id", "identity"}
_SHAPES = ("polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton")
ACTIONS_FROM = ("auto", "label", "attributes")


@dataclass
class _Task:
    """What <meta> says of one task: possible names of its video, and (height, width)."""

    names: list[str] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)


@dataclass
class _Reader:
    """What is known so far; `kinds` is the input type by (label, attribute)."""

    source: Source
    actions_from: str
    attributes: frozenset[str]
    tasks: dict[str, _Task] = field(default_factory=dict)
    kinds: dict[tuple[str, str], str] = field(default_factory=dict)
    labels: Counter = field(default_factory=Counter)
    with_attributes: Counter = field(default_factory=Counter)
    used: Counter = field(default_factory=Counter)
    shapes: Counter = field(default_factory=Counter)
    pending: list[tuple[str, Record]] = field(default_factory=list)


def read_cvat(path: Path, *, actions_from: str = "auto", attributes: Iterable[str] = ()) -> Source:
    """Reads an XML file, or the .zip that CVAT exports.

    Args:
        path: the file.
        actions_from: "label", "attributes", or "auto": attributes where the labels have any.
        attributes: only these attributes are actions; none = all but identities and numbers.

    Raises:
        NotAnnotations: XML of something else.
        DataError: no XML, or it is not told where the actions stand.
    """
    reader = _Reader(Source(str(path), "CVAT XML", order="xyxy", times="frames"), actions_from, frozenset(attributes))
    reader.source.times_from, reader.source.first_frame = "CVAT's 'frame'", 0
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                inside = [name for name in archive.namelist() if Path(name).name == "annotations.xml"]
                if not inside:
                    raise NotAnnotations(f"an archive without annotations.xml (it holds {some(archive.namelist())})")
                with archive.open(inside[0]) as file:
                    _read(file, reader)
        else:
            with path.open("rb") as file:
                _read(file, reader)
    except (ElementTree.ParseError, zipfile.BadZipFile) as error:
        if path.suffix.lower() == ".zip":
            raise DataError(f"{path}: is not a whole zip file ({error})") from None
        raise DataError(f"{path}: is not valid XML ({error})") from None
    _choose_actions(reader)
    return reader.source


def _read(file: IO[bytes], reader: _Reader) -> None:
    """Reads track by track: a file may hold millions of boxes."""
    stream = ElementTree.iterparse(file, events=("start", "end"))
    try:
        _, root = next(stream)
    except LookupError as error:
        raise ElementTree.ParseError(str(error)) from None  # an unknown encoding
    if root.tag != "annotations":
        raise NotAnnotations(f"XML that begins with <{root.tag}>; CVAT's begins with <annotations>")
    for event, element in stream:
        if event == "end" and element.tag in ("meta", "track", "image"):
            if element.tag == "meta":
                _read_meta(element, reader)
            elif element.tag == "track":
                _read_track(element, reader)
            else:
                _read_image(element, reader)
            root.clear()


def _read_meta(meta: ElementTree.Element, reader: _Reader) -> None:
    for task in (*meta.findall("task"), *meta.findall("project/tasks/task"), *meta.findall("job")):
        found = [task.findtext("source") or meta.findtext("source") or "", task.findtext("name") or ""]
        height, width = (number(task.findtext(f"original_size/{key}")) or 0 for key in ("height", "width"))
        if not height:
            height, width = (number(meta.findtext(f"original_size/{key}")) or 0 for key in ("height", "width"))
        names = [name.strip() for name in found if name.strip()]
        reader.tasks[task.findtext("id") or ""] = _Task(names, (int(height), int(width)))
        if names:
            reader.source.aliases[names[0]] = tuple(names[1:])
    for label in meta.iter("label"):
        for attribute in label.iter("attribute"):
            key = (label.findtext("name") or "", attribute.findtext("name") or "")
            reader.kinds[key] = (attribute.findtext("input_type") or "").strip().lower()


def _read_track(track: ElementTree.Element, reader: _Reader) -> None:
    label, identity = track.get("label", ""), track.get("id", "")
    task = reader.tasks.get(track.get("task_id", ""))
    if task is None:
        if len(reader.tasks) != 1:
            reader.source.fault(f"track {identity}", "track of a task that <meta> does not name", track.get("task_id"))
            return
        task = next(iter(reader.tasks.values()))
    fixed = {a.get("name", ""): a.text or "" for a in track.findall("attribute")}
    for box in track.findall("box"):
        if box.get("outside") == "1":
            continue
        where = f"track {identity}, frame {box.get('frame')}"
        video = task.names[0] if task.names else ""
        _add_box(box, reader, where, label, (video, number(box.get("frame"))), task.size, fixed, person=identity)
    _count_shapes(track, reader)


def _read_image(image: ElementTree.Element, reader: _Reader) -> None:
    name = image.get("name", "")
    movie, time, word = moment_from_name(name)
    reader.source.times, reader.source.first_frame = "", None
    reader.source.times_from = "the images' name"
    reader.source.frame_words |= word
    task = reader.tasks.get(image.get("task_id", "")) or next(iter(reader.tasks.values()), _Task())
    movie = movie or (task.names[0] if task.names else "")
    size = (int(number(image.get("height")) or 0), int(number(image.get("width")) or 0))
    for i, box in enumerate(image.findall("box")):
        where = f"image {image.get('id', name)}, box {i}"
        _add_box(box, reader, where, box.get("label", ""), (movie, time), size, {}, person="")
    _count_shapes(image, reader)


def _count_shapes(parent: ElementTree.Element, reader: _Reader) -> None:
    reader.shapes.update(shape for shape in _SHAPES if parent.find(shape) is not None)


def _add_box(
    box: ElementTree.Element,
    reader: _Reader,
    where: str,
    label: str,
    moment: tuple[str, float | None],
    size: tuple[int, int],
    attributes: dict[str, str],
    *,
    person: str,
) -> None:
    video, time = moment
    corners = box_of(box.get(key) for key in ("xtl", "ytl", "xbr", "ybr"))
    if not video or time is None or corners is None:
        reader.source.fault(where, "no video, no frame, or no box", f"video {video!r}, {box.attrib}")
        return
    values = attributes | {a.get("name", ""): a.text or "" for a in box.findall("attribute")}
    actions = tuple(_actions(values, label, reader))
    person = person or next((values[key] for key in values if key.casefold() in _IDENTITIES), "")
    reader.labels[label] += 1
    reader.with_attributes[label] += any(kind_label == label for kind_label, _ in reader.kinds) or bool(values)
    reader.pending.append((label, Record(where, video, time, corners, actions, person, size)))


def _actions(values: dict[str, str], label: str, reader: _Reader) -> Iterator[str]:
    for name, text in values.items():
        kind, value = reader.kinds.get((label, name), ""), text.strip()
        if reader.attributes:
            if name not in reader.attributes:
                continue
        elif kind == "number" or name.casefold() in _IDENTITIES:
            continue
        reader.used[name] += 1
        if kind == "checkbox" or (not kind and value.lower() in ("true", "false")):
            if value.lower() == "true":
                yield name
            continue
        yield from (part for part in map(str.strip, re.split(r"[,;|]", value)) if part.casefold() not in _NOTHING)


def _choose_actions(reader: _Reader) -> None:
    """Decides between labels and attributes once all boxes have been seen."""
    source = reader.source
    if not reader.pending and not source.faults:
        shapes = f"; it has {some(f'{n} {shape}' for shape, n in reader.shapes.items())}" if reader.shapes else ""
        raise DataError(f"{source.path}: has no boxes{shapes}. Draw rectangles (tracks) around the persons.")
    chosen = reader.actions_from
    if chosen == "auto":
        having = [label for label, count in reader.with_attributes.items() if count]
        lacking = [label for label, count in reader.with_attributes.items() if not count]
        if having and lacking:
            raise DataError(
                f"{source.path}: where do the actions stand? The labels {some(having)} have attributes, "
                f"{some(lacking)} have none. Say --actions-from attributes (boxes of the other labels are left out) or "
                "--actions-from label."
            )
        chosen = "attributes" if having else "label"
    if chosen == "attributes":
        source.notes.append(f"actions are the attributes {some(sorted(reader.used)) or '(none)'} of CVAT's boxes")
    else:
        source.notes.append(f"actions are CVAT's labels: {some(sorted(reader.labels))}")
    idle = 0
    for label, record in reader.pending:
        actions = (label,) if chosen == "label" else record.actions
        if actions:
            source.records.append(record._replace(actions=actions))
        else:
            idle += 1
    if idle:
        source.notes.append(f"{idle} boxes without any action are left out (in {source.path})")
    if reader.shapes:
        source.notes.append(f"shapes other than boxes are not used: {some(sorted(reader.shapes))} (in {source.path})")
