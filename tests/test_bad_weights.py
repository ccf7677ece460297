"""Weight files that cannot be used: training ends with one message, before it begins."""

import os
import pickle

import goldens
import numpy as np
import pytest
import run_kit
import torch
import torchvision

from alphaction.config import load_config
from alphaction.modeling import build_detection_model

R50 = ("MODEL.BACKBONE.CONV_BODY", "Slowfast-Resnet50")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return run_kit.write_config(folder / "config.yaml", run_kit.write_dataset(folder))


@pytest.fixture
def refuse(source, capsys, tmp_path):
    """Starts a training from weights; returns the one message."""

    def run(weight, *opts, **flags):
        message = run_kit.fail_train(capsys, source, tmp_path / "out", "MODEL.WEIGHT", weight, *opts, **flags)
        assert str(weight) in message
        assert not list((tmp_path / "out").glob("*.pth")) and not (tmp_path / "out" / "last_checkpoint").exists()
        return message.replace(str(weight), "FILE")

    return run


@pytest.fixture(scope="module")
def own(source):
    """Fresh weights of the configuration's own network, with names of three other classes than the data set's."""
    path = source.parent / "own.pth"
    model = build_detection_model(load_config(source)).state_dict()
    torch.save({"model": model, "classes": {"names": ["walk", "jump", "sleep"]}}, path)
    return path


def _recorded(path, name):
    record = goldens.read_record(goldens.record_files("keys", "*")[name])["state_dict"]
    torch.save({"model": {key: torch.zeros(()).expand(shape) for key, (shape, _) in record.items()}}, path)
    return path


def test_a_deeper_network(refuse, tmp_path):
    """ResNet-101 has every tensor of ResNet-50, in the same shapes."""
    message = refuse(_recorded(tmp_path / "r101.pth", "resnet101_8x8f_baseline"), *R50, no_head=True)
    assert message.startswith("FILE: it is made for a network of another depth (slow.res_nl3: 23 blocks in the file, 6")
    assert "CONV_BODY" in message


def test_another_body(refuse, tmp_path):
    message = refuse(_recorded(tmp_path / "r50.pth", "resnet50_4x16f_baseline"), no_head=True)
    assert "of its tensors have another shape than the model's: backbone.slow.conv1.weight ([64," in message
    assert "Use the configuration that the file was made with" in message


def test_an_image_network(refuse, tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    message = refuse(tmp_path / "resnet18.pth", no_head=True)
    assert "conv1.weight ([64, 3, 7, 7] in the file" in message or "none of its" in message


def test_a_pickle_with_code(refuse, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"model": {}, "x": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"pred_w": Evil()}))
    for name in ("evil.pth", "evil.pkl"):
        assert refuse(tmp_path / name).startswith("FILE: refused, it holds a Python object (posix.mkdir)")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("keep", "words"), [(0, "the file is empty"), (0.1, "the file is damaged, its end is missing")]
)
def test_a_file_without_its_end(refuse, own, tmp_path, keep, words):
    data = own.read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: int(keep * len(data))])
    assert words in refuse(tmp_path / "cut.pth")


def test_a_caffe2_file_of_another_network(refuse, tmp_path):
    (tmp_path / "c2.pkl").write_bytes(pickle.dumps({"blobs": {"conv1_w": np.ones(2, "f4")}}))
    assert refuse(tmp_path / "c2.pkl").startswith("FILE: none of its 1 tensors fits the backbone")


def test_another_number_of_classes(refuse, source, own, tmp_path):
    content = torch.load(own)
    for name, value in content["model"].items():
        if "cls_score" in name:
            content["model"][name] = torch.cat([value, value])[:5]
    content["classes"]["names"] += ["Wave", "crawl"]
    torch.save(content, tmp_path / "five.pth")
    message = refuse(tmp_path / "five.pth")
    assert "its last layer is made for 5 classes, this model for 3" in message
    assert "--no-head" in message and "COPY_ROWS_BY_NAME True and --transfer" in message and "(2 of them)" in message
    run_kit.train(
        source,
        tmp_path / "run",
        *("MODEL.WEIGHT", tmp_path / "five.pth", "MODEL.ROI_ACTION_HEAD.COPY_ROWS_BY_NAME", True),
        *("SOLVER.MAX_ITER", 1, "SOLVER.STEPS", "()"),
        skip_validation=True,
        skip_final_test=True,
    )
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "classes carried over 2: walk, wave" in log
    assert "classes initialised  1: run" in log
