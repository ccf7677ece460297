"""Two processes with two clips each train as one with four does: the same losses, metrics, mAP and weights."""

import json

import process_kit
import pytest
import run_kit
import torch

# Only what is computed clip by clip can be equal: no dropout (each process draws its own), no trainable batch norm.
EQUAL = [
    *["MODEL.ROI_ACTION_HEAD.DROPOUT_RATE", 0.0, "MODEL.BACKBONE.FROZEN_BN", True, "SOLVER.VIDEOS_PER_BATCH", 4],
    *["SOLVER.MAX_ITER", 6, "SOLVER.STEPS", "(5,)", "SOLVER.EVAL_PERIOD", 3, "SOLVER.MAX_GRAD_NORM", 1.0],
]
LOSS, WEIGHT = 1e-6, 2e-6  # largest differences that the order of sums may make

TRAIN = """
from alphaction.engine.build import TrainFlags, train_from_config
from alphaction.engine.script import run_script
run_script(lambda: train_from_config({config!r}, {opts}, TrainFlags({flags})))
"""


@pytest.fixture(scope="module")
def start(config, tmp_path_factory):
    """Weights whose batch norms have seen data."""
    folder = tmp_path_factory.mktemp("start")
    run_kit.train(config, folder, "SOLVER.MAX_ITER", 2, skip_final_test=True, skip_validation=True)
    return folder / "model_final.pth"


def figures(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("parts", [1, 2], ids=["whole", "in two parts"])
def test_two_processes_train_as_one(config, start, tmp_path, parts):
    opts = [*map(str, EQUAL), "MODEL.WEIGHT", str(start)]
    run_kit.train(config, tmp_path / "one", *opts, transfer=True)
    more = ["SOLVER.ACCUMULATION_STEPS", str(parts), "OUTPUT_DIR", str(tmp_path / "two")]
    code = TRAIN.format(config=str(config), opts=[*opts, *more], flags="transfer=True")
    with process_kit.start(code, 2, tmp_path) as members:
        assert [member.ends() for member in members] == [0, 0], members[0].text + members[1].text
    one, two = figures(tmp_path / "one"), figures(tmp_path / "two")
    assert [line["iteration"] for line in two] == [line["iteration"] for line in one]
    for ours, theirs in zip(two, one, strict=True):
        names = [name for name in theirs if "time" not in name and "memory" not in name]
        assert {name: ours[name] for name in names} == pytest.approx({name: theirs[name] for name in names}, abs=LOSS)
    ours, theirs = (run_kit.weights(tmp_path / name / "model_final.pth") for name in ("two", "one"))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=WEIGHT)
    before = run_kit.weights(start)
    moved = max((theirs[name] - before[name]).abs().max().item() for name in theirs if theirs[name].is_floating_point())
    assert moved > 1000 * WEIGHT  # the weights have moved by much more than that
