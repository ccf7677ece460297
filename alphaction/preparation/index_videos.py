"""Reads videos through once and stores the times of their frames with the data set (`dataset.stored_frames`)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alphaction.config.dataset_file import split_reference
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


def index_videos(
    file: str | os.PathLike[str], paths: Sequence[str], *, folder: str = "", others: Sequence[str] = ()
) -> tuple[int, int]:
    """Writes `frame_index.npz` for the videos `paths`. What the file knows of them already is not read again.

    Args:
        file: to create or replace.
        paths: whole videos. One that cannot be read, or has no usable time stamps, is left out: the loader meets it
            as it does without this file.
        folder: the folder that the file will lie in when it is used; "" = that of `file`.
        others: more videos of the data set: of these what the file knows stays. All else that it knows is dropped, such
            as videos that have been deleted.

    Returns:
        (how many of the videos `paths` are in the file, how many were read through now).

    Raises:
        DataError: the file cannot be written.
    """
    known = StoredFrames([os.fspath(file)] if os.path.isfile(file) else [], advice="It is made anew")
    indices, new = _known_of(known, dict.fromkeys(paths))
    found = zip(new, in_threads(_index, new, title="Reading the times of frames"), strict=True)
    indices |= {path: entry for path, entry in found if entry is not None}
    try:
        write_stored_frames(file, _known_of(known, others)[0] | indices, folder=folder)
    except OSError as error:
        raise DataError(f"{file}: cannot be written ({error.strerror})") from None
    return len(indices), len(new)


def _known_of(known: StoredFrames, paths: Iterable[str]) -> tuple[dict[str, tuple[Stamp, FrameIndex]], list[str]]:
    """(what is known of the videos that have not changed, those of which nothing is known)."""
    indices: dict[str, tuple[Stamp, FrameIndex]] = {}
    new: list[str] = []
    for path in paths:
        try:
            stamp = file_stamp(path)
        except VideoError:
            continue
        index = known.find(path, stamp)
        if index is None:
            new.append(path)
        else:
            indices[path] = stamp, index
    return indices, new


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
    others: list[str] = []
    file = ""
    for _, full in split_names([name]):
        spec = DatasetCatalog.get(full)
        ensure_generated(spec)
        raw = read_annotations(spec["ann_file"], entry_classes(spec)[0])
        found = VideoIndex(spec["video_root"]).find(raw.movies)
        paths += [entry.path for entry in found if entry.path and entry.clips is None]
        others += _videos_of_all_splits(spec)
        file = os.path.join(spec["root"], FILE_NAME)
    if not paths:
        raise DataError(
            f"{name}: there is no whole video to read. One-second clips need no index: each is short enough to be "
            "read through when it is opened"
        )
    return file, *index_videos(file, paths, others=list(dict.fromkeys(others)))


def _videos_of_all_splits(spec: Mapping[str, Any]) -> list[str]:
    """Every whole video in the folders of a data set: splits have one file together, one of them may be indexed."""
    reference = split_reference(spec["dataset_file"])
    specs = [spec]
    if reference is not None:
        specs = [DatasetCatalog.get(full) for _, full in split_names([reference[0]])]
    paths: list[str] = []
    for root in dict.fromkeys(one["video_root"] for one in specs):
        try:
            videos = VideoIndex(root)
        except DataError:  # the folder of a split that is not wanted now
            continue
        paths += [str(videos.root / file) for name in videos.names() for file in videos.files_of(name)]
    return paths


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
