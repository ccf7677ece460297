import hashlib
import pathlib
import re
import subprocess
import sys

import pytest
import torch
from torchvision.models import ResNet50_Weights, ResNet101_Weights

from alphaction.checkpoint import read_checkpoint
from alphaction.config import load_config, validate
from alphaction.weights import TABLE, find
from alphaction.weights.__main__ import main

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _small_network():
    """A file of PySlowFast with a few tensors of our smallest network's names."""
    return {"s1.pathway0_stem.conv.weight": torch.ones(16, 3, 1, 7, 7), "s9.other": torch.ones(1)}


def _fails(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 1
    return capsys.readouterr().err


def test_the_table_is_consistent():
    assert len({row.name for row in TABLE}) == len({row.file for row in TABLE}) == len(TABLE)
    for row in TABLE:
        assert row.published and row.trained_on and row.licence
        assert re.fullmatch("[0-9a-f]*", row.sha256)
        if row.is_direct:
            assert row.url.startswith("https://") and row.url.endswith(pathlib.Path(row.file).suffix)
        if row.config:
            cfg = load_config(ROOT / "config_files" / f"{row.config}.yaml")
            validate(cfg)
            if not row.name.startswith("alphaction/"):
                assert not row.whole or f"data/models/{row.file}" == cfg.MODEL.WEIGHT


def test_files_of_mmaction2_and_torchvision_tell_their_checksum():
    assert find("mmaction2/slowfast_r50_8x8_ava22").sha256 == "d934a48f"
    assert find("resnet50_v1").sha256 == "0676ba61"
    assert find("pyslowfast/SLOWFAST_8x8_R50").sha256 == ""


def test_the_rows_of_torchvision_are_as_its_own_tables_have_them():
    for depth, theirs in ((50, ResNet50_Weights), (101, ResNet101_Weights)):
        for weights in theirs:
            row = find(f"torchvision/resnet{depth}_{weights.name[-2:].lower()}")
            assert row.url == weights.url
            assert row.published == f"{weights.meta['_metrics']['ImageNet-1K']['acc@1']:.1f} top-1"


def test_list_needs_no_pytorch():
    """Its import takes seconds, which a table is not worth."""
    code = "import sys; from alphaction.weights.__main__ import main; main(['list']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def test_list_says_when_nothing_has_the_text():
    with pytest.raises(SystemExit, match="no public weights have 'slowfst' in their name; `list` alone shows all"):
        main(["list", "slowfst"])


def test_list_shows_what_is_here(tmp_path, capsys):
    row = find("mmaction2/slowfast_r50_8x8_ava22")
    (tmp_path / row.file).parent.mkdir(parents=True)
    (tmp_path / row.file).write_bytes(b"")
    main(["list", "mmaction2", "--folder", str(tmp_path)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("mmaction2/")]
    assert {line[0]: line[-1] for line in lines} == {"mmaction2/slowfast_r50_4x16_ava21": "get", row.name: "yes"}


def test_get_uses_a_file_placed_by_hand(tmp_path, capsys):
    path = tmp_path / find("pyslowfast/SLOWFAST_8x8_R50").file
    path.parent.mkdir(parents=True)
    torch.save({"model_state": _small_network(), "cfg": "A: 1", "epoch": 3}, path)
    main(["get", "pyslowfast/SLOWFAST_8x8_R50", "--folder", str(tmp_path)])
    out = capsys.readouterr().out
    assert f"{path}: is there already; its checksum is not published" in out
    assert hashlib.sha256(path.read_bytes()).hexdigest() in out
    assert "weights of PySlowFast" in out and "config_files/slowfast_r50_8x8_pyslowfast.yaml" in out


def test_get_refuses_another_file_at_the_place(tmp_path, capsys):
    path = tmp_path / find("resnet50_v1").file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    error = _fails(capsys, ["get", "resnet50_v1", "--folder", str(tmp_path)])
    assert "expected one that begins with 0676ba61" in error and "Move it away" in error


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SlowFast-ResNet50-4x16", "Open https://drive.google.com/file/d/1hqFuhD1p0lMpl3Yi5paIGY-hlPTVYgyi/view"),
        ("resnet50_4x16f_serial", "no direct address is known; the original's MODEL_ZOO"),
        ("SLOWFAST_8x8_R50", "is the name of several: pyslowfast/SLOWFAST_8x8_R50, pytorchvideo/SLOWFAST_8x8_R50"),
        ("slowfast_8x8", "expected a name of `python -m alphaction.weights list`, such as"),
    ],
)
def test_get_explains_itself(tmp_path, capsys, name, words):
    error = _fails(capsys, ["get", name, "--folder", str(tmp_path)])
    assert words in error


def test_convert_writes_our_names(tmp_path, capsys):
    torch.save({"model_state": _small_network()}, tmp_path / "a.pyth")
    main(["convert", str(tmp_path / "a.pyth"), "--output", str(tmp_path / "out" / "b.pth")])
    assert "1 tensors have no place in our networks and were left out: s9.other" in capsys.readouterr().out
    content = read_checkpoint(tmp_path / "out" / "b.pth")
    assert list(content["model"]) == ["backbone.slow.conv1.weight"] and "zoo" not in content


def test_places_that_cannot_be_written_to(tmp_path, capsys):
    torch.save({"model_state": _small_network()}, tmp_path / "a.pyth")
    before = (tmp_path / "a.pyth").read_bytes()
    convert = ["convert", str(tmp_path / "a.pyth"), "--output"]
    assert "is a folder; name a file" in _fails(capsys, [*convert, str(tmp_path)])
    assert "is the file to read" in _fails(capsys, [*convert, str(tmp_path / "a.pyth")])
    missing = ["convert", str(tmp_path / "b.pyth"), "--output", str(tmp_path / "a.pyth")]
    assert f"{tmp_path / 'b.pyth'}: no such weight file" in _fails(capsys, missing)
    assert "a file stands in its place or above it" in _fails(capsys, [*convert, str(tmp_path / "a.pyth" / "b.pth")])
    assert "a file stands in its place" in _fails(capsys, ["get", "resnet50_v1", "--folder", str(tmp_path / "a.pyth")])
    assert [path.name for path in tmp_path.iterdir()] == ["a.pyth"] and (tmp_path / "a.pyth").read_bytes() == before


def test_convert_refuses_what_does_not_fit(tmp_path, capsys):
    torch.save({"model_state": _small_network()}, tmp_path / "a.pyth")
    arguments = ["convert", str(tmp_path / "a.pyth"), "--output", str(tmp_path / "b.pth"), "--config-file"]
    error = _fails(capsys, [*arguments, str(ROOT / "config_files" / "slow_r50_8x8_pyslowfast.yaml")])
    assert "does not fit" in error and not (tmp_path / "b.pth").exists()


def test_convert_asks_for_the_network_that_images_are_inflated_to(tmp_path, capsys):
    state = {"conv1.weight": torch.ones(64, 3, 7, 7), "layer1.0.conv3.weight": torch.ones(256, 64, 1, 1)}
    torch.save(state, tmp_path / "a.pth")
    error = _fails(capsys, ["convert", str(tmp_path / "a.pth"), "--output", str(tmp_path / "b.pth")])
    assert "inflated to the shapes of a network for clips; say which one with --config-file" in error
