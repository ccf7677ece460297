"""The pages: commands run or parse, keys, files and links exist."""

from __future__ import annotations

import pathlib
import runpy
import shlex
import sys

import docs_kit
import pytest
import run_kit
import source_kit
import torch
from docs_kit import PAGES, ROOT

from alphaction.config import load_config
from alphaction.config.merge import leaves

RUN = ("README.md", "GETTING_STARTED.md", "DATA.md")
IDS = [docs_kit.name_of(page) for page in PAGES]
# Pages that quote other programs: their first column, and nothing of it is ours.
THEIRS = "docs/COMING_FROM.md"

# What blocks without a `<!-- needs: ... -->` are run with: smaller, so that it takes seconds.
INSTEAD = {"config_files/quickstart.yaml": "config_files/tiny.yaml", "data/output/quickstart/": "data/output/tiny/"}
TINY = "MODEL.BACKBONE.CONV_BODY Slowfast-Tiny MODEL.BACKBONE.SLOWFAST.BETA 0.125 INPUT.MIN_SIZE_TRAIN 32 "
TINY += "INPUT.MAX_SIZE_TRAIN 64 INPUT.MIN_SIZE_TEST 32 INPUT.MAX_SIZE_TEST 64 DATALOADER.NUM_WORKERS 0 "
TINY += "SOLVER.VIDEOS_PER_BATCH 2 TEST.VIDEOS_PER_BATCH 4 TEST.NUM_PICTURES 1 "
TINY += "MODEL.BACKBONE.SLOWFAST.SLOW.CONV3_NONLOCAL False MODEL.BACKBONE.SLOWFAST.SLOW.CONV4_NONLOCAL False"
SMALLER = {
    "train_net.py": f"{TINY} SOLVER.MAX_ITER 2 SOLVER.WARMUP_ITERS 1 SOLVER.STEPS (1,)",
    "test_net.py": TINY,
    "predict.py": f"--boxes boxes.csv --detect-rate 2 {TINY}",
    "tools/visualize_dataset.py": "--num-samples 1",
    "tools/check_dataset.py": "--pictures 1",
}
# Where the configuration of prepare_dataset.py looks for weights to start from.
PRETRAINED = pathlib.Path("data", "models", "pretrained_models", "SlowFast-ResNet50-4x16.pth")
# Run by other tests, or by themselves.
ELSEWHERE = {"source activate_uv_env.sh": "test_activate.py", "python -m pytest": "test_docs.py"}
# Parsed, not run: weights of a detector have to be fetched.
NEEDS_WEIGHTS = ("tools/detect_persons.py",)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    assert not list(docs_kit.broken_links(page))


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_files_exist(page):
    assert not list(docs_kit.missing_files(_ours(page)))


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_keys_exist(page):
    assert not list(docs_kit.unknown_keys(_ours(page)))


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_flags_are_accepted(page, monkeypatch):
    for command in docs_kit.commands(_ours(page)):
        with monkeypatch.context() as patched, run_kit.own_state():
            docs_kit.check_parses(command, folder=page.parent, monkeypatch=patched)


@pytest.mark.parametrize("page", RUN)
def test_blocks_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = docs_kit.blocks(ROOT / page)
    lines = [line for block in found if not block.needs for line in block.lines]
    assert len(lines) >= 3, "a page whose every block is marked tests nothing"
    _reader_has(tmp_path)
    for line in lines:
        for command in line.split(" && "):
            if command in ELSEWHERE:
                assert (ROOT / "tests" / ELSEWHERE[command]).is_file()
            elif not command.startswith(tuple(f"python {name}" for name in NEEDS_WEIGHTS)):
                _run(command, monkeypatch, capsys)


def test_needs_are_named():
    marks = {block.needs for page in RUN for block in docs_kit.blocks(ROOT / page)}
    assert marks - {""} <= {"AVA", "GPUs", "network", "weights", "your files"}


def test_smaller_keys_are_keys():
    known = {key for key, _ in leaves(load_config(""))}
    given = [word for text in SMALLER.values() for word in text.split() if word.isupper() or "." in word]
    assert {word for word in given if docs_kit.KEY.fullmatch(word)} <= known


def test_the_checks_can_fail(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n[a](nowhere.md) [b](#a-page) [c](#b) `engine/nothing.py` `SOLVER.RATE 1` `SOLVER.BASE_LR 1`\n"
    )
    assert list(docs_kit.broken_links(page)) == ["nowhere.md", "#b"]
    assert list(docs_kit.missing_files(page.read_text())) == ["engine/nothing.py"]
    assert list(docs_kit.unknown_keys(page.read_text())) == ["SOLVER.RATE"]
    for command in (
        "python no_script.py",
        "python train_net.py --config-file x --no-heads",
        "python -m alphaction.weights take x",
    ):
        with monkeypatch.context() as patched, pytest.raises(AssertionError, match="there is no|not accepted"):
            docs_kit.check_parses(command, folder=ROOT, monkeypatch=patched)


def _ours(page: pathlib.Path) -> str:
    text = page.read_text(encoding="utf-8")
    if docs_kit.name_of(page) != THEIRS:
        return text
    rows = [line.split(" | ", 1)[-1] if line.startswith("| ") else line for line in text.splitlines()]
    return "\n".join(rows)


def _reader_has(folder: pathlib.Path) -> None:
    """Videos and a table in my/, a video with boxes, a trained network, and weights to start from."""
    source_kit.make_videos(folder / "my" / "videos")
    table = source_kit.plain_csv(folder / "my")
    table.rename(folder / "my" / "annotations.csv")
    source_kit.make_videos(folder, ["in"])
    (folder / "boxes.csv").write_text("time,x1,y1,x2,y2\n0,4,6,28,42\n1,4,6,28,42\n")
    run_kit.train(ROOT / "config_files" / "tiny.yaml", folder / "data" / "output" / "tiny", *TINY.split())
    weights = run_kit.weights(folder / "data" / "output" / "tiny" / "model_final.pth")
    (folder / PRETRAINED).parent.mkdir(parents=True)
    torch.save({name: value for name, value in weights.items() if name.startswith("backbone.")}, folder / PRETRAINED)


def _run(command: str, monkeypatch, capsys) -> None:
    for written, ours in INSTEAD.items():
        command = command.replace(written, ours)
    first, *words = docs_kit.words_of(command)
    assert command.startswith("python ") and first != "-m" or first == "-m", f"{command}: not tested, mark its block"
    monkeypatch.setattr(sys, "argv", [first, *words, *SMALLER.get(first, "").split()])
    with run_kit.own_state():
        try:
            if first == "-m":
                monkeypatch.setattr(sys, "argv", words)
                docs_kit.run_module(words[0])
            else:
                runpy.run_path(str(ROOT / first), run_name="__main__")
        except SystemExit as end:
            shown = capsys.readouterr()
            assert not end.code, f"{shlex.join(sys.argv)}\n{shown.out[-500:]}\n{shown.err[-1500:]}"
    capsys.readouterr()
