"""A user's annotation files as they are: which ones there are, of what form, and their rows before anything is decided.

A `Record` holds numbers exactly as written. Whether a time counts seconds or frames, and whether a box is pixels or
shares, is settled later (`prepare_times`, `prepare_boxes`) over all rows at once and together with the videos.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from alphaction.errors import DataError
from alphaction.structures import ClassList

#: Endings of annotation files.
ANNOTATION_ENDINGS = (".csv", ".tsv", ".json", ".xml", ".zip")
_LABELS = re.compile("label|class|action|categor|names", re.IGNORECASE)  # a text with such a name lists classes
LARGEST = 1e15  # of a time or coordinate: more is a fault of the program that wrote the file
NO_BOX = f"box that is not four numbers below {LARGEST:.0e}"
OURS = "prepared.json"  # in a folder that prepare_dataset made
FORMS = (
    "AVA CSV, a CSV with a header (video,time,x1,y1,x2,y2,action), COCO JSON, AVA JSON, or CVAT XML 1.1 (also its .zip)"
)


class Record(NamedTuple):
    """One person at one moment as a file has it, with one action or several.

    Attributes:
        where: the entry in its file: "line 12", "annotation 7".
        video: name of the video.
        time: number of the second or of the frame.
        box: four numbers; None for a moment without persons.
        actions: class ids or names.
        person: identity within the video, "" if unknown.
        size: (height, width) of the annotated picture in pixels; (0, 0) if unknown.
        area: of the box, in the square of its unit; 0 if unknown.
    """

    where: str
    video: str
    time: float
    box: tuple[float, float, float, float] | None
    actions: tuple[int | str, ...]
    person: str = ""
    size: tuple[int, int] = (0, 0)
    area: float = 0.0


class Fault(NamedTuple):
    """A row that cannot be used.

    Attributes:
        path: the file.
        where: the entry in it.
        kind: the same words for the same fault.
        detail: what stands there.
    """

    path: str
    where: str
    kind: str
    detail: str


@dataclass
class Source:
    """One annotation file.

    Attributes:
        path: the file.
        form: "AVA CSV", "CSV with a header", "COCO JSON", "AVA JSON", "CVAT XML".
        records: its rows.
        faults: rows that could not be read.
        categories: its own class list.
        order: "xyxy" or "xywh" where the form says it, else "".
        times: "seconds" or "frames" where the form says it, else "".
        times_from: where the times stand, in words: "column 'time'".
        frame_words: that place speaks of frames, though it is used for seconds, too.
        first_frame: number of the first frame where the form says it.
        aliases: further names of a video, by the name in the records.
        images: image id or file name -> (video, time as written), for files of detected boxes.
        notes: remarks for the report.
    """

    path: str
    form: str
    records: list[Record] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    categories: ClassList | None = None
    order: str = ""
    times: str = ""
    times_from: str = ""
    frame_words: bool = False
    first_frame: int | None = None
    aliases: dict[str, tuple[str, ...]] = field(default_factory=dict)
    images: dict[Hashable, tuple[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def fault(self, where: str, kind: str, detail: object) -> None:
        self.faults.append(Fault(self.path, where, kind, str(detail)))


class NotAnnotations(Exception):
    """A file in a folder of annotations that is something else; the message says what."""


@dataclass(frozen=True)
class SourceFiles:
    """What a path, or several, stand for.

    Attributes:
        annotations: files to read.
        labels: files that may be lists of class names.
        named: the annotations that the user named one by one (not found in a folder).
    """

    annotations: tuple[Path, ...]
    labels: tuple[Path, ...]
    named: frozenset[Path]


def find_files(paths: Sequence[str | os.PathLike]) -> SourceFiles:
    """Files and folders (searched with their subfolders) as lists of files.

    Raises:
        DataError: a path does not exist, or there is no annotation file.
    """
    annotations: dict[Path, None] = {}
    labels: dict[Path, None] = {}
    named = set()
    for path in map(Path, paths):
        if path.is_dir():
            for file in files_below(path):
                ending = file.suffix.lower()
                if ending in ANNOTATION_ENDINGS:
                    annotations[file] = None
                elif ending in (".pbtxt", ".pbtx") or (ending == ".txt" and _LABELS.search(file.stem)):
                    labels[file] = None
        elif path.exists():
            annotations[path] = None
            named.add(path)
        else:
            raise DataError(f"--annotations {path}: there is no such file or folder")
    if not annotations:
        raise DataError(f"--annotations {' '.join(map(str, paths))}: no annotation file there. Expected one of {FORMS}")
    return SourceFiles(tuple(annotations), tuple(labels), frozenset(named))


def files_below(root: Path) -> list[Path]:
    """All files in a folder and its subfolders, links to folders too; not hidden ones, nor what this tool made."""
    found: list[Path] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=_refuse):
        if os.path.realpath(folder) in seen or (OURS in names and Path(folder) != root):
            folders.clear()
            continue
        seen.add(os.path.realpath(folder))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
    return found


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: the folder cannot be read ({error.strerror})")


def read_sources(files: SourceFiles, *, read: Callable[[Path], Source]) -> tuple[list[Source], list[str]]:
    """(the files that are annotations, remarks about those found in a folder that are not).

    Args:
        files: what to read.
        read: reads one of them.

    Raises:
        DataError: a file that the user named, or every file, is no annotation file.
    """
    sources, notes = [], []
    for path in files.annotations:
        try:
            sources.append(read(path))
        except NotAnnotations as reason:
            if path in files.named:
                raise DataError(f"{path}: {reason}. Expected one of {FORMS}") from None
            notes.append(f"{path} is not used: {reason}")
    if not sources:
        raise DataError(f"no annotation file found. Expected one of {FORMS}. " + "; ".join(notes))
    return sources, notes


def read_head(path: Path) -> bytes:
    """The first bytes of a file, without a byte order mark and blanks.

    Raises:
        DataError: it cannot be read, or is empty.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not head.strip():
        raise DataError(f"{path}: is empty")
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()


def number(value: object) -> float | None:
    """A number below `LARGEST` from a number or a text; None if it is neither."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        result = float(value)
    except ValueError:
        return None
    return result if abs(result) < LARGEST else None  # not for NaN either


def box_of(values: Iterable[object]) -> tuple[float, float, float, float] | None:
    """Four finite numbers, or None."""
    written = list(values)
    numbers = [found for value in written if (found := number(value)) is not None]
    if not len(written) == len(numbers) == 4:
        return None
    x, y, z, w = numbers
    return x, y, z, w


def some(names: Iterable[object], *, most: int = 5) -> str:
    """`a, b, c, ...` for messages."""
    texts = [str(name) for name in names]
    return ", ".join(texts[:most]) + (f", ... ({len(texts)} in all)" if len(texts) > most else "")
