"""SOLVER.AUTO_SCALE in whole runs: scaled once, whether started, resumed, or started from the saved configuration."""

import json
import shutil

import pytest
import run_kit

from alphaction.config import load_config

SCALED = ("SOLVER.AUTO_SCALE", True, "SOLVER.VIDEOS_PER_BATCH", 1)  # the file's numbers are for 2 clips
QUIET = {"skip_validation": True, "skip_final_test": True}


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scaled")
    run_kit.train(config, folder, *SCALED, **QUIET)
    return folder


def rates(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["iteration"]: line["learning_rate"] for line in lines}


def test_twice_the_iterations_at_half_the_rate(finished):
    # Of the file: 4 iterations, 2 of them warm-up from a third of the rate, a tenth of it from the third on.
    third, full, tenth = 0.005 / 3, 0.005, 0.0005
    expected = [third + (full - third) * done / 4 for done in range(4)] + [full, full, tenth, tenth]
    assert list(rates(finished).values()) == pytest.approx(expected)
    assert {path.name for path in finished.glob("*.pth")} == {
        "model_0000004.pth",
        "model_0000008.pth",
        "model_final.pth",
    }
    log = (finished / "log.txt").read_text()
    assert "a batch of 1 clips instead of 2: rates times 1/2, iterations times 2" in log


def test_the_saved_configuration_gives_the_same_run(finished, tmp_path):
    run_kit.train(finished / "config.yaml", tmp_path, **QUIET)
    assert run_kit.same_weights(tmp_path / "model_final.pth", finished / "model_final.pth")
    assert rates(tmp_path) == rates(finished)
    again, first = (load_config(folder / "config.yaml") for folder in (tmp_path, finished))
    again.OUTPUT_DIR = first.OUTPUT_DIR
    assert again.dump() == first.dump()


def test_the_same_command_goes_on_with_the_same_schedule(config, finished, tmp_path):
    folder = tmp_path / "resumed"
    folder.mkdir()
    shutil.copy(finished / "model_0000004.pth", folder)
    (folder / "last_checkpoint").write_text("model_0000004.pth")
    run_kit.train(config, folder, *SCALED, **QUIET)
    assert rates(folder) == {i: rate for i, rate in rates(finished).items() if i > 4}
    assert run_kit.same_weights(folder / "model_final.pth", finished / "model_final.pth")
