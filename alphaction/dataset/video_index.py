"""Finds the video of every movie id and says what is wrong with those that cannot be used.

Two layouts: `video_root/<movie>/<second>.mp4`, clips of one second (zero-padded names too), or whole videos
`video_root/<movie>.<ext>`. Clip folders are only listed; of whole videos the header is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from alphaction.dataset.stored_frames import StoredFrames
from alphaction.dataset.video_io import SecondFiles, VideoInfo, WholeVideo, probe
from alphaction.errors import DataError, VideoError

EXTENSIONS = (".mp4", ".mkv", ".avi", ".webm", ".mov", ".m4v")
THREADS = 16  # the work is waiting for the disk
MANY = 50  # videos; from here on a progress bar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class MovieFiles:
    """Where a movie's frames are.

    Attributes:
        movie: the id.
        path: the video file, or the folder of one-second clips; "" when nothing was found.
        clips: second -> file name in the folder; None for a whole video.
        empty: the seconds whose clip has 0 bytes.
        info: header of a whole video.
        problem: why the movie cannot be used, "" when it can.
        note: a remark for the log.
    """

    movie: str
    path: str = ""
    clips: Mapping[int, str] | None = None
    empty: Sequence[int] = ()
    info: VideoInfo | None = None
    problem: str = ""
    note: str = ""


class VideoIndex:
    """The videos below a folder. The folder is listed once; what was looked up is kept."""

    def __init__(self, video_root: str | os.PathLike) -> None:
        self.root = Path(video_root)
        self._folders: set[str] = set()
        self._files: dict[str, os.DirEntry] = {}
        self._by_stem: dict[str, list[str]] = {}
        self._found: dict[str, MovieFiles] = {}
        try:
            with os.scandir(self.root) as entries:
                for entry in entries:
                    self._add(entry)
        except FileNotFoundError:
            raise DataError(f"{self.root}: the video folder does not exist") from None
        except OSError as error:
            raise DataError(f"{self.root}: the video folder cannot be read ({error.strerror})") from None

    def names(self) -> list[str]:
        """Every movie id that the folder has something for, sorted."""
        return sorted({*self._folders, *self._by_stem})

    def files_of(self, name: str) -> list[str]:
        """The video files of a movie id, with their endings."""
        return list(self._by_stem.get(name, ()))

    def find(self, movies: Sequence[str]) -> list[MovieFiles]:
        """What there is of each movie, in the order of `movies`. Nothing raises: see `MovieFiles.problem`."""
        new = [movie for movie in dict.fromkeys(movies) if movie not in self._found]
        self._found.update(zip(new, in_threads(self._look_up, new, title="Looking up videos"), strict=True))
        return [self._found[movie] for movie in movies]

    def _add(self, entry: os.DirEntry) -> None:
        if entry.is_dir():
            self._folders.add(entry.name)
            return
        stem, extension = os.path.splitext(entry.name)
        if extension.lower() in EXTENSIONS:
            self._files[entry.name] = entry
            self._by_stem.setdefault(stem, []).append(entry.name)

    def _look_up(self, movie: str) -> MovieFiles:
        stem, extension = os.path.splitext(movie)
        stem = stem if extension.lower() in EXTENSIONS else movie
        files = self._by_stem.get(movie, [])
        files = [movie] if movie in self._files else sorted(files, key=_preference)
        for folder in dict.fromkeys((movie, stem)):
            if folder not in self._folders:
                continue
            try:
                clips = self._clips(movie, folder)
            except OSError as error:
                return MovieFiles(movie, problem=f"{self.root / folder} cannot be read ({error.strerror})")
            if clips.clips:
                return replace(clips, note=f"{movie}: the folder of clips is used, not {files[0]}" if files else "")
            if not files:
                return MovieFiles(movie, problem=f"{clips.path} holds no clip named like 12.mp4 or 0012.mp4")
        if files:
            return self._whole(movie, files)
        expected = stem + "{" + ",".join(EXTENSIONS) + "}"
        return MovieFiles(movie, problem=f"not found; expected {self.root / expected} or the folder {self.root / stem}")

    def _clips(self, movie: str, folder: str) -> MovieFiles:
        path = str(self.root / folder)
        names, empty = list_seconds(path)
        problem = f"all clips in {path} are empty (0 bytes)" if names and len(empty) == len(names) else ""
        return MovieFiles(movie, path, names, empty, problem=problem)

    def _whole(self, movie: str, files: list[str]) -> MovieFiles:
        path = str(self.root / files[0])
        note = f"{movie}: {files[0]} is used, not {', '.join(files[1:])}" if len(files) > 1 else ""
        try:
            if self._files[files[0]].stat().st_size == 0:
                return MovieFiles(movie, path, problem=f"{path} is empty (0 bytes)")
            return MovieFiles(movie, path, info=probe(path), note=note)
        except (VideoError, OSError) as error:
            return MovieFiles(movie, path, problem=str(error))


def in_threads(function: Callable[[T], R], items: Sequence[T], *, title: str) -> list[R]:
    """`function` of every item, in order, several at a time; a progress bar on a terminal when there are many."""
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(max_workers=min(THREADS, len(items))) as pool:
        results: Iterable[R] = pool.map(function, items)
        quiet = True if len(items) < MANY else None
        return list(tqdm(results, total=len(items), desc=title, unit="video", disable=quiet, leave=False))


def list_seconds(folder: str) -> tuple[dict[int, str], list[int]]:
    """({second: file name}, seconds whose file has 0 bytes) of a folder of one-second clips.

    Of two files for one second (`7.mp4`, `0007.mp4`) the shorter name counts.
    """
    names: dict[int, str] = {}
    empty: dict[int, bool] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, extension = os.path.splitext(entry.name)
            if not (stem.isascii() and stem.isdigit() and extension.lower() in EXTENSIONS):
                continue
            second = int(stem)
            if second not in names or (len(entry.name), entry.name) < (len(names[second]), names[second]):
                names[second], empty[second] = entry.name, entry.stat().st_size == 0
    return names, [second for second, is_empty in empty.items() if is_empty]


@lru_cache(maxsize=256)
def open_source(path: str, stored: StoredFrames | None = None) -> WholeVideo | SecondFiles:
    """The source at a path of `MovieFiles`. A dataset keeps paths only; each worker lists the folders that it reads.

    Args:
        stored: frame indices that were stored with the data set.
    """
    if os.path.isdir(path):
        return SecondFiles(path, list_seconds(path)[0])
    return WholeVideo(path, stored)


def _preference(name: str) -> tuple[int, str]:
    return EXTENSIONS.index(os.path.splitext(name)[1].lower()), name
