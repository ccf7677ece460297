"""The benchmark of the model step: its plain form is our network, and what it prints is consistent."""

import pathlib
import re

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = str(ROOT / "config_files" / "tiny.yaml")
IA = "MODEL.IA_STRUCTURE."
SMALL = [
    *["MODEL.BACKBONE.FROZEN_BN", "True", IA + "DIM_IN", "576", IA + "DIM_INNER", "16", IA + "DIM_OUT", "16"],
    *[IA + "LENGTH", "(3, 2)", IA + "MAX_PER_SEC", "2", IA + "MAX_OBJECT", "4", IA + "LAYER_NORM", "True"],
]
STRUCTURES = {
    "none": [],
    "dense": [IA + "ACTIVE", "True", IA + "STRUCTURE", "dense", IA + "I_BLOCK_LIST", "['P', 'O', 'M', 'P']"],
    "parallel": [
        *[IA + "ACTIVE", "True", IA + "STRUCTURE", "parallel"],
        *[IA + "I_BLOCK_LIST", "[['P', 'O', 'M'], ['P', 'O', 'M']]"],
    ],
}


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module; benchmarks/ is no package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import model

    return model


def case_of(benchmark, structure, *more):
    opts = [*SMALL, *STRUCTURES[structure], *more]
    return benchmark.Case(TINY, opts, 2, (48, 64), torch.device("cpu"))


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("mode", ["inference", "training step"])
def test_plain_form_is_the_same_network(benchmark, structure, mode):
    clock = benchmark.Clock(torch.device("cpu"), "wall")
    # Without dropout the gradients of both forms are the same but for the order of the sums.
    opts = ["MODEL.ROI_ACTION_HEAD.DROPOUT_RATE", "0.0", IA + "DROPOUT", "0.0"]
    case = case_of(benchmark, structure, *opts)
    rows = benchmark.measure(case, ["original", "ours"], mode, rounds=2, deadline=float("inf"), clock=clock)
    assert [row.form for row in rows] == ["original", "ours"]
    assert rows[0].difference == 0 and rows[0].ratios == [1.0, 1.0]
    assert 0 <= rows[1].difference < (1e-6 if mode == "inference" else 1e-4)
    assert all(min(row.seconds) > 0 and min(row.ratios) > 0 for row in rows)
    assert rows[0].cost == rows[1].cost and rows[0].cost.flops > 1e6 and rows[0].cost.bytes > 1e5


def test_weights_are_folded_once_for_all_rounds(benchmark):
    case = case_of(benchmark, "none")
    ours = benchmark.build_form("ours", case, benchmark.common_weights(case))
    ours.scores()
    cache = ours.model.backbone.slow.conv1._ready
    made = cache._kept
    ours.scores()
    assert made is not None and cache._kept is made


def test_other_weights_show(benchmark):
    case = case_of(benchmark, "none")
    weights = benchmark.common_weights(case)
    ours = benchmark.build_form("ours", case, weights)
    weights["backbone.fast.Tconv1.conv.bias"] += 0.1
    assert (benchmark.build_form("original", case, weights).scores() - ours.scores()).abs().max() > 1e-5


def test_nothing_of_the_plain_form_is_left_on_the_processor(benchmark):
    """Without a GPU, on fake tensors; tests/modeling/test_devices.py has ours."""
    opts = [*STRUCTURES["dense"], IA + "I_BLOCK_LIST", "['P', 'O', 'P']"]
    case = benchmark.Case(TINY, [*SMALL, *opts], 2, (48, 64), torch.device("cuda"))
    weights = benchmark.common_weights(case)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert benchmark.build_form("original", case, weights).scores().device.type == "cuda"


def test_table(benchmark, capsys):
    flags = ["--size", "48", "64", "--batch", "1", "--rounds", "1", "--no-memory", "--test"]
    benchmark.main(["--config-file", TINY, *flags])
    printed = capsys.readouterr().out
    assert "1 rounds" in printed
    header, *rows = [line.strip("| ").split(" | ") for line in printed.splitlines() if re.match(r"\| [io]", line)]
    assert [row[0] for row in rows] == ["original", "original-bf16", "ours", "ours-bf16"]
    for row in rows:
        figures = dict(zip(header, row, strict=False))
        assert float(figures["clips/s"]) * float(figures["seconds"]) == pytest.approx(1, rel=0.02)
        assert float(figures["GFLOP/s"]) == pytest.approx(float(figures["GFLOP"]) / float(figures["seconds"]), rel=0.02)
        assert float(figures["score difference"]) < (0.1 if "bf16" in row[0] else 1e-6)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config-file", "nowhere.yaml"], "nowhere.yaml"),
        (["--config-file", TINY, "--device", "tpu"], "got 'tpu', expected auto, cpu, cuda"),
        (["--config-file", TINY, "MODEL.BACKBONE.SLOWFAST.FAST.CONV4_NONLOCAL", "True"], "plain form"),
        (["--config-file", TINY, "--peers"], "PyTorchVideo"),
    ],
)
def test_mistakes(benchmark, flags, message):
    with pytest.raises(SystemExit) as error:
        benchmark.main(flags)
    assert message in str(error.value)


@pytest.mark.parametrize("flags", [["--size", "50", "64"], ["--batch", "0"], ["--rounds", "-1"]])
def test_numbers_that_cannot_be(benchmark, capsys, flags):
    with pytest.raises(SystemExit):
        benchmark.main(["--config-file", TINY, *flags])
    assert f"got {flags[1]!r}, expected" in capsys.readouterr().err
