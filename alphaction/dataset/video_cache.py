"""The videos that a process has open, and their frame indices: a few, for as long as they are in use."""

from __future__ import annotations

import os
from collections import OrderedDict

from alphaction.dataset.frame_forms import FrameConverter
from alphaction.dataset.frame_index import FrameIndex
from alphaction.dataset.stored_frames import StoredFrames
from alphaction.dataset.video_file import VideoFile, file_stamp

OPEN_FILES = 8
KEPT_INDICES = 64


class VideoCache:
    """The most recently used videos, open, and the frame indices of some more.

    A process that was forked from the owner starts with an empty cache: two processes must not share a file position.

    Args:
        open_files: how many files stay open.
        kept_indices: how many frame indices stay in memory (8 bytes times 2 per frame: 0.4 MB for 15 minutes).
        threads: decoder threads of each file.
    """

    def __init__(self, *, open_files: int = OPEN_FILES, kept_indices: int = KEPT_INDICES, threads: int = 1) -> None:
        if open_files < 1 or kept_indices < 1 or threads < 1:
            raise ValueError(
                f"open_files, kept_indices, threads: got {open_files}, {kept_indices}, {threads}, expected at least 1"
            )
        self._open_files, self._kept_indices, self._threads = open_files, kept_indices, threads
        self._videos: OrderedDict[str, VideoFile] = OrderedDict()
        self._indices: OrderedDict[tuple[str, tuple[int, int]], FrameIndex] = OrderedDict()
        self._process = os.getpid()
        self._converter = FrameConverter()

    def __len__(self) -> int:
        return len(self._videos)

    def __getstate__(self) -> dict:
        return {"open_files": self._open_files, "kept_indices": self._kept_indices, "threads": self._threads}

    def __setstate__(self, state: dict) -> None:
        VideoCache.__init__(self, **state)

    def get(self, path: str) -> VideoFile:
        """The open video, with its index if it was known before.

        Raises:
            VideoError: missing, empty or unreadable.
        """
        self._begin_anew_after_fork()
        video = self._videos.pop(path, None)
        if video is not None and video.stamp != file_stamp(path):  # replaced since it was opened
            video.close()
            video = None
        if video is None:
            while len(self._videos) >= self._open_files:
                self._release(self._videos.popitem(last=False)[1])
            video = VideoFile(path, threads=self._threads)
            if (path, video.stamp) in self._indices:
                video.index = self._indices[path, video.stamp]
        self._videos[path] = video
        return video

    @property
    def converter(self) -> FrameConverter:
        """For the frames of these videos."""
        self._begin_anew_after_fork()
        return self._converter

    def _begin_anew_after_fork(self) -> None:
        if self._process != os.getpid():
            # Not closed but kept: freeing a converter waits for threads that exist in the forking process only.
            _left_by_fork.extend((*self._videos.values(), self._converter))
            self.__setstate__(self.__getstate__())

    def index(self, path: str, stored: StoredFrames | None = None) -> FrameIndex:
        """The frames of a video; the file is not opened when they are known, or found in `stored`."""
        key = (path, file_stamp(path))
        if stored is not None and key not in self._indices and (found := stored.find(*key)) is not None:
            self._indices[key] = found
            if path in self._videos and self._videos[path].stamp == key[1]:
                self._videos[path].index = found
        if key not in self._indices or path in self._videos:
            self._indices[key] = self.get(path).index
        self._indices.move_to_end(key)
        while len(self._indices) > self._kept_indices:
            self._indices.popitem(last=False)
        return self._indices[key]

    def close(self) -> None:
        """Closes all files."""
        while self._videos:
            self._release(self._videos.popitem()[1])
        self._indices.clear()

    def _release(self, video: VideoFile) -> None:
        if self._process == os.getpid():
            video.close()


_shared: dict[int, VideoCache] = {}
_left_by_fork: list[VideoFile | FrameConverter] = []


def shared_cache(threads: int = 1) -> VideoCache:
    """The process's own cache for a number of decoder threads."""
    return _shared.setdefault(threads, VideoCache(threads=threads))
