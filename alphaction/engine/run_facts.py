"""What a run was made with: `environment.jsonl` in its folder, one line for each start."""

from __future__ import annotations

import json
import logging
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone

import torch
import torchvision

import alphaction
from alphaction.engine.scalars import remove_partial_line

logger = logging.getLogger(__name__)

NAME = "environment.jsonl"
_GIT_SECONDS = 10


def facts(*, device: torch.device, num_processes: int, iteration: int, weights: str) -> dict[str, object]:
    """Versions, machine, command line and code of this process, plain values.

    Args:
        iteration: that the run starts from.
        weights: the file it starts from, "" = none.
    """
    commit, changed = git_state(pathlib.Path(alphaction.__file__).parent)
    is_gpu = device.type == "cuda"
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(sys.orig_argv),
        "folder": os.getcwd(),
        "iteration": iteration,
        "weights": weights or None,
        "alphaction": alphaction.__version__,
        "commit": commit,
        "changed": changed,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "device": torch.cuda.get_device_name(device) if is_gpu else f"{platform.machine()} processor",
        "processes": num_processes,
        "system": platform.platform(),
        "host": platform.node(),
    }


def note_start(output_dir: pathlib.Path, start: Mapping[str, object]) -> None:
    """Adds a start to the folder's file; those of earlier starts stay."""
    path = output_dir / NAME
    remove_partial_line(path)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(dict(start)) + "\n")
    commit = f"commit {str(start['commit'])[:10]}" if start["commit"] else "no git commit"
    changed = " and changes that are in no commit" if start["changed"] else ""
    logger.info("alphaction %s, %s%s; all versions: %s", start["alphaction"], commit, changed, path)


def git_state(folder: pathlib.Path) -> tuple[str | None, bool | None]:
    """(commit, whether tracked files differ from it) of the checkout that `folder`, a package, belongs to.

    (None, None) where it belongs to none, as after an installation, even if that lies inside the folder of another
    project's checkout; and where there is no git.
    """
    try:
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        return _git(folder, "rev-parse", "HEAD"), bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(folder: pathlib.Path, *arguments: str) -> str:
    # No locks: the user may be committing in the same checkout just now.
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_GIT_SECONDS,
        check=True,
    )  # fmt: skip
    return done.stdout.strip()
