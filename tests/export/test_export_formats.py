"""Files of all formats take any number of clips, boxes and pixels, and tell what they need."""

import importlib.util

import pytest
import torch
from export_kit import POM, detector, expected, inputs_of

from alphaction.errors import ConfigError, UserError
from alphaction.export import formats
from alphaction.export.formats import FORMATS

# Fewer steps are written more quickly.
SMALL = [*POM, "MODEL.BACKBONE.SLOWFAST.FAST.ACTIVE", False, "MODEL.IA_STRUCTURE.DIM_IN", 512]
FACTS = {"classes": ["walk", "run", "schlägt"], "numbers": [1, 2.5]}
COUNTS = [([1], [0], (32, 48)), ([3, 2], [2, 1], (48, 32)), ([7, 0, 5], [4, 0, 3], (32, 48)), ([0], [0], (32, 48))]


@pytest.fixture(scope="module")
def network(config):
    torch.set_num_threads(1)
    return detector(config, *SMALL)


@pytest.fixture(scope="module")
def one_graph(network):
    """PyTorch's graph, which two formats are written from, is made once."""
    made = {}

    def graph_of(opened, example, *, any_size):
        assert any_size
        if not made:
            made[0] = ORIGINAL(opened, example, any_size=any_size)
        return made[0]

    return graph_of


ORIGINAL = formats.graph_of


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_computes_what_the_network_computes(network, one_graph, tmp_path, monkeypatch, name):
    kind = FORMATS[name]
    missing = [package for package in kind.packages if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: pip install 'alphaction[export]'")
    monkeypatch.setattr(formats, "graph_of", one_graph)
    model, opened, postprocess = network
    path = tmp_path / f"file{kind.suffix}"
    _, _, example = inputs_of(opened, [2, 1], [3, 2], size=(64, 96), channels=512)
    kind.write(opened, path, example=example, facts=FACTS, any_size=True)
    compute, facts = kind.read(path)
    assert facts == FACTS
    for persons, objects, size in COUNTS:
        batch, window, inputs = inputs_of(opened, persons, objects, size=size, channels=512)
        scores, features = expected(model, postprocess, batch, window)
        got_scores, got_features = compute(inputs)
        torch.testing.assert_close(got_scores, scores, atol=1e-5, rtol=0)
        torch.testing.assert_close(got_features, features, atol=1e-4, rtol=1e-4)


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(UserError, match="--format onnx: needs onnxscript, .* pip install onnxscript$"):
        FORMATS["onnx"].check_installed()
    FORMATS["torchscript"].check_installed()


def test_onnx_refuses_the_pooler_that_it_does_not_know(config, tmp_path):
    _, opened, _ = detector(config, "MODEL.ROI_ACTION_HEAD.POOLER_TYPE", "pooling3d")
    with pytest.raises(ConfigError, match="POOLER_TYPE: got 'pooling3d', .* export to torchscript or torch.export"):
        FORMATS["onnx"].write(opened, tmp_path / "x.onnx", example=(), facts={}, any_size=True)
