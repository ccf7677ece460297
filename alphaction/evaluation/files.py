"""Result files: their folder is made, they are whole or not there, and a full disk is said in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from alphaction.errors import UserError
from alphaction.utils.atomic import atomic_write


@contextmanager
def result_file(path: str | Path, *, text: bool = False) -> Iterator[IO]:
    """Opens a file, which takes its name when the block ends without an error.

    Raises:
        UserError: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, text=text) as file:
            yield file
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
