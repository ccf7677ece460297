"""DATA.md: the table and the commands of "Your own data in three commands", as they stand there."""

from __future__ import annotations

import re
import runpy
import shlex
import sys

import pytest
import run_kit
from source_kit import make_videos

SECTION = re.search(
    r"## Your own data in three commands\n(.*?)\n## ", (run_kit.ROOT / "DATA.md").read_text(encoding="utf-8"), re.DOTALL
)[1]
QUICK = "SOLVER.MAX_ITER 1 DATALOADER.NUM_WORKERS 0 TEST.NUM_PICTURES 0 INPUT.MIN_SIZE_TRAIN 32 INPUT.MIN_SIZE_TEST 32"


def _block(language: str, number: int = 0) -> str:
    return re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)[number]


def test_the_commands_run(tmp_path, monkeypatch, capsys):
    make_videos(tmp_path / "my" / "videos", ["kitchen_1", "kitchen_2"], frames=100)
    (tmp_path / "my" / "annotations.csv").write_text(_block("csv"))
    monkeypatch.chdir(tmp_path)

    def call(line: str, *more: str) -> str:
        program, script, *flags = shlex.split(line)
        assert program == "python"
        monkeypatch.setattr(sys, "argv", [script, *flags, *more])
        with run_kit.own_state():
            runpy.run_path(str(run_kit.ROOT / script), run_name="__main__")
        return capsys.readouterr().out

    first, scratch = (_block("bash", i).splitlines() for i in (0, 1))
    report = call(first[0])
    assert len(first) == len(scratch) == 3 and first[2].replace("data/my", "data/try") == scratch[2]
    for line in _block("text").splitlines():
        assert line in report
    with pytest.raises(SystemExit):
        call(first[1], *QUICK.split())
    assert "SlowFast-ResNet50-4x16.pth: no such weight file" in capsys.readouterr().err
    call(scratch[0])
    call(scratch[1], *QUICK.split())
    assert (tmp_path / "data" / "output" / "try" / "model_final.pth").is_file()
    assert "mAP@0.5" in call(scratch[2], *QUICK.split()[2:])
