"""Training and testing that begin with files of other projects."""

import pytest
import run_kit
import torch
from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck

from alphaction.checkpoint.zoo.formats import MMACTION2_SLOWFAST, PYSLOWFAST

SLOWFAST = "MODEL.BACKBONE.SLOWFAST."
HEAD = "MODEL.ROI_ACTION_HEAD."
# Slowfast-Tiny in the form of PySlowFast, all classes independent.
KEYS = [
    *(SLOWFAST + "BETA", 0.5, SLOWFAST + "LATERAL_BIAS", False, SLOWFAST + "LATERAL_NORM", True),
    *(SLOWFAST + "LATERAL_RELU", True, SLOWFAST + "LATERAL_KERNEL", 7, SLOWFAST + "SLOW.CONV3_NONLOCAL", False),
    *(SLOWFAST + "SLOW.CONV4_NONLOCAL", False, "MODEL.BACKBONE.STEM_POOL_PADDING", 1),
    *(HEAD + "FEATURE_EXTRACTOR", "PooledFeatureExtractor", HEAD + "POOLER_ALIGNED", True),
    *("INPUT.SLOW_JITTER", False, "INPUT.SLOW_FRAMES", "spread"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(configuration, folder of a run with those keys)."""
    folder = tmp_path_factory.mktemp("zoo")
    config = run_kit.write_config(folder / "tiny.yaml", run_kit.write_dataset(folder))
    run_kit.train(config, folder / "run", *KEYS)
    return config, folder / "run"


def _as(table, state):
    names = table.to_theirs(state)
    assert set(names) == set(state)
    return {names[name]: tensor for name, tensor in state.items()}


def test_a_file_of_pyslowfast_is_tested_as_ours(trained, tmp_path):
    config, run = trained
    state = run_kit.weights(run / "model_final.pth")
    torch.save({"model_state": _as(PYSLOWFAST, state), "epoch": 1}, tmp_path / "theirs.pyth")
    ours = run_kit.test(config, tmp_path / "a", *KEYS, "MODEL.WEIGHT", run / "model_final.pth")
    theirs = run_kit.test(config, tmp_path / "b", *KEYS, "MODEL.WEIGHT", tmp_path / "theirs.pyth")
    assert [result.mAP for result in ours] == [result.mAP for result in theirs]
    (a,), (b,) = ([path.read_bytes() for path in sorted((tmp_path / name).rglob("*.csv"))][:1] for name in "ab")
    assert a == b, "scores and boxes"
    aligned = HEAD + "POOLER_ALIGNED"
    run_kit.test(config, tmp_path / "c", *KEYS, "MODEL.WEIGHT", tmp_path / "theirs.pyth", aligned, False)
    assert f"{aligned} False (theirs True)" in _log(tmp_path / "c") and "(theirs" not in _log(tmp_path / "a")


def _log(folder):
    return "".join(path.read_text() for path in folder.glob("*.txt"))


def test_a_file_of_mmaction2_begins_a_training(trained, tmp_path):
    config, run = trained
    state = _as(MMACTION2_SLOWFAST, run_kit.weights(run / "model_final.pth"))
    last = "roi_head.bbox_head.fc_cls."
    state[last + "weight"], state[last + "bias"] = torch.ones(81, state[last + "weight"].shape[1]), torch.ones(81)
    torch.save({"state_dict": state, "meta": {"epoch": 1}}, tmp_path / "theirs.pth")
    flags = {"transfer": True, "no_head": True}
    run_kit.train(config, tmp_path / "run", *KEYS, "MODEL.WEIGHT", tmp_path / "theirs.pth", **flags)
    text = _log(tmp_path / "run")
    [warning] = [line for line in text.splitlines() if "no tensor shows it" in line]
    assert "INPUT.SLOW_FRAMES 'spread' (theirs 'first')" in warning and "POOLER" not in warning
    assert "weights of mmaction2 SlowFast" in text and "row 0 (background)" in text


def test_a_network_for_images_begins_a_training(trained, tmp_path):
    config, _ = trained
    images = ResNet(Bottleneck, [1, 1, 1, 1], width_per_group=64)
    # Slowfast-Tiny has a quarter of its channels.
    state = {name: _quarter(name, tensor) for name, tensor in images.state_dict().items()}
    torch.save(state, tmp_path / "images.pth")
    flags = {"transfer": True, "no_head": True}
    run_kit.train(
        config, tmp_path / "run", *KEYS, "MODEL.WEIGHT", tmp_path / "images.pth", "SOLVER.BASE_LR", 1e-12, **flags
    )
    trained_state = run_kit.weights(tmp_path / "run" / "model_final.pth")
    torch.testing.assert_close(trained_state["backbone.slow.conv1.weight"][:, :, 0], state["conv1.weight"])
    first = "backbone.slow.res_nl1.res_0.btnk.conv1.conv.weight"
    assert trained_state[first][:, 16:].abs().max() < 1e-6


def _quarter(name, tensor):
    if tensor.ndim == 0 or name.startswith("fc."):
        return tensor
    tensor = tensor[: len(tensor) // 4]
    return tensor[:, : tensor.shape[1] // 4] if tensor.ndim > 1 and name != "conv1.weight" else tensor
