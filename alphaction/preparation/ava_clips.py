"""Cuts videos into one-second files and pictures of their keyframes, as the original prepared AVA.

The file of second s holds, at F frames per second, the frames shown nearest to s, s + 1/F, s + 2/F, ... of the video:
the same that the loader takes from the whole video at INPUT.FRAME_RATE F. Beyond the video's end nothing is written, so
the last file may be short. Every file appears whole or not at all.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from alphaction.dataset.sampling import nearest_frames
from alphaction.dataset.video_file import VideoFile
from alphaction.dataset.video_index import MovieFiles, VideoIndex, list_seconds
from alphaction.dataset.video_io import VideoInfo, probe
from alphaction.errors import DataError, VideoError
from alphaction.preparation.ava_encode import fitted_size, shrink, write_clip, write_picture
from alphaction.utils.atomic import remove_leftovers, write_text

NOTE = ".cut.json"  # beside a movie's clips: how they were cut
TINY = 1e-6  # seconds


@dataclass(frozen=True)
class CutOptions:
    """What to cut.

    Attributes:
        movie_root: folder of the videos.
        clip_root: gets <movie>/<second>.mp4.
        keyframe_root: gets <movie>/<second>.jpg, the first frame of each file; "" = none.
        start, end: seconds, the end exclusive; `end` None = the video's end.
        fps: frames per second of the files.
        short_side: pixels; larger pictures are made smaller, none larger.
        offset: the movie's time in seconds at which the video files begin (copies without their beginning).
        digits: least number of digits of a second's name: 4 gives 0007.mp4.
        workers: videos that are worked on at a time.
        movies: ids to cut; None = all of the folder.
        force: cut again what is there.
    """

    movie_root: str
    clip_root: str
    keyframe_root: str = ""
    start: int = 895
    end: int | None = 1805
    fps: float = 25.0
    short_side: int = 360
    offset: float = 0.0
    digits: int = 1
    workers: int = 4
    movies: tuple[str, ...] | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if not 0.5 <= self.fps <= 1000:
            raise DataError(f"frames per second: got {self.fps:g}, expected a number from 0.5 to 1000")
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise DataError(f"seconds: got {self.start} to {self.end}, expected 0 <= start < end")
        if self.short_side < 16 or self.workers < 1:
            raise DataError(f"short side {self.short_side}, workers {self.workers}: expected at least 16 and 1")

    def seconds(self, duration: float) -> range:
        """The seconds of a video of this length that are to be cut."""
        last = int(np.ceil(duration + self.offset - TINY))
        return range(
            max(self.start, int(np.ceil(self.offset - TINY))), last if self.end is None else min(self.end, last)
        )

    def times(self, second: int) -> np.ndarray:
        """Times in the video file of the frames of a second, float64 [frames]."""
        return second - self.offset + np.arange(int(np.ceil(self.fps - TINY))) / self.fps


@dataclass
class CutResult:
    """What was done: numbers of one-second files, and what is wrong, a line per video or second."""

    movies: int = 0
    written: int = 0
    kept: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other: CutResult) -> None:
        self.movies += other.movies
        self.written += other.written
        self.kept += other.kept
        self.problems += other.problems


def cut_videos(options: CutOptions) -> CutResult:
    """Cuts all videos, several at a time, with a progress bar. What is there already is kept.

    Raises:
        UserError: the folder cannot be read or holds no video.
    """
    index = VideoIndex(options.movie_root)
    movies = list(options.movies) if options.movies is not None else [n for n in index.names() if index.files_of(n)]
    if not movies:
        raise DataError(f"{options.movie_root}: there are no videos here (mp4, mkv, avi, webm, mov, m4v)")
    found = index.find(movies)
    result, stop = CutResult(), threading.Event()
    total = sum(len(options.seconds(entry.info.duration)) for entry in found if entry.info is not None)
    with tqdm(total=total, desc="Cutting", unit="s", disable=None) as bar, ThreadPoolExecutor(options.workers) as pool:

        def go_on() -> bool:
            bar.update()
            return not stop.is_set()

        def cut(entry: MovieFiles) -> CutResult:
            return _cut_movie(entry, options, go_on)

        try:
            for part in pool.map(cut, found):
                result.add(part)
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return result


def _cut_movie(entry: MovieFiles, options: CutOptions, go_on: Callable[[], bool]) -> CutResult:
    """Cuts one video; `go_on` is called after every second and says whether to."""
    name = entry.movie
    if entry.problem or entry.info is None:
        return CutResult(problems=[f"{name}: {entry.problem or f'{entry.path} is cut into seconds already'}"])
    cut = _Movie(entry.path, entry.info, Path(options.clip_root) / name, options)
    try:
        return cut.run(go_on)
    except VideoError as error:
        return CutResult(movies=1, kept=cut.kept, written=cut.written, problems=[f"{name}: {error}"])


class _Movie:
    """The cutting of one video."""

    def __init__(self, path: str, info: VideoInfo, folder: Path, options: CutOptions) -> None:
        self.path, self.info, self.folder, self.options = path, info, folder, options
        self.pictures = Path(options.keyframe_root) / folder.name if options.keyframe_root else None
        self.size = fitted_size(info.width, info.height, options.short_side)
        self.written = self.kept = 0
        self.problems: list[str] = []

    def run(self, go_on: Callable[[], bool]) -> CutResult:
        seconds = self.options.seconds(self.info.duration)
        if not seconds:
            ends = self.info.duration + self.options.offset
            raise VideoError(f"{self.path}: ends at {ends:.2f} s, before second {self.options.start}")
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.pictures is not None:
            self.pictures.mkdir(parents=True, exist_ok=True)
        missing = self._missing(seconds, ours=self._take_note())
        self.kept = len(seconds) - len(missing)
        for _ in range(self.kept):
            go_on()
        if missing:
            self._cut(missing, go_on)
        return CutResult(1, self.written, self.kept, self.problems)

    def _take_note(self) -> bool:
        """Clips that were cut in another way must not be mixed with new ones. Returns whether those there are ours."""
        note = self.folder / NOTE
        options, file = self.options, Path(self.path)
        new = {"video": file.name, "bytes": file.stat().st_size, "fps": options.fps}
        new |= {"short_side": options.short_side, "offset": options.offset}
        old = None
        with suppress(OSError, ValueError):
            old = json.loads(note.read_text(encoding="utf-8"))
        if isinstance(old, dict) and old != new and not options.force:
            differs = [f"{key} {old.get(key)!r}, now {value!r}" for key, value in new.items() if old.get(key) != value]
            raise VideoError(
                f"{self.folder}: its files were cut otherwise ({'; '.join(differs)}). --force cuts them again"
            )
        for folder in filter(None, (self.folder, self.pictures)):
            remove_leftovers(folder)
        if old != new:
            write_text(note, text=json.dumps(new) + "\n")
        return old == new

    def _missing(self, seconds: range, *, ours: bool) -> list[int]:
        """The seconds without a file or picture. Files that another program made are opened to see whether they work:
        unlike ours, they may have been left unfinished."""
        if self.options.force:
            return list(seconds)
        names, empty = list_seconds(str(self.folder))
        there = set(names) - set(empty)
        if self.pictures is not None:
            there &= {int(p.stem) for p in self.pictures.glob("*.jpg") if p.stem.isdecimal() and p.stat().st_size}
        return [s for s in seconds if s not in there or not (ours or _opens(self.folder / names[s]))]

    def _cut(self, seconds: list[int], go_on: Callable[[], bool]) -> None:
        video = VideoFile(self.path)
        try:
            index, again = video.index, []
            plan: list[tuple[int, np.ndarray]] = []
            end = float(index.times[-1]) + (index.last_duration or 1 / self.options.fps)
            for second in seconds:
                times = self.options.times(second)
                times = times[(times >= -TINY) & (times < end - TINY)]
                if len(times):
                    plan.append((second, nearest_frames(index.times, times)))
                else:
                    go_on()
            for second, numbers, images in self._in_one_pass(video, plan):
                if images is None:
                    again.append((second, numbers))
                    continue
                self._write(second, images)
                if not go_on():
                    return
            for second, numbers in again:
                try:
                    self._write(second, [shrink(image, self.size) for image in video.read(numbers)])
                except VideoError as error:
                    self.problems.append(f"{self.folder.name}: second {second}: {error}")
                if not go_on():
                    return
        finally:
            video.close()

    def _in_one_pass(
        self, video: VideoFile, plan: list[tuple[int, np.ndarray]]
    ) -> Iterator[tuple[int, np.ndarray, list[np.ndarray] | None]]:
        """(second, its frames' numbers, its pictures or None where some are not found in passing)."""
        if not plan:
            return
        frames = video.walk(np.unique(np.concatenate([numbers for _, numbers in plan])))
        held: dict[int, np.ndarray] = {}
        upcoming = next(frames, None)
        for second, numbers in plan:
            while upcoming is not None and upcoming[0] <= numbers[-1]:
                held[upcoming[0]] = shrink(upcoming[1], self.size)
                upcoming = next(frames, None)
            whole = all(int(number) in held for number in numbers)
            yield second, numbers, [held[int(number)] for number in numbers] if whole else None
            held = {number: image for number, image in held.items() if number >= numbers[-1]}

    def _write(self, second: int, images: list[np.ndarray]) -> None:
        name = f"{second:0{self.options.digits}d}"
        if self.pictures is not None:
            write_picture(self.pictures / f"{name}.jpg", images[0])
        write_clip(self.folder / f"{name}.mp4", images, fps=self.options.fps)
        self.written += 1


def _opens(clip: Path) -> bool:
    try:
        return probe(clip).frames > 0
    except VideoError:
        return False
