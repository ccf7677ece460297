"""Whole runs on three short videos: what they leave behind, how they go on, that the same data give the same run."""

import json
import math
import re
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import process_kit
import pytest
import run_kit
import torch
from run_kit import ROOT, same_weights
from tensorboardX.proto.event_pb2 import Event

from alphaction.config import load_config
from alphaction.config.paths_catalog import DatasetCatalog
from alphaction.dataset import build_datasets


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return run_kit.write_dataset(tmp_path_factory.mktemp("tiny set"))  # a blank in the path, as users have them


@pytest.fixture(scope="module")
def config(dataset):
    return run_kit.write_config(dataset.parent / "tiny.yaml", dataset)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """The folder of an uninterrupted run of four iterations. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run_kit.train(config, folder, tensorboard=True)
    return folder


@pytest.fixture(scope="module", autouse=True)
def launched(config, finished, tmp_path_factory):
    """How commands as users type them ended, and their folders: they run one after the other beside the other tests."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("torchrun", "launch", "elsewhere")}
    given = ("--config-file", config)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1", "train_net.py", *given)
    launch = ("-m", "torch.distributed.launch", "--nproc_per_node=1", f"--master_port={process_kit.free_port()}")
    weight = ("MODEL.WEIGHT", finished / "model_final.pth")
    with ThreadPoolExecutor(1) as beside:
        runs = {
            "torchrun": beside.submit(run_kit.run, *torchrun, "--skip-final-test", "OUTPUT_DIR", folders["torchrun"]),
            "launch": beside.submit(
                run_kit.run, *launch, "test_net.py", *given, *weight, "OUTPUT_DIR", folders["launch"]
            ),
            "elsewhere": beside.submit(
                run_kit.run, ROOT / "test_net.py", *given, "OUTPUT_DIR", "here", cwd=folders["elsewhere"]
            ),
        }
        yield lambda name: (runs[name].result(), folders[name])


def checkpoint(path):
    return torch.load(path, weights_only=True)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def events_of(folder):
    """(tag, iteration, value) of all TensorBoard files, read without TensorBoard."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 8], "little")  # then a checksum, the record, a checksum
            event = Event.FromString(data[at + 12 : at + 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            at += 12 + length + 4
    return found


def test_a_run_leaves_what_the_guide_promises(finished):
    names = {path.name for path in finished.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    assert names - events == {
        "log.txt",
        "metrics.jsonl",
        "config.yaml",
        "environment.jsonl",
        "model_0000002.pth",
        "model_0000004.pth",
        "model_final.pth",
        "last_checkpoint",
        "inference",
    }
    assert (finished / "last_checkpoint").read_text().strip() == "model_final.pth"
    results = finished / "inference" / "tiny_val"
    assert {path.name for path in results.iterdir()} == {
        "predictions.pth",
        "result.csv",
        "result.log",
        "metrics.json",
        "pictures",
        "report.html",
    }
    assert len(list((results / "pictures").glob("*.jpg"))) == 2
    assert len((results / "result.csv").read_text().splitlines()) == 3 * 2 * 3  # keyframes, persons, classes


def test_the_log_tells_the_whole_story(finished):
    log = (finished / "log.txt").read_text()
    for words in (
        "Data set tiny_train: ",
        "2 videos, 6 keyframes (0 without persons), 12 persons",
        "training starts from scratch",
        "iteration 1/4  eta ",
        "iteration 4/4  eta ",
        "ground-truth boxes (upper bound)",
        "average precision per class at IoU >= 0.5",
        "1 walk",
        "To look at, in a browser: ",
    ):
        assert words in log
    assert " ERROR: " not in log and " WARNING: " not in log


def test_the_saved_configuration_is_complete_and_can_be_used_again(finished, config):
    options = ["OUTPUT_DIR", str(finished)]
    assert load_config(finished / "config.yaml").dump() == load_config(config, options).dump()


def test_checkpoints_hold_what_the_guide_promises(finished):
    content = checkpoint(finished / "model_final.pth")
    assert {"model", "optimizer", "scheduler", "iteration", "best"} <= content.keys()
    assert content["iteration"] == 4
    assert content["classes"] == {"ids": [1, 2, 3], "names": ["walk", "run", "wave"], "counts": [6, 4, 4]}
    # The one validation was at iteration 2, and the checkpoint of that iteration has its result already.
    assert content["best"]["tiny_val"]["iteration"] == 2
    assert checkpoint(finished / "model_0000002.pth")["best"] == content["best"]


def test_figures_of_the_run(finished):
    lines = lines_of(finished / "metrics.jsonl")
    losses = [line["loss_action"] for line in lines if "loss_action" in line]
    assert len(losses) == 4 and all(map(math.isfinite, losses))
    maps = {line["iteration"]: line["tiny_val_mAP_0.5IOU"] for line in lines if "tiny_val_mAP_0.5IOU" in line}
    assert maps.keys() == {2, 4}
    metrics = json.loads((finished / "inference/tiny_val/metrics.json").read_text())
    assert metrics["mAP"] == pytest.approx(maps[4])


def test_tensorboard_events_have_the_guides_tags(finished):
    events = events_of(finished)
    assert {"loss_action", "accuracy", "learning_rate", "tiny_val_mAP_0.5IOU"} <= {tag for tag, _, _ in events}
    assert [step for tag, step, _ in events if tag == "loss_action"] == [1, 2, 3, 4]
    expected = [line["loss_action"] for line in lines_of(finished / "metrics.jsonl") if "loss_action" in line]
    assert [value for tag, _, value in events if tag == "loss_action"] == pytest.approx(expected)


def test_tensorboard_itself_reads_the_events(finished):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(finished)).Reload()
    assert {"loss_action", "accuracy", "learning_rate", "tiny_val_mAP_0.5IOU"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("learning_rate")] == [1, 2, 3, 4]
    # The validation on the way, and the final test.
    assert [event.step for event in events.Scalars("tiny_val_mAP_0.5IOU")] == [2, 4]
    for tag in events.Tags()["scalars"]:
        lines = [line[tag] for line in lines_of(finished / "metrics.jsonl") if tag in line]
        assert [event.value for event in events.Scalars(tag)] == pytest.approx(lines)


def test_the_same_command_again_has_nothing_left_to_train(config, finished, tmp_path, capsys):
    folder = run_kit.copied(finished, tmp_path / "again")
    before = (folder / "model_final.pth").read_bytes()
    run_kit.train(config, folder)
    shown = capsys.readouterr().out
    assert "this run CONTINUES from" in shown
    assert "Nothing left to train: iteration 4 of 4 is done." in shown
    assert "average precision per class" in shown  # the final test is made again
    assert (folder / "model_final.pth").read_bytes() == before
    starts = lines_of(folder / "environment.jsonl")
    assert [start["iteration"] for start in starts] == [0, 4]
    assert starts[1]["weights"] == str(folder / "model_final.pth")


def test_a_longer_run_goes_on_where_the_first_ended(config, finished, tmp_path):
    folder = run_kit.copied(finished, tmp_path / "longer")
    run_kit.train(config, folder, "SOLVER.MAX_ITER", 5, skip_final_test=True)
    assert checkpoint(folder / "model_final.pth")["iteration"] == 5
    assert [line["iteration"] for line in lines_of(folder / "metrics.jsonl") if "loss_action" in line][4:] == [5]


# A process that is killed in the middle of iteration 4, after the checkpoint and the validation of iteration 2.
KILLED = """
import os, signal
from alphaction.engine.step import TrainStep
step = TrainStep.__call__
def killed_step(*args, **options):
    if options["iteration"] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*args, **options)
TrainStep.__call__ = killed_step
"""


def test_a_killed_run_ends_with_the_same_weights_bit_for_bit(config, finished, tmp_path):
    folder = tmp_path / "killed"
    command = ("train_net.py", "--config-file", config, "OUTPUT_DIR", folder)
    with process_kit.script(*command, folder=tmp_path, before=KILLED) as script:
        ended = script.ends()
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert (folder / "last_checkpoint").read_text().strip() == "model_0000002.pth"
    run_kit.train(config, folder)
    assert same_weights(folder / "model_final.pth", finished / "model_final.pth")
    ours, theirs = checkpoint(folder / "model_final.pth"), checkpoint(finished / "model_final.pth")
    assert ours["best"] == theirs["best"]
    log = (folder / "log.txt").read_text()
    assert "Resumed " in log and log.count("tiny_val: mAP@") == 1  # the validation was done, it is not repeated


def test_a_run_killed_while_it_validates_makes_up_for_the_validation(config, finished, tmp_path, monkeypatch):
    def killed(*args, **options):
        raise KeyboardInterrupt

    folder = tmp_path / "killed"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("alphaction.engine.testing.build.predict", killed)
        run_kit.train(config, folder)
    assert checkpoint(folder / "model_0000002.pth")["best"] == {}
    run_kit.train(config, folder)
    ours, theirs = checkpoint(folder / "model_final.pth"), checkpoint(finished / "model_final.pth")
    assert ours["best"] == theirs["best"]
    assert same_weights(folder / "model_final.pth", finished / "model_final.pth")


def test_worker_processes_change_nothing(config, finished, tmp_path):
    run_kit.train(config, tmp_path, "DATALOADER.NUM_WORKERS", 2, skip_final_test=True)
    assert same_weights(tmp_path / "model_final.pth", finished / "model_final.pth")


def test_the_seed_decides(config, finished, tmp_path):
    first = tmp_path / "same"
    run_kit.train(config, first, skip_final_test=True, skip_validation=True, seed=2)
    assert same_weights(first / "model_final.pth", finished / "model_final.pth")  # 2 is the default
    run_kit.train(config, tmp_path / "other", skip_final_test=True, skip_validation=True, seed=3)
    assert not same_weights(tmp_path / "other/model_final.pth", finished / "model_final.pth")


def test_skipping_validation_and_final_test(config, tmp_path):
    run_kit.train(config, tmp_path, "SOLVER.MAX_ITER", 3, skip_validation=True, skip_final_test=True)
    names = {path.name for path in tmp_path.iterdir()}
    assert "model_final.pth" in names and "inference" not in names
    assert not any(name.startswith("events") for name in names)
    assert all("tiny_val_mAP_0.5IOU" not in line for line in lines_of(tmp_path / "metrics.jsonl"))


def test_validation_before_training_shows_chance(config, tmp_path):
    options = ("SOLVER.MAX_ITER", 1, "TEST.EVAL_AT_START", True, "TEST.NUM_PICTURES", 0)
    run_kit.train(config, tmp_path, *options)
    maps = [line["iteration"] for line in lines_of(tmp_path / "metrics.jsonl") if "tiny_val_mAP_0.5IOU" in line]
    assert maps == [0, 1]
    assert "before training, " in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_batch_norm_from_scratch_is_warned_of(config, tmp_path, frozen):
    run_kit.train(
        config, tmp_path, "SOLVER.MAX_ITER", 1, "MODEL.BACKBONE.FROZEN_BN", frozen,
        skip_final_test=True, skip_validation=True,
    )  # fmt: skip
    assert ("no weights to start from" in (tmp_path / "log.txt").read_text()) == frozen


def test_testing_equals_the_final_test(config, finished, tmp_path, capsys):
    folder = tmp_path / "test"
    [result] = run_kit.test(config, folder, "MODEL.WEIGHT", finished / "model_final.pth")
    shown = capsys.readouterr().out
    assert "class " in shown and "1 walk" in shown and "mAP@0.5 = " in shown
    final = json.loads((finished / "inference/tiny_val/metrics.json").read_text())
    assert result.mAP == final["mAP"]
    ours, theirs = folder / "inference/tiny_val", finished / "inference/tiny_val"
    for name in ("result.csv", "metrics.json"):
        assert (ours / name).read_text() == (theirs / name).read_text()
    assert not (folder / "log.txt").exists() and (folder / "test_log.txt").exists()


def test_thresholds_and_coco_metrics_by_key(config, finished, tmp_path):
    folder = tmp_path / "test"
    keys = ["TEST.IOU_THRESHOLDS", (0.5, 0.75), "TEST.COCO_METRICS", True, "TEST.VIDEO_MAP", True]
    keys += ["TEST.NUM_PICTURES", 0, "MODEL.WEIGHT", finished / "model_final.pth"]
    run_kit.test(config, folder, *keys)
    metrics = json.loads((folder / "inference/tiny_val/metrics.json").read_text())
    assert list(metrics["mAP_by_iou"]) == ["0.5", "0.75"]
    assert metrics["mAP"] == metrics["mAP_by_iou"]["0.5"]
    assert 0 <= metrics["coco"]["AP"] <= metrics["coco"]["AP50"] <= 1
    assert 0 <= metrics["video_mAP"]["0.5:0.95"] <= metrics["video_mAP"]["0.5"] <= metrics["video_mAP"]["0.2"] <= 1


def test_weights_of_another_class_count_start_a_new_run_without_the_head(config, finished, tmp_path, dataset):
    other = dataset.with_name("four.yaml")
    other.write_text(dataset.read_text().replace("wave]", "wave, sleep]").replace("name: tiny", "name: four"))
    options = ("MODEL.WEIGHT", finished / "model_final.pth", "MODEL.ROI_ACTION_HEAD.NUM_CLASSES", 4)
    sets = ("DATASETS.TRAIN", f"('{other}:train',)", "DATASETS.TEST", f"('{other}:val',)", "SOLVER.MAX_ITER", 1)
    run_kit.train(config, tmp_path, *options, *sets, transfer=True, no_head=True)
    content = checkpoint(tmp_path / "model_final.pth")
    assert content["iteration"] == 1  # not 5
    assert content["model"]["roi_heads.action.predictor.cls_score.weight"].shape[0] == 4
    log = (tmp_path / "log.txt").read_text()
    assert "Only the weights of" in log and "left out (--no-head)" in log
    assert "n/a" in log  # sleep has no example


def test_number_of_classes_from_the_data(config, tmp_path):
    run_kit.train(config, tmp_path, "MODEL.ROI_ACTION_HEAD.NUM_CLASSES", 0, "SOLVER.MAX_ITER", 1, skip_final_test=True)
    assert load_config(tmp_path / "config.yaml").MODEL.ROI_ACTION_HEAD.NUM_CLASSES == 3


def test_a_named_checkpoint_is_resumed(config, finished, tmp_path):
    run_kit.train(config, tmp_path, "MODEL.WEIGHT", finished / "model_0000002.pth", skip_final_test=True)
    assert same_weights(tmp_path / "model_final.pth", finished / "model_final.pth")
    assert not (tmp_path / "model_0000002.pth").exists()  # it began at iteration 3


def test_resuming_with_another_schedule(config, finished, tmp_path):
    def rates(folder, **flags):
        options = ("MODEL.WEIGHT", finished / "model_0000002.pth", "SOLVER.BASE_LR", 0.5, "SOLVER.STEPS", "(100,)")
        run_kit.train(config, folder, *options, skip_final_test=True, skip_validation=True, **flags)
        return [line["learning_rate"] for line in lines_of(folder / "metrics.jsonl")]

    assert rates(tmp_path / "saved") == pytest.approx([0.01, 0.001])
    assert "Add --adjust-lr" in (tmp_path / "saved/log.txt").read_text()
    assert rates(tmp_path / "adjusted", adjust_lr=True) == pytest.approx([0.5, 0.5])


def test_torchrun_with_one_process(finished, launched):
    ended, folder = launched("torchrun")
    assert ended.returncode == 0, ended.stderr
    assert same_weights(folder / "model_final.pth", finished / "model_final.pth")


def test_torch_distributed_launch_with_one_process(finished, launched):
    ended, _ = launched("launch")
    assert ended.returncode == 0, ended.stderr
    table = re.search(r"mAP@0\.5 = ([\d.]+)", ended.stdout)
    final = json.loads((finished / "inference/tiny_val/metrics.json").read_text())
    assert table is not None and float(table[1]) == pytest.approx(final["mAP"], abs=1e-4)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An empty working directory and a catalog that is restored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DatasetCatalog, "DATASETS", dict(DatasetCatalog.DATASETS))
    return tmp_path


def test_all_forms_of_annotations_give_the_same_samples(dataset, config, folders):
    rows = run_kit.rows_of(run_kit.TRAIN_VIDEOS)
    forms = {
        "csv": run_kit.write_csv(folders / "train.csv", rows),
        "ava": run_kit.write_ava_json(folders / "ava.json", rows),
        "coco": run_kit.write_coco_json(folders / "coco.json", rows),
    }
    sets = {}
    for form, path in forms.items():
        entry = {"video_root": str(dataset.parent / "videos"), "ann_file": str(path), "classes": list(run_kit.CLASSES)}
        DatasetCatalog.DATASETS[form] = entry
        [sets[form]] = build_datasets(load_config(config, ["DATASETS.TRAIN", f"('{form}',)"]), "train")
    first = sets["csv"]
    assert len(first) == 6
    for other in (sets["ava"], sets["coco"]):
        assert other.annotations.classes == first.annotations.classes
        for index in range(len(first)):
            ours, theirs = first[3, index], other[3, index]  # epoch 3: with its augmentation
            assert ours.key == theirs.key
            assert torch.equal(ours.slow, theirs.slow) and torch.equal(ours.fast, theirs.fast)
            assert torch.equal(ours.labels, theirs.labels)
            torch.testing.assert_close(ours.persons.xyxy, theirs.persons.xyxy, rtol=0, atol=1e-4)
            torch.testing.assert_close(ours.regions.xyxy, theirs.regions.xyxy, rtol=0, atol=1e-4)


def test_the_guides_catalog_entry_works(folders, config):
    """One-second clips, COCO JSON, detected boxes, `eval_file`: the example of the fine-tuning guide as it stands."""
    for split, movie in (("train", "v1"), ("val", "v2")):
        rows = [
            run_kit.Row(movie, second, (8, 6, 30, 36), (1 + second % 3,)) for second in range(1, 4)
        ]  # frame_id = second
        run_kit.write_coco_json(folders / f"data/YOUR_DATASET/annotations/{split}.json", rows)
        run_kit.write_csv(folders / f"data/YOUR_DATASET/annotations/{split}.csv", rows)
        run_kit.write_clips(folders / f"data/YOUR_DATASET/clips/{split}" / movie, range(5))
        DatasetCatalog.DATASETS[f"your_dataset_{split}"] = {
            "video_root": f"data/YOUR_DATASET/clips/{split}",
            "ann_file": f"data/YOUR_DATASET/annotations/{split}.json",
            "box_file": f"data/YOUR_DATASET/boxes/{split}_person_bbox.json",
            "eval_file_paths": {"eval_file": "data/YOUR_DATASET/annotations/val.csv"} if split == "val" else {},
            "object_file": "",
        }
    boxes = folders / "data/YOUR_DATASET/boxes/val_person_bbox.json"  # there is none for training: none is needed
    boxes.parent.mkdir()
    boxes.write_text(
        json.dumps(
            {f"v2/{second}.jpg": [{"bbox": [9, 6, 30, 36], "score": 0.9 - 0.3 * (second == 3)}] for second in (1, 2, 3)}
        )
    )
    sets = ("DATASETS.TRAIN", "('your_dataset_train',)", "DATASETS.TEST", "('your_dataset_val',)")
    run_kit.train(config, folders / "out", *sets, "SOLVER.MAX_ITER", 2, skip_validation=True)
    metrics = json.loads((folders / "out/inference/your_dataset_val/metrics.json").read_text())
    assert metrics["boxes"] == "detected boxes"
    # The box of second 3 is under TEST.BOX_THRESH: its true box is missed, the others are found.
    assert metrics["counts"]["keyframes with true boxes but no prediction"] == 1
    assert np.isfinite(metrics["mAP"])


def test_the_scripts_start_from_any_folder(launched):
    """The package is installed or beside the script: the working directory is the user's."""
    ended, folder = launched("elsewhere")
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: there are no weights to test") and sys.executable not in ended.stderr
    assert [path.name for path in folder.iterdir()] == ["here"]
