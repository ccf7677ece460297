"""Torchvision's detectors as plain functions from pictures to boxes, and where their weights come from.

Shapes: n boxes of a picture of h x w pixels.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError

import numpy as np
import torch
from torchvision.models import detection, get_model, get_model_weights, list_models
from torchvision.ops.misc import FrozenBatchNorm2d

from alphaction.config.names import nearest
from alphaction.errors import ConfigError, DataError, first_line
from alphaction.utils.device import resolve_device

DEFAULT_DETECTOR = "fasterrcnn_resnet50_fpn_v2"
PATIENCE = 30.0  # seconds without an answer until a download is given up

# Torchvision sets the epsilon of their normalisation to 0 when it loads its own COCO weights.
_NO_EPSILON = (
    "fasterrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn",
)


class Found(NamedTuple):
    """What a detector sees in a picture.

    Attributes:
        xyxy: float [n, 4], continuous corners in pixels of the picture.
        scores: float [n].
        labels: int [n].
    """

    xyxy: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Detector:
    """A detector that is ready to run.

    Attributes:
        name: of its architecture and weights; results of detectors of the same name can be mixed.
        run: takes pictures, uint8 [h, w, 3] RGB each.
        person: the label of persons.
        objects: whether it knows other labels, too.
    """

    name: str
    run: Callable[[Sequence[torch.Tensor]], list[Found]]
    person: int = 1
    objects: bool = True


def detector_names() -> list[str]:
    return list_models(module=detection)


def load_detector(
    name: str,
    *,
    weights: str = "",
    num_classes: int | None = None,
    person: int = 1,
    min_score: float = 0.05,
    device: str = "auto",
) -> Detector:
    """A torchvision detector.

    Args:
        name: one of `detector_names`.
        weights: file of its parameters; "" = those that torchvision publishes, fetched once and kept in its cache.
        num_classes: labels that the file in `weights` is for, background included; None = as published (COCO).
        person: the label of persons.
        min_score: lowest score of a box.
        device: see `resolve_device`.

    Raises:
        UserError: no such detector or device, or the weights are missing, damaged or of another detector.
    """
    if name not in detector_names():
        known = detector_names()
        raise ConfigError(
            f"--detector: got {name!r}; there are: {', '.join(known)} (the nearest one is {nearest(name, known)})"
        )
    try:
        place = resolve_device(device)
    except ConfigError as error:
        raise ConfigError(str(error).replace("MODEL.DEVICE", "--device")) from None
    published = get_model_weights(name).DEFAULT
    file = _weight_file(weights, name, published.url)
    try:
        sizes = {} if num_classes is None else {"num_classes": num_classes}
        model = get_model(name, weights=None, weights_backbone=None, **sizes)
    except (ValueError, AssertionError, RuntimeError) as error:
        raise ConfigError(f"--num-classes: got {num_classes}, which {name} cannot have ({error})") from None
    _load_weights(model, file, name)
    if name in _NO_EPSILON and file.name == os.path.basename(published.url):
        for module in model.modules():
            if isinstance(module, (torch.nn.BatchNorm2d, FrozenBatchNorm2d)):
                module.eps = 0.0
    for part in (model, getattr(model, "roi_heads", model)):
        if hasattr(part, "score_thresh"):
            part.score_thresh = min_score
    model.eval().to(place)
    status = file.stat()
    count = num_classes or len(published.meta["categories"])
    return Detector(
        name=f"{name} with {file.name} ({status.st_size} bytes, {status.st_mtime_ns})",
        run=lambda pictures: _run(model, pictures, place),
        person=person,
        objects=count > 2,
    )


@torch.inference_mode()
def _run(model: torch.nn.Module, pictures: Sequence[torch.Tensor], device: torch.device) -> list[Found]:
    # uint8 travels to the device: a quarter of the bytes.
    inputs = [picture.to(device).permute(2, 0, 1).float() / 255 for picture in pictures]
    try:
        results = model(inputs)
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"out of memory with {len(pictures)} pictures at a time: give a smaller --batch-size ({error})"
        ) from None
    return [Found(*(r[key].cpu().numpy() for key in ("boxes", "scores", "labels"))) for r in results]


def _weight_file(weights: str, name: str, url: str) -> Path:
    """The file of parameters; fetched when it is the published one and not there yet."""
    if weights:
        file = Path(weights).expanduser()
        if not file.is_file():
            raise DataError(f"--weights: {file} does not exist. Weights of {name} are published at {url}")
        return file
    file = Path(torch.hub.get_dir(), "checkpoints", os.path.basename(url))
    if file.is_file():
        return file
    try:
        with _patience(PATIENCE):
            torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except (URLError, OSError, HTTPException, RuntimeError) as error:
        raise DataError(
            f"the weights of the detector {name} are not on this machine and cannot be fetched "
            f"({getattr(error, 'reason', error)}). Fetch {url} elsewhere and put it to {file}, "
            "or anywhere else and name it with --weights FILE"
        ) from None
    return file


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Without it a machine whose network swallows everything waits for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _load_weights(model: torch.nn.Module, file: Path, name: str) -> None:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # PyTorch's own words advise to run what is in the file
        raise DataError(
            f"{file}: is no file of weights, or damaged, or holds more than numbers; it is not loaded. Expected names "
            "and tensors, as torch.save(model.state_dict()) writes them"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise DataError(f"{file}: cannot be read as weights; was it copied whole? ({first_line(error)})") from None
    for key in ("model", "state_dict", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise DataError(f"{file}: is no file of weights; expected names and tensors, as torch.save(model.state_dict())")
    state = {key.removeprefix("module."): value for key, value in state.items()}
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        detail = str(error).splitlines()[1:2] or [str(error)]
        raise DataError(
            f"{file}: does not fit {name} ({detail[0].strip()}). Another --detector, or another --num-classes?"
        ) from None
    # Frozen normalisation does not count batches.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    unexpected = [key for key in unexpected if not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        told = [f"lacks {len(missing)} parameters ({missing[0]})"] if missing else []
        told += [f"has {len(unexpected)} others ({unexpected[0]})"] if unexpected else []
        raise DataError(f"{file}: is of another detector than {name}: {' and '.join(told)}. Name it with --detector")
