"""Every mistake that a user can make ends in one message that says what to do, without a traceback or half a run."""

import errno
import json
import math
import re

import process_kit
import pytest
import run_kit
import torch
from run_kit import HEIGHT, WIDTH, Row, fail_test, fail_train, rows_of
from videos import numbered_frames, write_sound, write_video

from alphaction.engine import build as engine_build
from alphaction.engine.build import TrainFlags

LOGS = {"log.txt", "test_log.txt"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A good data set, which the tests spoil copies of."""
    folder = tmp_path_factory.mktemp("good")
    run_kit.write_dataset(folder)
    return folder


@pytest.fixture
def folder(source, tmp_path):
    """A data set of our own; its videos are links to the good ones."""
    (tmp_path / "videos").mkdir()
    for path in (source / "videos").iterdir():
        (tmp_path / "videos" / path.name).symlink_to(path)
    for name in ("dataset.yaml", "train.csv", "val.csv"):
        (tmp_path / name).write_text((source / name).read_text())
    return tmp_path


@pytest.fixture
def config(folder):
    return run_kit.write_config(folder / "tiny.yaml", folder / "dataset.yaml")


@pytest.fixture
def output_dir(folder):
    return folder / "out"


@pytest.fixture
def refuse(capsys, config, output_dir):
    """Expects a training to be refused before it begins, and returns the message."""

    def run(*opts, **flags):
        message = fail_train(capsys, config, output_dir, *opts, **flags)
        assert left_behind(output_dir) <= LOGS
        return message

    return run


@pytest.fixture
def refuse_test(capsys, config, output_dir):
    def run(*opts):
        message = fail_test(capsys, config, output_dir, *opts)
        assert left_behind(output_dir) <= LOGS
        return message

    return run


def left_behind(folder):
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def says(message, *parts):
    for part in parts:
        assert str(part) in message, f"{part!r} is not in the message:\n{message}"
    assert len(message) < 1500
    return True


def use_annotations(folder, name, *, split="train"):
    """Lets the split read another annotation file."""
    path = folder / "dataset.yaml"
    path.write_text(path.read_text().replace(f"{split}.csv", name))


def set_of(*rows, movies=run_kit.TRAIN_VIDEOS):
    return [*rows_of(movies), *rows]


# ------------------------------------------------------------------------------------- configuration and command line


@pytest.mark.parametrize("flag", ["--no-hed", "--tranfer", "--config-fiel"])
def test_a_misspelt_flag_ends_with_the_usage(flag, monkeypatch, capsys):
    import train_net

    monkeypatch.setattr("sys.argv", ["train_net.py", "--config-file", "x.yaml", flag, "SOLVER.MAX_ITER", "2"])
    with pytest.raises(SystemExit) as end:
        train_net.parse_args()
    assert end.value.code == 2
    shown = capsys.readouterr().err
    assert f"unrecognized arguments: {flag}" in shown and "usage: train_net.py" in shown


def test_flags_of_the_guide_and_negative_numbers_are_understood(monkeypatch):
    import train_net

    line = (
        "train_net.py --local_rank=0 --config-file a.yaml --transfer --no-head --adjust-lr --use-tfboard --seed 42 "
        "--skip-val-in-train --skip-final-test MODEL.ROI_ACTION_HEAD.FOCAL_LOSS.ALPHA -1 SOLVER.BASE_LR 1e-4"
    )
    monkeypatch.setattr("sys.argv", line.split())
    args = train_net.parse_args()
    assert args.opts == ["MODEL.ROI_ACTION_HEAD.FOCAL_LOSS.ALPHA", "-1", "SOLVER.BASE_LR", "1e-4"]
    assert args.seed == 42 and all((args.transfer, args.no_head, args.adjust_lr, args.use_tfboard))
    # Flags after the overrides are understood as well.
    monkeypatch.setattr("sys.argv", ["train_net.py", "--config-file", "a.yaml", "SOLVER.MAX_ITER", "2", "--no-head"])
    assert train_net.parse_args().no_head


@pytest.mark.parametrize("fail", [fail_train, fail_test])
def test_missing_config_file(capsys, folder, output_dir, fail):
    message = fail(capsys, folder / "none.yaml", output_dir)
    assert says(message, f"config file {folder}/none.yaml: no such file") and "\n" not in message
    assert not output_dir.exists()


def test_unknown_key_in_the_file(refuse, config, output_dir):
    config.write_text(config.read_text() + "\nSOLVR:\n  MAX_ITER: 3\n")
    assert says(refuse(), f"config file {config}", "SOLVR: unknown section", "nearest one is SOLVER")
    config.write_text(config.read_text().replace("SOLVR", "TRAIN").replace("MAX_ITER: 4", "MAX_ITR: 4"))
    assert says(refuse(), "SOLVER.MAX_ITR: unknown key; the nearest one is SOLVER.MAX_ITER")
    assert not output_dir.exists()


def test_unknown_key_on_the_command_line(refuse, output_dir):
    assert says(refuse("SOLVER.BASE_LRR", 1), "command line", "SOLVER.BASE_LRR: unknown key", "SOLVER.BASE_LR")
    assert not output_dir.exists()


def test_an_override_without_a_value(capsys, config, output_dir):
    message = fail_train(capsys, config, output_dir, "SOLVER.MAX_ITER")
    assert says(message, "overrides come in pairs, KEY VALUE", "'SOLVER.MAX_ITER' has no value")
    assert says(fail_train(capsys, config, output_dir, "SOLVER.MAX_ITER=3"), "write KEY VALUE with a blank")
    assert not output_dir.exists()


def test_all_faults_of_the_configuration_at_once(refuse, output_dir):
    message = refuse("INPUT.FRAME_NUM", 10, "SOLVER.BASE_LR", -1, "MODEL.DEVICE", "gpu")
    assert says(message, "3 faults", "INPUT.FRAME_NUM: got 10, expected a multiple", "SOLVER.BASE_LR: got -1", "'gpu'")
    assert not output_dir.exists()


def test_several_processes(refuse, output_dir, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert says(refuse(), "WORLD_SIZE 2", "RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT must be set as well", "torchrun")
    assert not output_dir.exists()


def test_unknown_data_set(refuse, refuse_test, output_dir):
    message = refuse("DATASETS.TRAIN", "('ava_video_trian_v2.2',)")
    assert says(message, "'ava_video_trian_v2.2' is not in the catalog", "the nearest one is ava_video_train_v2.2")
    assert says(message, "ava_video_val_v2.2", "alphaction/config/paths_catalog.py", "path/to/dataset.yaml:train")
    assert says(refuse_test("DATASETS.TEST", "('birdnest',)"), "'birdnest' is not in the catalog")
    assert not output_dir.exists()


def test_faulty_dataset_file(refuse, folder, output_dir):
    path = folder / "dataset.yaml"
    assert says(refuse("DATASETS.TRAIN", f"('{path}:trian',)"), str(path), "no split 'trian'", "nearest one is train")
    assert says(refuse("DATASETS.TRAIN", f"('{folder}/none.yaml:train',)"), f"{folder}/none.yaml", "no such file")
    path.write_text(path.read_text().replace("videos: videos", "vidoes: videos"))
    assert says(refuse(), str(path), "vidoes", "videos")
    assert not output_dir.exists()


def test_an_unknown_test_set_does_not_matter_when_nothing_is_tested(config, output_dir):
    flags = {"skip_validation": True, "skip_final_test": True}
    run_kit.train(config, output_dir, "DATASETS.TEST", "('birdnest',)", "SOLVER.MAX_ITER", 1, **flags)
    assert "model_final.pth" in left_behind(output_dir)


def test_training_without_a_test_set_says_so(config, output_dir):
    run_kit.train(config, output_dir, "DATASETS.TEST", "()", "SOLVER.MAX_ITER", 1, "TEST.EVAL_AT_START", True)
    assert "DATASETS.TEST is empty: there will be no validation" in (output_dir / "log.txt").read_text()


def test_no_data_set_named(refuse, refuse_test):
    assert says(refuse("DATASETS.TRAIN", "()"), "DATASETS.TRAIN is empty: name a data set")
    assert says(refuse_test("DATASETS.TEST", "()"), "DATASETS.TEST is empty: name a data set")


@pytest.mark.parametrize("kind", ["a file in the path", "a folder that cannot hold files"])
def test_output_dir_that_cannot_be_written(capsys, config, folder, kind):
    place = folder / "train.csv" / "out" if kind == "a file in the path" else "/proc/alphaction"
    before = (folder / "train.csv").read_text()
    message = fail_train(capsys, config, place)
    assert says(message, f"OUTPUT_DIR {place}: cannot be written to (", "OUTPUT_DIR path/to/folder")
    assert (folder / "train.csv").read_text() == before


def test_a_gpu_that_is_not_there(refuse, monkeypatch, output_dir):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert says(refuse("MODEL.DEVICE", "cuda:3"), "MODEL.DEVICE: got 'cuda:3'", "MODEL.DEVICE cpu")
    assert not output_dir.exists()


# -------------------------------------------------------------------------------------------------------- annotations


def test_missing_annotation_file(refuse, folder):
    (folder / "train.csv").unlink()
    assert says(refuse(), f"{folder}/train.csv: the annotation file does not exist", "DATA.md")


def test_missing_annotation_file_of_the_test_set(refuse, folder):
    (folder / "val.csv").unlink()
    assert says(refuse(), f"{folder}/val.csv: the annotation file does not exist")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "the annotation file is empty"),
        ("{'images': [}", "not valid JSON"),
        ("\x00\x01\x02 binary", "not valid JSON"),
        ("[1, 2]", "expected a JSON object with the lists 'images' and 'annotations', got a list"),
        ('{"images": []}', "no list 'annotations'"),
        ('{"images": [], "annotations": []}', "has no images"),
        ('{"images": [{"id": 1}], "annotations": []}', "image 1 does not say its movie and its time"),
    ],
)
def test_annotation_file_without_annotations(refuse, folder, content, words):
    (folder / "train.json").write_text(content)
    use_annotations(folder, "train.json")
    assert says(refuse(), f"{folder}/train.json", words)


def test_annotation_file_of_another_kind(refuse, folder):
    (folder / "train.csv").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    assert says(refuse(), f"{folder}/train.csv")


def test_csv_row_without_numbers(refuse, folder):
    path = folder / "train.csv"
    path.write_text(path.read_text() + "park,1,0.1,0.1,half,0.5,1,0\n")
    assert says(refuse(), str(path), "line 15", "half")


@pytest.mark.parametrize("action", [4, 0, 99])
@pytest.mark.parametrize("form", ["csv", "ava", "coco"])
def test_class_id_outside_the_list(refuse, folder, form, action):
    rows = set_of(Row("park", 1.0, (1, 1, 20, 20), (action,)))
    name = "bad.csv" if form == "csv" else "bad.json"
    write = {"csv": run_kit.write_csv, "ava": run_kit.write_ava_json, "coco": run_kit.write_coco_json}[form]
    write(folder / name, rows)
    use_annotations(folder, name)
    message = refuse()
    assert says(message, f"{folder}/{name}", "which is not in the class list: 3 classes, ids 1 to 3")
    assert re.search(rf"action id '?{action}'?,", message)
    assert says(message, "Correct the annotation or add the class", "line 15" if form == "csv" else "annotation 1")


def test_number_of_classes_that_disagrees(refuse, folder):
    message = refuse("MODEL.ROI_ACTION_HEAD.NUM_CLASSES", 5)
    assert says(message, "MODEL.ROI_ACTION_HEAD.NUM_CLASSES is 5", "defines 3 classes")
    assert says(message, "Set MODEL.ROI_ACTION_HEAD.NUM_CLASSES to 3, or to 0", "dataset.yaml")


def test_data_sets_of_different_classes(refuse, folder):
    other = folder / "other.yaml"
    other.write_text((folder / "dataset.yaml").read_text().replace("walk, run", "run, walk"))
    message = refuse("DATASETS.TEST", f"('{other}:val',)")
    assert says(message, "tiny_train", "tiny_val", "different classes", "'walk'", "'run'")


def test_two_test_sets_of_one_name(refuse, folder):
    other = folder / "other.yaml"
    other.write_text((folder / "dataset.yaml").read_text())
    message = refuse("DATASETS.TEST", f"('{folder}/dataset.yaml:val', '{other}:val')")
    assert says(message, "DATASETS.TEST", "tiny_val", "different names")


def test_boxes_that_cannot_be_used_are_dropped_and_named(folder, config, output_dir, capsys):
    faults = [
        (0, 6, 0, 30),  # no width
        (0, 6, -5, 30),  # negative
        (math.nan, 6, 20, 30),
        (3 * WIDTH, 6, 20, 30),  # outside
        (WIDTH - 10, 6, 30, 30),  # partly outside
    ]
    rows = set_of(*(Row("park", 1.0, box, (1,)) for box in faults))
    run_kit.write_ava_json(folder / "boxes.json", rows)
    use_annotations(folder, "boxes.json")
    run_kit.train(config, output_dir, "SOLVER.MAX_ITER", 1, skip_final_test=True)
    log = (output_dir / "log.txt").read_text()
    where = "park at 1 s"
    for words in (
        f"dropped, boxes, zero or negative size: 2: annotation 12, {where}; annotation 13, {where}",
        f"dropped, boxes, not a number: 1: annotation 14, {where}",
        f"dropped, boxes, outside the picture: 1: annotation 15, {where}",
        f"corrected, boxes partly outside the picture, clipped: 1: annotation 16, {where}",
        "2 videos, 6 keyframes (0 without persons), 13 persons",
    ):
        assert words in log


def test_a_set_without_any_usable_box_is_empty(refuse, folder):
    run_kit.write_ava_json(folder / "none.json", [Row("park", 1.0, (0, 0, 0, 0), (1,))])
    use_annotations(folder, "none.json")
    message = refuse()
    assert says(message, "the training set tiny_train is empty", f"{folder}/none.json", "zero or negative size: 1")


def test_a_set_without_annotations_is_empty(refuse, folder):
    content = {"images": [{"id": 0, "movie": "park", "timestamp": 1}], "annotations": []}
    (folder / "none.json").write_text(json.dumps(content))
    use_annotations(folder, "none.json")
    assert says(refuse(), "the training set tiny_train is empty", f"{folder}/none.json", "1 usable keyframes")


# ------------------------------------------------------------------------------------------------------------- videos


def test_keyframes_past_the_end_are_skipped_and_named(folder, config, output_dir):
    run_kit.write_csv(folder / "train.csv", set_of(Row("park", 77.0, (1, 1, 20, 20), (1,))))
    run_kit.train(config, output_dir, "SOLVER.MAX_ITER", 1, skip_final_test=True)
    log = (output_dir / "log.txt").read_text()
    assert "dropped, keyframes past the end of their video: 1: park at 77 s (1.92 s long)" in log


def test_no_keyframe_within_its_video(refuse, folder):
    run_kit.write_csv(folder / "train.csv", [Row("park", 77.0, (1, 1, 20, 20), (1,))])
    assert says(refuse(), f"{folder}/train.csv: no keyframe", "past the end of their video: 1: park at 77 s")


def test_missing_video_folder(refuse, folder):
    path = folder / "dataset.yaml"
    path.write_text(path.read_text().replace("videos: videos", "videos: films"))
    assert says(refuse(), f"{folder}/films: the video folder does not exist")


def spoil(folder, kind):
    """Makes the video of `street` unusable; returns what the message says of it."""
    path = folder / "videos/street.mp4"
    data = path.read_bytes()
    path.unlink()
    if kind == "missing":
        return "street: not found; expected "
    if kind == "sound only":
        write_sound(path)
    else:
        path.write_bytes({"empty": b"", "text": b"not a video", "cut off": data[: len(data) // 2]}[kind])
    return f"{path} is empty (0 bytes)" if kind == "empty" else str(path)


KINDS = ["missing", "empty", "text", "cut off", "sound only"]


@pytest.mark.parametrize("kind", KINDS)
def test_videos_that_cannot_be_used_are_named_before_training(refuse, folder, kind):
    words = spoil(folder, kind)
    message = refuse()
    assert says(message, "data set tiny_train: 1 of its videos cannot be used", f"{folder}/videos", words)
    assert says(message, "DATASETS.ON_ERROR skip", "without their 3 keyframes")


@pytest.mark.parametrize("kind", KINDS)
def test_videos_that_cannot_be_used_are_skipped_on_demand(folder, config, output_dir, kind):
    words = spoil(folder, kind)
    run_kit.train(config, output_dir, "DATASETS.ON_ERROR", "skip", "SOLVER.MAX_ITER", 1, skip_final_test=True)
    log = (output_dir / "log.txt").read_text()
    assert "dropped, videos that cannot be used: 1: " in log and words in log
    assert "dropped, keyframes whose video or clip cannot be used: 3" in log
    assert "1 video, 3 keyframes" in log


def test_no_video_is_left_to_skip_to(refuse, folder):
    for path in (folder / "videos").iterdir():
        path.unlink()
    message = refuse("DATASETS.ON_ERROR", "skip")
    assert says(
        message, "no keyframe of data set tiny_train can be used", "videos that cannot be used: 2: park: not found"
    )


@pytest.fixture
def damaged(folder):
    """A video whose header and first second are whole, the rest is zeros: nobody can tell before it is decoded."""
    path = folder / "videos/street.mp4"
    path.unlink()
    frames = numbered_frames(48, height=HEIGHT, width=WIDTH)
    write_video(path, frames, container_options={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    start = (data.index(b"mdat") + len(data)) // 2
    data[start:] = bytes(len(data) - start)
    path.write_bytes(data)
    return path


def test_damage_that_shows_only_in_decoding(capsys, config, output_dir, damaged):
    message = fail_train(capsys, config, output_dir, "SOLVER.VIDEOS_PER_BATCH", 6)
    assert says(message, "data set tiny_train, keyframe street at ", damaged, "DATASETS.ON_ERROR skip")
    assert not any(name.endswith(".pth") for name in left_behind(output_dir))


def test_the_script_ends_with_one_line_and_status_1(config, output_dir, tmp_path, damaged):
    """In a process of its own; the error is raised in a worker process."""
    options = ("SOLVER.VIDEOS_PER_BATCH", 6, "DATALOADER.NUM_WORKERS", 2, "OUTPUT_DIR", output_dir)
    with process_kit.script("train_net.py", "--config-file", config, *options, folder=tmp_path) as script:
        ended = script.ends()
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: data set tiny_train, keyframe street at ")
    assert ended.stderr.count("\n") == 1


def test_damage_that_shows_only_in_decoding_is_skipped_on_demand(config, output_dir, damaged):
    run_kit.train(
        config, output_dir, "DATASETS.ON_ERROR", "skip", "SOLVER.VIDEOS_PER_BATCH", 6, "SOLVER.MAX_ITER", 1,
        skip_final_test=True,
    )  # fmt: skip
    log = (output_dir / "log.txt").read_text()
    assert "the clip of street at 1.5 s cannot be read and is left out" in log
    assert re.search(r"tiny_train: \d+ of \d+ clips could not be read and were left out", log)


# --------------------------------------------------------------------------------------------- boxes, evaluation files


def with_boxes(folder, content):
    """Gives the test set a file of detected persons; returns its path."""
    path = folder / "boxes.json"
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    dataset = folder / "dataset.yaml"
    dataset.write_text(dataset.read_text().replace("val.csv}", "val.csv, person_boxes: boxes.json}"))
    return path


def test_detected_boxes_are_asked_for_but_there_are_none(refuse, refuse_test):
    parts = ("TEST.BOXES is 'detected'", "tiny_val has no file of detected persons", "TEST.BOXES ground_truth")
    assert says(refuse("TEST.BOXES", "detected"), *parts)
    assert says(refuse_test("TEST.BOXES", "detected"), *parts)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        ("{", "not valid JSON"),
        ([{"bbox": [1, 2, 3, 4]}], "expected a list of"),
        ([{"image_id": "yard/0.5", "bbox": [1, 2, 3], "score": 1}], "expected four numbers"),
        ([{"image_id": "yard/0.5", "bbox": [1, 2, 30, 30], "score": "high"}], "has the score 'high'"),
        ([{"image_id": "garden/1", "bbox": [1, 2, 30, 30], "score": 0.9}], "Is it the box file of another split?"),
        ([{"image_id": "yard/0.5", "bbox": [1, 2, 30, 30], "score": 0.5}], "Lower TEST.BOX_THRESH"),
        ([], "no usable box has a score of at least TEST.BOX_THRESH"),
    ],
)
def test_box_file_that_does_not_fit(refuse, refuse_test, folder, content, words):
    path = with_boxes(folder, content)
    assert says(refuse_test(), path, words)
    assert says(refuse(), path, words)  # before hours of training, not after them


@pytest.mark.parametrize("name", ["csv_gt_file", "labelmap_file", "exclusion_file"])
@pytest.mark.parametrize("content", [None, "item { nonsense }\n"])
def test_evaluation_file_that_cannot_be_read(refuse, folder, name, content):
    if content:
        (folder / "file.txt").write_text(content)
    dataset = folder / "dataset.yaml"
    dataset.write_text(dataset.read_text().replace("val.csv}", f"val.csv, evaluation: {{{name}: file.txt}}}}"))
    assert says(refuse(), f"{folder}/file.txt")


# ------------------------------------------------------------------------------------------------------------ weights


@pytest.fixture(scope="module")
def weights(source, tmp_path_factory):
    """A checkpoint of a network with four classes."""
    folder = tmp_path_factory.mktemp("four classes")
    text = (source / "dataset.yaml").read_text().replace("[walk, run, wave]", "[walk, run, wave, jump]")
    (source / "four.yaml").write_text(text)
    config = run_kit.write_config(folder / "four.yaml", source / "four.yaml")
    options = ("MODEL.ROI_ACTION_HEAD.NUM_CLASSES", 4, "SOLVER.MAX_ITER", 1)
    run_kit.train(config, folder, *options, skip_final_test=True)
    return folder / "model_final.pth"


def test_missing_weight_file(refuse, refuse_test, folder):
    path = folder / "none.pth"
    assert says(refuse("MODEL.WEIGHT", path), f"{path}: no such weight file", "Check MODEL.WEIGHT or")
    assert says(refuse_test("MODEL.WEIGHT", path), f"{path}: no such weight file")
    message = refuse("MODEL.WEIGHT", "data/models/pretrained_models/SlowFast-ResNet50-4x16.pth")
    assert says(message, "MODEL_ZOO.md")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"hello", "not a checkpoint written by PyTorch"),
        (b"PK\x03\x04" + bytes(90), "the file is damaged"),
    ],
)
def test_weight_file_of_another_kind(refuse, folder, content, words):
    (folder / "file.pth").write_bytes(content)
    assert says(refuse("MODEL.WEIGHT", folder / "file.pth"), f"{folder}/file.pth", words)


def test_weight_file_that_is_cut_off(refuse, folder, weights):
    (folder / "file.pth").write_bytes(weights.read_bytes()[:100_000])
    assert says(refuse("MODEL.WEIGHT", folder / "file.pth"), f"{folder}/file.pth", "damaged")


def test_weight_file_of_another_network(refuse, folder):
    torch.save({"stem.kernel": torch.zeros(3)}, folder / "file.pth")
    assert says(refuse("MODEL.WEIGHT", folder / "file.pth"), f"{folder}/file.pth", "none of its 1 tensors fits")


@pytest.mark.parametrize("flags", [{}, {"transfer": True}])
def test_weights_of_another_class_count(refuse, refuse_test, weights, flags):
    message = refuse("MODEL.WEIGHT", weights, **flags)
    assert says(message, weights, "made for 4 classes, this model for 3", "--no-head")
    assert says(refuse_test("MODEL.WEIGHT", weights), "made for 4 classes, this model for 3")


def test_nothing_to_test(refuse_test, output_dir):
    assert says(refuse_test(), "there are no weights to test", f"{output_dir} holds no last_checkpoint")


def test_a_refused_run_leaves_the_earlier_run_as_it_was(capsys, config, folder, weights):
    """The folder of a run with four classes; started again with a configuration of three."""
    before = {path.name: path.read_bytes() for path in weights.parent.iterdir() if path.name != "log.txt"}
    message = fail_train(capsys, config, weights.parent)
    assert says(message, "made for 4 classes", "This OUTPUT_DIR belongs to a run with another configuration")
    after = {path.name: path.read_bytes() for path in weights.parent.iterdir() if path.name != "log.txt"}
    assert after == before


def test_the_log_keeps_the_error(refuse, output_dir, folder):
    message = refuse("MODEL.WEIGHT", folder / "none.pth")
    assert f"ERROR: {message}" in (output_dir / "log.txt").read_text()


# ------------------------------------------------------------------------------------------- the machine's own limits

CPU_ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "400000000000 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError(CPU_ALLOCATOR),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "),
        RuntimeError(
            "DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that dataloader's workers"
        ),
    ],
    ids=["gpu", "cpu allocator", "python", "system", "worker killed", "shared memory"],
)
def test_out_of_memory_names_three_settings(capsys, config, output_dir, monkeypatch, error):
    def step(*args, **options):
        raise error

    monkeypatch.setattr("alphaction.engine.step.TrainStep.__call__", step)
    message = fail_train(capsys, config, output_dir)
    assert says(message, "out of memory. Three settings that help")
    assert says(message, "SOLVER.VIDEOS_PER_BATCH", "INPUT.MIN_SIZE_TRAIN", "MODEL.ROI_ACTION_HEAD.PROPOSAL_PER_CLIP")
    assert not any(name.endswith(".pth") for name in left_behind(output_dir))


def test_a_real_lack_of_memory(capsys, config, output_dir, monkeypatch):
    monkeypatch.setattr("alphaction.engine.step.TrainStep.__call__", lambda *args, **options: torch.empty(10**15))
    assert says(fail_train(capsys, config, output_dir), "out of memory. Three settings that help")


@pytest.mark.parametrize("how", ["(pid(s) 12) exited unexpectedly", "(pid 12) is killed by signal: Aborted. "])
def test_a_reading_process_that_ends_is_told_in_one_message(capsys, config, output_dir, monkeypatch, how):
    def step(*args, **options):
        raise RuntimeError(f"DataLoader worker {how}")

    monkeypatch.setattr("alphaction.engine.step.TrainStep.__call__", step)
    message = fail_train(capsys, config, output_dir)
    assert says(message, "a process that reads clips ended without a word", "DATALOADER.NUM_WORKERS", how.strip())


def test_a_full_disk(capsys, config, output_dir, monkeypatch):
    def write(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device", "metrics.jsonl")

    monkeypatch.setattr("alphaction.engine.scalars.ScalarLog.write", write)
    assert says(fail_train(capsys, config, output_dir), "metrics.jsonl", "No space left on device")


def test_a_fault_of_this_software_keeps_its_traceback(config, output_dir, monkeypatch):
    def step(*args, **options):
        raise RuntimeError("a bug")

    monkeypatch.setattr("alphaction.engine.step.TrainStep.__call__", step)
    with run_kit.own_state(), pytest.raises(RuntimeError, match="a bug"):
        engine_build.train_from_config(str(config), ["OUTPUT_DIR", str(output_dir)], TrainFlags())


def test_a_loss_that_is_not_finite_ends_the_run(capsys, config, output_dir):
    message = fail_train(capsys, config, output_dir, "SOLVER.BASE_LR", 1e30, "SOLVER.CHECKPOINT_PERIOD", 1)
    assert says(message, "the loss is nan in iteration ", "clips of this batch: ", "SOLVER.BASE_LR")
