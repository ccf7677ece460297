import functools
import os
import pathlib
import pickle

import goldens
import numpy as np
import process_kit
import pytest
import run_kit
import torch

from alphaction.checkpoint import Checkpointer
from alphaction.checkpoint.__main__ import main
from alphaction.checkpoint.contents import clean, read_contents
from alphaction.config import load_config
from alphaction.engine.inspection import report
from alphaction.modeling import build_detection_model

CONFIGS = run_kit.ROOT / "config_files"
RELEASED = sorted(goldens.record_files("configs").keys() - {"defaults"})
CLASSES = ["walk", "run", "wave"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return run_kit.write_config(tmp_path_factory.mktemp("config") / "small.yaml")


@pytest.fixture(scope="module")
def checkpoint(config):
    """Of the small network, as a training writes it."""
    cfg = load_config(config)
    model = build_detection_model(cfg)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    checkpointer = Checkpointer(config.parent, model, optimizer=optimizer, class_names=CLASSES, config_text=cfg.dump())
    checkpointer.note_validation({"nest": 0.25}, iteration=40)
    return checkpointer.save("model_0000050", iteration=50)


def _inspect(capsys, *arguments):
    """The status and what was said."""
    capsys.readouterr()
    status = 0
    try:
        main(["inspect", *map(str, arguments)])
    except SystemExit as end:
        status = end.code
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    return status, shown.out + shown.err


def _recorded_state(config):
    """The recorded names and shapes of a released configuration, without memory for the numbers."""
    record = goldens.read_record(goldens.record_files("keys", "*")[config])["state_dict"]
    return {name: torch.zeros(()).expand(shape) for name, (shape, _) in record.items()}


def _verdicts(text):
    lines = text[text.index("Configurations:") :].splitlines()[1:]
    return {line.split()[0].removesuffix(".yaml"): line.split("  ", 2)[2].strip() for line in lines}


def test_what_a_checkpoint_holds(checkpoint, capsys):
    status, text = _inspect(capsys, checkpoint, "--config-folder", checkpoint.parent)
    assert status == 0
    for part in (
        "model_0000050.pth\n  format         checkpoint of alphaction ",
        "  weights        218 tensors (backbone 212, roi_heads 6), ",
        "  iteration      50\n",
        "  classes        3: walk, run, wave\n",
        "  best           nest: mAP 0.25 at iteration 40\n",
        "  configuration  MODEL.BACKBONE.CONV_BODY Slowfast-Tiny\n",
        "  also holds     random_states: list of 1 with ",
        "optimizer: dict of 2",
        "Configurations:\n  small.yaml  fits\n",
    ):
        assert part in text
    assert "IA_STRUCTURE.STRUCTURE" not in text


network_of = functools.cache(report.network_of)


@pytest.mark.parametrize("name", RELEASED)
def test_each_released_config_fits_its_recorded_weights_only(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report, "network_of", network_of)  # the networks of the shipped files are built once
    path = tmp_path / "weights.pth"
    torch.save(_recorded_state(name), path)
    status, text = _inspect(capsys, path, "--config-folder", CONFIGS)
    verdicts = _verdicts(text)
    assert status == 0
    assert {config for config in RELEASED if verdicts[config] == "fits"} == {name}
    body = name.split("_")[0]
    for config in set(RELEASED) - {name}:
        # The network without interaction is a part of those whose result is added to a person's feature.
        verdict = verdicts[config].split("  ")[0]
        assert verdict in (("loads", "start") if config.startswith(body) else ("no",)), config


def test_another_number_of_classes(checkpoint, config, capsys):
    key = "MODEL.ROI_ACTION_HEAD.NUM_CLASSES"
    assert _inspect(capsys, checkpoint, "--config-file", config)[0] == 0
    status, text = _inspect(capsys, checkpoint, "--config-file", config, key, 8)
    assert status == 1
    assert "loaded               216 of the model's 218 tensors (backbone 212 of 212)" in text
    assert "Slowfast-Tiny: all but classes (3 classes in the file, 8 here)" in text
    assert _inspect(capsys, checkpoint, "--config-file", config, key, 0)[0] == 0  # 0: the data set's number


def test_a_file_of_something_else(tmp_path, config, capsys):
    torch.save({"fc.weight": torch.ones(2, 2)}, tmp_path / "other.pth")
    status, text = _inspect(capsys, tmp_path / "other.pth", "--config-folder", config.parent)
    assert status == 0
    assert "no               none of the backbone's tensors is in the file" in text
    status, text = _inspect(capsys, tmp_path / "other.pth", "--config-file", config)
    assert status == 1


def test_a_configuration_that_cannot_be_built(tmp_path, checkpoint, capsys):
    (tmp_path / "wrong.yaml").write_text("MODEL: {BACKBONE: {CONV_BODY: Slowfast-Resnet9}}")
    status, text = _inspect(capsys, checkpoint, "--config-folder", tmp_path)
    assert status == 0
    assert "wrong.yaml  no               cannot be built: configuration: MODEL.BACKBONE.CONV_BODY" in text
    status, text = _inspect(capsys, checkpoint, "--config-file", tmp_path / "wrong.yaml")
    assert status == 1 and "error: configuration: MODEL.BACKBONE.CONV_BODY" in text
    (tmp_path / "empty").mkdir()
    assert "no file to compare with" in _inspect(capsys, checkpoint, "--config-folder", tmp_path / "empty")[1]


def test_a_checkpoint_of_the_original_with_its_memory(config, capsys):
    path = sorted(goldens.FOLDER.glob("reference_checkpoint_*.pth"))[0]
    text = _inspect(capsys, path, "--config-folder", config.parent)[1]
    assert "training checkpoint of the original or of another program" in text
    assert "person_pool: dict of " in text


def test_a_caffe2_file(tmp_path, config, capsys):
    path = tmp_path / "i3d.pkl"
    path.write_bytes(pickle.dumps({"blobs": {"pred_w": np.ones((3, 16), "f4"), "conv1_w": np.ones(2, "f4")}}))
    text = _inspect(capsys, path, "--config-folder", config.parent)[1]
    assert "Caffe2 weights (pickled arrays)" in text and "2 tensors (others 2)" in text


def test_hostile_texts_do_not_reach_the_terminal(tmp_path, config, capsys):
    loop = []
    loop.append(loop)
    content = {
        "model": {"backbone.\x1b[2J": torch.ones(1)},
        "classes": {"names": ["\x1b]0;title\x07", "x" * 10_000]},
        "config": "a: [" + "[" * 5000,
        "iteration": 3,
        "\x1b[31m": loop,
        "best": {"\x1b": {"mAP": "\x1b"}},
    }
    torch.save(content, tmp_path / "evil.pth")
    status, text = _inspect(capsys, tmp_path / "evil.pth", "--config-folder", config.parent)
    assert status == 0 and "\x1b" not in text and "\x07" not in text
    assert max(map(len, text.splitlines())) < 400
    assert "a text of 1 lines that is no configuration" in text
    status, text = _inspect(capsys, tmp_path / "evil.pth", "--config-file", config)
    assert status == 1 and "\x1b" not in text


def test_numbers_that_a_file_makes_up_take_no_memory(tmp_path):
    torch.save({"model": {"backbone.a": torch.zeros(1).expand(2**40)}}, tmp_path / "huge.pth")
    assert "1,099,511,627,776 numbers" in read_contents(tmp_path / "huge.pth").text()


def test_clean():
    assert clean("a\nb\x1b[0m\u202e") == "a?b?[0m?"
    assert clean("x" * 130) == "x" * 120 + "..."


def test_as_a_command(tmp_path):
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"a": pathlib.PurePosixPath("/"), "b": os.getcwd}))
    command = ("-m", "alphaction.checkpoint", "inspect", tmp_path / "evil.pth")
    with process_kit.script(*command, folder=tmp_path) as script:
        done = script.ends()
    assert done.returncode == 1 and done.stderr.startswith("error: ") and "refused" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_wrong_arguments(capsys):
    for arguments, wanted in ((["inspect", "--help"], 0), ([], 2), (["inspect"], 2)):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == wanted
    assert "Exit status" in capsys.readouterr().out
