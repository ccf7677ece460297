"""Files of other projects, read as MODEL.WEIGHT is."""

import pickle
from typing import ClassVar

import pytest
import torch
import zoo_kit

from alphaction.checkpoint import load_weights, read_checkpoint
from alphaction.checkpoint.contents import read_contents
from alphaction.checkpoint.zoo.formats import (
    CAFFE2_SLOWFAST,
    PREDICTOR,
    PYSLOWFAST,
    PYTORCHVIDEO_SLOWFAST_DETECTION,
)
from alphaction.engine.inspection.build import network_of
from alphaction.engine.inspection.report import Fit, compare, with_settings
from alphaction.errors import CheckpointError
from alphaction.modeling import build_detection_model

TINY = ["MODEL.BACKBONE.CONV_BODY", "Slowfast-Tiny", "MODEL.BACKBONE.SLOWFAST.BETA", 0.5]


class _Kept:
    """A small network in the form of PySlowFast, with its state by our names."""

    cfg = zoo_kit.config("slowfast_r50_8x8_pyslowfast", TINY, trainable_norms=True)
    torch.manual_seed(0)
    model = build_detection_model(cfg)
    state: ClassVar = model.state_dict()


def _fresh():
    return build_detection_model(_Kept.cfg)


def _theirs(table):
    names = table.to_theirs(_Kept.state)
    return {names[name]: tensor for name, tensor in _Kept.state.items() if name in names}


def _same(model, *, but=()):
    for name, tensor in model.state_dict().items():
        if name not in but:
            assert torch.equal(tensor, _Kept.state[name]), name


@pytest.mark.parametrize("prefix", ["", "module."])
def test_pyth_of_a_training_is_weights_only(tmp_path, prefix):
    weights = {prefix + name: tensor for name, tensor in _theirs(PYSLOWFAST).items()}
    content = {"epoch": 4, "model_state": weights, "optimizer_state": {"state": {}}, "cfg": "MODEL: {ARCH: slowfast}\n"}
    torch.save(content, tmp_path / "a.pyth")
    read = read_checkpoint(tmp_path / "a.pyth")
    assert read["zoo"] == "PySlowFast" and set(read) == {"model", "epoch", "cfg", "zoo", "zoo_notes"}
    model = _fresh()
    report = load_weights(model, read["model"], source="a.pyth")
    assert not report.missing and not report.unexpected and not report.by_ending
    _same(model)


def test_caffe2_file(tmp_path):
    blobs = {name: tensor.numpy() for name, tensor in _theirs(CAFFE2_SLOWFAST).items()}
    blobs["conv1_w_momentum"] = blobs["conv1_w"]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    read = read_checkpoint(tmp_path / "a.pkl")
    assert read["zoo"] == "PySlowFast (Caffe2)" and "1 tensors of the optimizer left out" in read["zoo_notes"][0]
    model = _fresh()
    report = load_weights(model, read["model"], source="a.pkl")
    assert not report.missing and not report.unexpected
    _same(model)


def test_what_the_network_has_no_place_for_is_told(tmp_path):
    weights = _theirs(PYSLOWFAST) | {"head.extra.weight": torch.ones(1)}
    del weights["s1_fuse.bn.bias"]
    torch.save({"model_state": weights}, tmp_path / "a.pyth")
    report = load_weights(_fresh(), read_checkpoint(tmp_path / "a.pyth")["model"], source="a.pyth")
    assert report.unexpected == ["head.extra.weight"] and report.missing == ["backbone.fast.Tconv1.bn.bias"]


def test_another_number_of_classes(tmp_path):
    weights = _theirs(PYSLOWFAST) | {"head.projection.weight": torch.ones(400, 576)}
    torch.save({"model_state": weights}, tmp_path / "a.pyth")
    read = read_checkpoint(tmp_path / "a.pyth")["model"]
    with pytest.raises(CheckpointError, match="its last layer is made for 400 classes, this model for 80 .* --no-head"):
        load_weights(_fresh(), read, source="a.pyth")
    model = _fresh()
    load_weights(model, read, source="a.pyth", no_head=True)
    _same(model, but=(PREDICTOR + "weight", PREDICTOR + "bias"))


def test_inspect_tells_the_format_and_the_fitting_configuration(tmp_path):
    state = zoo_kit.state("mmaction2", "slowfast_r50_8x8", device="cpu")
    weights = {f"backbone.{name}": tensor for name, tensor in state.items()}
    weights |= {
        "roi_head.bbox_head.fc_cls.weight": torch.ones(81, 2304),
        "roi_head.bbox_head.fc_cls.bias": torch.ones(81),
    }
    torch.save({"state_dict": weights, "meta": {"epoch": 10}}, tmp_path / "a.pth")
    contents = read_contents(tmp_path / "a.pth")
    assert "weights of mmaction2 SlowFast" in contents.text() and "row 0 (background)" in contents.text()
    verdicts = {}
    for name in ("slowfast_r50_8x8_mmaction2", "slowfast_r50_4x16_mmaction2", "slowfast_r50_8x8_pyslowfast"):
        network = network_of(zoo_kit.ROOT / "config_files" / f"{name}.yaml", num_classes=80)
        verdicts[name] = with_settings(
            compare(contents.weights, network, source="a.pth")[0], contents.project, network
        ).verdict
    assert verdicts["slowfast_r50_8x8_mmaction2"] == "fits" and set(verdicts.values()) == {"fits", "in part"}


def test_a_network_of_the_same_shapes_that_is_used_in_another_way():
    """PyTorchVideo's detector has PySlowFast's shapes; only how its regions are pooled differs."""
    network = network_of(zoo_kit.ROOT / "config_files" / "slowfast_r50_8x8_pytorchvideo.yaml", num_classes=80)
    assert with_settings(Fit("fits"), PYTORCHVIDEO_SLOWFAST_DETECTION.title, network) == Fit("fits")
    told = with_settings(Fit("fits"), PYSLOWFAST.title, network)
    assert told == Fit("shapes only", "trained with other values of MODEL.ROI_ACTION_HEAD.POOLER_ALIGNED")
    assert with_settings(Fit("start"), PYSLOWFAST.title, network) == Fit("start")  # the head is not theirs
    assert with_settings(Fit("fits"), "", network) == Fit("fits")
