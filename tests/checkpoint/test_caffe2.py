import gzip
import os
import pickle

import goldens
import numpy as np
import pytest
import torch
from torch import nn

from alphaction.checkpoint import load_weights, read_checkpoint
from alphaction.checkpoint.caffe2 import caffe2_name
from alphaction.errors import CheckpointError

TABLES = goldens.load("checkpoint")["caffe2_names"]
LAST_LAYER = {"pred_w": np.full((3, 4), 2, "f4"), "pred_b": np.full(3, 3, "f4")}


class _Model(nn.Module):
    """The parts that the names tell apart: a stem as I3D's, or one of SlowFast, and the last layer."""

    def __init__(self, *, i3d):
        super().__init__()
        stem = nn.ModuleDict({"conv1": nn.Conv1d(2, 2, 1, bias=False), "bn1": nn.BatchNorm1d(2)})
        self.backbone = stem if i3d else nn.ModuleDict({"slow": stem})
        predictor = nn.ModuleDict({"cls_score": nn.Linear(4, 3)})
        self.roi_heads = nn.ModuleDict({"action": nn.ModuleDict({"predictor": predictor})})


def _write(folder, content, *, protocol=2):
    path = folder / "w.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("table", TABLES)
def test_names_equal_the_recorded_tables(table):
    assert {name: caffe2_name(name) for name in TABLES[table]} == TABLES[table]


@pytest.mark.parametrize("record", goldens.record_files("keys"))
def test_slowfast_has_names_for_the_last_layer_only(record):
    content = goldens.read_record(goldens.record_files("keys")[record])
    names = [name for name in content.get("keys") or content["state_dict"] if caffe2_name(name)]
    if record.startswith("i3d"):
        assert any(name.startswith("backbone.") for name in names)
    else:
        assert set(names) <= set(TABLES["slowfast_any"])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("under_blobs", [False, True])
def test_reads_what_numpy_writes(tmp_path, protocol, under_blobs):
    arrays = {
        "transposed": np.arange(6, dtype="f4").reshape(2, 3).T,
        "big_endian": np.arange(3, dtype=">f8"),
        "scalar": np.float32(2.5),
        "counter": np.array(7, dtype="i8"),
        "unsigned": np.array([1, 2], dtype="u4"),
        "empty": np.zeros((0, 2), dtype="f4"),
        "half": np.ones(2, dtype="f2"),
    }
    content = arrays | {"text": "x", "nothing": None, "words": np.array(["a"])}
    model = read_checkpoint(_write(tmp_path, {"blobs": content} if under_blobs else content, protocol=protocol))[
        "model"
    ]
    assert {name: value.tolist() for name, value in model.items()} == {
        name: value.tolist() for name, value in arrays.items()
    }
    assert model["big_endian"].dtype == torch.float64


def test_reads_what_python_2_wrote(tmp_path):
    """Names and array bytes are its byte strings."""
    data = np.array([1.5, -2.0], dtype="<f4").tobytes()
    head = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n(K\x00tU\x01b\x87R(K\x01(K\x02tcnumpy\ndtype\n(U\x02f4"
    )
    head += b"K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbI00\n"
    content = b"\x80\x02}U\x06pred_b" + head + b"U\x08" + data + b"tbs."
    path = tmp_path / "w.pkl"
    path.write_bytes(content)
    assert read_checkpoint(path)["model"]["pred_b"].tolist() == [1.5, -2.0]


def test_fills_an_i3d_body(tmp_path):
    model = _Model(i3d=True)
    blobs = LAST_LAYER | {
        "conv1_w": np.ones((2, 2, 1), "f4"),
        "res_conv1_bn_s": np.full(2, 5, "f4"),
        "res_conv1_bn_b": np.zeros(2, "f4"),
        "res_conv1_bn_rm": np.zeros(2, "f4"),
        "res_conv1_bn_riv": np.full(2, 9, "f4"),
        "conv1_w_momentum": np.ones((2, 2, 1), "f4"),
    }
    report = load_weights(model, read_checkpoint(_write(tmp_path, {"blobs": blobs}))["model"], source="w.pkl")
    assert (list(report.missing), list(report.unexpected)) == ([], ["conv1_w_momentum"])
    assert model.backbone["bn1"].running_var.tolist() == [9, 9]
    assert model.roi_heads["action"]["predictor"]["cls_score"].bias.tolist() == [3, 3, 3]
    report = load_weights(model, read_checkpoint(tmp_path / "w.pkl")["model"], source="w.pkl", no_head=True)
    assert len(report.left_out) == 2


def test_of_slowfast_only_the_last_layer_is_filled(tmp_path, caplog):
    """QUIRKS 102."""
    model = _Model(i3d=False)
    blobs = LAST_LAYER | {"conv1_w": np.ones((2, 2, 1), "f4")}
    weights = read_checkpoint(_write(tmp_path, blobs))["model"]
    report = load_weights(model, weights, source="w.pkl")
    assert sorted(report.loaded) == sorted(TABLES["slowfast_any"])
    assert "w.pkl: only the last layer was filled" in caplog.text
    with pytest.raises(CheckpointError, match="none of its 3 tensors fits the backbone"):
        load_weights(model, weights, source="w.pkl", no_head=True)


def test_other_class_counts_are_one_message(tmp_path):
    weights = read_checkpoint(_write(tmp_path, {"pred_w": np.ones((400, 4), "f4")}))["model"]
    with pytest.raises(CheckpointError, match="made for 400 classes, this model for 3 .*--no-head"):
        load_weights(_Model(i3d=False), weights, source="w.pkl")


class _Runs:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_is_refused(tmp_path, protocol):
    marker = tmp_path / "executed"
    path = _write(tmp_path, {"pred_w": _Runs(os.mkdir, (str(marker),))}, protocol=protocol)
    with pytest.raises(CheckpointError, match=r"w.pkl: refused, it holds a Python object \(posix.mkdir\)"):
        read_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "value", [np.array([{}], dtype=object), np.zeros(1, dtype=[("a", "f4")]), np.datetime64("now")]
)
def test_arrays_of_other_things_are_refused(tmp_path, value):
    with pytest.raises(CheckpointError, match="refused, it holds a Python object|damaged, or no pickle of numpy"):
        read_checkpoint(_write(tmp_path, {"a": value}))


def test_the_state_of_our_own_functions_cannot_be_set(tmp_path):
    path = tmp_path / "w.pkl"
    path.write_bytes(b"\x80\x02c_codecs\nencode\n}U\x01aK\x01sb.")
    with pytest.raises(CheckpointError, match="refused.*state of a function"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "w.pkl: the file is empty"),
        (pickle.dumps([1]), "holds a list, expected a dict of numpy arrays"),
        (pickle.dumps({"blobs": {}}), "holds no numpy arrays; .*got nothing"),
        (pickle.dumps({"cfg": "text", "epoch": 3}), "holds no numpy arrays; .*got 'cfg', 'epoch'"),
        (b"\x80\x02r\xff\xff\xff\x7f.", "damaged"),  # asks for a memo of 2 ** 31 places
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\x00\x00.", "damaged"),  # announces 2 ** 48 bytes
        (gzip.compress(pickle.dumps({"a": np.ones(2)})), "damaged, or no pickle of numpy arrays"),
    ],
)
def test_other_content(tmp_path, data, message):
    path = tmp_path / "w.pkl"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


@pytest.mark.parametrize("keep", [0.01, 0.5, 0.999])
def test_truncated(tmp_path, keep):
    path = _write(tmp_path, {"pred_w": np.ones((300, 4), "f4")})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(CheckpointError, match="w.pkl: the file is damaged"):
        read_checkpoint(path)


def test_an_array_of_a_wrong_size_is_damaged(tmp_path):
    data = pickle.dumps({"a": np.ones(2, "f4")}, protocol=4)
    path = tmp_path / "w.pkl"
    path.write_bytes(data.replace(b"K\x02\x85", b"K\x07\x85"))
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)
