import collections
import os
import warnings
import zipfile

import goldens
import numpy as np
import pytest
import torch

from alphaction.checkpoint import read_checkpoint
from alphaction.errors import CheckpointError

FORMATS = {"zip": {}, "legacy": {"_use_new_zipfile_serialization": False}}


@pytest.fixture(params=FORMATS, autouse=True)
def file_format(request):
    return FORMATS[request.param]


class _Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_reads_both_forms(tmp_path, file_format):
    state = collections.OrderedDict(a=torch.arange(3.0), b=torch.ones(2, 2))
    torch.save(state, tmp_path / "bare.pth", **file_format)
    torch.save({"model": state, "iteration": 7}, tmp_path / "full.pth", **file_format)
    bare, full = read_checkpoint(tmp_path / "bare.pth"), read_checkpoint(str(tmp_path / "full.pth"), verify=True)
    assert set(bare) == {"model"}
    assert full["iteration"] == 7
    for content in (bare, full):
        assert {name: value.tolist() for name, value in content["model"].items()} == {
            name: value.tolist() for name, value in state.items()
        }


def test_a_file_that_would_run_code_is_refused(tmp_path, file_format):
    marker = tmp_path / "executed"
    torch.save({"model": {"a": torch.ones(1)}, "x": _Evil(marker)}, tmp_path / "evil.pth", **file_format)
    with pytest.raises(CheckpointError, match=r"evil.pth: refused, it holds a Python object \(posix.mkdir\)"):
        read_checkpoint(tmp_path / "evil.pth")
    assert not marker.exists()


def test_a_whole_module_is_refused(tmp_path, file_format):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth", **file_format)
    with pytest.raises(CheckpointError, match="refused.*torch.nn.*state_dict"):
        read_checkpoint(tmp_path / "module.pth")


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.999])
def test_truncated(tmp_path, file_format, keep):
    torch.save({"model": {"a": torch.rand(1000)}}, tmp_path / "cut.pth", **file_format)
    data = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(CheckpointError, match=r"cut.pth: the file is (damaged|empty)"):
        read_checkpoint(tmp_path / "cut.pth")


def test_a_flipped_bit_is_found_when_asked_for(tmp_path, file_format):
    if file_format:
        pytest.skip("the old format has no checksums")
    torch.save({"model": {"a": torch.rand(100_000)}}, tmp_path / "bit.pth")
    data = bytearray((tmp_path / "bit.pth").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bit.pth").write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged .wrong checksum of its part bit/data/0"):
        read_checkpoint(tmp_path / "bit.pth", verify=True)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.pth", b"hello world", "not a checkpoint written by PyTorch; expected a file of torch.save"),
        ("a.pth", b"<!DOCTYPE html>" * 100, "not a checkpoint written by PyTorch"),
        ("a.pkl", b"hello world", "the file is damaged, or no pickle of numpy arrays"),
    ],
)
def test_other_files(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / name)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("seed", range(4))
def test_files_spoiled_at_random_are_refused_or_read(tmp_path, file_format, seed):
    """Whatever is wrong, it is one kind of error."""
    torch.save({"model": {"a": torch.rand(20)}, "iteration": 3}, tmp_path / "a.pth", **file_format)
    data, rng = (tmp_path / "a.pth").read_bytes(), np.random.default_rng(seed)
    refused = 0
    for _ in range(100):
        spoiled = bytearray(data)
        for place in rng.integers(len(data), size=rng.integers(1, 6)):
            spoiled[place] = rng.integers(256)
        (tmp_path / "b.pth").write_bytes(spoiled)
        try:
            read_checkpoint(tmp_path / "b.pth")
        except CheckpointError as error:
            assert str(error).startswith(f"{tmp_path / 'b.pth'}: ")
            refused += 1
    assert refused


def test_lack_of_memory(tmp_path):
    # A pickle (protocol 5) that announces an array of 2 ** 60 bytes.
    (tmp_path / "a.pkl").write_bytes(b"\x80\x05\x96" + (2**60).to_bytes(8, "little") + b".")
    with pytest.raises(
        CheckpointError, match=r"more memory than there is. It has 0.0 MiB: if that is little, it is damaged"
    ):
        read_checkpoint(tmp_path / "a.pkl")


def test_an_archive_with_an_impossible_end(tmp_path):
    torch.save({"model": {"a": torch.ones(1)}}, tmp_path / "a.pth")
    data = bytearray((tmp_path / "a.pth").read_bytes())
    locator = data.rfind(b"PK\x06\x07")
    assert locator > 0
    data[locator + 16] = 7  # so many disks
    (tmp_path / "a.pth").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"a\.pth: the file is damaged"):  # the reason depends on Python's version
        read_checkpoint(tmp_path / "a.pth")


def test_another_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("x.txt", "hello")
    with pytest.raises(CheckpointError, match="a zip archive, but not a checkpoint"):
        read_checkpoint(tmp_path / "a.pth")


def test_a_program_is_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "program.pt")
    with pytest.raises(CheckpointError, match="a TorchScript program"):
        read_checkpoint(tmp_path / "program.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, expected a dict of weights"),
        ({"state": 1, "epoch": 2}, "expected an entry 'model' or tensors by name, got 'state', 'epoch'"),
        ({}, "no weights found; .* got nothing"),
        ({"model": {"a": 1}}, "entry 'a' of 'model' is a int, expected a tensor"),
    ],
)
def test_other_content(tmp_path, file_format, content, message):
    torch.save(content, tmp_path / "a.pth", **file_format)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "a.pth")


def test_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as error:
        read_checkpoint("out/model.pth")
    assert f"out/model.pth: no such weight file (looked for {tmp_path}/out/model.pth)" in str(error.value)
    with pytest.raises(CheckpointError, match="MODEL_ZOO.md tells where to get this file"):
        read_checkpoint("data/models/pretrained_models/SlowFast-ResNet50-4x16.pth")
    with pytest.raises(CheckpointError, match="is a folder, expected a weight file such as"):
        read_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="weights are not downloaded by this program"):
        read_checkpoint("https://example.org/model.pth")


REFERENCE = goldens.load("reference_checkpoint")


@pytest.mark.parametrize("path", sorted(goldens.FOLDER.glob("reference_checkpoint_*.pth")), ids=lambda path: path.stem)
def test_reads_the_training_checkpoints_of_the_original(path):
    """They hold pickled objects of its memory pool, which torch's safe reader refuses."""
    content = read_checkpoint(path)
    assert {name: value.tolist() for name, value in content["model"].items()} == REFERENCE["model"]
    assert content["iteration"] == REFERENCE["iteration"]
    assert [group["lr"] for group in content["optimizer"]["param_groups"]] == REFERENCE["lr"]
    buffers = [state["momentum_buffer"] for _, state in sorted(content["optimizer"]["state"].items())]
    for buffer, (total, shape) in zip(buffers, REFERENCE["momentum_buffers"], strict=True):
        assert list(buffer.shape) == shape
        assert float(buffer.double().sum()) == pytest.approx(total, rel=1e-6)
    for name, value in REFERENCE["scheduler"].items():
        saved = content["scheduler"][name]
        assert (list(saved) if isinstance(value, list) else saved) == value

    pool = content["person_pool"]
    assert sum(len(seconds) for seconds in pool.values()) == len(REFERENCE["pool"])
    for wanted in REFERENCE["pool"]:
        boxes = pool[wanted["movie"]][wanted["second"]]
        assert all(type(movie) is str for movie in pool)
        assert boxes["bbox"].tolist() == wanted["boxes"]
        assert list(boxes["size"]) == wanted["size_wh"]
        features = boxes["extra_fields"]["pooled_feature"].reshape(len(wanted["boxes"]), -1)
        np.testing.assert_array_equal(features.numpy(), np.array(wanted["pooled_feature"], dtype=np.float32))
        assert boxes["extra_fields"]["loss_tag"] == wanted["loss_tag"]
