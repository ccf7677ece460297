"""From a checkpoint and a configuration to a network that predicts; the only file of this package that reads cfg."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
import yaml
from torch import Tensor
from yacs.config import CfgNode

from alphaction.checkpoint.files import read_checkpoint
from alphaction.checkpoint.last_checkpoint import named_file, read_last
from alphaction.checkpoint.matching import load_weights, without_wrapper
from alphaction.checkpoint.state import averaged_weights, class_names, entry
from alphaction.config import load_config, validate
from alphaction.config.defaults import get_cfg
from alphaction.config.merge import merge_mapping
from alphaction.config.other_projects import warn_if_unlike
from alphaction.dataset.build import clip_sampling
from alphaction.dataset.transforms import ClipTransform
from alphaction.engine.testing.build import check_test_precision
from alphaction.errors import CheckpointError, ConfigError, first_line
from alphaction.formats.label_files import ClassSource, read_classes
from alphaction.modeling import action_groups, build_detection_model, build_postprocess
from alphaction.modeling.detector import ActionDetector
from alphaction.prediction.settings import MemorySettings, Network
from alphaction.structures import ClassList, MemorySpan
from alphaction.utils.device import resolve_device

_LAST_LAYER = "predictor.cls_score.weight"


def build_network(
    checkpoint: str | os.PathLike[str] | None,
    *,
    config: str | os.PathLike[str] | None = None,
    classes: ClassSource | None = None,
    device: str | None = None,
    options: Sequence[object] = (),
    batch_size: int | None = None,
) -> tuple[Network, CfgNode]:
    """The network of a checkpoint and the configuration that it was built from.

    Args:
        checkpoint: weight file; None: of `config` as a test takes it: MODEL.WEIGHT of `options`, else what
            OUTPUT_DIR/last_checkpoint names, else MODEL.WEIGHT.
        config: YAML file; None = the configuration in the checkpoint.
        classes: class names; None = those in the checkpoint.
        device: see `utils.device`; None = MODEL.DEVICE.
        options: `[key, value, ...]`, changes of the configuration.
        batch_size: clips that are computed together; None = TEST.VIDEOS_PER_BATCH.

    Raises:
        UserError: something is missing, damaged, or one does not fit the other.
    """
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"--batch-size: got {batch_size}, expected clips, 1 or more")
    cfg = None if config is None else load_config(config, options)
    path, content = _weights(checkpoint, cfg, options)
    if cfg is None:
        cfg = _own_config(content, path, options)
    if device is not None:
        cfg.MODEL.DEVICE = device
    weights = averaged_weights(content) or without_wrapper(cast(Mapping[str, Tensor], content["model"]))
    class_list = _classes(content, weights, path, classes=classes, configured=cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES)
    cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES = len(class_list)
    validate(cfg)
    place = resolve_device(cfg.MODEL.DEVICE)
    box_threshold = cfg.TEST.BOX_THRESH
    cfg.TEST.BOX_THRESH = 0.0  # the person head tells all that it sees: a run leaves out as it is told
    cfg.freeze()
    model = build_detection_model(cfg)
    _load(model, weights, path, config)
    warn_if_unlike(cfg, str(content.get("zoo", "")), source=path, with_head=True)
    network = _network(cfg, model.to(place).eval(), class_list, place, batch_size)
    return replace(network, source=str(path), box_threshold=box_threshold), cfg


def ready_to_predict(network: Network, cfg: CfgNode) -> Network:
    """The network, if its device can compute in TEST.PRECISION.

    Raises:
        ConfigError: it cannot.
    """
    check_test_precision(cfg.TEST.PRECISION, network.device, what="Predictions")
    return network


def _network(
    cfg: CfgNode, model: ActionDetector, classes: ClassList, device: torch.device, batch_size: int | None
) -> Network:
    node = cfg.MODEL.IA_STRUCTURE
    structure = model.head.feature_extractor.ia_structure
    memory = None
    if model.needs_memory:
        before, after = node.LENGTH
        memory = MemorySettings(
            span=MemorySpan(before=before, after=after, rate=node.MEMORY_RATE, persons=node.MAX_PER_SEC),
            step=node.MEMORY_STEP,
            channels=node.DIM_IN,
            random_choice=cfg.QUIRKS.RANDOM_CHOICE_IN_TEST,
        )
    return Network(
        model=model,
        postprocess=build_postprocess(cfg),
        classes=classes,
        device=device,
        sampling=clip_sampling(cfg),
        transform=ClipTransform(
            min_size=cfg.INPUT.MIN_SIZE_TEST,
            max_size=cfg.INPUT.MAX_SIZE_TEST,
            to_bgr=cfg.INPUT.TO_BGR,
            swap_size=cfg.QUIRKS.SWAP_CLIP_SIZE,
        ),
        extend_scale=tuple(cfg.TEST.EXTEND_SCALE),
        size_divisibility=cfg.DATALOADER.SIZE_DIVISIBILITY,
        exclusive=tuple(group.columns for group in action_groups(cfg) if group.loss == "softmax"),
        max_objects=node.MAX_OBJECT if structure is not None and structure.needs_objects else 0,
        allow_no_objects=node.ALLOW_NO_OBJECTS,
        memory=memory,
        batch_size=batch_size or cfg.TEST.VIDEOS_PER_BATCH,
    )


def _weights(
    checkpoint: str | os.PathLike[str] | None, cfg: CfgNode | None, options: Sequence[object]
) -> tuple[pathlib.Path, Mapping[str, object]]:
    """The file and what it holds."""
    if checkpoint is not None:
        return pathlib.Path(checkpoint), read_checkpoint(checkpoint)
    if cfg is None:
        raise ConfigError("there is no network: give a checkpoint (--weights) or a configuration (--config-file)")
    folder = pathlib.Path(cfg.OUTPUT_DIR)
    if "MODEL.WEIGHT" not in options[::2] and named_file(folder) is not None:
        last = read_last(folder)
        if last is not None:
            return last
    if not cfg.MODEL.WEIGHT:
        raise CheckpointError(
            f"there are no weights: MODEL.WEIGHT is empty and {cfg.OUTPUT_DIR} (OUTPUT_DIR) holds no last_checkpoint. "
            "Train first (train_net.py), or give --weights path/to/file.pth"
        )
    return pathlib.Path(cfg.MODEL.WEIGHT), read_checkpoint(cfg.MODEL.WEIGHT)


def _own_config(content: Mapping[str, object], path: pathlib.Path, options: Sequence[object]) -> CfgNode:
    """The configuration that a checkpoint brings."""
    text = content.get("config")
    if not isinstance(text, str) or not text.strip():
        raise CheckpointError(
            f"{path}: holds no configuration (checkpoints of this program do; weight files of others do not). Give the "
            "one that it was trained with: --config-file FILE.yaml"
        )
    advice = "Give the configuration: --config-file FILE.yaml"
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: its configuration cannot be read ({first_line(error)}). {advice}") from None
    if not isinstance(tree, Mapping):
        raise CheckpointError(f"{path}: its configuration is no YAML mapping. {advice}")
    cfg = get_cfg()
    merge_mapping(cfg, tree, source=f"configuration in {path}")
    cfg.merge_from_list(options)
    return cfg


def _classes(
    content: Mapping[str, object],
    weights: Mapping[str, Tensor],
    path: pathlib.Path,
    *,
    classes: ClassSource | None,
    configured: int,
) -> ClassList:
    """The names of the network's outputs, as many as its last layer has."""
    rows = next((len(tensor) for name, tensor in weights.items() if name.endswith(_LAST_LAYER)), 0)
    if classes is not None:
        found, origin = read_classes(classes), "the class list (--classes)"
    else:
        names = class_names(content)
        if not names:
            count = f"{rows} classes" if rows else "classes"
            raise CheckpointError(
                f"{path}: does not name its {count}. Give their names in the order of the training's ids: --classes "
                "FILE, with a name per line (or a .pbtxt, .csv or .json class list)"
            )
        ids = entry(content, "classes").get("ids")
        ids = ids if isinstance(ids, (list, tuple)) and len(ids) == len(names) else range(1, len(names) + 1)
        found, origin = ClassList(tuple(ids), tuple(names)), "its class names"
    if rows and rows != len(found):
        raise ConfigError(
            f"{path}: its last layer is made for {rows} classes, but {origin} are {len(found)}. Give the class list "
            "that it was trained with: --classes FILE"
        )
    if configured and configured != len(found):
        raise ConfigError(
            f"{path}: has {len(found)} classes, but the configuration says MODEL.ROI_ACTION_HEAD.NUM_CLASSES "
            f"{configured}. Give the configuration that the file was trained with, or none to use its own"
        )
    return found


def _load(
    model: ActionDetector, weights: Mapping[str, Tensor], path: pathlib.Path, config: str | os.PathLike[str] | None
) -> None:
    """Fills every parameter.

    Raises:
        CheckpointError: one does not fit, or is missing.
    """
    given = f"the configuration {os.fspath(config)}" if config is not None else "its own configuration"
    advice = (
        f"The file does not fit {given}: give the one that it was trained with (--config-file), or none to use "
        "the one in the file."
    )
    report = load_weights(model, weights, source=str(path), advice=advice)
    if report.missing:
        raise CheckpointError(
            f"{path}: lacks {len(report.missing)} of the network's {len(report.missing) + len(report.loaded)} tensors "
            f"(first {report.missing[0]}). {advice}"
        )
