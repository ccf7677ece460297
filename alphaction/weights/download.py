"""Downloads a file that appears under its name only when it is whole and checked.

Until then it grows as `<name>.part` beside its place; an interrupted download goes on where it stopped, if the server
still has the same file (its ETag or date is kept in `<name>.part.from`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import pathlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from alphaction.errors import CheckpointError
from alphaction.utils.atomic import write_text

_CHUNK = 2**20
_TRIES = 4
_GONE_ON = http.client.PARTIAL_CONTENT
_NOTHING_LEFT = http.client.REQUESTED_RANGE_NOT_SATISFIABLE

#: Called with (bytes that are here, bytes of the whole file or None).
Progress = Callable[[int, int | None], object]


@dataclass(frozen=True)
class Download:
    """What is to be fetched.

    Attributes:
        url: http or https.
        target: where the file appears.
        sha256: the checksum's hexadecimal digits, or its first ones; "" = not checked.
    """

    url: str
    target: pathlib.Path
    sha256: str = ""


def fetch(
    wanted: Download, *, progress: Progress = lambda here, total: None, timeout: float = 30.0, pause: float = 1.0
) -> None:
    """Downloads the file, going on where an earlier attempt stopped.

    Args:
        progress: is told how far it is.
        timeout: seconds without an answer after which a connection counts as lost.
        pause: seconds before a lost connection is tried again, twice as long each time.

    Raises:
        CheckpointError: no network, the server refuses, the connection is lost again and again (what is there stays for
            the next attempt), or the file is not what it should be.
    """
    if not wanted.url.startswith(("http://", "https://")):
        raise ValueError(f"url: got {wanted.url!r}, expected http:// or https://")
    make_folder(wanted.target.parent)
    part = wanted.target.with_name(wanted.target.name + ".part")
    with _alone(part):
        for attempt in range(_TRIES):
            try:
                _continue(wanted.url, part, progress=progress, timeout=timeout)
                break
            except urllib.error.HTTPError as error:
                raise CheckpointError(
                    f"{wanted.url}: the server answers {error.code} ({error.reason}). {_by_hand(wanted)}"
                ) from error
            except (OSError, http.client.HTTPException) as error:
                if _is_local(error):
                    raise
                if attempt + 1 == _TRIES:
                    raise CheckpointError(_lost(wanted, part, error)) from error
                time.sleep(pause * 2**attempt)
        check_sum(part, wanted.sha256, on_failure="It was deleted; try once more.", delete=True)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, wanted.target)
        _from(part).unlink(missing_ok=True)


def make_folder(folder: pathlib.Path) -> None:
    """Makes a folder with those above it.

    Raises:
        CheckpointError: one of them is a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise CheckpointError(f"{folder}: cannot be made, since a file stands in its place or above it") from None


def check_sum(path: pathlib.Path, expected: str, *, on_failure: str, delete: bool = False) -> str:
    """The file's SHA-256; `expected` are its first digits, "" = any.

    Raises:
        CheckpointError: it has another one.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    found = digest.hexdigest()
    if not found.startswith(expected.lower()):
        if delete:
            path.unlink()
            _from(path).unlink(missing_ok=True)
        begins = "one that begins with " if len(expected) < len(found) else ""
        raise CheckpointError(
            f"{path}: its SHA-256 is {found}, expected {begins}{expected}: damaged, or another file. {on_failure}"
        )
    return found


def _continue(url: str, part: pathlib.Path, *, progress: Progress, timeout: float) -> None:
    """Appends to the part what it lacks; returns when it is whole."""
    here, version = _state(part)
    headers = {"User-Agent": "alphaction", "Accept-Encoding": "identity"}
    if here:
        headers |= {"Range": f"bytes={here}-", "If-Range": version}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != _NOTHING_LEFT:
            raise
        if not error.headers.get("Content-Range", "").endswith(f"/{here}"):  # else it was whole already
            part.write_bytes(b"")
            _continue(url, part, progress=progress, timeout=timeout)
        return
    with answer:
        if answer.status != _GONE_ON:
            here = 0
        rest = answer.headers.get("Content-Length")
        total = here + int(rest) if rest and rest.isdigit() else None
        write_text(_from(part), text=answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")
        with part.open("ab" if here else "wb") as file:
            progress(here, total)
            while block := answer.read(_CHUNK):
                file.write(block)
                here += len(block)
                progress(here, total)
        if total is not None and here < total:
            raise http.client.IncompleteRead(b"", total - here)


def _state(part: pathlib.Path) -> tuple[int, str]:
    """Bytes that are here and can be continued, and the version of the file that they are of."""
    version = ""
    with contextlib.suppress(FileNotFoundError):
        version = _from(part).read_text(encoding="utf-8")
    if not version or version.startswith("W/") or not part.exists():  # a weak ETag says nothing about bytes
        return 0, ""
    return part.stat().st_size, version


def _from(part: pathlib.Path) -> pathlib.Path:
    return part.with_name(part.name + ".from")


@contextlib.contextmanager
def _alone(part: pathlib.Path) -> Iterator[None]:
    """Refuses a second process that downloads the same file, where the system has locks of that kind."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CheckpointError(f"{part}: another process is downloading this file; wait for it") from None
        try:
            yield
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()


def _is_local(error: BaseException) -> bool:
    """Whether it is the disk that fails, not the network."""
    if not isinstance(error, OSError) or isinstance(error, urllib.error.URLError):
        return False
    return error.filename is not None or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def _lost(wanted: Download, part: pathlib.Path, error: BaseException) -> str:
    here = part.stat().st_size if part.exists() else 0
    reason = getattr(error, "reason", error) or type(error).__name__
    if here:
        return (
            f"{wanted.url}: the connection was lost ({reason}). {here / 2**20:.1f} MiB are in {part}; the same command "
            "goes on from there."
        )
    return f"{wanted.url}: cannot be reached ({reason}). {_by_hand(wanted)}"


def _by_hand(wanted: Download) -> str:
    return (
        "Without a network here, download it elsewhere and put it at "
        f"{wanted.target.absolute()}; a file that lies there is used."
    )
