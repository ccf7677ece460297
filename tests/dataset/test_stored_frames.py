"""The stored frame indices: the same numbers as reading the videos, and never those of another file."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
from fractions import Fraction

import numpy as np
import pytest
from videos import read_numbers, write_second_files, write_video

from alphaction.dataset import stored_frames, video_file
from alphaction.dataset.stored_frames import FILE_NAME, StoredFrames, stored_frames_of, write_stored_frames
from alphaction.dataset.video_file import VideoFile, file_stamp
from alphaction.dataset.video_index import open_source
from alphaction.dataset.video_io import SecondFiles, VideoCache, WholeVideo, read_clip


def index_of(path):
    video = VideoFile(str(path))
    try:
        return video.stamp, video.index
    finally:
        video.close()


def store(folder, paths, **options):
    write_stored_frames(folder / FILE_NAME, {str(path): index_of(path) for path in paths}, **options)
    return stored_frames_of(str(folder))


@pytest.fixture
def videos(tmp_path):
    """Even steps, uneven steps, a late start, one frame."""
    folder = tmp_path / "videos"
    uneven = [Fraction(n * n + 30 * n, 900) for n in range(20)]
    return [
        write_video(folder / "even.mp4", 30, 10),
        write_video(folder / "uneven.mkv", 20, 10, times=uneven),
        write_video(folder / "late.mp4", 15, 25, times=[Fraction(i + 40, 25) for i in range(15)]),
        write_video(folder / "one.mp4", 1, 25),
    ]


def same(ours, theirs):
    for name in ("times", "pts", "keys"):
        got, expected = getattr(ours, name), getattr(theirs, name)
        assert got.dtype == expected.dtype and np.array_equal(got, expected), name
    return ours.last_duration == theirs.last_duration


def test_same_numbers_as_reading_the_video(tmp_path, videos):
    stored = store(tmp_path, videos)
    assert len(stored) == 4
    for path in videos:
        stamp, index = index_of(path)
        assert same(stored.find(str(path), stamp), index)
    with np.load(tmp_path / FILE_NAME, allow_pickle=False) as content:
        assert sorted(content["step"] > 0) == [False, True, True, True]
        assert len(content["steps"]) == 19


def test_only_for_the_file_it_was_made_of(tmp_path, videos):
    stored = store(tmp_path, videos)
    path = str(videos[0])
    size, changed = file_stamp(path)
    assert stored.find(path, (size, changed)) is not None
    assert stored.find(path, (size + 1, changed)) is None
    assert stored.find(path, (size, changed + 1)) is None
    assert stored.find(str(tmp_path / "videos" / "other.mp4"), (size, changed)) is None


def test_moves_with_its_videos_and_through_links(tmp_path, videos):
    set_folder = tmp_path / "one" / "set"
    set_folder.mkdir(parents=True)
    (tmp_path / "one" / "footage").mkdir()
    real = shutil.copy2(videos[0], tmp_path / "one" / "footage" / "v.mp4")
    os.symlink(os.path.relpath(real, set_folder), set_folder / "link.mp4")
    store(set_folder, [set_folder / "link.mp4"])
    os.rename(tmp_path / "one", tmp_path / "two")
    stored = stored_frames_of(str(tmp_path / "two" / "set"))
    for path in (tmp_path / "two" / "footage" / "v.mp4", tmp_path / "two" / "set" / "link.mp4"):
        assert stored.find(str(path), file_stamp(str(path))) is not None


def read(path, stored, cache, time=1.0):
    frames = read_clip(open_source(str(path), stored), time, np.arange(4), span=4, frame_rate=10, cache=cache)
    return read_numbers(frames)


def test_clips_are_read_without_reading_the_video_through(tmp_path, videos, monkeypatch):
    stored = store(tmp_path, videos[:1])
    expected = read(videos[0], None, VideoCache())
    scans = []
    whole = video_file.index_packets
    monkeypatch.setattr(video_file, "index_packets", lambda *args, **keys: scans.append(1) or whole(*args, **keys))
    assert read(videos[0], stored, VideoCache()) == expected == [8, 9, 10, 11]
    assert not scans
    assert read(videos[0], None, VideoCache()) == expected
    assert len(scans) == 1


def test_a_changed_video_is_read_anew(tmp_path, videos):
    stored = store(tmp_path, videos[:1])
    cache = VideoCache()
    assert read(videos[0], stored, cache) == [8, 9, 10, 11]
    write_video(videos[0], 12, 5)
    assert read(videos[0], stored, cache) == [4, 4, 5, 5]


def test_open_video_takes_the_stored_index(tmp_path, videos, monkeypatch):
    stored = store(tmp_path, videos[:1])
    cache = VideoCache()
    cache.get(str(videos[0]))
    monkeypatch.setattr(video_file, "index_packets", None)
    assert read(videos[0], stored, cache) == [8, 9, 10, 11]


def test_travels_as_paths(tmp_path, videos):
    stored = store(tmp_path, videos)
    assert len(stored) == 4
    sent = pickle.dumps(stored)
    assert len(sent) < 500
    assert len(pickle.loads(sent)) == 4


def test_several_files(tmp_path, videos):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = store(tmp_path / "a", videos[:2]), store(tmp_path / "b", videos[2:])
    both = StoredFrames.joined([first, None, second])
    assert len(both) == 4 and both.find(str(videos[3]), file_stamp(str(videos[3]))) is not None
    assert StoredFrames.joined([None, None]) is None


def test_nothing_stored(tmp_path, videos):
    assert stored_frames_of(str(tmp_path)) is None
    assert len(store(tmp_path, [])) == 0
    folder = tmp_path / "seconds"
    files = write_second_files(folder, {1: 5})
    assert open_source(str(folder), StoredFrames([])) == SecondFiles(str(folder), files)
    assert open_source(str(videos[0])) == WholeVideo(str(videos[0]))


def spoilt(name):
    def change(arrays):
        if name == "version":
            arrays["version"][0] += 1
        elif name == "missing":
            del arrays["tick"]
        elif name == "length":
            arrays["count"] = arrays["count"][:-1]
        elif name == "order":
            arrays["name"] = arrays["name"][::-1].copy()
        elif name == "objects":
            arrays["tick"] = np.array([object()] * len(arrays["tick"]), dtype=object)
        elif name == "keys":
            arrays["keys_first"][-1] += 7
        elif name == "backwards":
            arrays["steps"][3] = -1

    return change


@pytest.mark.parametrize(
    "fault, told",
    [
        ("version", "made by another version"),
        ("missing", "cannot be read"),
        ("length", "do not belong together"),
        ("order", "not in order"),
        ("objects", "cannot be read"),
        ("keys", "do not belong together"),
        ("backwards", "not in order"),
        ("cut", "cannot be read"),
        ("text", "cannot be read"),
        ("flipped", "cannot be read"),
    ],
)
def test_a_faulty_file_is_told_of_and_left_out(tmp_path, videos, caplog, fault, told):
    store(tmp_path, videos)
    file = tmp_path / FILE_NAME
    if fault == "cut":
        file.write_bytes(file.read_bytes()[:300])
    elif fault == "text":
        file.write_text("nothing")
    elif fault == "flipped":  # within packed numbers
        content = file.read_bytes()
        file.write_bytes(content[:60] + bytes(255 - byte for byte in content[60:120]) + content[120:])
    else:
        with np.load(file) as content:
            arrays = dict(content)
        spoilt(fault)(arrays)
        np.savez(file, **arrays)
    with caplog.at_level(logging.WARNING):
        stored = [stored_frames_of(str(tmp_path)) for _ in range(2)][0]  # as the sets for training and testing
        assert stored is None  # nothing that a reading process could stumble on again
        assert read(videos[0], stored, VideoCache()) == [8, 9, 10, 11]
    [message] = [record.getMessage() for record in caplog.records if record.name == stored_frames.__name__]
    assert str(file) in message and told in message and "tools/index_videos.py makes it anew" in message
