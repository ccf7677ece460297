"""Networks of other projects: their names and shapes as recorded, and which configuration is theirs."""

from __future__ import annotations

import gzip
import json
import pathlib

import torch

from alphaction.config import load_config, validate

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Project -> network -> name -> shape.
NAMES = json.loads(gzip.decompress((ROOT / "tests" / "golden_zoo" / "names.json.gz").read_bytes()))
# A network for whole clips: what its last stage does instead of dilating.
WHOLE_CLIPS = [
    *("MODEL.BACKBONE.LAST_STRIDE", 2),
    *("MODEL.BACKBONE.LAST_DILATION", 1),
    *("MODEL.ROI_ACTION_HEAD.POOLER_SCALE", 1 / 32),
]
# (project, network) -> configuration file.
CONFIGS = {
    ("pyslowfast", "Kinetics/SLOWFAST_4x16_R50"): "slowfast_r50_4x16_pyslowfast",
    ("pyslowfast", "Kinetics/SLOWFAST_8x8_R50"): "slowfast_r50_8x8_pyslowfast",
    ("pyslowfast", "AVA/SLOWFAST_32x2_R50_SHORT"): "slowfast_r50_8x8_pyslowfast",
    ("pyslowfast", "AVA/c2/SLOWFAST_32x2_R101_50_50"): "slowfast_r101_8x8_pyslowfast",
    ("pyslowfast", "AVA/SLOW_8x8_R50_SHORT"): "slow_r50_8x8_pyslowfast",
    ("pytorchvideo", "slowfast_r50"): "slowfast_r50_8x8_pytorchvideo",
    ("pytorchvideo", "slowfast_r101"): "slowfast_r101_8x8_pytorchvideo",
    ("pytorchvideo", "slowfast_r50_detection"): "slowfast_r50_8x8_pytorchvideo",
    ("pytorchvideo", "slow_r50"): "slow_r50_4x16_pytorchvideo",
    ("pytorchvideo", "slow_r50_detection"): "slow_r50_4x16_pytorchvideo",
    ("mmaction2", "slowfast_r50_4x16"): "slowfast_r50_4x16_mmaction2",
    ("mmaction2", "slowfast_r50_8x8"): "slowfast_r50_8x8_mmaction2",
    ("mmaction2", "slowonly_r50"): "slowonly_r50_4x16_mmaction2",
}


def config(name, opts=(), *, num_classes=80, trainable_norms=False):
    """The configuration of `config_files`, checked; all classes in one sigmoid group."""
    head = "MODEL.ROI_ACTION_HEAD."
    opts = [*opts, head + "NUM_CLASSES", num_classes, head + "NUM_OBJECT_MANIPULATION_CLASSES", num_classes]
    if trainable_norms:
        opts += ["MODEL.BACKBONE.FROZEN_BN", False, "MODEL.NONLOCAL.FROZEN_BN", False]
    cfg = load_config(ROOT / "config_files" / f"{name}.yaml", opts)
    validate(cfg)
    return cfg


def state(project, network, *, device="meta"):
    """A state dict of the recorded names and shapes, without content."""
    return {
        name: torch.empty(shape, dtype=torch.int64 if name.endswith("num_batches_tracked") else None, device=device)
        for name, shape in NAMES[project][network].items()
    }
