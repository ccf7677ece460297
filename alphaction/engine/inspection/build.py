"""The networks of configuration files, without memory for their weights: names and shapes only."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alphaction.config import load_config, validate
from alphaction.config.other_projects import unlike_project
from alphaction.modeling import build_detection_model


@dataclass(frozen=True)
class Network:
    """The state of a configuration's network.

    Attributes:
        state: name -> tensor without content (on PyTorch's device "meta").
        body: MODEL.BACKBONE.CONV_BODY.
        num_classes: MODEL.ROI_ACTION_HEAD.NUM_CLASSES; 0 = the data set's number.
        unlike: the keys that differ from those which weights of a project (the format's title) were trained with, with
            the project's head or without (`config.other_projects`).
    """

    state: dict[str, Tensor]
    body: str
    num_classes: int
    unlike: Callable[[str, bool], Sequence[str]]


def network_of(config_file: str | os.PathLike[str], opts: Sequence[str] = (), *, num_classes: int) -> Network:
    """The network of a configuration file; `num_classes` is taken where the configuration leaves the number open.

    Raises:
        ConfigError: the file is missing or wrong.
    """
    cfg = load_config(config_file, opts)
    validate(cfg)
    configured = cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES
    cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES = configured or num_classes
    with torch.device("meta"):
        state = build_detection_model(cfg).state_dict()

    def unlike(title: str, with_head: bool) -> list[str]:
        return list(unlike_project(cfg, title, with_head=with_head))

    return Network(state, body=cfg.MODEL.BACKBONE.CONV_BODY, num_classes=configured, unlike=unlike)
