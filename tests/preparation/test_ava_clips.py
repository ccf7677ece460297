"""Cutting videos into one-second files."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import runpy
import sys
from fractions import Fraction

import cv2
import numpy as np
import pytest
import videos

from alphaction.dataset.video_file import VideoFile, VideoInfo
from alphaction.dataset.video_index import VideoIndex, open_source
from alphaction.dataset.video_io import VideoCache, WholeVideo, read_clip
from alphaction.errors import DataError, VideoError
from alphaction.preparation import ava_encode
from alphaction.preparation.ava_clips import CutOptions, CutResult, cut_videos
from alphaction.preparation.ava_report import cut_report

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def options(tmp_path: pathlib.Path) -> CutOptions:
    """A movie of 3.2 s at 30 frames per second, 96 x 48 pixels."""
    videos.write_video(tmp_path / "movies" / "a.mp4", 96, 30)
    return CutOptions(str(tmp_path / "movies"), str(tmp_path / "clips"), str(tmp_path / "keys"), start=0, end=None)


def stamps(folder: str) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in pathlib.Path(folder).rglob("*") if p.suffix in (".mp4", ".jpg")}


def test_the_loader_reads_the_same_frames_as_from_the_whole_movie(options: CutOptions) -> None:
    result = cut_videos(options)
    assert dataclasses.astuple(result) == (1, 4, 0, [])
    assert sorted(p.name for p in pathlib.Path(options.clip_root, "a").glob("*.mp4")) == [f"{s}.mp4" for s in range(4)]
    whole = WholeVideo(os.path.join(options.movie_root, "a.mp4"))
    entry = VideoIndex(options.clip_root).find(["a"])[0]
    assert entry.problem == ""
    cut, cache = open_source(entry.path), VideoCache()
    assert [len(cache.index(cut.path(s))) for s in range(4)] == [25, 25, 25, 5]
    for key_time in (0.0, 1.0, 1.48, 2.0, 3.0):
        both = [
            read_clip(source, key_time, np.arange(32), span=32, frame_rate=25.0, cache=cache) for source in (whole, cut)
        ]
        assert videos.read_numbers(both[0]) == videos.read_numbers(both[1])
    # Counting frames, as the original does: position 16 is the first frame of second 2.
    frames = read_clip(cut, 2.0, np.arange(32), span=32, frame_rate=0.0, cache=cache)
    expected = [round((34 + p) / 25 * 30 - 1e-6) for p in range(32)]
    assert videos.read_numbers(frames) == expected
    cache.close()


def test_keyframes_are_the_first_frames(options: CutOptions) -> None:
    cut_videos(options)
    for second in range(4):
        image = cv2.imread(os.path.join(options.keyframe_root, "a", f"{second}.jpg"))
        assert videos.read_number(image) == 30 * second


def test_range_rate_size_and_names(tmp_path: pathlib.Path, options: CutOptions) -> None:
    videos.write_video(tmp_path / "movies" / "a.mp4", 60, Fraction(24000, 1001))
    options = dataclasses.replace(options, start=901, end=902, offset=900.0, fps=30.0, short_side=32, digits=4)
    assert cut_videos(options).written == 1
    video = open_source(os.path.join(options.clip_root, "a"))
    assert dict(video.files) == {901: "0901.mp4"}
    cache = VideoCache()
    file = cache.get(video.path(901))
    assert len(file.index) == 30
    assert file.index.times == pytest.approx(np.arange(30) / 30, abs=1e-4)
    assert file.read(np.array([0]))[0].shape == (32, 64, 3)
    cache.close()


def test_goes_on_where_it_stopped(options: CutOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = ava_encode.write_clip, []

    def stop_at_the_third(path: pathlib.Path, images: list, *, fps: float) -> None:
        calls.append(path.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(path, images, fps=fps)

    monkeypatch.setattr("alphaction.preparation.ava_clips.write_clip", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        cut_videos(options)
    before = stamps(options.clip_root)
    assert sorted(before) == ["0.mp4", "1.mp4"]
    monkeypatch.setattr("alphaction.preparation.ava_clips.write_clip", real)
    again = cut_videos(options)
    assert (again.written, again.kept) == (2, 2)
    after = stamps(options.clip_root)
    assert {name: after[name] for name in before} == before
    assert cut_videos(options).kept == 4


def test_other_settings_are_not_mixed(options: CutOptions) -> None:
    cut_videos(options)
    other = dataclasses.replace(options, fps=12.5)
    result = cut_videos(other)
    assert result.written == 0
    assert "its files were cut otherwise (fps 25.0, now 12.5). --force cuts them again" in result.problems[0]
    assert cut_videos(dataclasses.replace(other, force=True)).written == 4
    cache = VideoCache()
    assert len(cache.index(os.path.join(options.clip_root, "a", "0.mp4"))) == 13
    cache.close()


def test_files_of_another_program_are_kept_if_they_work(options: CutOptions) -> None:
    cut_videos(options)
    folder = pathlib.Path(options.clip_root, "a")
    (folder / ".cut.json").unlink()
    (folder / "1.mp4").write_bytes((folder / "1.mp4").read_bytes()[:300])
    (folder / "2.mp4").write_bytes(b"")
    result = cut_videos(options)
    assert (result.written, result.kept) == (2, 2)


def test_bad_movies_are_named_and_the_others_are_cut(tmp_path: pathlib.Path, options: CutOptions) -> None:
    (tmp_path / "movies" / "empty.mp4").touch()
    (tmp_path / "movies" / "text.mkv").write_text("no video")
    videos.write_video(tmp_path / "movies" / "short.avi", 10, 25)
    options = dataclasses.replace(options, start=1, movies=("a", "empty", "text", "short", "lost"))
    result = cut_videos(options)
    assert result.written == 3
    text = cut_report(result)
    assert text.startswith("2 videos: 3 one-second files written, 0 there already\n4 could not be cut:")
    for words in ("empty.mp4 is empty", "text.mkv: not a video", "short.avi: ends at 0.40 s", "lost: not found"):
        assert words in text, text


def test_damaged_seconds_are_named(options: CutOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = VideoFile.walk

    def read(self: VideoFile, numbers: np.ndarray) -> list:
        raise VideoError("the frame at 1.000 s cannot be decoded")

    monkeypatch.setattr(VideoFile, "walk", lambda self, n: (pair for pair in walk(self, n) if pair[0] != 30))
    monkeypatch.setattr("alphaction.preparation.ava_clips.VideoFile.read", read)
    monkeypatch.setattr("alphaction.dataset.video_index.probe", lambda path: videos_info())
    result = cut_videos(options)
    assert result.written == 3
    assert result.problems == ["a: second 1: the frame at 1.000 s cannot be decoded"]


def videos_info() -> VideoInfo:
    return VideoInfo(width=96, height=48, fps=30.0, duration=3.2, frames=96)


def test_wrong_wishes(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match="got 5 to 5, expected 0 <= start < end"):
        CutOptions("a", "b", start=5, end=5)
    with pytest.raises(DataError, match="frames per second: got 0"):
        CutOptions("a", "b", fps=0)
    with pytest.raises(DataError, match="there are no videos here"):
        cut_videos(CutOptions(str(tmp_path), str(tmp_path)))
    assert cut_report(CutResult(3, 0, 9)) == "3 videos: 0 one-second files written, 9 there already"


def run(script: str, *flags: object, monkeypatch: pytest.MonkeyPatch) -> object:
    """The script's exit status."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, flags)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    return end.value.code


def test_flags_of_the_original(
    tmp_path: pathlib.Path, options: CutOptions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    clips, keys = tmp_path / "out" / "clips", tmp_path / "out" / "keys"
    flags = ["--movie_root", options.movie_root, "--clip_root", clips, "--kframe_root", keys, "--process_num", 2]
    script = "tools/ava/process_ava_videos.py"
    assert run(script, *flags, "--start", 1, "--end", 3, monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == "1 video: 2 one-second files written, 0 there already\n"
    assert sorted(p.name for p in (keys / "a").iterdir()) == ["1.jpg", "2.jpg"]
    assert json.loads((clips / "a" / ".cut.json").read_text())["fps"] == 25.0
    assert run(script, *flags, monkeypatch=monkeypatch) == 1
    assert "a.mp4: ends at 3.20 s, before second 895" in capsys.readouterr().out


def test_flags_of_the_guide(
    tmp_path: pathlib.Path, options: CutOptions, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    script, out = "tools/process_custom_videos.py", tmp_path / "SET"
    flags = ["--input", options.movie_root, "--output", out, "--split", "val", "--fps", "25", "--start-time", "0"]
    assert run(script, *flags, "--clip-length", "1.0", "--end-time", "1", monkeypatch=monkeypatch) == 0
    assert (out / "clips" / "val" / "a" / "0000.mp4").stat().st_size > 0
    assert (out / "keyframes" / "val" / "a" / "0000.jpg").stat().st_size > 0
    assert run(script, *flags, "--clip-length", "2", monkeypatch=monkeypatch) == 1
    assert "--clip-length: got 2, expected 1" in capsys.readouterr().err
