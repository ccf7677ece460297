"""docs/TUTORIAL.md: its commands, word by word, with fewer videos and iterations."""

from __future__ import annotations

import re
import runpy
import shlex
import sys

import pytest
import run_kit

from alphaction.errors import DataError
from alphaction.synthetic.example import generate
from alphaction.synthetic.planner import SceneOptions

TEXT = (run_kit.ROOT / "docs" / "TUTORIAL.md").read_text(encoding="utf-8")
QUICK = ["DATALOADER.NUM_WORKERS", "0", "TEST.NUM_PICTURES", "1"]
QUICK += ["INPUT.MIN_SIZE_TRAIN", "32", "INPUT.MIN_SIZE_TEST", "32"]
LESS = {
    "tools/make_example.py": ["--videos", "4"],
    "train_net.py": ["SOLVER.MAX_ITER", "1", "SOLVER.VIDEOS_PER_BATCH", "2", *QUICK],
    "test_net.py": QUICK,
}
COMMANDS = [
    shlex.split(line)[1:]
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("python ")
]


def test_the_commands_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    told = {}
    for script, *flags in COMMANDS:
        monkeypatch.setattr(sys, "argv", [script, *flags, *LESS.get(script, [])])
        with run_kit.own_state():
            try:
                runpy.run_path(str(run_kit.ROOT / script), run_name="__main__")
            except SystemExit as end:
                assert not end.code, f"{script}: {capsys.readouterr()}"
        told[script] = capsys.readouterr().out
    assert list(told) == [
        "tools/make_example.py",
        "tools/prepare_dataset.py",
        "tools/check_dataset.py",
        "tools/visualize_dataset.py",
        "train_net.py",
        "test_net.py",
    ]
    assert "stand" in told["tools/prepare_dataset.py"] and "walk" in told["tools/prepare_dataset.py"]
    assert "mAP@0.5" in told["test_net.py"]
    results = "data/output/street"
    for path in ("report.html", f"{results}/model_final.pth", f"{results}/inference/street_val/metrics.json"):
        assert (tmp_path / path).is_file(), path
    assert list((tmp_path / "look").rglob("*.jpg")) or list((tmp_path / "look").rglob("*.png"))


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="is there already and not an empty folder"):
        generate(tmp_path, videos=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_same_numbers_give_the_same_table(tmp_path):
    small = SceneOptions(height=96, width=128, seconds=3.0, figures=(2, 2))
    first, again = (generate(tmp_path / name, videos=2, scene=small).read_text() for name in ("a", "b"))
    assert first == again
    assert {line.split(",")[6] for line in first.splitlines()[1:]} == {"stand", "walk"}
