"""Whole runs of models with interaction structures: three short videos, a very small network, a few iterations."""

import json
import math
from dataclasses import replace

import pytest
import run_kit
import torch
from memory_kit import loss_of
from run_kit import SECONDS, TRAIN_VIDEOS, VAL_VIDEOS

from alphaction.config import load_config
from alphaction.dataset import build_datasets, build_loader, set_num_classes
from alphaction.engine.memory import MEMORY, PersonMemory
from alphaction.engine.predict import predict, predict_with_memory
from alphaction.modeling import build_detection_model, build_postprocess
from alphaction.structures import FeatureMemory, MemorySpan

IA = "MODEL.IA_STRUCTURE."
WIDTH = 576  # of Slowfast-Tiny's features
OPTS = [
    *[IA + "ACTIVE", True, IA + "DIM_IN", WIDTH, IA + "DIM_INNER", 16, IA + "DIM_OUT", 16, IA + "MAX_OBJECT", 2],
    *[IA + "MAX_PERSON", 3, IA + "MAX_PER_SEC", 2, IA + "LENGTH", (2, 2), IA + "MEMORY_STEP", 0.5],
    *[IA + "USE_ZERO_INIT_CONV", False, IA + "LAYER_NORM", True, IA + "DROPOUT", 0.2],
]
STRUCTURES = {
    "serial": ["P", "O", "M", "P", "O", "M"],
    "dense": ["P", "O", "M", "P", "O", "M"],
    "parallel": [["P", "O", "M"], ["P", "O", "M"]],
}


def blocks(structure, layout=None):
    return [
        *OPTS,
        IA + "STRUCTURE",
        structure,
        IA + "I_BLOCK_LIST",
        STRUCTURES[structure] if layout is None else layout,
    ]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """The tiny set with an object in every keyframe but the last of each video, two in the first."""
    path = run_kit.write_dataset(tmp_path_factory.mktemp("tiny"))
    for name, movies in (("train", TRAIN_VIDEOS), ("val", VAL_VIDEOS)):
        boxes = [
            {"image_id": f"{movie}/{time}", "bbox": [5 + 9 * i, 7, 20, 12], "score": 0.5 + i / 8}
            for movie in movies
            for k, time in enumerate(SECONDS[:-1])
            for i in range(2 - k)
        ]
        (path.parent / f"{name}_objects.json").write_text(json.dumps(boxes))
    text = path.read_text()
    for name in ("train", "val"):
        text = text.replace(f"{name}.csv}}", f"{name}.csv, object_boxes: {name}_objects.json}}")
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def config(dataset):
    return run_kit.write_config(dataset.parent / "tiny.yaml", dataset)


def memory_in(path):
    return torch.load(path, weights_only=True).get(MEMORY)


def losses_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss_action"] for line in lines if "loss_action" in line]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_training_fills_the_memory_and_goes_on_with_it(structure, config, tmp_path):
    opts = [*blocks(structure), "SOLVER.MAX_ITER", 6, "SOLVER.STEPS", (9,)]
    run_kit.train(config, tmp_path / "whole", *opts)
    assert all(math.isfinite(loss) for loss in losses_of(tmp_path / "whole"))
    memory = memory_in(tmp_path / "whole" / "model_0000004.pth")
    assert memory["movies"] and set(memory["movies"]) <= set(TRAIN_VIDEOS)
    # Six keyframes with two persons each, two clips per iteration: after four iterations all of them were seen.
    assert memory["count"].tolist() == [2] * 6 and sorted(memory["time"].tolist()) == sorted(SECONDS * 2)
    assert memory["blocks"][0][:12].abs().sum() > 0 and memory["last_loss"] > 0
    assert memory_in(tmp_path / "whole" / "model_final.pth") is None

    for iterations in (2, 6):  # killed after two, and started again
        run_kit.train(config, tmp_path / "halves", *opts, "SOLVER.MAX_ITER", iterations, skip_final_test=True)
        if iterations == 2:  # a run that is killed leaves no final model
            (tmp_path / "halves" / "last_checkpoint").write_text("model_0000002.pth")
    for name in ("model_0000004.pth", "model_final.pth"):
        assert run_kit.same_weights(tmp_path / "whole" / name, tmp_path / "halves" / name)
    again = memory_in(tmp_path / "halves" / "model_0000004.pth")
    stores = []
    for state in (memory, again):
        stores.append(FeatureMemory(WIDTH, step=0.5))
        stores[-1].load_state_dict(state)
    for movie in TRAIN_VIDEOS:
        for time in SECONDS:
            assert torch.equal(*(store.get((movie, time)) for store in stores))
            assert loss_of(stores[0], (movie, time)) == loss_of(stores[1], (movie, time))
    log = (tmp_path / "halves" / "log.txt").read_text()
    assert "The memory goes on with 8 persons of 4 keyframes" in log


@pytest.mark.parametrize(
    "opts",
    [
        blocks("serial", ["P", "O"]),
        blocks("serial", ["M"]),
        blocks("dense", ["P", "M", "P"]),
        blocks("parallel", [["O", "M"], ["P"]]),
        [*blocks("serial"), IA + "FUSION", "add", IA + "DIM_OUT", WIDTH, IA + "PENALTY", False],
        [*blocks("serial"), IA + "MEMORY_DTYPE", "float16", IA + "TEMPORAL_POSITION", False],
    ],
    ids=["no memory", "memory alone", "dense without objects", "parallel", "added, no penalty", "half precision"],
)
def test_other_structures(opts, config, tmp_path):
    run_kit.train(config, tmp_path, *opts, "SOLVER.MAX_ITER", 2)
    assert all(math.isfinite(loss) for loss in losses_of(tmp_path))
    [result] = run_kit.test(config, tmp_path, *opts)
    assert 0 <= result.mAP <= 1
    has_memory = "M" in str(opts[opts.index(IA + "I_BLOCK_LIST") + 1])
    memory = memory_in(tmp_path / "model_0000002.pth")
    assert (memory is not None) == has_memory
    if has_memory:
        assert memory["blocks"][0].dtype == (torch.float16 if "float16" in opts else torch.float32)


def test_objects_that_are_not_there(dataset, tmp_path, capsys):
    bare = dataset.parent / "bare.yaml"
    bare.write_text(dataset.read_text().replace(", object_boxes: train_objects.json", ""))
    config = run_kit.write_config(tmp_path / "config.yaml", bare)
    message = run_kit.fail_train(capsys, config, tmp_path / "run", *blocks("serial"))
    assert "data set tiny_train has no file of detected objects" in message
    assert "MODEL.IA_STRUCTURE.ALLOW_NO_OBJECTS True" in message
    allowed = [*blocks("serial"), IA + "ALLOW_NO_OBJECTS", True, "SOLVER.MAX_ITER", 1]
    run_kit.train(config, tmp_path / "run", *allowed, skip_final_test=True)
    assert "Data set tiny_train has no file of detected objects: O blocks see none." in (
        (tmp_path / "run" / "log.txt").read_text()
    )


def test_a_memory_on_videos_with_one_moment_each(dataset, tmp_path, capsys):
    rows = [row for row in run_kit.rows_of(TRAIN_VIDEOS) if row.time == SECONDS[0]]
    run_kit.write_csv(dataset.parent / "one.csv", rows)
    one = dataset.parent / "one.yaml"
    text = dataset.read_text().replace(
        "annotations: train.csv, object_boxes: train_objects.json", "annotations: one.csv"
    )
    one.write_text(text)
    config = run_kit.write_config(tmp_path / "config.yaml", one)
    message = run_kit.fail_train(capsys, config, tmp_path / "run", *blocks("serial", ["P", "M"]))
    assert "I_BLOCK_LIST has an 'M' block, but data set tiny_train has nothing to remember" in message
    assert "every video has keyframes at one moment only" in message
    run_kit.train(config, tmp_path / "run", *blocks("serial", ["P"]), "SOLVER.MAX_ITER", 1, skip_final_test=True)


class Case:
    """A fresh model and the test set."""

    def __init__(self, config, *opts):
        self.cfg = load_config(config, [str(value) for value in opts])
        [self.dataset] = build_datasets(self.cfg, "test")
        set_num_classes(self.cfg, [self.dataset])
        torch.manual_seed(0)
        self.model = build_detection_model(self.cfg)
        self.postprocess = build_postprocess(self.cfg)

    def batches(self, size):
        self.cfg.TEST.VIDEOS_PER_BATCH = size
        return build_loader(self.cfg, self.dataset, train=False)

    def memory(self):
        node = self.cfg.MODEL.IA_STRUCTURE
        return PersonMemory(
            FeatureMemory(WIDTH, step=node.MEMORY_STEP),
            MemorySpan(before=2, after=2, rate=1, persons=node.MAX_PER_SEC),
            key_of=self.dataset.annotations.key,
            device="cpu",
            penalty=False,
            random_choice=False,
        )

    def in_two_passes(self, batches, **options):
        return predict_with_memory(
            self.model, batches, self.postprocess, "cpu", memory=self.memory(), progress=False, **options
        )


def scores_match(a, b):
    assert (a.keyframe == b.keyframe).all() and (a.boxes == b.boxes).all()
    torch.testing.assert_close(torch.from_numpy(a.scores), torch.from_numpy(b.scores), rtol=1e-4, atol=1e-6)


def test_two_passes_are_one_where_no_block_asks_for_the_memory(config):
    case = Case(config, *blocks("serial", ["P", "O"]))
    one = predict(case.model, case.batches(2), case.postprocess, "cpu", progress=False)
    scores_match(case.in_two_passes(case.batches(2)), one)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_second_pass_knows_all_clips_whatever_the_batches(structure, config):
    case = Case(config, *blocks(structure))
    expected = case.in_two_passes(case.batches(1), clips_at_once=1)
    scores_match(case.in_two_passes(case.batches(2), clips_at_once=64), expected)
    scores_match(case.in_two_passes(reversed(list(case.batches(1))), clips_at_once=2), expected)
    alone = predict(case.model, case.batches(1), case.postprocess, "cpu", progress=False)  # no memory but its own
    assert abs(alone.scores - expected.scores).max() > 1e-5


def test_unreadable_and_empty_batches_are_left_out_of_both_passes(config):
    case = Case(config, *blocks("serial"))
    batches = list(case.batches(1))
    empty = replace(batches[1], persons=[batches[1].persons[0][:0]], regions=[batches[1].regions[0][:0]])
    predictions = case.in_two_passes([batches[0], None, empty, batches[2]])
    assert sorted(set(predictions.keyframe.tolist())) == sorted(batches[0].indices + batches[2].indices)
    assert len(case.in_two_passes([None])) == 0
