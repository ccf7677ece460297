"""Reads videos through once and stores the times of their frames with the data set (`dataset.stored_frames`)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from alphaction.config.generate import ensure_generated
from alphaction.config.paths_catalog import DatasetCatalog
from alphaction.dataset.annotations import read_annotations
from alphaction.dataset.entry_classes import entry_classes
from alphaction.dataset.frame_index import FrameIndex
from alphaction.dataset.stored_frames import FILE_NAME, Stamp, StoredFrames, write_stored_frames
from alphaction.dataset.video_file import VideoFile, file_stamp
from alphaction.dataset.video_index import VideoIndex, in_threads
from alphaction.errors import DataError, UserError, VideoError
from alphaction.preparation.check_split import split_names


def index_videos(file: str | os.PathLike[str], paths: Sequence[str], *, folder: str = "") -> tuple[int, int]:
    """Writes `frame_index.npz` for the videos `paths`. What the file knows already stays and is not read again.

    Args:
        file: to create or replace.
        paths: whole videos. One that cannot be read, or has no usable time stamps, is left out: the loader meets it
            as it does without this file.
        folder: the folder that the file will lie in when it is used; "" = that of `file`.

    Returns:
        (how many of the videos are in the file, how many were read through now).

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
        write_stored_frames(file, indices, folder=folder, known=known)
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


def index_dataset(name: str) -> tuple[str, int, int]:
    """Writes the file of a data set's videos, all splits of a dataset.yaml together.

    Args:
        name: path/to/dataset.yaml, path/to/dataset.yaml:split, or a name of the catalog.

    Returns:
        (the file, how many of the videos are in it, how many were read through now).

    Raises:
        UserError: there is no such data set, or it cannot be read.
    """
    paths: list[str] = []
    file = ""
    for _, full in split_names([name]):
        spec = DatasetCatalog.get(full)
        ensure_generated(spec)
        raw = read_annotations(spec["ann_file"], entry_classes(spec)[0])
        found = VideoIndex(spec["video_root"]).find(raw.movies)
        paths += [entry.path for entry in found if entry.path and entry.clips is None]
        file = os.path.join(spec["root"], FILE_NAME)
    if not paths:
        raise DataError(
            f"{name}: there is no whole video to read. One-second clips need no index: each is short enough to be "
            "read through when it is opened"
        )
    return file, *index_videos(file, paths)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of `tools/index_videos.py`; the exit status: 0 done, 1 error."""
    parser = argparse.ArgumentParser(
        description="Reads every whole video of a data set once and stores the times of its frames "
        f"({FILE_NAME} in the data set's folder), so that training need not. prepare_dataset.py does it by itself. "
        "To be run again after videos have changed; those that have not are not read again."
    )
    parser.add_argument("names", nargs="+", metavar="DATASET", help="path/to/dataset.yaml[:split], or a catalog name")
    args = parser.parse_args(arguments)
    for name in args.names:
        try:
            file, count, read = index_dataset(name)
        except UserError as error:
            sys.stderr.write(f"error: {error}\n")
            return 1
        sys.stdout.write(f"{file}: the frames of {count} videos of {name}, {read} read through now\n")
    return 0
