"""docs/EXTENDING.md, followed to the letter in a copy of the package."""

from __future__ import annotations

import json
import pathlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys

import pytest
import run_kit
import source_kit

PAGE = (run_kit.ROOT / "docs" / "EXTENDING.md").read_text(encoding="utf-8")
DATA, HEAD, BACKBONE = (
    PAGE[PAGE.index(f"\n## {first}") : PAGE.find(f"\n## {then}") if then else None]
    for first, then in (("A data set", "A head"), ("A head", "A backbone"), ("A backbone", ""))
)

# Trains and tests in a process that sees the copy only; a run per list of keys. A refusal is told, and the next comes.
RUNS = """
import json, sys
from alphaction.engine.build import TrainFlags, test_from_config, train_from_config
from alphaction.errors import ConfigError
config, *runs = sys.argv[1:]
for opts in map(json.loads, runs):
    try:
        train_from_config(config, opts, TrainFlags(skip_validation=True, skip_final_test=True))
        test_from_config(config, opts)
    except ConfigError as error:
        print("refused:", error)
"""
ONE_STEP = ["SOLVER.MAX_ITER", "1", "SOLVER.WARMUP_ITERS", "0", "SOLVER.STEPS", "()", "TEST.NUM_PICTURES", "0"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The package with all edits of the page."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("alphaction", "config_files", "tools"):
        shutil.copytree(run_kit.ROOT / name, folder / name, ignore=ignored)
    for name, body in re.findall(r"\*\*(alphaction/[\w/]+\.py)\*\*:\n\n```python\n(.*?)```", PAGE, re.DOTALL):
        (folder / name).write_text(body, encoding="utf-8")
    for name, body in re.findall(r"`(alphaction/[\w/]+\.py)`:\n\n```diff\n(.*?)```", PAGE, re.DOTALL):
        path = folder / name
        path.write_text(_edited(path.read_text(encoding="utf-8"), body), encoding="utf-8")
    return folder


def _edited(text: str, diff: str) -> str:
    for hunk in diff.split("...\n"):
        lines = hunk.splitlines()
        old, new = ("".join(f"{line[1:]}\n" for line in lines if line[:1] != sign) for sign in "+-")
        assert text.count(old) == 1, f"the page shows lines that are not there, or more than once:\n{old}"
        text = text.replace(old, new)
    return text


def _run(copy: pathlib.Path, folder: pathlib.Path, *arguments: object) -> str:
    environment = {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_every_edit_of_the_page_is_made(copy):
    assert "nest_train" in (copy / "alphaction/config/paths_catalog.py").read_text()
    assert (copy / "alphaction/modeling/cosine_predictor.py").is_file()
    assert (copy / "alphaction/modeling/mc3.py").is_file()
    edits = len(re.findall(r"```diff\n", PAGE))
    assert edits == 6 == len(re.findall(r"`alphaction/[\w/]+\.py`:\n\n```diff\n", PAGE))


def test_data_set_head_and_backbone_train(copy, tmp_path):
    [yaml] = re.findall(r"```yaml\n(.*?)```", DATA, re.DOTALL)
    for folder in ("data/nest", "my"):
        run_kit.write_dataset(tmp_path / folder).write_text(yaml)  # the page's file, beside the kit's
    config = run_kit.write_config(tmp_path / "tiny.yaml")
    by_name = ["DATASETS.TRAIN", '("nest_train",)', "DATASETS.TEST", '("nest_val",)']
    [by_file] = re.findall(r"--config-file FILE (DATASETS.*)\n", DATA)
    [head] = re.findall(r"`(MODEL\S+ CosinePredictor)`", HEAD)
    small = ["MODEL.BACKBONE.CONV_BODY", *re.findall(r'\+ +"(Slowfast-\w+)": Body', BACKBONE)]
    [other] = re.findall(r"config_files/tiny.yaml (MODEL.*)\n", BACKBONE)
    runs = {
        "a": [*by_name, *head.split(), *small],
        "b": [*shlex.split(by_file), *other.split()],
        "c": [*by_name, "MODEL.ROI_ACTION_HEAD.PREDICTOR", "OtherPredictor"],
    }
    told = _run(
        copy,
        tmp_path,
        "-c",
        RUNS,
        config,
        *(json.dumps([*run, *ONE_STEP, "OUTPUT_DIR", name]) for name, run in runs.items()),
    )
    assert told.count("mAP@0.5 = ") == 2
    weights = run_kit.weights(tmp_path / "a" / "model_final.pth")
    assert weights["roi_heads.action.predictor.directions"].shape == (3, 16)
    assert weights["backbone.slow.conv1.weight"].shape[0] == 32
    assert "backbone.layers.4.1.conv2.0.weight" in run_kit.weights(tmp_path / "b" / "model_final.pth")
    assert 'got \'OtherPredictor\', expected one of "FCPredictor", "CosinePredictor"' in told


def test_own_annotations_become_a_table(tmp_path, monkeypatch):
    """The page's lines, on labels of the form that they read, then the page's command."""
    source_kit.make_videos(tmp_path / "my" / "videos")
    labels = [
        {"video": box.video, "seconds": box.frame / 25, "box": box.xyxy, "what": what, "who": box.person}
        for box in source_kit.boxes()
        for what in box.actions
    ]
    (tmp_path / "my" / "labels.json").write_text(json.dumps(labels))
    [lines] = re.findall(r"```python\n(.*?)```", DATA, re.DOTALL)
    [command] = re.findall(r"```bash\npython (tools/prepare_dataset.py .*)\n", DATA)
    monkeypatch.chdir(tmp_path)
    exec(compile(lines, "EXTENDING.md", "exec"), {})
    script, *flags = command.split()
    monkeypatch.setattr(sys, "argv", [script, *flags])
    runpy.run_path(str(run_kit.ROOT / script), run_name="__main__")
    assert source_kit.written(tmp_path / "data" / "mine") == source_kit.expected()
