"""What is noted of each start of a run."""

import json
import logging
import os
import shutil
import subprocess
import sys

import pytest
import torch

import alphaction
from alphaction.engine import run_facts

CPU = torch.device("cpu")


@pytest.fixture
def log(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("alphaction"), "propagate", True)
    caplog.set_level(logging.INFO, logger="alphaction")
    return caplog


def git(folder, *arguments):
    names = ("-c", "user.name=n", "-c", "user.email=e@x", "-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *names, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A checkout with a package in it."""
    if shutil.which("git") is None:
        pytest.skip("needs the git program")
    package = tmp_path / "checkout" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    git(package.parent, "init")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-m", "first")
    return package


def test_commit_and_changes(checkout):
    commit = git(checkout, "rev-parse", "HEAD")
    (checkout.parent / "output.txt").write_text("results are no change of the code")
    assert run_facts.git_state(checkout) == (commit, False)
    (checkout / "__init__.py").write_text("changed = True")
    assert run_facts.git_state(checkout) == (commit, True)


def test_a_package_installed_within_another_checkout_has_no_commit(checkout):
    installed = checkout.parent / "venv" / "alphaction"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert run_facts.git_state(installed) == (None, None)


def test_no_git(checkout, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_facts.git_state(checkout) == (None, None)


def test_every_start_adds_a_line(tmp_path, monkeypatch, log):
    monkeypatch.setattr(sys, "orig_argv", ["python", "train_net.py", "--config-file", "my file.yaml"])
    monkeypatch.setattr(run_facts, "git_state", lambda folder: ("0123456789abcdef", True))
    run_facts.note_start(tmp_path, run_facts.facts(device=CPU, num_processes=1, iteration=0, weights=""))
    path = tmp_path / "environment.jsonl"
    with path.open("a") as file:
        file.write('{"started": "20')  # a process killed while it wrote
    run_facts.note_start(tmp_path, run_facts.facts(device=CPU, num_processes=2, iteration=40, weights="a.pth"))
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["command"] == "python train_net.py --config-file 'my file.yaml'"
    assert (first["alphaction"], first["torch"]) == (alphaction.__version__, torch.__version__)
    assert (first["commit"], first["changed"], first["folder"]) == ("0123456789abcdef", True, os.getcwd())
    assert (first["iteration"], first["weights"], first["processes"]) == (0, None, 1)
    assert (second["iteration"], second["weights"], second["processes"]) == (40, "a.pth", 2)
    assert first["started"].endswith("+00:00") and second["started"] >= first["started"]
    assert {"python", "torchvision", "cuda", "cudnn", "device", "host", "system"} <= first.keys()
    assert "commit 0123456789 and changes that are in no commit; all versions: " in log.text


def test_an_installed_package_says_that_it_knows_no_commit(tmp_path, monkeypatch, log):
    monkeypatch.setattr(run_facts, "git_state", lambda folder: (None, None))
    run_facts.note_start(tmp_path, run_facts.facts(device=CPU, num_processes=1, iteration=0, weights=""))
    assert json.loads((tmp_path / "environment.jsonl").read_text())["commit"] is None
    assert f"alphaction {alphaction.__version__}, no git commit; all versions" in log.text
