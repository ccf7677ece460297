"""The guide's tools: create_annotations.py and generate_finetune_config.py."""

from __future__ import annotations

import json
import runpy
import sys

import pytest
import run_kit
import yaml
from source_kit import LAPTOP, expected, label_list, make_videos, plain_csv, run, written

from alphaction.errors import DataError
from alphaction.preparation.config_for import generate_config
from alphaction.preparation.prepare_coco import create_annotations
from alphaction.preparation.prepare_collect import DataOptions
from alphaction.preparation.prepare_report import ConfigWishes


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"))


def test_create_annotations_writes_the_guides_form(videos, tmp_path):
    options = DataOptions(str(videos), [str(plain_csv(tmp_path))])
    report = create_annotations(options, str(tmp_path / "annotations"), force=False)
    assert "Assumed:" in report and "train.json, val.json, val.csv" in report
    content = json.loads((tmp_path / "annotations" / "val.json").read_text())
    assert set(content["images"][0]) == {"id", "file_name", "width", "height"}
    assert content["images"][0]["file_name"].endswith("/0.4.jpg")
    entry = content["annotations"][0]
    assert entry["bbox"] == [4, 6, 24, 36] and entry["area"] == 864 and entry["iscrowd"] == 0
    assert content["categories"][0] == {"id": 1, "name": "run"}
    with pytest.raises(DataError, match=r"val.csv: exists already. To replace: --force"):
        create_annotations(options, str(tmp_path / "annotations"), force=False)
    run(tmp_path, videos, *sorted((tmp_path / "annotations").glob("*.json")))  # and they can be read again
    assert written(tmp_path / "out") == expected()


def test_a_configuration_for_a_set_that_is_there(videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(tmp_path, videos, plain_csv(tmp_path), from_scratch=True)
    dataset, output = tmp_path / "out" / "dataset.yaml", tmp_path / "config.yaml"
    names = {"train": f"{dataset}:train", "val": f"{dataset}:val", "output": str(output)}
    wishes = ConfigWishes(from_scratch=True)
    report = generate_config(**names, wishes=wishes, command="generate", machine=LAPTOP)
    assert "30 persons" in report and "Written:" in report
    ours = yaml.safe_load(output.read_text())
    assert ours == yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    with pytest.raises(DataError, match="exists already. To replace it: --force"):
        generate_config(**names, wishes=wishes, command="generate", machine=LAPTOP)
    with pytest.raises(DataError, match="is a folder; name a file"):
        generate_config(**(names | {"output": str(tmp_path)}), wishes=wishes, command="generate", force=True)
    assert "holds an earlier run" not in report
    (tmp_path / "data" / "output" / "out").mkdir(parents=True)
    (tmp_path / "data" / "output" / "out" / "last_checkpoint").write_text("model_final.pth")
    again = generate_config(**names, wishes=wishes, command="generate", machine=LAPTOP, force=True)
    assert "data/output/out holds an earlier run, which train_net.py would continue" in again


def test_their_command_lines(videos, tmp_path, monkeypatch, capsys):
    def call(tool: str, *flags: object) -> str:
        script = str(run_kit.ROOT / "tools" / tool)
        monkeypatch.setattr(sys, "argv", [script, *map(str, flags)])
        runpy.run_path(script, run_name="__main__")
        return capsys.readouterr().out

    labels = label_list(tmp_path)
    annotations = ("--videos", videos, "--annotations", plain_csv(tmp_path), "--classes", labels)
    call("create_annotations.py", *annotations, "--output", tmp_path / "coco", "--val-share", "0")
    assert [file.name for file in (tmp_path / "coco").iterdir()] == ["train.json"]
    call("prepare_dataset.py", *annotations, "--output", tmp_path / "set")
    told = call(
        "generate_finetune_config.py", "--dataset", tmp_path / "set" / "dataset.yaml", "--output", tmp_path / "a.yaml"
    )
    assert "The weights to start from are not there yet" in told
    assert (tmp_path / "a.yaml").read_text().startswith("# Made by: python tools/generate_finetune_config.py --dataset")
