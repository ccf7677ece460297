"""The configuration files that come with the program: beside the package in a checkout, within it in a wheel."""

from __future__ import annotations

import os
import pathlib

_PACKAGE = pathlib.Path(__file__).resolve().parent.parent
FOLDER = "config_files"


def shipped_folder() -> pathlib.Path:
    """Where they are."""
    within = _PACKAGE / FOLDER
    return within if within.is_dir() else _PACKAGE.parent / FOLDER


def find_config(path: str | os.PathLike[str]) -> pathlib.Path:
    """The file at `path`; a path like `config_files/NAME.yaml` that is not there is looked for among the shipped files.

    So the commands of the documentation work from any folder. A path that is nowhere comes back as it is.
    """
    path = pathlib.Path(path)
    if not path.exists() and path.parts[:1] == (FOLDER,):
        shipped = shipped_folder().joinpath(*path.parts[1:])
        if shipped.is_file():
            return shipped
    return path
