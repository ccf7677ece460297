"""The file `last_checkpoint` in OUTPUT_DIR: which checkpoint a run continues from."""

from __future__ import annotations

import logging
import pathlib
import re

from alphaction.checkpoint.files import read_checkpoint
from alphaction.errors import CheckpointError
from alphaction.utils.atomic import write_text

logger = logging.getLogger(__name__)

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


def read_last(output_dir: pathlib.Path) -> tuple[pathlib.Path, dict[str, object]] | None:
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


def _newest_whole(output_dir: pathlib.Path, *, exclude: pathlib.Path) -> tuple[pathlib.Path, dict[str, object]] | None:
    """The whole checkpoint with the highest iteration among `model_<number>.pth` and `model_final.pth`."""
    periodic = sorted(
        (path for path in output_dir.glob("model_*.pth") if _PERIODIC.fullmatch(path.name)),
        key=lambda path: int(_PERIODIC.fullmatch(path.name).group(1)),
        reverse=True,
    )
    found = [
        _first_whole([path for path in paths if path != exclude])
        for paths in (periodic, [output_dir / "model_final.pth"])
    ]
    whole = [each for each in found if each is not None]
    return max(whole, key=lambda each: int(each[1].get("iteration", 0)), default=None)


def _first_whole(paths: list[pathlib.Path]) -> tuple[pathlib.Path, dict[str, object]] | None:
    for path in paths:
        if path.is_file():
            try:
                return path, read_checkpoint(path, verify=True)
            except CheckpointError as error:
                logger.warning("Not usable either: %s", error)
    return None
