"""Finds the videos that annotations speak of, and their sizes, rates and lengths.

Looking into thousands of videos takes minutes: what was found is kept in a cache beside the output, so that a second
try goes on where the first one stopped.
"""

from __future__ import annotations

import json
import os
import threading
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import numpy as np

from alphaction.dataset.video_file import VideoFile, file_stamp
from alphaction.dataset.video_index import EXTENSIONS, in_threads, list_seconds
from alphaction.dataset.video_io import VideoInfo, probe
from alphaction.errors import DataError, VideoError
from alphaction.preparation.sources import files_below
from alphaction.utils.atomic import write_text

SAVE_EVERY = 50  # videos
NO_SUCH_VIDEO = "no such video"
_EVEN = 1e-4  # seconds: frames as far from an even spacing are evenly spaced


@dataclass(frozen=True)
class Footage:
    """A video that annotations belong to.

    Attributes:
        name: its id in the new data set.
        path: the file, or the folder of one-second clips.
        info: size, rate, and length; of clips: that of the first one, `duration` up to the end of the last.
        clips: `path` is a folder.
    """

    name: str
    path: Path
    info: VideoInfo
    clips: bool = False


class VideoFolder:
    """All videos below a folder.

    Raises:
        DataError: the folder does not exist or has no videos.
    """

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            what = "is a file; give its folder" if self.root.exists() else "there is no such folder"
            raise DataError(f"--videos {self.root}: {what}")
        self.files = [path for path in files_below(self.root) if path.suffix.lower() in EXTENSIONS and path.is_file()]
        if not self.files:
            raise DataError(f"--videos {self.root}: there is no video ({', '.join(EXTENSIONS)}) in it or below it")
        self._levels = self._index()

    def find(self, name: str) -> list[Path]:
        """The files (or the folder of clips) that `name` may mean; empty if there is none."""
        name = _composed(name.replace("\\", "/").strip("/"))
        path = PurePosixPath(name)
        stem = name[: -len(path.suffix)] if path.suffix.lower() in EXTENSIONS else name
        for wanted in dict.fromkeys((name, stem, path.name, PurePosixPath(stem).name)):
            for level in self._levels:
                found = level.get(wanted) or level.get(wanted.casefold())
                if found:
                    return found
        return []

    def nearest(self, name: str) -> str:
        """The most similar names of videos, for messages; "" if none is similar."""
        stems = {path.stem.casefold(): path.name for path in self.files}
        found = get_close_matches(PurePosixPath(name).name.casefold(), list(stems), n=2, cutoff=0.4)
        return " or ".join(stems[key] for key in found)

    def _index(self) -> list[dict[str, list[Path]]]:
        """Names -> files, the more exact kinds of names first; each also in lower case."""
        levels: list[dict[str, list[Path]]] = [{}, {}, {}, {}]
        folders: dict[Path, list[Path]] = {}
        for path in self.files:
            relative = path.relative_to(self.root)
            for level, key in zip(
                levels, (relative.as_posix(), relative.with_suffix("").as_posix(), path.name, path.stem), strict=True
            ):
                for spelling in dict.fromkeys((_composed(key), _composed(key).casefold())):
                    level.setdefault(spelling, []).append(path)
            folders.setdefault(path.parent, []).append(path)
        clips: dict[str, list[Path]] = {}
        for folder, files in folders.items():
            if folder != self.root and all(file.stem.isascii() and file.stem.isdigit() for file in files):
                relative = folder.relative_to(self.root)
                for key in dict.fromkeys((relative.as_posix(), folder.name, folder.name.casefold())):
                    clips.setdefault(_composed(key), []).append(folder)
        return [*levels, clips]


def _composed(name: str) -> str:
    """One of the two ways to write an umlaut or accent: names from a Mac have the letter and the mark apart."""
    return unicodedata.normalize("NFC", name)


class ProbeCache:
    """What is known of videos, in a JSON file; an entry counts while its file has the same size and time stamp."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._new = 0
        try:
            self._entries: dict[str, dict] = json.loads(path.read_text(encoding="utf-8"))["videos"]
        except (OSError, ValueError, KeyError, TypeError):
            self._entries = {}

    def look(self, path: Path) -> VideoInfo | str:
        """The video's header, or what is wrong with it."""
        try:
            if path.is_dir():
                return _probe_clips(path)
            key, stamp = str(path.resolve()), list(file_stamp(str(path)))
        except (VideoError, OSError) as error:
            return str(error)
        entry = self._entries.get(key)
        if isinstance(entry, dict) and entry.get("stamp") == stamp:
            return VideoInfo(**entry["info"]) if "info" in entry else str(entry["problem"])
        try:
            info: VideoInfo | str = probe(path)
        except (VideoError, OSError) as error:
            info = str(error)
        known = {"problem": info} if isinstance(info, str) else {"info": asdict(info)}
        self._keep(key, {"stamp": stamp, **known}, every=SAVE_EVERY)
        return info

    def frame_times(self, path: Path) -> np.ndarray:
        """The times of a video's frames in seconds, float64 [M]. To find them the whole file is read once."""
        key, stamp = str(path.resolve()), list(file_stamp(str(path)))
        entry = self._entries.get(key)
        if isinstance(entry, dict) and entry.get("stamp") == stamp and "times" in entry:
            times = entry["times"]
            return np.arange(times[0]) * times[1] if entry["even"] else np.asarray(times, np.float64)
        file = VideoFile(str(path))
        try:
            times = file.index.times
        finally:
            file.close()
        step = float(times[-1]) / max(len(times) - 1, 1) if len(times) else 0.0
        even = np.abs(times - np.arange(len(times)) * step).max(initial=0.0) < _EVEN
        kept = [len(times), step] if even else times.round(6).tolist()
        self._keep(key, {**(entry or {}), "stamp": stamp, "even": bool(even), "times": kept}, every=1)
        return np.arange(len(times)) * step if even else times.round(6)

    def _keep(self, key: str, entry: dict, *, every: int) -> None:
        with self._lock:
            self._entries[key] = entry
            self._new += 1
            if self._new % every == 0:
                self.save()

    def save(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, text=json.dumps({"videos": dict(self._entries)}))
        except OSError as error:
            raise DataError(f"--output: {self.path.parent}: cannot be written to ({error.strerror})") from None

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Matched:
    """Which video each name of the annotations means.

    Attributes:
        footage: by name; names without a usable video are missing.
        problems: why, by name.
        notes: remarks for the report.
    """

    footage: Mapping[str, Footage]
    problems: Mapping[str, str]
    notes: Sequence[str]


def match_videos(
    names: Sequence[str], folder: VideoFolder, cache: ProbeCache, *, aliases: Mapping[str, Iterable[str]]
) -> Matched:
    """Finds the video of each name.

    Args:
        names: as the annotations write them.
        folder: where to look.
        cache: what is known of videos already; it is saved, also when this is interrupted.
        aliases: other names that a name goes by.
    """
    problems: dict[str, str] = {}
    notes: list[str] = []
    paths: dict[str, Path] = {}
    for name in dict.fromkeys(names):
        found = next((f for n in (name, *aliases.get(name, ())) if (f := folder.find(n))), [])
        if len({(path.parent, path.stem) for path in found}) > 1:
            problems[name] = "may mean " + " or ".join(str(path.relative_to(folder.root)) for path in found[:4])
        elif found:
            found = sorted(found, key=lambda path: EXTENSIONS.index(path.suffix.lower()) if path.is_file() else 0)
            paths[name] = found[0]
            if len(found) > 1:
                notes.append(f"{name}: {found[0].name} is used, not {', '.join(path.name for path in found[1:])}")
        else:
            nearest = folder.nearest(name)
            problems[name] = NO_SUCH_VIDEO + (f"; nearest: {nearest}" if nearest else "")
    distinct = list(dict.fromkeys(paths.values()))
    try:
        looked = dict(zip(distinct, in_threads(cache.look, distinct, title="Looking into videos"), strict=True))
    finally:
        cache.save()
    ids = _ids(distinct, folder)
    footage = {}
    for name, path in paths.items():
        info = looked[path]
        if isinstance(info, str):
            problems[name] = info
        else:
            footage[name] = Footage(ids[path], path, info, clips=path.is_dir())
    return Matched(footage, problems, notes)


def _ids(paths: Sequence[Path], folder: VideoFolder) -> dict[Path, str]:
    """A short, distinct id for each video: its name without ending, with its folders where that is not distinct."""

    def plain(path: Path) -> str:
        return path.name if path.is_dir() else path.stem

    count: dict[str, int] = {}
    for path in paths:
        count[plain(path).casefold()] = count.get(plain(path).casefold(), 0) + 1
    ids = {}
    for path in paths:
        relative = path.relative_to(folder.root)
        long = "__".join((*relative.parts[:-1], plain(path)))
        ids[path] = plain(path) if count[plain(path).casefold()] == 1 else long
    return ids


def _probe_clips(folder: Path) -> VideoInfo | str:
    names, _ = list_seconds(str(folder))
    info = probe(folder / names[min(names)])
    end = max(names) + 1
    return VideoInfo(info.width, info.height, info.fps, float(end), round(end * info.fps))
