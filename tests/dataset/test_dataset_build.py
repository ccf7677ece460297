"""From a configuration and a dataset.yaml to batches."""

import json
import logging

import pytest
import torch
import yaml
from videos import numbered_frames, write_video

from alphaction.config import get_cfg
from alphaction.config.paths_catalog import DatasetCatalog
from alphaction.dataset import build_datasets, build_loader, class_list, set_num_classes
from alphaction.errors import ConfigError, DataError, VideoError
from alphaction.structures import ClipBatch

KEY = "MODEL.ROI_ACTION_HEAD.NUM_CLASSES"
TRAIN = "".join(f"m,{s},0.1,0.2,0.{5 + s},0.9,{1 + s % 3},1\n" for s in range(3)) + "p,1,0,0,1,1,2,1\np,2,0,0,1,1,3,1\n"
VAL = "m,1,0.1,0.2,0.5,0.9,1,1\nm,2\np,1,0,0,1,1,3,1\n"


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """A landscape video m and a portrait one p, 3 s at 10 frames per second."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "m.mp4", 30, 10)
    write_video(folder / "p.mp4", numbered_frames(30, height=96, width=48), 10)
    return folder


@pytest.fixture
def make(tmp_path, footage):
    """make(classes=..., train=..., val=..., val_extra={...}, opts=[...]) -> configuration."""

    def build(*, classes=("walk", "run", "jump"), train=TRAIN, val=VAL, train_extra=None, val_extra=None, opts=()):
        (tmp_path / "train.csv").write_text(train)
        (tmp_path / "val.csv").write_text(val)
        content = {
            "name": "nest",
            "videos": str(footage),
            "splits": {
                "train": {"annotations": "train.csv"} | (train_extra or {}),
                "val": {"annotations": "val.csv"} | (val_extra or {}),
            },
        }
        if classes is not None:
            content["classes"] = list(classes)
        (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(content))
        cfg = get_cfg()
        cfg.merge_from_list([
            "DATASETS.TRAIN", (f"{tmp_path}/dataset.yaml:train",), "DATASETS.TEST", (f"{tmp_path}/dataset.yaml:val",),
            KEY, 3, "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0,
            "INPUT.FRAME_NUM", 8, "INPUT.FRAME_SAMPLE_RATE", 1, "INPUT.FRAME_RATE", 10.0, "INPUT.TAU", 4,
            "INPUT.ALPHA", 4, "INPUT.MIN_SIZE_TRAIN", 32, "INPUT.MIN_SIZE_TEST", 48, "INPUT.COLOR_JITTER", True,
            "INPUT.SLOW_JITTER", True,
            "SOLVER.VIDEOS_PER_BATCH", 2, "TEST.VIDEOS_PER_BATCH", 2, "SOLVER.MAX_ITER", 4,
        ])  # fmt: skip
        cfg.merge_from_list(list(opts))
        return cfg

    return build


def write_boxes(tmp_path, *scores, name="boxes.json"):
    boxes = [{"image_id": "m/1", "bbox": [5 + i, 5, 20, 20], "score": score} for i, score in enumerate(scores)]
    (tmp_path / name).write_text(json.dumps(boxes))
    return name


def test_training_and_test_batches(make):
    cfg = make()
    [train_set] = build_datasets(cfg, "train")
    [test_set] = build_datasets(cfg, "test")
    assert len(train_set) == 5 and train_set.is_training and not train_set.uses_detections
    assert len(test_set) == 2 and len(test_set.annotations) == 3 and not test_set.is_training
    assert class_list([train_set, test_set]).names == ("walk", "run", "jump")
    batches = list(build_loader(cfg, train_set, train=True))
    assert len(batches) == 4 and all(isinstance(batch, ClipBatch) and len(batch) == 2 for batch in batches)
    for batch in batches:
        assert batch.slow.shape[:3] == (2, 3, 2) and batch.fast.shape[:3] == (2, 3, 8)
        assert batch.slow.dtype == torch.uint8 and not batch.slow.is_pinned()
        assert batch.labels.shape == (2, 3) and batch.labels.dtype == torch.bool
        assert len({height >= width for height, width in batch.sizes}) == 1  # of one aspect
    [landscape, portrait] = list(build_loader(cfg, test_set, train=False))
    assert (landscape.keys, landscape.indices) == ([("m", 1.0)], [0])
    assert (portrait.keys, portrait.indices) == ([("p", 1.0)], [2])
    assert landscape.sizes == [(48, 96)] and portrait.sizes == [(96, 48)]


def batches_equal(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys == b.keys and torch.equal(a.slow, b.slow) and torch.equal(a.fast, b.fast)
        assert torch.equal(a.labels, b.labels)
        for x, y in zip([*a.persons, *a.regions], [*b.persons, *b.regions], strict=True):
            assert torch.equal(x.xyxy, y.xyxy)


@pytest.mark.parametrize("train", [True, False])
def test_workers_change_nothing(make, train):
    cfg = make()
    [dataset] = build_datasets(cfg, "train" if train else "test")
    alone = list(build_loader(cfg, dataset, train=train, seed=3))
    state = torch.get_rng_state()
    cfg.DATALOADER.NUM_WORKERS = 2
    batches_equal(alone, list(build_loader(cfg, dataset, train=train, seed=3)))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes_share_each_batch(make, workers):
    """Also a batch that is too small for both: the other one gets None for it."""
    cfg = make(opts=["SOLVER.VIDEOS_PER_BATCH", 4, "SOLVER.MAX_ITER", 6])
    [dataset] = build_datasets(cfg, "train")  # three clips of one aspect, two of the other
    alone = list(build_loader(cfg, dataset, train=True, seed=3))
    cfg.DATALOADER.NUM_WORKERS = workers
    shares = [list(build_loader(cfg, dataset, train=True, seed=3, rank=rank, world_size=2)) for rank in (0, 1)]
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    for batch, share in zip(alone, zip(*shares, strict=True), strict=True):
        assert [len(part) for part in share] == [len(batch) // 2, len(batch) - len(batch) // 2]
        assert [key for part in share for key in part.keys] == batch.keys
        persons = [boxes.xyxy for part in share for boxes in part.persons]
        assert all(torch.equal(a, b.xyxy) for a, b in zip(persons, batch.persons, strict=True))
    cfg.SOLVER.VIDEOS_PER_BATCH = 16
    tiny = [list(build_loader(cfg, dataset, train=True, rank=rank, world_size=8)) for rank in (0, 7)]
    assert tiny[0] == [None] * 6 and all(len(batch) == 1 for batch in tiny[1])


def test_rare_classes_come_more_often(make, caplog):
    """Class 2 is in one of the five clips."""
    rows = "".join(f"m,{time},0.1,0.2,0.5,0.9,{1 + (time == 2)},1\n" for time in (0.5, 1, 1.5, 2, 2.5))
    cfg = make(
        train=rows, opts=["DATALOADER.REPEAT_THRESHOLD", 0.8, "SOLVER.VIDEOS_PER_BATCH", 1, "SOLVER.MAX_ITER", 6]
    )
    [dataset] = build_datasets(cfg, "train")
    with caplog.at_level(logging.INFO, "alphaction"):
        batches = list(build_loader(cfg, dataset, train=True, seed=2))
    assert (
        "DATALOADER.REPEAT_THRESHOLD 0.8: a pass has about 6 clips instead of 5. How often a clip comes for its rarest "
        "class: run 2.00 (1 of 5 clips)" in caplog.text
    )
    times = [batch.keys[0].time for batch in batches]
    assert sorted(times) == [0.5, 1, 1.5, 2, 2, 2.5]
    one, other = (batches[i] for i, time in enumerate(times) if time == 2)
    assert not torch.equal(one.slow, other.slow)
    batches_equal(batches[4:], list(build_loader(cfg, dataset, train=True, seed=2, start_iter=4)))
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.1
    caplog.clear()
    with caplog.at_level(logging.INFO, "alphaction"):
        build_loader(cfg, dataset, train=True)
    assert (
        "a pass has about 5 clips instead of 5" in caplog.text and "once, since no class is in a smaller" in caplog.text
    )


def test_the_original_shares_each_pass(make):
    cfg = make(opts=["DATALOADER.ASPECT_RATIO_GROUPING", False, "SOLVER.MAX_ITER", 3])
    [dataset] = build_datasets(cfg, "train")
    orders = {}
    for quirk in (False, True):
        cfg.QUIRKS.SHARE_EACH_PASS = quirk
        loader = build_loader(cfg, dataset, train=True, rank=1, world_size=2)
        orders[quirk] = [item for batch in loader.batch_sampler for item in batch]
    assert orders[False] != orders[True] and len(orders[True]) == 3


def test_spawned_workers(make):
    """As on systems without fork: everything the loader sends to its workers can be pickled."""
    cfg = make(opts=["SOLVER.MAX_ITER", 2])
    [dataset] = build_datasets(cfg, "train")
    alone = list(build_loader(cfg, dataset, train=True))
    cfg.DATALOADER.NUM_WORKERS = 1
    loader = build_loader(cfg, dataset, train=True)
    loader.multiprocessing_context = "spawn"
    batches_equal(alone, list(loader))


def test_a_resumed_run_gets_the_same_batches(make):
    cfg = make()
    [dataset] = build_datasets(cfg, "train")
    batches_equal(list(build_loader(cfg, dataset, train=True, seed=1))[3:],
                  list(build_loader(cfg, dataset, train=True, seed=1, start_iter=3)))  # fmt: skip


def test_seed_changes_the_augmentation(make):
    cfg = make(opts=["DATALOADER.ASPECT_RATIO_GROUPING", False])
    [dataset] = build_datasets(cfg, "train")
    one, other = (list(build_loader(cfg, dataset, train=True, seed=seed)) for seed in (1, 2))
    assert any(a.keys != b.keys for a, b in zip(one, other, strict=True))


def test_report_is_logged(make, caplog):
    with caplog.at_level(logging.INFO, "alphaction"):
        build_datasets(make(val=VAL + "m,9,0,0,1,1,1,1\n"), "test")
    assert "2 videos, 3 keyframes (1 without persons), 2 persons" in caplog.text
    assert "keyframes past the end of their video: 1: m at 9 s (3.00 s long)" in caplog.text


# --- several sets


def test_several_training_sets_are_one_and_test_sets_stay_apart(make):
    cfg = make()
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = names
    [train_set] = build_datasets(cfg, "train")
    assert len(train_set) == 7 and len(train_set.aspect_groups()) == 7
    assert [len(dataset) for dataset in build_datasets(cfg, "test")] == [5, 2]
    assert len(list(build_loader(cfg, train_set, train=True))) == 4


def test_sets_with_different_classes(make):
    [train_set] = build_datasets(make(), "train")
    [test_set] = build_datasets(make(classes=("walk", "run", "fly")), "test")
    with pytest.raises(DataError, match="have different classes .3 and 3.: id 3 is 'jump' in .*train.csv and 'fly' in"):
        set_num_classes(get_cfg(), [train_set, test_set])


# --- the number of classes


def test_num_classes_from_the_data(make):
    cfg = make(opts=[KEY, 0])
    cfg.freeze()
    datasets = build_datasets(cfg, "train") + build_datasets(cfg, "test")
    set_num_classes(cfg, datasets)
    assert cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES == 3 and cfg.is_frozen()
    set_num_classes(cfg, datasets)
    set_num_classes(cfg, [])


def test_unnamed_classes_are_counted_over_training_and_test(make):
    """The test set lacks the last class; testing alone must still build the network that was trained."""
    cfg = make(classes=None, opts=[KEY, 0], val=VAL.replace(",3,", ",2,"))
    assert len(class_list(build_datasets(cfg, "test"))) == 3
    set_num_classes(cfg, build_datasets(cfg, "train") + build_datasets(cfg, "test"))
    assert cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES == 3


def test_unnamed_classes_that_only_the_test_set_has(make):
    cfg = make(classes=None, opts=[KEY, 0], val=VAL.replace(",3,", ",5,"))
    set_num_classes(cfg, build_datasets(cfg, "train") + build_datasets(cfg, "test"))
    assert cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES == 5


def test_unnamed_classes_without_the_test_set(make):
    cfg = make(classes=None, opts=[KEY, 0, "DATASETS.TEST", ("unknown",)])
    assert len(class_list(build_datasets(cfg, "train"))) == 3


def test_num_classes_that_disagrees(make, tmp_path):
    with pytest.raises(ConfigError, match=f"{KEY} is 80, but 'classes' of data set .*dataset.yaml.* defines 3 classes"):
        build_datasets(make(opts=[KEY, 80]), "train")
    cfg = make()
    datasets = build_datasets(cfg, "train")
    cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES = 4
    with pytest.raises(ConfigError, match=f"{KEY} is 4, but data set .* defines 3 classes"):
        set_num_classes(cfg, datasets)


def test_numbered_classes_take_names_from_the_label_map(make, tmp_path):
    (tmp_path / "map.pbtxt").write_text('item { name: "walk" id: 1 }\nitem { name: "jump" id: 3 }\n')
    cfg = make(classes=None, val_extra={"evaluation": {"labelmap_file": "map.pbtxt"}})
    assert build_datasets(cfg, "test")[0].annotations.classes.names == ("walk", "2", "jump")
    assert build_datasets(cfg, "train")[0].annotations.classes.names == ("1", "2", "3")
    # Names that one of the sets lacks are no fault.
    set_num_classes(cfg, build_datasets(cfg, "train") + build_datasets(cfg, "test"))


# --- boxes


@pytest.mark.parametrize("boxes, detected", [("auto", True), ("detected", True), ("ground_truth", False)])
def test_which_boxes_are_tested(make, tmp_path, boxes, detected):
    extra = {"person_boxes": write_boxes(tmp_path, 0.9, 0.5)}
    cfg = make(train_extra=extra, val_extra=extra, opts=["TEST.BOXES", boxes])
    [dataset] = build_datasets(cfg, "test")
    assert dataset.uses_detections == detected
    assert len(dataset) == (1 if detected else 2)
    assert len(dataset[0].persons) == 1
    assert not build_datasets(cfg, "train")[0].uses_detections


@pytest.mark.parametrize("boxes", ["auto", "ground_truth"])
def test_annotated_boxes_without_a_box_file(make, boxes):
    assert not build_datasets(make(opts=["TEST.BOXES", boxes]), "test")[0].uses_detections


def test_box_faults(make, tmp_path):
    with pytest.raises(ConfigError, match="TEST.BOXES is 'detected', but data set .* has no file of detected persons"):
        build_datasets(make(opts=["TEST.BOXES", "detected"]), "test")
    with pytest.raises(
        ConfigError, match="TEST.BOXES is 'some', expected 'auto', 'detected', 'head', 'ground_truth' or 'both'"
    ):
        build_datasets(make(opts=["TEST.BOXES", "some"]), "test")
    with pytest.raises(
        DataError, match="none.json: the file of detected persons .* does not exist.*TEST.BOXES ground_truth"
    ):
        build_datasets(make(val_extra={"person_boxes": "none.json"}), "test")
    cfg = make(val_extra={"person_boxes": write_boxes(tmp_path, 0.7, 0.6)})
    with pytest.raises(DataError, match="no usable box has a score of at least TEST.BOX_THRESH 0.8 .2 are below"):
        build_datasets(cfg, "test")


@pytest.mark.parametrize(
    "active, blocks, most, wanted",
    [(True, ["P", "O", "M"], 2, 2), (True, [["P", "M"], ["O"]], 1, 1), (True, ["P", "M"], 2, 0), (False, ["O"], 2, 0)],
)
def test_objects(make, tmp_path, active, blocks, most, wanted):
    opts = ["MODEL.IA_STRUCTURE.ACTIVE", active, "MODEL.IA_STRUCTURE.MAX_OBJECT", most]
    extra = {"object_boxes": write_boxes(tmp_path, 0.3, 0.9, 0.5, name="objects.json")}
    cfg = make(train_extra=extra, val_extra=extra, opts=opts)
    cfg.MODEL.IA_STRUCTURE.I_BLOCK_LIST = blocks
    for split in ("train", "test"):
        [dataset] = build_datasets(cfg, split)
        objects = dataset[int(split == "train")].objects
        assert (objects is not None) == bool(wanted)
        if wanted and split == "test":
            assert objects.xyxy[:, 0].tolist() == {2: [7, 6], 1: [6]}[wanted]  # ascending score
            batch = next(iter(build_loader(cfg, dataset, train=False)))
            assert [len(boxes) for boxes in batch.objects] == [wanted]


def test_objects_are_missing(make):
    cfg = make(opts=["MODEL.IA_STRUCTURE.ACTIVE", True, "MODEL.IA_STRUCTURE.MAX_OBJECT", 5])
    with pytest.raises(
        ConfigError, match="I_BLOCK_LIST has an 'O' block, but data set .* has no file of detected objects"
    ):
        build_datasets(cfg, "train")


# --- faults


def test_empty_training_set(make):
    with pytest.raises(
        DataError, match="training set .* is empty: .*train.csv has 2 usable keyframes, but none with a"
    ):
        build_datasets(make(train="m,1\nm,2\n"), "train")
    with pytest.raises(DataError, match="Dropped: boxes, zero or negative size: 1: line 1, m at 1 s"):
        build_datasets(make(train="m,1,0.5,0.5,0.5,0.9,1,1\n"), "train")
    cfg = make()
    cfg.DATASETS.TRAIN = ()
    with pytest.raises(ConfigError, match="DATASETS.TRAIN is empty"):
        build_datasets(cfg, "train")


def test_missing_video_is_named_before_training(make):
    rows = TRAIN + "gone,1,0,0,1,1,1,1\n"
    with pytest.raises(VideoError, match="1 of its videos cannot be used(.|\n)*gone: not found"):
        build_datasets(make(train=rows), "train")
    [dataset] = build_datasets(make(train=rows, opts=["DATASETS.ON_ERROR", "skip"]), "train")
    assert len(dataset) == 5 and dataset.report.num_dropped("videos that cannot be used") == 1


def test_unknown_class(make):
    with pytest.raises(
        DataError, match=r"line 6 has the action id '9', which is not in the class list: 3 classes.*classes"
    ):
        build_datasets(make(train=TRAIN + "m,1,0,0,1,1,9,1\n"), "train")


def test_batch_must_be_shared_evenly(make):
    cfg = make()
    [dataset] = build_datasets(cfg, "train")
    with pytest.raises(ConfigError, match="SOLVER.VIDEOS_PER_BATCH is 2, expected a multiple of the 3 processes"):
        build_loader(cfg, dataset, train=True, world_size=3)
    shares = [list(build_loader(cfg, dataset, train=True, rank=rank, world_size=2)) for rank in (0, 1)]
    assert all(len(batch) == 1 for share in shares for batch in share) and [len(share) for share in shares] == [4, 4]


def test_split_name(make):
    with pytest.raises(ValueError, match="split: got 'val'"):
        build_datasets(make(), "val")


def test_set_that_is_not_generated(make, monkeypatch, tmp_path):
    monkeypatch.setattr(DatasetCatalog, "DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    cfg = make()
    cfg.DATASETS.TRAIN = ("quickstart_train",)
    with pytest.raises(DataError, match="quickstart_train has no videos or annotations yet"):
        build_datasets(cfg, "train")
