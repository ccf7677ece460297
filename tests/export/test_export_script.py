"""tools/export.py: a checkpoint becomes a file with its facts, or nothing and one clear message."""

import importlib.util
import json
import shutil
import sys
from dataclasses import replace

import pytest
import run_kit
import torch
from prediction_kit import IA, INTERACTION, save_network
from videos import numbered_frames, write_video

from alphaction.errors import ConfigError, UserError
from alphaction.export import script
from alphaction.export.formats import FACTS_FILE
from alphaction.export.script import ExportChoice, export_to_file

POM = [*INTERACTION, IA + "I_BLOCK_LIST", ["P", "O", "M"], IA + "ALLOW_NO_OBJECTS", True]


@pytest.fixture(autouse=True)
def _own_state():
    with run_kit.own_state():
        yield


@pytest.fixture(scope="module")
def checkpoint(config, tmp_path_factory):
    return save_network(tmp_path_factory.mktemp("weights"), config, *POM)


def choice_of(checkpoint, output, **changes):
    return replace(ExportChoice(output=output, format="torchscript", weights=str(checkpoint)), **changes)


def test_the_file_is_compared_on_the_test_set_and_tells_what_it_needs(checkpoint, tmp_path, capsys):
    output = tmp_path / "new" / "network.pt"
    found = export_to_file(choice_of(checkpoint, output))
    assert [(one.clips, one.persons, one.objects) for one in found] == [
        (1, 2, 3), (1, 1, 1), (2, 4, 6), (2, 12, 8), (1, 0, 0),
    ]  # fmt: skip
    assert max(one.largest for one in found) < 1e-4
    assert sorted(path.name for path in output.parent.iterdir()) == ["network.pt", "network.pt.json"]
    told = capsys.readouterr().out
    assert "the file and PyTorch on tiny_val (yard 0.5 s, yard 1 s):" in told
    assert "PyTorch 0." in told and f"written: {output}" in told
    facts = json.loads((output.parent / "network.pt.json").read_text())
    extra = {FACTS_FILE: ""}
    loaded = torch.jit.load(str(output), _extra_files=extra)
    assert json.loads(extra[FACTS_FILE]) == facts
    assert facts["classes"] == ["walk", "run", "wave"] and facts["class_ids"] == [1, 2, 3]
    assert list(facts["inputs"]) == ["slow", "fast", "sizes", "boxes", "objects", "memory"]
    assert facts["inputs"]["fast"] == "uint8 [clips, 3, 8, height, width]"
    assert facts["inputs"]["memory"] == "float32 [clips, 5, 2, 576]"
    assert facts["frames"]["fast_at"] == list(range(8)) and facts["frames"]["keyframe_at"] == 4
    assert facts["memory"]["seconds_between_moments"] == 0.5 and facts["limits"] == {"persons": 3, "objects": 2}
    assert len(list(loaded.graph.inputs())) == 1 + len(facts["inputs"])  # and the module itself


def test_one_size_and_float_pixels_on_drawn_figures(checkpoint, tmp_path, capsys):
    output = tmp_path / "network.pt"
    options = ("DATASETS.TEST", "()")
    found = export_to_file(choice_of(checkpoint, output, size=(40, 56), pixels="float32", options=options))
    assert {one.size for one in found} == {(40, 56)} and max(one.largest for one in found) < 1e-4
    assert "a video of drawn figures" in capsys.readouterr().out
    facts = json.loads((tmp_path / "network.pt.json").read_text())
    assert facts["inputs"]["slow"] == "float32 [clips, 3, 2, 40, 56]" and facts["size"]["fixed"] == [40, 56]


def test_a_video_with_a_file_of_boxes(checkpoint, tmp_path, capsys):
    video = write_video(tmp_path / "in.mp4", numbered_frames(50))
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("time,x1,y1,x2,y2,score\n0.4,10,5,40,45,0.9\n1.2,20,5,60,40,0.9\n1.2,50,8,80,45,0.8\n")
    found = export_to_file(choice_of(checkpoint, tmp_path / "n.pt", video=str(video), boxes=str(boxes)))
    assert [(one.clips, one.persons) for one in found[:3]] == [(1, 1), (1, 1), (2, 3)]
    assert f"video {video}, boxes of {boxes}" in capsys.readouterr().out
    found = export_to_file(choice_of(checkpoint, tmp_path / "n.pt", video=str(video)))
    assert found[0].persons == 3
    assert "made-up boxes" in capsys.readouterr().out


def test_nothing_is_left_of_a_file_that_differs(checkpoint, tmp_path, monkeypatch):
    old = tmp_path / "network.pt"
    old.write_text("old")
    monkeypatch.setattr(script, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match=r"network.pt: not written: the torchscript file differs from PyTorch by "):
        export_to_file(choice_of(checkpoint, old))
    assert [path.name for path in tmp_path.iterdir()] == ["network.pt"] and old.read_text() == "old"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": ("TEST.PRECISION", "bfloat16")}, "TEST.PRECISION: got bfloat16, expected float32"),
        ({"options": ("TEST.PRECISION", "float16")}, "TEST.PRECISION: got float16, expected float32"),
        ({"options": ("QUIRKS.RANDOM_CHOICE_IN_TEST", "True")}, "QUIRKS.RANDOM_CHOICE_IN_TEST: got True"),
        ({"size": (16, 64)}, "--height, --width: got 16 and 64, expected pixels, 32 or more"),
        ({"boxes": "boxes.csv"}, "--boxes boxes.csv: got no video that they belong to; add --video FILE"),
        ({"format": "torch.export"}, r"--output: got .*network.pt, expected a name that ends in .pt2"),
    ],
)
def test_what_cannot_be_exported_is_refused_by_name(checkpoint, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        export_to_file(choice_of(checkpoint, tmp_path / "network.pt", **changes))
    assert not list(tmp_path.iterdir())


def test_no_folder_and_no_checkpoint_is_replaced(checkpoint, tmp_path):
    for name in ("a.pt", "b.pt.json"):
        (tmp_path / name).mkdir()
        with pytest.raises(UserError, match=f"{name}: is a folder, expected a file or nothing"):
            export_to_file(choice_of(checkpoint, tmp_path / name.removesuffix(".json")))
    weights = shutil.copy(checkpoint, tmp_path / "c.pt")
    with pytest.raises(ConfigError, match="--output: .*c.pt is the checkpoint itself"):
        export_to_file(choice_of(weights, tmp_path / "c.pt"))


def test_a_test_set_that_cannot_be_read_is_told(checkpoint, tmp_path, capsys):
    export_to_file(choice_of(checkpoint, tmp_path / "n.pt", options=("DATASETS.TEST", "('gone.yaml:val',)")))
    told = capsys.readouterr()
    assert "DATASETS.TEST cannot be read, the file is compared on drawn figures" in told.out + told.err


def test_the_person_head_is_left_out_and_said_so(config, tmp_path, capsys):
    options = ["MODEL.ROI_PERSON_HEAD.ACTIVE", True, "MODEL.ROI_PERSON_HEAD.CHANNELS", 8]
    checkpoint = save_network(tmp_path, config, *options)
    export_to_file(choice_of(checkpoint, tmp_path / "n.pt"))
    told = capsys.readouterr()
    assert "The person head (MODEL.ROI_PERSON_HEAD) is not in the file" in told.out + told.err
    assert json.loads((tmp_path / "n.pt.json").read_text())["person_head"] == "not in this file"


def test_a_height_without_a_width_is_a_wrong_flag(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("export_tool", run_kit.ROOT / "tools" / "export.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(sys, "argv", ["export.py", "--format", "onnx", "--output", "x.onnx", "--height", "64"])
    with pytest.raises(SystemExit) as end:
        tool.main()
    assert end.value.code == 2 and "give both, or neither for any size" in capsys.readouterr().err
