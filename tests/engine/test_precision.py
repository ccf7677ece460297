"""TEST.PRECISION in whole runs."""

import pytest
import run_kit


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("precision")
    return run_kit.write_config(folder / "config.yaml", run_kit.write_dataset(folder / "data"))


def test_validation_and_test_compute_in_bfloat16(config, tmp_path):
    run_kit.train(config, tmp_path, "TEST.PRECISION", "bfloat16", "SOLVER.MAX_ITER", 2)
    line = "Tests and validations compute the backbone in bfloat16 (TEST.PRECISION)"
    assert line in (tmp_path / "log.txt").read_text()
    weights = run_kit.weights(tmp_path / "model_final.pth")
    assert all(str(value.dtype) != "torch.bfloat16" for value in weights.values())
    scores = []
    for precision in ("bfloat16", "float32"):
        run_kit.test(config, tmp_path, "TEST.PRECISION", precision)
        [rows] = (tmp_path / "inference").rglob("result.csv")
        scores.append([line.split(",") for line in rows.read_text().splitlines()])
    half, single = ({tuple(row[:7]): float(row[7]) for row in rows} for rows in scores)
    common = half.keys() & single.keys()
    assert len(common) > 0.8 * len(single)
    differences = [abs(half[key] - single[key]) for key in common]
    assert 0 < max(differences) < 0.02


def test_float16_is_for_gpus(capsys, config, tmp_path):
    message = run_kit.fail_train(capsys, config, tmp_path, "TEST.PRECISION", "float16", "MODEL.DEVICE", "cpu")
    assert "TEST.PRECISION: got float16, in which processors compute more slowly" in message
    assert "expected bfloat16 or float32" in message
