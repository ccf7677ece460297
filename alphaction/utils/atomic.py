"""Files that are either whole or not there: written beside their place, flushed to disk, then renamed.

A process killed at any moment leaves the old file as it was, at worst with a temporary file `.<name>.<id>.tmp` beside
it, which `remove_leftovers` takes away.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
from collections.abc import Iterator
from typing import IO

TEMPORARY_SUFFIX = ".tmp"


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], *, text: bool = False) -> Iterator[IO]:
    """Opens a file that appears under `path` only if the block ends without an exception.

        with atomic_write("run/result.csv", text=True) as file:
            file.write("...")

    Args:
        path: the file to create or replace; its folder must exist. A symbolic link is followed.
        text: open for UTF-8 text with "\\n" line ends instead of bytes.

    Raises:
        OSError: the folder cannot be written to or the disk is full; an old file under `path` is untouched.
    """
    target = pathlib.Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    # Not tempfile.mkstemp: its files are readable by their owner alone, whatever the umask says.
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        error.filename = str(target)  # the name that the user knows
        raise
    try:
        with _opened(descriptor, text=text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _flush_folder(target.parent)


def _opened(descriptor: int, *, text: bool) -> IO:
    return open(descriptor, "w", encoding="utf-8", newline="\n") if text else open(descriptor, "wb")


def write_text(path: str | os.PathLike[str], *, text: str) -> None:
    """Writes a whole UTF-8 text file atomically."""
    with atomic_write(path, text=True) as file:
        file.write(text)


def remove_leftovers(folder: str | os.PathLike[str], *, pattern: str = "*") -> list[str]:
    """Deletes the temporary files that killed processes left in `folder`.

    To be called by the one process that writes these files: another writer's unfinished file would go, too.

    Args:
        pattern: shell pattern of the final names, e.g. "model_*.pth".

    Returns:
        The names of the deleted files.
    """
    removed = []
    for path in sorted(pathlib.Path(folder).glob(f".{pattern}.*{TEMPORARY_SUFFIX}")):
        with contextlib.suppress(OSError):
            path.unlink()
            removed.append(path.name)
    return removed


def _flush_folder(folder: pathlib.Path) -> None:
    """Makes the renaming last through a power failure; file systems that cannot do it are left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
