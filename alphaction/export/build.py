"""From a checkpoint and a configuration to what is exported; the only file of this package that reads cfg."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from yacs.config import CfgNode

from alphaction.dataset.build import build_datasets
from alphaction.errors import ConfigError, DataError, UserError
from alphaction.export.clips import RealClips, complete, of_drawn_video, of_video
from alphaction.export.network import OpenNetwork
from alphaction.modeling import action_groups
from alphaction.prediction.build import build_network
from alphaction.prediction.settings import Network

logger = logging.getLogger(__name__)

_CLIPS = 2  # to compare on


@dataclass(frozen=True)
class Prepared:
    """What is exported, and what it is compared on.

    Attributes:
        network: as prediction takes it, on the processor.
        opened: the same weights, ready to be written.
        clips: real ones.
    """

    network: Network
    opened: OpenNetwork
    clips: RealClips


def prepare(
    checkpoint: str | os.PathLike[str] | None,
    *,
    config: str | os.PathLike[str] | None,
    classes: str | None,
    options: Sequence[object],
    pixels: torch.dtype,
    video: str = "",
    boxes: str = "",
) -> Prepared:
    """Reads the network and the clips.

    Args:
        checkpoint, config, classes, options: as `prediction.build.build_network` takes them.
        pixels: type of the clips in the file.
        video, boxes: where the clips come from; "" = from DATASETS.TEST, else drawn.

    Raises:
        UserError: something is missing or damaged, or the network computes in a way that cannot be exported.
    """
    network, cfg = build_network(
        checkpoint, config=config, classes=classes, device="cpu", options=options, batch_size=1
    )
    _check(cfg)
    if network.model.person_head is not None:
        logger.warning(
            "The person head (MODEL.ROI_PERSON_HEAD) is not in the file: whoever uses it gives the boxes of persons."
        )
    opened = OpenNetwork(network.model, action_groups(cfg), pixels=pixels)
    return Prepared(network, opened.eval(), _clips(cfg, network, video=video, boxes=boxes))


def _check(cfg: CfgNode) -> None:
    """
    Raises:
        ConfigError: the file would compute something else than a test with this configuration.
    """
    if cfg.TEST.PRECISION != "float32":
        raise ConfigError(
            f"TEST.PRECISION: got {cfg.TEST.PRECISION}, expected float32: files are written in float32, and their "
            "runtimes reduce it themselves (onnxruntime, TensorRT). Add TEST.PRECISION float32 to the command"
        )
    if cfg.MODEL.IA_STRUCTURE.ACTIVE and cfg.QUIRKS.RANDOM_CHOICE_IN_TEST:
        raise ConfigError(
            "QUIRKS.RANDOM_CHOICE_IN_TEST: got True, expected False: an exported network looks at the first persons "
            "of a crowded clip, not at a random choice. Add QUIRKS.RANDOM_CHOICE_IN_TEST False to the command"
        )


def _clips(cfg: CfgNode, network: Network, *, video: str, boxes: str) -> RealClips:
    if video:
        return of_video(video, network, boxes=boxes)
    if boxes:
        raise ConfigError(f"--boxes {boxes}: got no video that they belong to; add --video FILE")
    if not cfg.DATASETS.TEST:
        return of_drawn_video(network)
    try:
        return _of_dataset(cfg, network)
    except UserError as error:
        logger.warning("DATASETS.TEST cannot be read, the file is compared on drawn figures (%s)", error)
        return of_drawn_video(network)


def _of_dataset(cfg: CfgNode, network: Network) -> RealClips:
    """The first clips of the first set of DATASETS.TEST."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.TRANSFORM = "exact"
    cfg.TEST.BOX_THRESH = network.box_threshold
    cfg.DATASETS.TEST = cfg.DATASETS.TEST[:1]
    [dataset] = build_datasets(cfg, "test")
    found = (dataset[i] for i in range(len(dataset)))
    samples = [complete(sample, network) for sample in islice((s for s in found if s is not None), _CLIPS)]
    if not samples:
        raise DataError(f"{dataset.name}: has no clip that can be read")
    keys = ", ".join(f"{sample.key[0]} {sample.key[1]:g} s" for sample in samples)
    return RealClips(samples, f"{dataset.name} ({keys})")
