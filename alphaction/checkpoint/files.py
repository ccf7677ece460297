"""Reads weight files and checkpoints. A file never gets to run code."""

from __future__ import annotations

import logging
import os
import pathlib
import pickle
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from alphaction.checkpoint import caffe2
from alphaction.checkpoint.reference_pickle import RESTRICTED_PICKLE, ForbiddenGlobal, to_plain
from alphaction.checkpoint.zoo import ImageWeights, converted, is_image_network, recognised
from alphaction.errors import CheckpointError, first_line
from alphaction.utils.logging import alike_in_all

logger = alike_in_all(logging.getLogger(__name__))

# The number at the beginning of every file of torch.save before version 1.6, as pickle writes it.
_LEGACY_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
# How pickles begin that are no text: the opcode of the protocol's number.
_PICKLE = b"\x80"
ZIP, LEGACY, CAFFE2 = "PyTorch", "PyTorch before 1.6", "Caffe2 (pickled arrays)"
# Where the weights are: with us, PySlowFast and PyTorchVideo, mmaction2.
_WEIGHT_ENTRIES = ("model", "model_state", "state_dict")
_PUBLIC_FOLDER = "data/models/"


def read_checkpoint(path: str | os.PathLike[str], *, verify: bool = False) -> dict[str, Any]:
    """Reads `{"model": {name: tensor}, ...}` or a bare `{name: tensor}` to the CPU.

    Large files are mapped into memory, not copied: tensors are read when they are used.

    Args:
        path: a file of torch.save, new or old format; also the original's training checkpoints, and files of
            PySlowFast, PyTorchVideo, mmaction2 (SlowFast and Slow) and torchvision (ResNets); or a Caffe2 .pkl.
        verify: read the whole file once and compare its checksums (new format only).

    Returns:
        A dict with the entry "model" (name -> tensor) and whatever else the file holds. The original's memory pool
        ("person_pool") is a dict: movie -> second -> attributes of its boxes. Weights of the other projects have our
        names, and "zoo" tells the format that they had; those of torchvision are `ImageWeights`, those of a Caffe2 file
        of another network `Caffe2Weights`, both by their own names.

    Raises:
        CheckpointError: the file is missing, not a checkpoint, damaged, or could run code.
    """
    path = pathlib.Path(path)
    _check_exists(path)
    try:
        kind = file_format(path, verify=verify)
        if kind == CAFFE2:
            return _with_our_names({"model": caffe2.read_pickle(path)}, path)
        return _with_our_names(_normalise(_read(path, mmap=kind == ZIP), path), path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise CheckpointError(
            f"{path}: reading it needs more memory than there is. It has {path.stat().st_size / 2**20:.1f} MiB: if "
            "that is little, it is damaged."
        ) from error


def _check_exists(path: pathlib.Path) -> None:
    text = path.as_posix()
    if text.startswith(("http:/", "https:/")):
        raise CheckpointError(
            f"{text}: weights are not downloaded by this program while it runs; fetch the file first (`python -m "
            "alphaction.weights get NAME`, or a browser) and give its path"
        )
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder, expected a weight file such as {path / 'model_final.pth'}")
    if path.exists():
        return
    if _PUBLIC_FOLDER in text:
        advice = (
            "Public weights are not part of the repository: MODEL_ZOO.md tells where to get this file "
            "(`python -m alphaction.weights list` names it, `get NAME` fetches it or says how). Training on your own "
            "data can do without: `tools/prepare_dataset.py --from-scratch`."
        )
    else:
        advice = "Check MODEL.WEIGHT or the command line; relative paths begin at the working directory."
    raise CheckpointError(f"{path}: no such weight file (looked for {path.absolute()}). {advice}")


def file_format(path: pathlib.Path, *, verify: bool = False) -> str:
    """`ZIP` (PyTorch >= 1.6), `LEGACY` or `CAFFE2`.

    Raises:
        CheckpointError: none of these.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise CheckpointError(f"{path}: the file is empty")
    if _is_archive(path):
        _check_archive(path, verify=verify)
        return ZIP
    if head.startswith(b"PK\x03\x04"):
        raise CheckpointError(f"{path}: the file is damaged, its end is missing (an interrupted copy or download?)")
    if _LEGACY_MAGIC in head:
        return LEGACY
    if path.suffix == ".pkl" or head.startswith(_PICKLE):
        return CAFFE2
    kind = "a file of PyTorch before 0.2" if tarfile.is_tarfile(path) else "not a checkpoint written by PyTorch"
    raise CheckpointError(f"{path}: {kind}; expected a file of torch.save (.pth)")


def _is_archive(path: pathlib.Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile as error:  # the end of an archive, but an impossible one
        raise CheckpointError(f"{path}: the file is damaged ({error})") from error


def _check_archive(path: pathlib.Path, *, verify: bool) -> None:
    damaged: str | None = None
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rsplit("/", 1)[-1] for name in archive.namelist()}
            if verify:
                damaged = archive.testzip()
    except (MemoryError, OSError):
        raise
    except Exception as error:  # besides BadZipFile whatever decoding and unpacking can raise
        raise CheckpointError(f"{path}: the file is damaged ({first_line(error)})") from error
    if damaged:
        raise CheckpointError(f"{path}: the file is damaged (wrong checksum of its part {damaged})")
    if "data.pkl" not in names:
        raise CheckpointError(f"{path}: a zip archive, but not a checkpoint written by PyTorch (.pth)")
    if "constants.pkl" in names:
        raise CheckpointError(f"{path}: a TorchScript program, not weights; expected a file of torch.save (.pth)")


def _read(path: pathlib.Path, *, mmap: bool) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError:
        return _read_reference(path)
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        if mmap:  # some network file systems cannot map files
            return _read(path, mmap=False)
        if isinstance(error, OSError):
            raise
        raise CheckpointError(f"{path}: the file is damaged ({first_line(error)})") from error


def _read_reference(path: pathlib.Path) -> object:
    """Reads what torch's own safe reader refuses, if it is a checkpoint of the original."""
    try:
        return to_plain(torch.load(path, map_location="cpu", weights_only=False, pickle_module=RESTRICTED_PICKLE))
    except ForbiddenGlobal as error:
        raise CheckpointError(
            f"{path}: refused, it holds a Python object ({error}) whose reading could run code. Only tensors and plain "
            "values are read: make the file again with torch.save(model.state_dict(), path)."
        ) from None
    except (MemoryError, OSError):
        raise
    except Exception as error:
        raise CheckpointError(f"{path}: the file is damaged ({first_line(error)})") from error


def _normalise(content: object, path: pathlib.Path) -> dict[str, object]:
    """The content with its weights under "model"."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, expected a dict of weights")
    source = next((name for name in _WEIGHT_ENTRIES if isinstance(content.get(name), Mapping)), "model")
    model = content[source] if isinstance(content.get(source), Mapping) else None
    if source != "model":
        # The rest is the state of another program's run, of which nothing could go on here.
        content = {key: value for key, value in content.items() if isinstance(value, (str, int, float))}
    if model is None and content and all(isinstance(value, Tensor) for value in content.values()):
        content, model = {}, content
    if model is None:
        found = ", ".join(repr(key) for key in list(content)[:8]) or "nothing"
        raise CheckpointError(f"{path}: no weights found; expected an entry 'model' or tensors by name, got {found}")
    for name, value in model.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: entry {name!r} of {source!r} is a {type(value).__name__}, expected a tensor"
            )
    return {**content, "model": dict(model)}


def _with_our_names(content: dict[str, Any], path: pathlib.Path) -> dict[str, Any]:
    """The content with another project's weights under our names, and "zoo", the format that they had."""
    weights = content["model"]
    if not isinstance(weights, caffe2.Caffe2Weights) and all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
    if is_image_network(weights):
        return {**content, "model": ImageWeights(weights), "zoo": ImageWeights.title}
    table = recognised(weights)
    if table is None:
        return content
    result = converted(weights, table)
    told = "; ".join([f"{len(result.renamed)} of {len(weights)} tensors renamed", *result.notes])
    logger.info("%s: weights of %s (%s)", path, result.title, told)
    return {**content, "model": dict(result.weights), "zoo": result.title, "zoo_notes": list(result.notes)}
