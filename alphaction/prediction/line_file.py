"""Text files that grow line by line and are valid whenever the run is killed."""

from __future__ import annotations

from pathlib import Path

from alphaction.errors import UserError


class LineFile:
    """A file that is begun anew and to which whole lines are added; each is in the file when `write` returns."""

    def __init__(self, path: str | Path) -> None:
        """Makes the folder and the empty file.

        Raises:
            UserError: it cannot be written.
        """
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # File names may hold bytes that are no UTF-8; Python's signs for them are written as JSON writes them.
            self._file = open(self.path, "w", encoding="utf-8", errors="backslashreplace", newline="\n")  # noqa: SIM115
        except OSError as error:
            raise self._trouble(error) from error

    def write(self, lines: str) -> None:
        """Adds whole lines, each with its line end.

        Raises:
            UserError: the disk is full or gone.
        """
        try:
            self._file.write(lines)
            self._file.flush()
        except OSError as error:
            raise self._trouble(error) from error

    def close(self) -> None:
        """Closes the file; doing it twice is no mistake."""
        try:
            self._file.close()
        except OSError as error:
            raise self._trouble(error) from error

    def _trouble(self, error: OSError) -> UserError:
        return UserError(f"{self.path}: cannot be written ({error.strerror or error})")

    def __enter__(self) -> LineFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
