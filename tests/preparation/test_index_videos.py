"""tools/index_videos.py and the index that prepare_dataset.py writes."""

from __future__ import annotations

import logging
import os

import run_kit
from source_kit import make_videos, plain_csv, run
from videos import write_second_files

from alphaction.dataset import stored_frames
from alphaction.dataset.stored_frames import FILE_NAME, stored_frames_of
from alphaction.dataset.video_file import file_stamp
from alphaction.preparation import index_videos


def test_prepared_set_has_the_frames_of_its_videos(tmp_path):
    videos = make_videos(tmp_path / "videos")
    run(tmp_path, videos, plain_csv(tmp_path))
    stored = stored_frames_of(str(tmp_path / "out"))
    files = [path for path in videos.rglob("*.mp4") if stored.find(str(path), file_stamp(str(path))) is not None]
    assert len(files) == len(stored) > 1
    assert FILE_NAME in (tmp_path / "out" / "prepared.json").read_text()


def test_tool(tmp_path, capsys, monkeypatch):
    dataset = run_kit.write_dataset(tmp_path / "set")
    file = tmp_path / "set" / FILE_NAME
    assert index_videos.main([str(dataset)]) == 0
    assert capsys.readouterr().out == f"{file}: the frames of 3 videos of {dataset}, 3 read through now\n"
    os.utime(tmp_path / "set" / "videos" / "park.mp4", (1, 1))
    assert index_videos.main([f"{dataset}:train"]) == 0
    assert ": the frames of 2 videos of " in (said := capsys.readouterr().out) and said.endswith("1 read through now\n")
    assert len(stored_frames_of(str(file.parent))) == 3


def test_deleted_videos_are_forgotten(tmp_path, capsys):
    dataset = run_kit.write_dataset(tmp_path)
    assert index_videos.main([str(dataset)]) == 0
    (tmp_path / "videos" / "park.mp4").unlink()
    assert index_videos.main([f"{dataset}:val"]) == 0
    assert capsys.readouterr().out.endswith(f"the frames of 1 videos of {dataset}:val, 0 read through now\n")
    assert len(stored_frames_of(str(tmp_path))) == 2


def test_a_file_of_another_version_is_made_anew(tmp_path, capsys, caplog, monkeypatch):
    dataset = run_kit.write_dataset(tmp_path)
    monkeypatch.setattr(logging.getLogger("alphaction"), "propagate", True)
    with monkeypatch.context() as older:
        older.setattr(stored_frames, "VERSION", 0)
        assert index_videos.main([str(dataset)]) == 0
    assert index_videos.main([str(dataset)]) == 0
    assert capsys.readouterr().out.endswith("3 read through now\n")
    assert "made by another version" in caplog.text and caplog.text.endswith(". It is made anew\n")
    assert len(stored_frames_of(str(tmp_path))) == 3


def test_videos_that_cannot_be_read_are_left_to_the_loader(tmp_path, capsys):
    dataset = run_kit.write_dataset(tmp_path)
    (tmp_path / "videos" / "park.mp4").write_bytes(b"no video")
    (tmp_path / "videos" / "yard.mp4").unlink()
    assert index_videos.main([str(dataset)]) == 0
    assert "the frames of 1 videos" in capsys.readouterr().out


def test_clips_need_none(tmp_path, capsys):
    dataset = run_kit.write_dataset(tmp_path)
    for movie in (*run_kit.TRAIN_VIDEOS, *run_kit.VAL_VIDEOS):
        (tmp_path / "videos" / f"{movie}.mp4").unlink()
        write_second_files(tmp_path / "videos" / movie, {0: 5, 1: 5})
    assert index_videos.main([str(dataset)]) == 1
    assert "there is no whole video to read" in capsys.readouterr().err
    assert index_videos.main([str(tmp_path / "none.yaml")]) == 1
    assert "none.yaml" in capsys.readouterr().err
