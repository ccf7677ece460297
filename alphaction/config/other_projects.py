"""What the networks of other projects, and the pictures they were trained with, are like where no tensor tells.

Weights load into a network with other values of these keys without complaint, and it computes something else.
"""

from __future__ import annotations

import logging
from typing import Any

from yacs.config import CfgNode

from alphaction.config.names import shown
from alphaction.utils.logging import alike_in_all

logger = alike_in_all(logging.getLogger(__name__))

_BACKBONE = "MODEL.BACKBONE."
_HEAD = "MODEL.ROI_ACTION_HEAD."
_STRIDE, _DILATION = _BACKBONE + "LAST_STRIDE", _BACKBONE + "LAST_DILATION"
_PATHWAYS = (_BACKBONE + "SLOWFAST.SLOW.ACTIVE", _BACKBONE + "SLOWFAST.FAST.ACTIVE")
_WHOLE_CLIPS = {_STRIDE: 2, _DILATION: 1}  # the last stage of networks that classify whole clips, in all projects
_LATERAL_RELU = _BACKBONE + "SLOWFAST.LATERAL_RELU"
_MEAN, _STD, _BLUE_FIRST = "INPUT.PIXEL_MEAN", "INPUT.PIXEL_STD", "INPUT.TO_BGR"
_GREY = {_MEAN: [114.75] * 3, _STD: [57.375] * 3}  # 0.45 and 0.225 on the scale 0 to 1
_IMAGENET = {_MEAN: [123.675, 116.28, 103.53], _STD: [58.395, 57.12, 57.375], _BLUE_FIRST: False}
_ROUNDING = 0.1  # of 255: means are written with more or fewer digits

#: By the first word of a format's title (`checkpoint.zoo.formats`).
_KEYS: dict[str, dict[str, Any]] = {
    "PySlowFast": {
        _BACKBONE + "STEM_POOL_PADDING": 1,
        _STRIDE: 1,
        _DILATION: 2,
        _LATERAL_RELU: True,
        _HEAD + "POOLER_ALIGNED": True,
        _HEAD + "POOLER_RESOLUTION": 7,
        "INPUT.SLOW_FRAMES": "spread",
        **_GREY,  # whether blue comes first differs between its configurations (AVA.BGR)
    },
    "PyTorchVideo": {
        _BACKBONE + "STEM_POOL_PADDING": 1,
        _STRIDE: 1,
        _DILATION: 2,
        _LATERAL_RELU: True,
        _HEAD + "POOLER_ALIGNED": False,
        _HEAD + "POOLER_RESOLUTION": 7,
        "INPUT.SLOW_FRAMES": "spread",
        **_GREY,
        _BLUE_FIRST: False,
    },
    "mmaction2": {
        _BACKBONE + "STEM_POOL_PADDING": 1,
        _STRIDE: 1,
        _DILATION: 1,
        _LATERAL_RELU: False,
        _HEAD + "POOLER_ALIGNED": True,
        _HEAD + "POOLER_RESOLUTION": 8,
        "INPUT.SLOW_FRAMES": "first",
        **_IMAGENET,
    },
    "torchvision": {_BACKBONE + "STEM_POOL_PADDING": 1, **_IMAGENET},
}
_RIGHT_FILES = {"torchvision": "slow_r50_8x8_imagenet"}


def unlike_project(cfg: CfgNode, title: str, *, with_head: bool) -> dict[str, Any]:
    """{key: the project's value} of the keys that differ from those which a project's weights were trained with.

    Args:
        title: the format that the weights had, as `read_checkpoint` tells it ("zoo"); others than those of
            PySlowFast, PyTorchVideo, mmaction2 and torchvision differ in nothing.
        with_head: the last layer is the project's, too. Without it the head is free, and the last stage may be that of
            networks for whole clips.
    """
    wanted = dict(_KEYS.get(title.split(" ")[0], {}))
    if not all(_value(cfg, key) for key in _PATHWAYS):
        wanted.pop(_LATERAL_RELU, None)
    if not with_head:
        wanted = {key: value for key, value in wanted.items() if not key.startswith(_HEAD)}
        if all(_value(cfg, key) == value for key, value in _WHOLE_CLIPS.items()):
            wanted = {key: value for key, value in wanted.items() if key not in _WHOLE_CLIPS}
    return {key: value for key, value in wanted.items() if not _alike(_value(cfg, key), value)}


def warn_if_unlike(cfg: CfgNode, title: str, *, source: object, with_head: bool) -> None:
    """One warning that names the keys of `unlike_project`.

    Args:
        source: the file.
    """
    unlike = unlike_project(cfg, title, with_head=with_head)
    if unlike:
        project = title.split(" ")[0]
        logger.warning(
            "%s holds weights of %s, trained with other settings than the configuration's where no tensor shows it: %s."
            " Results will be worse; the right keys are in config_files/%s.yaml.",
            source,
            title,
            ", ".join(f"{key} {shown(_value(cfg, key))} (theirs {shown(value)})" for key, value in unlike.items()),
            _RIGHT_FILES.get(project, f"slow*_{project.lower()}"),
        )


def _alike(ours: Any, theirs: Any) -> bool:
    if not isinstance(theirs, list):
        return bool(ours == theirs)
    return len(ours) == len(theirs) and all(abs(a - b) <= _ROUNDING for a, b in zip(ours, theirs, strict=True))


def _value(cfg: CfgNode, key: str) -> Any:
    value: Any = cfg
    for part in key.split("."):
        value = value[part]
    return value
