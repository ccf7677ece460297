"""DATA.md: the commands of the sections on boxes and on AVA, word by word, on a very small AVA."""

from __future__ import annotations

import json
import pathlib
import re
import runpy
import shlex
import sys

import pytest
import torch
import videos
import yaml
from torchvision.models import get_model

from alphaction.config.dataset_file import read_dataset_file
from alphaction.dataset.annotations import read_annotations
from alphaction.dataset.box_files import read_boxes

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = (ROOT / "DATA.md").read_text(encoding="utf-8")
SMALL = "ssdlite320_mobilenet_v3_large"
ROWS = "mvX,0001,0.1,0.2,0.6,0.9,1,1\nmvX,0001,0.1,0.2,0.6,0.9,3,1\nmvX,0002,0.3,0.2,0.8,0.9,2,1\n"


def section(title: str) -> str:
    return re.search(rf"^{title}\n(.*?)(?=^## |^### |\Z)", TEXT, re.DOTALL | re.MULTILINE)[1]


def commands(text: str) -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("python ")]


@pytest.fixture
def place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A working directory with one movie of AVA, of three seconds, and a detector that knows nothing."""
    ava = tmp_path / "data" / "AVA"
    videos.write_video(ava / "movies" / "mvX.mp4", 75, 25)
    (ava / "annotations").mkdir()
    for split in ("train", "val"):
        (ava / "annotations" / f"ava_{split}_v2.2.csv").write_text(ROWS)
        (ava / "annotations" / f"ava_{split}_excluded_timestamps_v2.2.csv").touch()
    (ava / "annotations" / "ava_file_names_trainval_v2.1.txt").write_text("mvX.mp4\n")
    names = "".join(f'label {{\n  name: "action {i}"\n  label_id: {i}\n}}\n' for i in (1, 2, 3))
    (ava / "annotations" / "ava_action_list_v2.2.pbtxt").write_text(names)
    (ava / "annotations" / "ava_action_list_v2.2_for_activitynet_2019.pbtxt").write_text(names)
    torch.manual_seed(0)
    model = get_model(SMALL, weights=None, weights_backbone=None, num_classes=3)
    torch.save(model.state_dict(), tmp_path / "small.pth")
    monkeypatch.chdir(tmp_path)
    return ava


MORE = {
    "process_ava_videos.py": ["--start", "0", "--end", "4"],
    "csv2COCO.py": ["--start", "0", "--end", "2"],
    "detect_persons.py": f"--detector {SMALL} --weights small.pth --num-classes 3 --device cpu --num-workers 0 "
    "--min-score 0".split(),
    "check_dataset.py": [],
    "process_custom_videos.py": [],
}


def run(command: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    script, *flags = command
    monkeypatch.setattr(sys, "argv", [script, *flags, *MORE[pathlib.Path(script).name]])
    try:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    except SystemExit as end:
        return end.code
    return 0


def test_ava_step_by_step(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    steps = commands(section("### Step by step"))
    assert [pathlib.Path(step[0]).stem for step in steps] == [
        "process_ava_videos",
        *["csv2COCO"] * 2,
        *["detect_persons"] * 3,
    ]
    for step in steps:
        assert run(step, monkeypatch) == 0, capsys.readouterr().err
    ours = {str(path.relative_to(place)) for path in place.rglob("*.json")}
    listed = re.search(r"```\ndata/AVA/\n(.*?)```", section("## AVA v2.2"), re.DOTALL)[1]
    for name in re.findall(r"\w[\w.]*\.json", listed):
        assert any(path.endswith(name) for path in ours), name
    assert (place / "clips" / "trainval" / "mvX" / "2.mp4").is_file()
    raw = read_annotations(place / "annotations" / "ava_val_v2.2.json", num_classes=80)
    assert len(read_boxes(place / "boxes" / "ava_val_det_person_bbox.json", raw).keyframe) > 0
    capsys.readouterr()
    (check,) = commands(section("## AVA v2.2"))
    run(check, monkeypatch)
    report = capsys.readouterr().out
    assert "ava_video_train_v2.2" in report
    assert "not-found" not in report and "does not exist" not in report


def test_ava_without_cutting(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = section("### Without cutting and converting")
    (place / "dataset.yaml").write_text(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    command = shlex.split(re.search(r"# (python tools/detect_persons.*)", text)[1])[1:]
    assert run(command, monkeypatch) == 0
    entry = read_dataset_file("data/AVA/dataset.yaml", "val")
    assert json.loads(pathlib.Path(entry["box_file"]).read_text())
    for file in (entry["ann_file"], entry["video_root"], entry["classes"], *entry["eval_file_paths"].values()):
        assert pathlib.Path(file).exists(), file


def test_boxes(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = section("### Boxes of a detector")
    head = {"videos": str(place / "movies"), "classes": ["a", "b", "c"]}
    content = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    mine = pathlib.Path("data/my")
    (mine / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (mine / "annotations" / f"{split}.csv").write_text(ROWS)
    (mine / "dataset.yaml").write_text(yaml.safe_dump(head | content))
    for command in commands(text):
        assert run(command, monkeypatch) == 0
    for split in ("train", "val"):
        entry = read_dataset_file(str(mine / "dataset.yaml"), split)
        for file in filter(None, (entry["box_file"], entry["object_file"])):
            assert len(read_boxes(file, read_annotations(entry["ann_file"])).keyframe) > 0


def test_folders_of_the_guide(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "movies").rename("my")
    pathlib.Path("my").rename("videos")
    pathlib.Path("my").mkdir()
    pathlib.Path("videos").rename("my/videos")
    (command,) = commands(section("### The folders of the fine-tuning guide"))
    assert run(command, monkeypatch) == 0
    assert pathlib.Path("data/YOUR_DATASET/clips/train/mvX/0001.mp4").is_file()
    assert pathlib.Path("data/YOUR_DATASET/keyframes/train/mvX/0001.jpg").is_file()
