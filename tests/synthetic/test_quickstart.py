from __future__ import annotations

import csv
import multiprocessing
import os

import av
import pytest

from alphaction.config.paths_catalog import DatasetCatalog
from alphaction.errors import DataError
from alphaction.synthetic import quickstart
from alphaction.synthetic.planner import ACTIONS, SceneOptions
from alphaction.synthetic.quickstart import TINY, SetOptions, generate, generate_tiny


def _rows(folder, split):
    with open(folder / "annotations" / f"{split}.csv", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets") / "tiny"
    assert generate_tiny(folder) == folder / "dataset.yaml"
    return folder


def test_the_set_is_what_a_user_would_bring(tiny):
    names = {path.relative_to(tiny).as_posix() for path in tiny.rglob("*") if path.is_file()}
    videos = {"videos/train_000.mp4", "videos/train_001.mp4", "videos/val_000.mp4"}
    tables = {"annotations/train.csv", "annotations/val.csv", "annotations/classes.pbtxt"}
    assert names == videos | tables | {"dataset.yaml", "generated.json"}
    for split, count in (("train", 2), ("val", 1)):
        entry = DatasetCatalog.get(f"{tiny / 'dataset.yaml'}:{split}")
        assert entry["video_root"] == str(tiny / "videos") and entry["ann_file"].endswith(f"{split}.csv")
        assert len({row[0] for row in _rows(tiny, split)}) == count


def test_rows_are_ava_rows_inside_their_videos(tiny):
    seconds = {}
    for video in (tiny / "videos").iterdir():
        with av.open(str(video)) as container:
            stream = container.streams.video[0]
            assert stream.average_rate == 25 and (stream.height, stream.width) == (96, 128)
            assert stream.codec_context.name == "h264"
            seconds[video.stem] = stream.frames / 25
    persons = {}
    for row in _rows(tiny, "train") + _rows(tiny, "val"):
        video, time, *box, action, person = row
        x1, y1, x2, y2 = map(float, box)
        assert 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1
        assert 0 < float(time) < seconds[video]
        assert 1 <= int(action) <= len(ACTIONS)
        persons.setdefault((video, time, person), set()).add((tuple(box), action))
    assert all(len({box for box, _ in labels}) == 1 for labels in persons.values())
    assert any(len(labels) > 1 for labels in persons.values())


def test_train_and_val_share_no_scene(tiny):
    assert [row[1:] for row in _rows(tiny, "train")] != [row[1:] for row in _rows(tiny, "val")]
    assert (tiny / "videos/train_000.mp4").read_bytes() != (tiny / "videos/val_000.mp4").read_bytes()


def test_the_same_options_give_the_same_bytes(tiny, tmp_path):
    generate_tiny(tmp_path / "again")
    for path in tiny.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tiny)).read_bytes(), path.name


def test_a_complete_set_is_left_alone(tiny, monkeypatch):
    monkeypatch.setattr(quickstart, "write_video", None)
    before = (tiny / "dataset.yaml").stat().st_mtime_ns
    generate_tiny(tiny)
    assert (tiny / "dataset.yaml").stat().st_mtime_ns == before


def test_an_interrupted_run_leaves_nothing_that_looks_whole_and_is_continued(tmp_path, monkeypatch):
    folder = tmp_path / "set"
    real, made = quickstart.write_video, []

    def fails_at_the_second(path, scene, *, rng, fps):
        if len(made) == 1:
            path.write_bytes(b"half a video")
            raise KeyboardInterrupt
        made.append(path.name)
        real(path, scene, rng=rng, fps=fps)

    monkeypatch.setattr(quickstart, "write_video", fails_at_the_second)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        generate_tiny(folder)
    assert not folder.exists()
    first = next((tmp_path / "set.partial" / "videos").glob("*.mp4"))
    content = first.read_bytes()

    monkeypatch.setattr(
        quickstart,
        "write_video",
        lambda path, scene, *, rng, fps: made.append(path.name) or real(path, scene, rng=rng, fps=fps),
    )
    generate_tiny(folder)
    assert len(made) == 3 == len(set(made))
    assert (folder / "videos" / first.name).read_bytes() == content
    assert not (tmp_path / "set.partial").exists()


def test_other_options_make_the_set_anew(tmp_path):
    generate_tiny(tmp_path / "set")
    other = SetOptions(train=1, val=1, seed=5, scene=TINY.scene)
    generate(tmp_path / "set", options=other)
    assert {path.name for path in (tmp_path / "set/videos").iterdir()} == {"train_000.mp4", "val_000.mp4"}
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_what_a_run_with_other_options_left_is_not_used(tmp_path):
    partial = tmp_path / "set.partial"
    (partial / "videos").mkdir(parents=True)
    (partial / "videos" / "train_000.mp4").write_bytes(b"of another version")
    (partial / ".started").write_text("another version")
    generate_tiny(tmp_path / "set")
    assert (tmp_path / "set/videos/train_000.mp4").stat().st_size > 1000


def test_a_folder_with_something_else_is_not_touched(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"is in the way of the generated data set .* move it away"):
        generate_tiny(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_an_empty_folder_is_filled(tmp_path):
    generate_tiny(tmp_path)
    assert (tmp_path / "generated.json").is_file()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write the generated data set"):
        generate_tiny(tmp_path / "file" / "set")


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(quickstart, "write_video", full)
    with pytest.raises(DataError, match="the disk is full"):
        generate_tiny(tmp_path / "set")


def test_two_processes_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    folder = tmp_path / "set"
    processes = [context.Process(target=generate_tiny, args=(folder,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert not list(folder.rglob("*.unfinished"))


def test_the_quickstarts_own_size():
    options = SetOptions()
    assert options.scene == SceneOptions() and options.train > 2 * options.val > 0
