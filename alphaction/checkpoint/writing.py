"""Puts a checkpoint on the disk, whole or not at all."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Mapping

import torch

from alphaction.checkpoint import last_checkpoint
from alphaction.errors import CheckpointError
from alphaction.utils.atomic import atomic_write, remove_leftovers

logger = logging.getLogger(__name__)


class CheckpointFolder:
    """The folder of a run's checkpoints, as its one writing process sees it.

    Args:
        folder: OUTPUT_DIR.
        keep: periodic checkpoints that are kept, the latest ones; 0 = all.
    """

    def __init__(self, folder: pathlib.Path, *, keep: int = 0) -> None:
        self._folder = folder
        self._keep = keep
        self._wrote_before = False

    def write(self, name: str, content: Mapping[str, object], *, iteration: int, is_last: bool = True) -> pathlib.Path:
        """Writes `<name>.pth`; with `is_last` notes it in `last_checkpoint` and then deletes what need not be kept.

        Raises:
            CheckpointError: the disk is full or the folder cannot be written to; the earlier files are whole.
        """
        path = self._folder / f"{name}.pth"
        try:
            self._clear_leftovers()
            with atomic_write(path) as file:
                torch.save(content, file)
            if is_last:
                last_checkpoint.write(self._folder, file=path)
        except (OSError, RuntimeError) as error:
            reason = _write_failure(error)
            if not reason:
                raise
            raise CheckpointError(
                f"{path}: the checkpoint could not be written ({reason}). The earlier checkpoints in "
                f"{self._folder} are whole: make room there, then the same command goes on from the last one."
            ) from error
        logger.info("Saved %s (%.1f MiB)", path, path.stat().st_size / 2**20)
        if is_last and self._keep:
            last_checkpoint.prune(self._folder, keep=self._keep, iteration=iteration)
        return path

    def _clear_leftovers(self) -> None:
        """Once per run and only where checkpoints are written: a test in the same folder must not disturb training."""
        if not self._wrote_before:
            for pattern in ("model_*.pth", last_checkpoint.NAME):
                for name in remove_leftovers(self._folder, pattern=pattern):
                    logger.info("Removed %s, which an interrupted run left", self._folder / name)
            self._wrote_before = True


def _write_failure(error: OSError | RuntimeError) -> str:
    """Why a file could not be written; "" if the error is of another kind.

    torch's archive writer hides the system's error behind one or more of its own.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.strerror or str(cause)
        cause = cause.__cause__ or cause.__context__
    return str(error).splitlines()[0] if "inline_container" in str(error) else ""
