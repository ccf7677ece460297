"""What each configuration key alone may be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from alphaction.utils.device import DEVICE_NAMES, is_device_name

#: Bodies that can be built, with the width of the slow pathway's first stage in channels (the fast one's times BETA).
BODIES = {"Slowfast-Resnet50": 64, "Slowfast-Resnet101": 64, "Slowfast-Tiny": 16}


class Rule(NamedTuple):
    """What a value may be: in words, and as a test."""

    allowed: str
    holds: Callable[[Any], bool]


def _one_of(*names: str) -> Rule:
    return Rule("one of " + ", ".join(f'"{name}"' for name in names), lambda value: value in names)


def _number_of(*numbers: int) -> Rule:
    return Rule(" or ".join(map(str, numbers)), lambda value: value in numbers)


def _at_least(limit: int) -> Rule:
    return Rule(f"{limit} or more", lambda value: limit <= value < math.inf)


def _several(count: int, rule: Rule) -> Rule:
    return Rule(
        f"{count} values, each {rule.allowed}", lambda value: len(value) == count and all(map(rule.holds, value))
    )


_POSITIVE = Rule("above 0", lambda value: 0 < value < math.inf)
_SHARE = Rule("0 to 1", lambda value: 0 <= value <= 1)
_BELOW_ONE = Rule("0 or more and below 1", lambda value: 0 <= value < 1)
_FINITE = Rule("a finite number", math.isfinite)
_COUNT = _at_least(1)
_NOT_NEGATIVE = _at_least(0)
_SOME_POSITIVE = Rule(
    "one number above 0 or more", lambda value: len(value) > 0 and all(0 < item < math.inf for item in value)
)
_NAMES = Rule("names that are not empty", lambda value: all(name.strip() for name in value))

#: Keys of which any value of their type is fine (besides all the True/False keys).
FREE_KEYS = frozenset({"MODEL.WEIGHT", "MODEL.IA_STRUCTURE.I_BLOCK_LIST"})

RULES: dict[str, Rule] = {
    "MODEL.CONVOLUTION": _one_of("auto", "plain"),
    "MODEL.DEVICE": Rule(DEVICE_NAMES, is_device_name),
    "MODEL.ROI_ACTION_HEAD.FEATURE_EXTRACTOR": _one_of(
        "2MLPFeatureExtractor", "MaxpoolFeatureExtractor", "PooledFeatureExtractor"
    ),
    "MODEL.ROI_ACTION_HEAD.POOLER_TYPE": _one_of("align3d", "pooling3d"),
    "MODEL.ROI_ACTION_HEAD.POOLER_RESOLUTION": _COUNT,
    "MODEL.ROI_ACTION_HEAD.POOLER_SCALE": Rule("above 0 and at most 1", lambda value: 0 < value <= 1),
    "MODEL.ROI_ACTION_HEAD.POOLER_SAMPLING_RATIO": _NOT_NEGATIVE,
    "MODEL.ROI_ACTION_HEAD.MLP_HEAD_DIM": _COUNT,
    "MODEL.ROI_ACTION_HEAD.PREDICTOR": _one_of("FCPredictor"),
    "MODEL.ROI_ACTION_HEAD.DROPOUT_RATE": _BELOW_ONE,
    "MODEL.ROI_ACTION_HEAD.NUM_CLASSES": Rule("1 or more, or 0 (as many as the data set has)", _NOT_NEGATIVE.holds),
    "MODEL.ROI_ACTION_HEAD.PROPOSAL_PER_CLIP": _COUNT,
    "MODEL.ROI_ACTION_HEAD.NUM_PERSON_MOVEMENT_CLASSES": _NOT_NEGATIVE,
    "MODEL.ROI_ACTION_HEAD.NUM_OBJECT_MANIPULATION_CLASSES": _NOT_NEGATIVE,
    "MODEL.ROI_ACTION_HEAD.NUM_PERSON_INTERACTION_CLASSES": _NOT_NEGATIVE,
    "MODEL.ROI_ACTION_HEAD.POSE_LOSS_WEIGHT": _NOT_NEGATIVE,
    "MODEL.ROI_ACTION_HEAD.OBJECT_LOSS_WEIGHT": _NOT_NEGATIVE,
    "MODEL.ROI_ACTION_HEAD.PERSON_LOSS_WEIGHT": _NOT_NEGATIVE,
    "MODEL.ROI_ACTION_HEAD.FOCAL_LOSS.GAMMA": _NOT_NEGATIVE,
    "MODEL.ROI_ACTION_HEAD.FOCAL_LOSS.ALPHA": Rule("0 to 1, or -1 (off)", lambda value: value == -1 or 0 <= value <= 1),
    "MODEL.ROI_ACTION_HEAD.CLASS_WEIGHTS": Rule(
        "numbers, each 0 or more", lambda value: all(map(_NOT_NEGATIVE.holds, value))
    ),
    "MODEL.ROI_ACTION_HEAD.CLASS_BALANCE": _SHARE,
    "MODEL.ROI_PERSON_HEAD.CHANNELS": _COUNT,
    "MODEL.ROI_PERSON_HEAD.MLP_HEAD_DIM": _COUNT,
    "MODEL.ROI_PERSON_HEAD.ANCHOR_SIZES": _SOME_POSITIVE,
    "MODEL.ROI_PERSON_HEAD.ANCHOR_RATIOS": _SOME_POSITIVE,
    "MODEL.ROI_PERSON_HEAD.PROPOSALS": _COUNT,
    "MODEL.ROI_PERSON_HEAD.SAMPLES": _COUNT,
    "MODEL.ROI_PERSON_HEAD.NMS_THRESH": _SHARE,
    "MODEL.ROI_PERSON_HEAD.MAX_PERSONS": _COUNT,
    "MODEL.ROI_PERSON_HEAD.OBJECTNESS_LOSS_WEIGHT": _NOT_NEGATIVE,
    "MODEL.ROI_PERSON_HEAD.RPN_BOX_LOSS_WEIGHT": _NOT_NEGATIVE,
    "MODEL.ROI_PERSON_HEAD.PERSON_LOSS_WEIGHT": _NOT_NEGATIVE,
    "MODEL.ROI_PERSON_HEAD.PERSON_BOX_LOSS_WEIGHT": _NOT_NEGATIVE,
    "MODEL.BACKBONE.CONV_BODY": _one_of(*BODIES),
    "MODEL.BACKBONE.BN_MOMENTUM": _SHARE,
    "MODEL.BACKBONE.BN_EPSILON": _POSITIVE,
    "MODEL.BACKBONE.BN_INIT_GAMMA": _FINITE,
    "MODEL.BACKBONE.SLOWFAST.BETA": Rule("above 0 and at most 1", lambda value: 0 < value <= 1),
    "MODEL.BACKBONE.STEM_POOL_PADDING": _number_of(0, 1),
    "MODEL.BACKBONE.LAST_STRIDE": _number_of(1, 2),
    "MODEL.BACKBONE.LAST_DILATION": _number_of(1, 2),
    "MODEL.BACKBONE.CONV4_TEMPORAL_BLOCKS": _NOT_NEGATIVE,
    "MODEL.BACKBONE.SLOWFAST.LATERAL": _one_of("tconv"),
    "MODEL.BACKBONE.SLOWFAST.LATERAL_KERNEL": Rule(
        "an odd number, 1 or more", lambda value: value >= 1 and value % 2 == 1
    ),
    "MODEL.NONLOCAL.POOL_FRAMES": _number_of(1, 2),
    "MODEL.NONLOCAL.CONV_INIT_STD": _NOT_NEGATIVE,
    "MODEL.NONLOCAL.BN_MOMENTUM": _SHARE,
    "MODEL.NONLOCAL.BN_EPSILON": _POSITIVE,
    "MODEL.NONLOCAL.BN_INIT_GAMMA": _FINITE,
    "MODEL.IA_STRUCTURE.STRUCTURE": _one_of("serial", "dense", "parallel"),
    "MODEL.IA_STRUCTURE.MAX_PER_SEC": _COUNT,
    "MODEL.IA_STRUCTURE.MAX_PERSON": _NOT_NEGATIVE,
    "MODEL.IA_STRUCTURE.MAX_OBJECT": _NOT_NEGATIVE,
    "MODEL.IA_STRUCTURE.DIM_IN": _COUNT,
    "MODEL.IA_STRUCTURE.DIM_INNER": _COUNT,
    "MODEL.IA_STRUCTURE.DIM_OUT": _COUNT,
    "MODEL.IA_STRUCTURE.LENGTH": _several(2, _NOT_NEGATIVE),
    "MODEL.IA_STRUCTURE.MEMORY_RATE": _COUNT,
    "MODEL.IA_STRUCTURE.MEMORY_STEP": _POSITIVE,
    "MODEL.IA_STRUCTURE.MEMORY_DTYPE": _one_of("float32", "float16"),
    "MODEL.IA_STRUCTURE.MEMORY_LIMIT_MB": Rule("1 or more, or 0 (no bound)", _NOT_NEGATIVE.holds),
    "MODEL.IA_STRUCTURE.FUSION": _one_of("concat", "add"),
    "MODEL.IA_STRUCTURE.CONV_INIT_STD": _NOT_NEGATIVE,
    "MODEL.IA_STRUCTURE.DROPOUT": _BELOW_ONE,
    "INPUT.MIN_SIZE_TRAIN": _COUNT,
    "INPUT.MAX_SIZE_TRAIN": _COUNT,
    "INPUT.MIN_SIZE_TEST": _COUNT,
    "INPUT.MAX_SIZE_TEST": _COUNT,
    "INPUT.PIXEL_MEAN": _several(3, _FINITE),
    "INPUT.PIXEL_STD": _several(3, _POSITIVE),
    "INPUT.FRAME_NUM": _COUNT,
    "INPUT.FRAME_SAMPLE_RATE": _COUNT,
    "INPUT.FRAME_RATE": Rule("above 0, or 0 (count the video's own frames)", _NOT_NEGATIVE.holds),
    "INPUT.TAU": _COUNT,
    "INPUT.ALPHA": _COUNT,
    "INPUT.HUE_JITTER": Rule("0 to 180", lambda value: 0 <= value <= 180),
    "INPUT.SAT_JITTER": _SHARE,
    "INPUT.VAL_JITTER": _SHARE,
    "INPUT.SLOW_FRAMES": _one_of("middle", "first", "spread"),
    "INPUT.TRANSFORM": _one_of("exact", "device"),
    "DATASETS.TRAIN": _NAMES,
    "DATASETS.TEST": _NAMES,
    "DATASETS.ON_ERROR": _one_of("raise", "skip"),
    "DATALOADER.NUM_WORKERS": _NOT_NEGATIVE,
    "DATALOADER.SIZE_DIVISIBILITY": _NOT_NEGATIVE,
    "DATALOADER.REPEAT_THRESHOLD": _SHARE,
    "SOLVER.MAX_ITER": _COUNT,
    "SOLVER.BASE_LR": _POSITIVE,
    "SOLVER.BIAS_LR_FACTOR": _NOT_NEGATIVE,
    "SOLVER.IA_LR_FACTOR": _NOT_NEGATIVE,
    "SOLVER.MOMENTUM": _BELOW_ONE,
    "SOLVER.WEIGHT_DECAY": _NOT_NEGATIVE,
    "SOLVER.WEIGHT_DECAY_BIAS": _NOT_NEGATIVE,
    "SOLVER.WEIGHT_DECAY_BN": _NOT_NEGATIVE,
    "SOLVER.SCHEDULER": _one_of("warmup_multi_step", "half_period_cosine"),
    "SOLVER.GAMMA": _POSITIVE,
    "SOLVER.STEPS": Rule(
        "iterations above 0 in ascending order",
        lambda value: list(value) == sorted(value) and all(step > 0 for step in value),
    ),
    "SOLVER.WARMUP_FACTOR": _SHARE,
    "SOLVER.WARMUP_ITERS": _NOT_NEGATIVE,
    "SOLVER.WARMUP_METHOD": _one_of("linear", "constant"),
    "SOLVER.CHECKPOINT_PERIOD": _COUNT,
    "SOLVER.EVAL_PERIOD": _COUNT,
    "SOLVER.LOG_PERIOD": _COUNT,
    "SOLVER.VIDEOS_PER_BATCH": _COUNT,
    "SOLVER.ACCUMULATION_STEPS": _COUNT,
    "SOLVER.REFERENCE_BATCH": Rule("1 or more, or 0 (that of the configuration file)", _NOT_NEGATIVE.holds),
    "SOLVER.OPTIMIZER": _one_of("sgd", "adamw"),
    "SOLVER.ADAMW_BETAS": _several(2, _BELOW_ONE),
    "SOLVER.PRECISION": _one_of("float32", "bfloat16", "float16"),
    "SOLVER.MAX_GRAD_NORM": Rule("above 0, or 0 (off)", _NOT_NEGATIVE.holds),
    "SOLVER.ON_NONFINITE": _one_of("raise", "skip"),
    "SOLVER.EMA_DECAY": _BELOW_ONE,
    "SOLVER.EARLY_STOP_PATIENCE": Rule("1 or more, or 0 (never)", _NOT_NEGATIVE.holds),
    "SOLVER.KEEP_CHECKPOINTS": Rule("1 or more, or 0 (all)", _NOT_NEGATIVE.holds),
    "DISTRIBUTED.BACKEND": _one_of("auto", "nccl", "gloo"),
    "DISTRIBUTED.TIMEOUT": _POSITIVE,
    "DISTRIBUTED.DEAD_AFTER": _POSITIVE,
    "TEST.VIDEOS_PER_BATCH": _COUNT,
    "TEST.PRECISION": _one_of("float32", "bfloat16", "float16"),
    "TEST.EXTEND_SCALE": _several(2, _NOT_NEGATIVE),
    "TEST.BOX_THRESH": _SHARE,
    "TEST.ACTION_THRESH": _SHARE,
    "TEST.BOXES": _one_of("auto", "detected", "head", "ground_truth", "both"),
    "TEST.IOU_THRESH": Rule("above 0 and at most 1", lambda value: 0 < value <= 1),
    "TEST.IOU_THRESHOLDS": Rule(
        "numbers, each above 0 and at most 1", lambda value: all(0 < item <= 1 for item in value)
    ),
    "TEST.PROTOCOL": _one_of("alphaction", "activitynet"),
    "TEST.NUM_PICTURES": _NOT_NEGATIVE,
    "TEST.EVERY_N": _COUNT,
    "OUTPUT_DIR": Rule('a folder ("." is the working directory)', lambda value: bool(value.strip())),
}
