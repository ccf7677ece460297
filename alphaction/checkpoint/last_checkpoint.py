"""The file `last_checkpoint` in OUTPUT_DIR: which checkpoint a run continues from."""

from __future__ import annotations

import logging
import math
import pathlib
import re
from typing import Any

from alphaction.checkpoint.files import read_checkpoint
from alphaction.errors import CheckpointError
from alphaction.utils.atomic import write_text
from alphaction.utils.logging import alike_in_all

logger = alike_in_all(logging.getLogger(__name__))

NAME = "last_checkpoint"
_PERIODIC = re.compile(r"model_(\d+)\.pth")


def write(output_dir: pathlib.Path, *, file: pathlib.Path) -> None:
    """Notes `file`, relative to its folder, so that a moved folder still resumes."""
    write_text(output_dir / NAME, text=file.name)


def named_file(output_dir: pathlib.Path) -> pathlib.Path | None:
    """The checkpoint that OUTPUT_DIR/last_checkpoint names, whether it exists or not; None without such a file.

    The original wrote absolute paths or paths relative to the working directory; both are understood, and a folder
    that was moved since then as well.
    """
    try:
        text = (output_dir / NAME).read_text(encoding="utf-8", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CheckpointError(f"{output_dir / NAME}: cannot be read ({error.strerror})") from error
    named = pathlib.Path(text.splitlines()[0] if text else NAME + " (empty)")
    for candidate in (output_dir / named, named, output_dir / named.name):
        if candidate.is_file():
            return candidate
    return output_dir / named


def read_last(output_dir: pathlib.Path) -> tuple[pathlib.Path, dict[str, Any]] | None:
    """The checkpoint to continue from and its content; None when there is no `last_checkpoint`.

    If the named file is missing or damaged, the newest whole `model_*.pth` of the folder takes its place.

    Raises:
        CheckpointError: there is no whole checkpoint in the folder.
    """
    named = named_file(output_dir)
    if named is None:
        return None
    try:
        return named, read_checkpoint(named, verify=True)
    except CheckpointError as error:
        logger.warning("%s names a checkpoint that cannot be used: %s", output_dir / NAME, error)
        problem = str(error)
    newest = _newest_whole(output_dir, exclude=named)
    if newest is None:
        raise CheckpointError(
            f"{output_dir / NAME} names a checkpoint that cannot be used ({problem}), and there is no other whole "
            f"model_*.pth in {output_dir}. To start afresh delete {output_dir / NAME} or choose another OUTPUT_DIR."
        )
    logger.warning("Using the newest whole checkpoint instead: %s", newest[0])
    return newest


def prune(output_dir: pathlib.Path, *, keep: int, iteration: int) -> None:
    """Deletes periodic checkpoints (`model_<number>.pth`) up to `iteration` but the `keep` latest.

    To be called when a new one and `last_checkpoint` are safely written. The file that `last_checkpoint` names stays
    in any case; so do files of later iterations, which are of another run. What cannot be deleted is warned of.
    """
    named = named_file(output_dir)
    for path in _periodic(output_dir, up_to=iteration)[keep:]:
        if named is not None and path.name == named.name:
            continue
        try:
            path.unlink(missing_ok=True)
            logger.info("Deleted %s (SOLVER.KEEP_CHECKPOINTS %d)", path, keep)
        except OSError as error:
            logger.warning("%s could not be deleted (%s).", path, error.strerror)


def _periodic(output_dir: pathlib.Path, *, up_to: float = math.inf) -> list[pathlib.Path]:
    """The folder's `model_<number>.pth`, latest first."""
    found = [(match, path) for path in output_dir.glob("model_*.pth") if (match := _PERIODIC.fullmatch(path.name))]
    numbered = [(int(match.group(1)), path) for match, path in found]
    return [path for number, path in sorted(numbered, reverse=True) if number <= up_to]


def _newest_whole(output_dir: pathlib.Path, *, exclude: pathlib.Path) -> tuple[pathlib.Path, dict[str, Any]] | None:
    """The whole checkpoint with the highest iteration among `model_<number>.pth` and `model_final.pth`.

    Not one of a later iteration than `exclude`: it would be of an earlier run in this folder.
    """
    match = _PERIODIC.fullmatch(exclude.name)
    limit = int(match.group(1)) if match else math.inf
    found = [
        _first_whole([path for path in paths if path != exclude])
        for paths in (_periodic(output_dir, up_to=limit), [output_dir / "model_final.pth"])
    ]
    whole = [each for each in found if each is not None and int(each[1].get("iteration", 0)) <= limit]
    return max(whole, key=lambda each: int(each[1].get("iteration", 0)), default=None)


def _first_whole(paths: list[pathlib.Path]) -> tuple[pathlib.Path, dict[str, Any]] | None:
    for path in paths:
        if path.is_file():
            try:
                return path, read_checkpoint(path, verify=True)
            except CheckpointError as error:
                logger.warning("Not usable either: %s", error)
    return None
