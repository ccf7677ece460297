"""Writes a prepared data set: a folder that is there as a whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from alphaction.dataset.stored_frames import FILE_NAME
from alphaction.errors import DataError
from alphaction.preparation.index_videos import index_videos
from alphaction.preparation.prepare_rows import Table
from alphaction.preparation.prepare_videos import Footage
from alphaction.preparation.sources import OURS
from alphaction.structures import ClassList

RECORD = OURS  # what was assumed and written; also the sign that a folder is ours
LINKS = "videos"


def refuse_existing(output: Path, *, force: bool) -> None:
    """Says no to an output that is not to be replaced.

    Raises:
        DataError: it exists, and either `force` is not set or it holds something that this tool did not make.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not output.is_dir():
        raise DataError(f"--output {output}: is a file; choose a folder")
    if not (output / RECORD).is_file():
        raise DataError(
            f"--output {output}: the folder exists and was not made by this tool (it has no {RECORD}). Choose another "
            f"one, e.g. {output / 'prepared'}"
        )
    if not force:
        raise DataError(f"--output {output}: exists already. To make it anew (changes to its files are lost): --force")


@contextlib.contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """A folder to write to, which takes the place of `output` only when the block has ended without an exception.

    Files in an older `output` that its record does not name (results of the user's) are kept.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    old = output.with_name(f".{output.name}.old")
    _remove(partial)  # of a run that was killed
    partial.mkdir()
    try:
        yield partial
        if output.exists():
            _remove(old)
            os.replace(output, old)
        os.replace(partial, output)
    except BaseException:
        _remove(partial)
        if old.exists() and not output.exists():
            os.replace(old, output)
        raise
    if old.exists():
        _keep_foreign(old, output)
        _remove(old)


def annotations_text(table: Table, videos: Sequence[str]) -> str:
    """AVA CSV: seconds to the microsecond, corners as shares, class id, and the person's number if any is known."""
    names = {p.person for v in videos for moment in table.videos[v].values() for p in moment.values() if p.person}
    numbered = all(name.isdecimal() and int(name) < 2**31 for name in names)
    persons: dict[tuple[str, str], int] = {}
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    for video in videos:
        for time in table.keyframes(video):
            found = table.videos[video][time].values()
            if not found:
                rows.writerow([video, _plain(time)])
            for person in found:
                number: int | str = ""
                if person.person:
                    new = int(person.person) if numbered else len(persons)
                    number = persons.setdefault((video, person.person), new)
                box = [_plain(value) for value in person.box]
                rows.writerows([video, _plain(time), *box, action, number] for action in sorted(person.actions))
    return text.getvalue()


def write_classes(path: Path, classes: ClassList) -> None:
    lines = [f"{class_id}: {name}\n" for class_id, name in zip(classes.ids, classes.names, strict=True)]
    path.write_text("".join(lines), encoding="utf-8")


def place_videos(partial: Path, output: Path, footage: Sequence[Footage]) -> tuple[str, str]:
    """(what `videos:` of dataset.yaml says, a remark).

    Videos stay where they are. If they do not lie in one folder under their ids, links to them are made.
    """
    folders = {video.path.parent for video in footage}
    plain = all(video.name == (video.path.name if video.clips else video.path.stem) for video in footage)
    if len(folders) == 1 and plain:
        return _path_from(output, folders.pop()), ""
    links = partial / LINKS
    links.mkdir()
    for video in footage:
        link = links / (video.name if video.clips else video.name + video.path.suffix)
        try:
            link.symlink_to(_path_from(output / LINKS, video.path.resolve()), target_is_directory=video.clips)
        except OSError as error:
            raise DataError(
                f"{video.path}: the videos lie in several folders, and this system does not allow links ({error}). Put "
                "them into one folder"
            ) from None
    return LINKS, f"the videos lie in several folders: {output / LINKS} holds links to them"


def store_frames(partial: Path, output: Path, footage: Sequence[Footage]) -> None:
    """The times of the frames of all whole videos, so that training need not read them through; each is read once."""
    videos = [str(video.path) for video in footage if not video.clips]
    if videos:
        index_videos(partial / FILE_NAME, videos, folder=str(output))


def dataset_yaml(name: str, videos: str, splits: Sequence[str], with_boxes: Sequence[str]) -> str:
    """The text of dataset.yaml; texts are quoted as JSON, which is YAML, too."""
    lines = [
        "# Relative paths begin at this file's folder. DATA.md explains the keys.",
        f"name: {json.dumps(name)}",
        f"videos: {json.dumps(videos, ensure_ascii=False)}",
        "classes: classes.txt",
        "splits:",
    ]
    for split in splits:
        lines += [f"  {split}:", f"    annotations: annotations/{split}.csv"]
        lines += [f"    person_boxes: boxes/{split}.json"] if split in with_boxes else []
    return "\n".join(lines) + "\n"


def _plain(value: float) -> str:
    """The shortest text that is exactly this number, without an exponent."""
    if value == int(value):
        return str(int(value))
    text = repr(value)
    return f"{value:.9f}".rstrip("0") if "e" in text else text


def _path_from(folder: Path, path: Path) -> str:
    """How a file in `folder` names `path`: relative where both lie in the working directory, else absolute.

    A project's folder can then be moved or copied as a whole; videos of another place are found wherever the set is.
    """
    start, here = folder.resolve(), Path.cwd()
    # A link of the user's keeps its name: only where the path goes up does it matter what it leads to.
    target = path.resolve() if ".." in path.parts else Path(os.path.abspath(path))
    together = target.is_relative_to(start) or (start.is_relative_to(here) and target.is_relative_to(here))
    return Path(os.path.relpath(target, start) if together else target).as_posix()


def _keep_foreign(old: Path, new: Path) -> None:
    try:
        ours = set(json.loads((old / RECORD).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    for path in sorted(old.rglob("*")):
        relative = path.relative_to(old)
        if path.is_dir() and not path.is_symlink():
            continue
        if relative.as_posix() not in ours and not (new / relative).exists():
            (new / relative).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, new / relative)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
