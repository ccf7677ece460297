"""Makes the folder of a generated data set: beside its place, all at once, going on where an interrupted run stopped.

The files are written to `<folder>.partial`, which is renamed when it is complete. Of several processes, one generates
and the others wait. `generated.json` in it says what made the set; it is read to see whether the set is current.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tqdm import tqdm

from alphaction.errors import DataError

try:
    import fcntl
except ImportError:  # not a POSIX system: two processes that generate at once would disturb each other
    fcntl = None  # type: ignore[assignment]  # a module that may be missing

logger = logging.getLogger(__name__)

STAMP = "generated.json"

Told = TypeVar("Told")
"""What is told of each video: what the annotations are made of."""


@dataclass(frozen=True)
class Recipe(Generic[Told]):
    """How a set is made.

    Attributes:
        stamp: what makes the same files again; other content of the same folder is replaced.
        videos: number of videos of each split.
        make_video: (folder of the videos, split, number) to what is told of the video; writes it unless it is there.
        tables: from what is told of each split's videos, in their order, to the other files: path -> text.
    """

    stamp: str
    videos: Mapping[str, int]
    make_video: Callable[[Path, str, int], Told]
    tables: Callable[[Mapping[str, list[Told]]], Mapping[str, str]]


def stamp(made_by: str, *, version: int, settings: Mapping[str, object]) -> str:
    """The text of `generated.json`. Args: `version` is raised when the same settings give other files."""
    return json.dumps({"made_by": made_by, "version": version, **settings}, indent=1)


def make_folder(folder: str | os.PathLike, recipe: Recipe) -> Path:
    """Makes the data set in `folder` unless it is there already.

    Args:
        folder: is created. A folder that holds something else is an error, never overwritten.
        recipe: how to make it.

    Returns:
        The path of its `dataset.yaml`.

    Raises:
        DataError: `folder` holds something else, or cannot be written.
    """
    folder = Path(folder)
    try:
        if _is_current(folder, recipe.stamp):
            return folder / "dataset.yaml"
        _refuse_foreign(folder)
        partial = folder.with_name(folder.name + ".partial")
        with _locked(partial):
            if not _is_current(folder, recipe.stamp):  # another process may have made it meanwhile
                _write(partial, recipe)
                _move(partial, folder)
            else:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DataError(f"{folder}: the disk is full; the generated data set takes about 20 MB") from error
        raise DataError(f"{folder}: cannot write the generated data set ({error}); choose another folder") from error
    return folder / "dataset.yaml"


def class_list(names: tuple[str, ...]) -> str:
    """A label file in AVA's form; ids from 1."""
    return "".join(f'item {{\n  id: {i}\n  name: "{name}"\n}}\n' for i, name in enumerate(names, start=1))


def _is_current(folder: Path, stamp: str) -> bool:
    """Whether the whole set is there. The stamp comes into `folder` with everything else, by one rename."""
    try:
        return (folder / STAMP).read_text(encoding="utf-8") == stamp
    except FileNotFoundError:
        return False


def _refuse_foreign(folder: Path) -> None:
    if folder.is_dir() and (folder / STAMP).is_file():
        return
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(
            f"{folder}: is in the way of the generated data set and was not made by it (no {STAMP}); "
            "move it away, or choose another folder"
        )


@contextlib.contextmanager
def _locked(partial: Path) -> Iterator[None]:
    """Keeps other processes out of `partial` until the end of the block."""
    while True:
        partial.mkdir(parents=True, exist_ok=True)
        try:
            lock = open(partial / ".lock", "w")  # noqa: SIM115 (closed below)
        except FileNotFoundError:  # the folder was renamed by another process a moment ago
            continue
        break
    with lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info("another process is generating %s, waiting for it", partial)
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError:
                logger.debug("%s: file system without locks", partial)
        partial.mkdir(parents=True, exist_ok=True)
        yield


def _write(partial: Path, recipe: Recipe) -> None:
    """Fills `partial`; videos that a former run of the same recipe completed are kept."""
    started = partial / ".started"
    if not started.is_file() or started.read_text(encoding="utf-8") != recipe.stamp:
        for item in partial.iterdir():
            if item.name != ".lock":
                shutil.rmtree(item) if item.is_dir() else item.unlink()
        started.write_text(recipe.stamp, encoding="utf-8")
    for name in ("videos", "annotations"):
        (partial / name).mkdir(exist_ok=True)
    videos = [(split, number) for split, count in recipe.videos.items() for number in range(count)]
    logger.info("generating a data set of %d videos in %s (once)", len(videos), partial)
    told: dict[str, list] = {split: [] for split in recipe.videos}
    # Threads, because most of the time goes into drawing and encoding, which do not hold Python's lock.
    workers = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        made = workers.map(lambda video: recipe.make_video(partial / "videos", *video), videos)
        for (split, _), of_video in tqdm(
            zip(videos, made, strict=True),
            total=len(videos),
            desc="generating videos",
            unit="video",
            leave=False,
            disable=None,
        ):
            told[split].append(of_video)
    finally:
        workers.shutdown(cancel_futures=True)
    for name, text in recipe.tables(told).items():
        (partial / name).write_text(text, encoding="utf-8")
    (partial / STAMP).write_text(recipe.stamp, encoding="utf-8")


def _move(partial: Path, folder: Path) -> None:
    """Puts the finished set in its place; one of an older version makes room."""
    (partial / ".started").unlink()
    (partial / ".lock").unlink(missing_ok=True)
    if folder.exists() and any(folder.iterdir()):
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        os.rename(folder, old)
        os.rename(partial, folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(partial, folder)
