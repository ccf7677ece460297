"""The folder that prepare_dataset writes: splits, safety, person boxes, and a configuration that trains."""

from __future__ import annotations

import json
import os
import runpy
import sys

import numpy as np
import pytest
import run_kit
import yaml
from source_kit import (
    CLASSES,
    FPS,
    VIDEOS,
    ava_csv,
    boxes,
    coco,
    expected,
    label_list,
    make_videos,
    plain_csv,
    run,
    written,
)

from alphaction.config.load import load_config
from alphaction.errors import ConfigError, DataError
from alphaction.preparation import prepare_videos, prepare_write
from alphaction.preparation.config_writer import Facts, Machine, config_text, make_plan
from alphaction.preparation.prepare_rows import split_by_share


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"))


def _splits(output) -> dict[str, set[str]]:
    return {
        file.stem: {line.split(",")[0] for line in file.read_text().splitlines()}
        for file in (output / "annotations").glob("*.csv")
    }


@pytest.mark.parametrize("together", [True, False])
def test_dataset_yaml_loads(together, videos, tmp_path, monkeypatch):
    """The videos' path is relative in one project's folder, which may be moved, and absolute from elsewhere."""
    monkeypatch.chdir(tmp_path.parent if together else tmp_path)
    report = run(tmp_path, videos, plain_csv(tmp_path), name="my set")
    content = yaml.safe_load((tmp_path / "out" / "dataset.yaml").read_text())
    assert content["name"] == "my set" and content["classes"] == "classes.txt"
    assert content["videos"] == (f"../../{videos.name}" if together else str(videos))
    assert (tmp_path / "out" / content["videos"] / "a1.mp4").is_file()
    assert set(content["splits"]) == {"train", "val"}
    assert f"train_net.py --config-file {tmp_path}/out/config.yaml --transfer --no-head" in report
    assert "The weights to start from are not there yet: get data/models/" in report


def test_the_same_seed_gives_the_same_split(videos, tmp_path):
    path = plain_csv(tmp_path)
    seeds = {}
    for seed in (0, 0, 1, 2, 3):
        run(tmp_path, videos, path, seed=seed, val_share=0.5, force=True)
        found = _splits(tmp_path / "out")
        assert len(found["val"]) == 3 and not found["val"] & found["train"]
        assert seeds.setdefault(seed, found) == found
    assert len({frozenset(found["val"]) for found in seeds.values()}) > 1


def test_every_class_is_on_both_sides_where_possible():
    videos = [f"v{i:02d}" for i in range(20)]
    counts = np.zeros((20, 4), np.int64)
    counts[:, 0] = 5
    counts[[3, 17], 1] = 2  # two videos: one for each side
    counts[8, 2] = 9  # one video: to train on
    for seed in range(8):
        split = split_by_share(videos, counts, val_share=0.1, seed=seed)
        assert len(split.val) == 2 and "v08" in split.train
        assert len({"v03", "v17"} & set(split.val)) == 1


def test_a_class_with_too_few_videos_is_told(videos, tmp_path):
    path = tmp_path / "a.csv"
    rows = [f"{video},1,1,1,20,20,run" for video in VIDEOS] + ["c3,1,1,1,20,20,fall"]
    path.write_text("video,time,x1,y1,x2,y2,action\n" + "\n".join(rows))
    report = run(tmp_path, videos, path)
    assert "class fall: no example to validate on (it occurs in one video only); its AP will be 'n/a'" in report
    assert "c3" in _splits(tmp_path / "out")["train"]


def test_lists_and_names_of_files_decide_the_split(videos, tmp_path):
    path = plain_csv(tmp_path)
    (tmp_path / "val.txt").write_text("# mine\nb2\nd4.mp4\n")
    run(tmp_path, videos, path, val_list=str(tmp_path / "val.txt"))
    assert _splits(tmp_path / "out") == {"train": set(VIDEOS) - {"b2", "d4"}, "val": {"b2", "d4"}}
    (tmp_path / "train.txt").write_text("b2\na1\n")
    lists = {"val_list": str(tmp_path / "val.txt"), "train_list": str(tmp_path / "train.txt"), "force": True}
    with pytest.raises(DataError, match="b2 would be on both sides"):
        run(tmp_path, videos, path, **lists)
    (tmp_path / "train.txt").write_text("nobody\n")
    with pytest.raises(DataError, match="there is no annotated video 'nobody'"):
        run(tmp_path, videos, path, **lists)
    folder = tmp_path / "set"
    coco(folder, name="my_train.json", names=VIDEOS[:4])
    coco(folder, name="my_val.json", names=VIDEOS[4:])
    report = run(tmp_path, videos, folder, force=True)
    assert _splits(tmp_path / "out") == {"train": set(VIDEOS[:4]), "val": set(VIDEOS[4:])}
    assert "because the names of the annotation files" in report


def test_nothing_is_overwritten_without_force(videos, tmp_path):
    path = plain_csv(tmp_path)
    run(tmp_path, videos, path)
    with pytest.raises(DataError, match="exists already. To make it anew .*--force"):
        run(tmp_path, videos, path)
    (tmp_path / "out" / "config.yaml").write_text("mine")
    (tmp_path / "out" / "results").mkdir()
    (tmp_path / "out" / "results" / "model.pth").write_text("dear")
    run(tmp_path, videos, path, force=True)
    assert (tmp_path / "out" / "config.yaml").read_text() != "mine"
    assert (tmp_path / "out" / "results" / "model.pth").read_text() == "dear"
    assert {file.name for file in tmp_path.iterdir()} == {"out", "plain.csv"}
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("dear")
    with pytest.raises(DataError, match="was not made by this tool .*Choose another"):
        run(tmp_path, videos, path, output=str(foreign), force=True)
    assert [file.name for file in foreign.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("force", [False, True])
def test_a_run_that_is_stopped_leaves_no_half_set(force, videos, tmp_path, monkeypatch):
    path = plain_csv(tmp_path)
    if force:
        run(tmp_path, videos, path)
    before = written(tmp_path / "out")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("alphaction.preparation.prepare.write_classes", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, videos, path, force=force)
    assert written(tmp_path / "out") == before and (tmp_path / "out").exists() == force
    assert not (tmp_path / ".out.partial").exists()
    (tmp_path / ".out.partial").mkdir()  # as a killed process leaves it
    (tmp_path / ".out.partial" / "half").write_text("x")
    run(tmp_path, videos, path, force=force)
    assert written(tmp_path / "out") == expected() and not (tmp_path / "out" / "half").exists()


def test_the_old_set_comes_back_when_the_new_one_cannot_take_its_place(videos, tmp_path, monkeypatch):
    path = plain_csv(tmp_path)
    run(tmp_path, videos, path)
    replace = os.replace

    def fail(source, target) -> None:
        if str(source).endswith(".partial"):
            raise OSError("no")
        replace(source, target)

    monkeypatch.setattr(prepare_write.os, "replace", fail)
    with pytest.raises(OSError, match="no"):
        run(tmp_path, videos, path, force=True)
    assert written(tmp_path / "out") == expected()


def test_videos_are_looked_into_once(videos, tmp_path, monkeypatch):
    path = plain_csv(tmp_path)
    path.write_text(path.read_text() + "\na1,99,1,1,20,20,run\n")
    looked = []
    probe = prepare_videos.probe
    monkeypatch.setattr(prepare_videos, "probe", lambda file: looked.append(file.name) or probe(file))
    with pytest.raises(DataError):
        run(tmp_path, videos, path)
    assert len(looked) == 6 and (tmp_path / ".out.probe.json").is_file()
    run(tmp_path, videos, path, skip_bad=True)
    assert len(looked) == 6 and not (tmp_path / ".out.probe.json").exists()


def test_videos_in_several_folders_are_linked(tmp_path):
    folder = tmp_path / "videos"
    make_videos(folder / "monday", ["a1", "b2"])
    make_videos(folder / "friday", ["a1"])
    path = tmp_path / "a.csv"
    rows = [f"{video},1,1,1,20,20,run" for video in ("monday/a1", "friday/a1.mp4", "b2")]
    path.write_text("video,time,x1,y1,x2,y2,action\n" + "\n".join(rows))
    run(tmp_path, folder, path)
    links = {file.name for file in (tmp_path / "out" / "videos").iterdir()}
    assert links == {"monday__a1.mp4", "friday__a1.mp4", "b2.mp4"}
    assert all(file.stat().st_size for file in (tmp_path / "out" / "videos").iterdir())
    path.write_text(path.read_text().replace("monday/a1", "a1"))
    with pytest.raises(DataError, match="a1  1 row.*may mean friday/a1.mp4 or monday/a1.mp4"):
        run(tmp_path, folder, path, force=True)


def test_one_second_clips(tmp_path):
    for video in ("a1", "b2"):
        make_videos(tmp_path / "clips" / video, ["7", "8", "9"], frames=25)
    path = tmp_path / "a.csv"
    path.write_text("a1,8.5,0.1,0.1,0.5,0.5,1\nb2,9,0.1,0.1,0.5,0.5,1\n")
    run(tmp_path, tmp_path / "clips", path)
    assert {row[:2] for row in written(tmp_path / "out")} == {("a1", 8.5), ("b2", 9.0)}
    assert yaml.safe_load((tmp_path / "out" / "dataset.yaml").read_text())["videos"].endswith("clips")


@pytest.mark.parametrize("form", ["ids", "names"])
def test_person_boxes_in_either_form(form, videos, tmp_path):
    moment = {"ids": lambda box: {"video": box.video, "frame_idx": box.frame}}.get(
        form, lambda box: {"file_name": f"{box.video}/frame_{box.frame:05d}.jpg"}
    )
    annotations = coco(tmp_path, moment)
    images = {
        (image.get("video") or image["file_name"][:2]): image for image in json.loads(annotations.read_text())["images"]
    }
    content: object = [{"image_id": image["id"], "bbox": [1, 2, 30, 40], "score": 0.9} for image in images.values()]
    if form == "names":
        content = {image["file_name"]: [{"bbox": [1, 2, 30, 40], "score": 0.9}] for image in images.values()}
    file = tmp_path / "det.json"
    file.write_text(json.dumps(content))
    report = run(tmp_path, videos, annotations, person_boxes=[str(file)])
    val = next(iter(_splits(tmp_path / "out")["val"]))
    found = json.loads((tmp_path / "out" / "boxes" / "val.json").read_text())
    assert found == [{"image_id": f"{val}/1.2", "bbox": [1.0, 2.0, 30.0, 40.0], "score": 0.9}]
    assert "det.json: 6 person boxes on 6 of 18 keyframes" in report
    text = (tmp_path / "out" / "config.yaml").read_text()
    assert "BOX_THRESH: 0.8" in text and "BOXES:" not in text


def test_boxes_in_pictures_of_another_size(videos, tmp_path):
    annotations = coco(tmp_path)
    content = json.loads(annotations.read_text())
    for image in content["images"]:
        image["width"], image["height"] = 128, 96  # the videos: 64 x 48
    for entry in content["annotations"]:
        entry["bbox"] = [2 * value for value in entry["bbox"]]
        del entry["area"]
    annotations.write_text(json.dumps(content))
    file = tmp_path / "det.json"
    file.write_text(json.dumps([{"image_id": i, "bbox": [2, 4, 60, 80], "score": 0.9} for i in range(18)]))
    report = run(tmp_path, videos, annotations, person_boxes=[str(file)], from_scratch=True)
    assert written(tmp_path / "out") == expected() and "another shape" not in report
    found = json.loads((tmp_path / "out" / "boxes" / "val.json").read_text())
    assert [box["bbox"] for box in found] == [[1.0, 2.0, 30.0, 40.0]] * 3
    opts = ("DATALOADER.NUM_WORKERS", 0, "TEST.NUM_PICTURES", 0, "SOLVER.MAX_ITER", 1, "SOLVER.VIDEOS_PER_BATCH", 1)
    run_kit.train(tmp_path / "out" / "config.yaml", tmp_path / "run", *opts, skip_final_test=True)
    (result,) = run_kit.test(tmp_path / "out" / "config.yaml", tmp_path / "run", *opts)
    assert "detected" in result.boxes


def test_person_boxes_that_cannot_be_placed(videos, tmp_path):
    folder = tmp_path / "set"
    coco(folder, name="my_train.json", names=VIDEOS[:4])
    coco(folder, name="my_val.json", names=VIDEOS[4:])
    file = tmp_path / "det.json"
    file.write_text(json.dumps([{"image_id": 0, "bbox": [1, 2, 30, 40], "score": 0.9}]))
    with pytest.raises(DataError, match="by their ids, and the image ids of .*my_train.json, .*my_val.json overlap"):
        run(tmp_path, videos, folder, person_boxes=[str(file)])
    file.write_text(json.dumps({"a1/0.4.jpg": [{"bbox": [1, 2, 30, 40], "score": 0.9}]}))
    run(tmp_path, videos, folder, person_boxes=[str(file)])
    assert json.loads((tmp_path / "out" / "boxes" / "train.json").read_text())[0]["image_id"] == "a1/0.4"
    file.write_text(json.dumps({"zz/0.4.jpg": [{"bbox": [1, 2, 30, 40], "score": 0.9}]}))
    with pytest.raises(DataError, match="none of its 1 boxes belongs to an image of the annotations"):
        run(tmp_path, videos, folder, person_boxes=[str(file)], force=True)


def test_the_configuration_trains(videos, tmp_path):
    run(tmp_path, videos, ava_csv(tmp_path), classes=str(label_list(tmp_path)), from_scratch=True, epochs=1)
    config = load_config(tmp_path / "out" / "config.yaml")
    assert config.MODEL.ROI_ACTION_HEAD.NUM_CLASSES == 3 and config.MODEL.BACKBONE.CONV_BODY == "Slowfast-Tiny"
    assert config.INPUT.MIN_SIZE_TRAIN == 48 and config.SOLVER.VIDEOS_PER_BATCH == 4
    assert config.SOLVER.MAX_ITER == 4  # 15 clips, 4 at a time, once
    text = (tmp_path / "out" / "config.yaml").read_text()
    assert "#   run, walk, wave" in text and "Any number of them may hold at once" in text
    opts = ("DATALOADER.NUM_WORKERS", 0, "SOLVER.MAX_ITER", 1, "TEST.NUM_PICTURES", 0, "INPUT.FRAME_NUM", 16)
    run_kit.train(tmp_path / "out" / "config.yaml", tmp_path / "run", *opts)
    assert (tmp_path / "run" / "model_final.pth").is_file()


def test_the_plan_follows_data_and_machine():
    def facts(**changes) -> Facts:
        start = {
            "train": "data/my/dataset.yaml:train",
            "val": "data/my/dataset.yaml:val",
            "config": "data/my/config.yaml",
        }
        start |= {"name": "my", "classes": CLASSES, "clips": 1000}
        return Facts(**(start | {"size": (1080, 16 / 9), "machine": Machine("card", 11.0, 1, 8)} | changes))

    one = make_plan(facts())
    assert one.body == "Slowfast-Resnet50" and (one.min_size, one.max_size) == (256, 464)
    assert one.batch == 4 and one.iterations == 30 * 250 and one.epochs == 30
    large = make_plan(facts(machine=Machine("card", 80.0, 1, 8)))
    assert large.batch == 16 and large.base_lr == pytest.approx(4 * one.base_lr, rel=0.1)
    assert make_plan(facts(clips=50000)).epochs == 8
    avas = make_plan(facts(classes=[str(i) for i in range(66)], machine=Machine("card", 80.0, 1, 8)))
    assert avas.base_lr == pytest.approx(0.0004, rel=0.05)  # the original's rate for 16 clips
    assert make_plan(facts(size=(200, 1.5))).min_size == 192
    assert make_plan(facts(clips=3, machine=Machine("", 0.0, 0, 2))).batch == 1
    for clips in (1, 7, 100000):
        for change in ({}, {"from_scratch": True}, {"body": "Slowfast-Resnet101"}, {"val": ""}):
            chosen = facts(clips=clips, **change)
            text = config_text(chosen, make_plan(chosen), command="prepare")
            assert yaml.safe_load(text)["MODEL"]["ROI_ACTION_HEAD"]["NUM_CLASSES"] == 3
            assert all(len(line) <= 130 for line in text.splitlines())


def test_single_labels_are_told_in_the_configuration(videos, tmp_path):
    path = tmp_path / "a.csv"
    rows = [f"{box.video},{box.frame / FPS},1,1,{20 + box.person},20,{box.actions[0]}" for box in boxes()]
    path.write_text("video,time,x1,y1,x2,y2,action\n" + "\n".join(rows))
    run(tmp_path, videos, path)
    text = (tmp_path / "out" / "config.yaml").read_text()
    assert "Every person of this set has exactly one of them." in text and "# NUM_PERSON_MOVEMENT_CLASSES: 3" in text


def test_a_body_without_weights_is_refused(videos, tmp_path):
    with pytest.raises(ConfigError, match="--body Slowfast-Tiny: nobody published weights for it; add --from-scratch"):
        run(tmp_path, videos, plain_csv(tmp_path), body="Slowfast-Tiny")


def test_weights_and_none_at_once_are_refused(videos, tmp_path):
    with pytest.raises(ConfigError, match="--weights mine.pth and --from-scratch contradict each other"):
        run(tmp_path, videos, plain_csv(tmp_path), weights="mine.pth", from_scratch=True)
    assert not (tmp_path / "out").exists()


def test_the_command_line(videos, tmp_path, monkeypatch, capsys):
    script = str(run_kit.ROOT / "tools" / "prepare_dataset.py")
    monkeypatch.chdir(tmp_path)
    flags = ["--videos", str(videos), "--annotations", str(plain_csv(tmp_path)), "--output", "set", "--seed", "3"]
    monkeypatch.setattr(sys, "argv", [script, *flags])
    runpy.run_path(script, run_name="__main__")
    told = capsys.readouterr().out
    assert "drawn with --val-share 0.2 --seed 3" in told and "Next:" in told
    text = (tmp_path / "set" / "config.yaml").read_text()
    assert 'TRAIN: ("set/dataset.yaml:train",)' in text and "--output set --seed 3" in text.splitlines()[0]
    for more, status in ([], 1), (["--val-share", "2"], 2), (["--help"], 0):
        monkeypatch.setattr(sys, "argv", [script, *flags, *more])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(script, run_name="__main__")
        assert end.value.code == status
    told = capsys.readouterr()
    assert "error: --output set: exists already" in told.err and "expected a share: 0 or more and below 1" in told.err
    assert "exit status: 0 made" in told.out and "CVAT XML 1.1" in told.out


def test_everything_in_one_folder(tmp_path):
    home = tmp_path / "my"
    make_videos(home / "videos" / "mon", ["a1"])
    make_videos(home / "videos" / "tue", ["b2"])
    (home / "labels.csv").write_text("id,name\n1,run\n")
    (home / "README.txt").write_text("Mine\nAll mine\n")
    (home / "labels.txt").write_text("run\nwalk\n")
    (home / "a.csv").write_text("video,time,x1,y1,x2,y2,action\na1,1,1,1,20,20,run\nb2,1,1,1,20,20,walk\n")
    for force in (False, True):  # the second time what the first one made is not read
        report = run(tmp_path, home, home, output=str(home / "prepared"), force=force)
        assert len(written(home / "prepared")) == 2 and "2 classes from" in report and "labels.txt" in report
        assert "labels.csv is not used: its columns are id, name (a class list goes with --classes)" in report
