"""Reads videos through once and stores the times of their frames with the data set (`dataset.stored_frames`)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from alphaction.dataset.frame_index import FrameIndex
from alphaction.dataset.stored_frames import Stamp, StoredFrames, write_stored_frames
from alphaction.dataset.video_file import VideoFile, file_stamp
from alphaction.dataset.video_index import in_threads
from alphaction.errors import DataError, VideoError


def index_videos(file: str | os.PathLike[str], paths: Sequence[str], *, folder: str = "") -> tuple[int, int]:
    """Writes `frame_index.npz` for the videos `paths`. Those that the file knows already are not read again.

    Args:
        file: to create or replace.
        paths: whole videos. One that cannot be read, or has no usable time stamps, is left out: the loader meets it
            as it does without this file.
        folder: the folder that the file will lie in when it is used; "" = that of `file`.

    Returns:
        (videos in the file, videos that were read through now).

    Raises:
        DataError: the file cannot be written.
    """
    known = StoredFrames([os.fspath(file)] if os.path.isfile(file) else [])
    indices: dict[str, tuple[Stamp, FrameIndex]] = {}
    new: list[str] = []
    for path in dict.fromkeys(paths):
        try:
            stamp = file_stamp(path)
        except VideoError:
            continue
        index = known.find(path, stamp)
        if index is None:
            new.append(path)
        else:
            indices[path] = stamp, index
    found = zip(new, in_threads(_index, new, title="Reading the times of frames"), strict=True)
    indices |= {path: entry for path, entry in found if entry is not None}
    try:
        write_stored_frames(file, indices, folder=folder)
    except OSError as error:
        raise DataError(f"{file}: cannot be written ({error.strerror})") from None
    return len(indices), len(new)


def _index(path: str) -> tuple[Stamp, FrameIndex] | None:
    try:
        video = VideoFile(path)
    except (VideoError, OSError):
        return None
    try:
        return (video.stamp, video.index) if video.index.pts is not None else None
    except (VideoError, OSError):
        return None
    finally:
        video.close()
