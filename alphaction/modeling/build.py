"""From the configuration to the network and what goes with it; the only file of this package that sees cfg."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import torch
from yacs.config import CfgNode

from alphaction.errors import ConfigError
from alphaction.modeling.blocks import BatchNormOptions
from alphaction.modeling.detector import ActionDetector
from alphaction.modeling.head import ActionHead
from alphaction.modeling.interaction import STRUCTURES, BlockOptions, ContextLimits, InteractionStructure
from alphaction.modeling.losses import ActionCriterion, PersonCriterion, balanced_weights
from alphaction.modeling.nonlocal_block import NonLocalOptions
from alphaction.modeling.person_head import PersonHead, PersonHeadOptions
from alphaction.modeling.pooler import RoiPooler3d
from alphaction.modeling.postprocess import Postprocess
from alphaction.modeling.slowfast import BODIES, Geometry, LateralOptions, NonLocalPlaces, SlowFast
from alphaction.structures.groups import ActionGroup, Loss

logger = logging.getLogger(__name__)

_AVA_GROUP_SIZES = (14, 49, 17)
_NO_LAYERS = "PooledFeatureExtractor"
# "MaxpoolFeatureExtractor" is the original's default, a name for which it had no extractor.
_FEATURE_EXTRACTORS = ("2MLPFeatureExtractor", "MaxpoolFeatureExtractor", _NO_LAYERS)
_PREDICTORS = ("FCPredictor",)
_POOLERS = ("align3d", "pooling3d")
_LATERALS = ("tconv",)


def build_detection_model(cfg: CfgNode) -> ActionDetector:
    """The detector that the configuration describes, with fresh weights, on the current default device.

    Raises:
        ConfigError: a key has a value that this version cannot build.
    """
    backbone = build_backbone(cfg)
    return ActionDetector(
        backbone=backbone,
        pooler=build_pooler(cfg),
        head=build_head(cfg, dim_in=sum(backbone.out_channels)),
        pixel_mean=cfg.INPUT.PIXEL_MEAN,
        pixel_std=cfg.INPUT.PIXEL_STD,
        person_head=build_person_head(cfg, backbone),  # last: the other parts start as without it
    )


def build_backbone(cfg: CfgNode) -> SlowFast:
    """The SlowFast network of MODEL.BACKBONE and MODEL.NONLOCAL.

    Raises:
        ConfigError: an unknown body or kind of connection, or numbers that do not make a network.
    """
    node = cfg.MODEL.BACKBONE
    body = BODIES.get(node.CONV_BODY)
    if body is None:
        raise _not_among("MODEL.BACKBONE.CONV_BODY", node.CONV_BODY, BODIES)
    if node.SLOWFAST.LATERAL not in _LATERALS:
        raise _not_among("MODEL.BACKBONE.SLOWFAST.LATERAL", node.SLOWFAST.LATERAL, _LATERALS)
    try:
        return SlowFast(
            body,
            alpha=cfg.INPUT.ALPHA,
            beta=node.SLOWFAST.BETA,
            slow=node.SLOWFAST.SLOW.ACTIVE,
            fast=node.SLOWFAST.FAST.ACTIVE,
            bn=_batch_norm(node),
            slow_nonlocal=_nonlocal_places(node.SLOWFAST.SLOW),
            fast_nonlocal=_nonlocal_places(node.SLOWFAST.FAST),
            nonlocal_options=nonlocal_options(cfg),
            lateral=LateralOptions(
                kernel=node.SLOWFAST.LATERAL_KERNEL,
                bias=node.SLOWFAST.LATERAL_BIAS,
                norm=node.SLOWFAST.LATERAL_NORM,
                relu=node.SLOWFAST.LATERAL_RELU,
            ),
            geometry=Geometry(
                pool_padding=node.STEM_POOL_PADDING,
                last_stride=node.LAST_STRIDE,
                last_dilation=node.LAST_DILATION,
                conv4_temporal_blocks=node.CONV4_TEMPORAL_BLOCKS,
            ),
            recompute=node.ACTIVATION_CHECKPOINTING,
            plain=cfg.MODEL.CONVOLUTION == "plain",
            test_precision=getattr(torch, cfg.TEST.PRECISION),
        )
    except ValueError as error:
        raise ConfigError(f"MODEL.BACKBONE.SLOWFAST: {error}") from error


def nonlocal_options(cfg: CfgNode) -> NonLocalOptions:
    """How non-local blocks work (MODEL.NONLOCAL)."""
    node = cfg.MODEL.NONLOCAL
    return NonLocalOptions(
        init_std=node.CONV_INIT_STD,
        zero_init=node.USE_ZERO_INIT_CONV,
        bias=not node.NO_BIAS,
        max_pool=node.USE_MAXPOOL,
        pool_frames=node.POOL_FRAMES,
        softmax=node.USE_SOFTMAX,
        scale=node.USE_SCALE,
        bn=_batch_norm(node) if node.USE_BN else None,
    )


def build_pooler(cfg: CfgNode) -> RoiPooler3d:
    """From feature maps to one feature per box (MODEL.ROI_ACTION_HEAD.POOLER_*)."""
    node = cfg.MODEL.ROI_ACTION_HEAD
    if node.POOLER_TYPE not in _POOLERS:
        raise _not_among("MODEL.ROI_ACTION_HEAD.POOLER_TYPE", node.POOLER_TYPE, _POOLERS)
    return RoiPooler3d(
        kind=node.POOLER_TYPE,
        output_size=node.POOLER_RESOLUTION,
        spatial_scale=node.POOLER_SCALE,
        sampling_ratio=node.POOLER_SAMPLING_RATIO,
        aligned=node.POOLER_ALIGNED,
        mean_before_pooler=node.MEAN_BEFORE_POOLER,
    )


def build_head(cfg: CfgNode, *, dim_in: int) -> ActionHead:
    """The head on pooled features of `dim_in` channels, with its interaction structure.

    Raises:
        ConfigError: an unknown part, or sizes that do not fit together.
    """
    node = cfg.MODEL.ROI_ACTION_HEAD
    for key, allowed in (("FEATURE_EXTRACTOR", _FEATURE_EXTRACTORS), ("PREDICTOR", _PREDICTORS)):
        if node[key] not in allowed:
            raise _not_among(f"MODEL.ROI_ACTION_HEAD.{key}", node[key], allowed)
    interaction = build_interaction(cfg, dim_in=dim_in) if cfg.MODEL.IA_STRUCTURE.ACTIVE else None
    try:
        return ActionHead(
            dim_in,
            dim=None if node.FEATURE_EXTRACTOR == _NO_LAYERS else node.MLP_HEAD_DIM,
            num_classes=_num_classes(cfg),
            dropout=node.DROPOUT_RATE,
            interaction=interaction,
            fusion=cfg.MODEL.IA_STRUCTURE.FUSION,
        )
    except ValueError as error:
        raise ConfigError(f"MODEL.IA_STRUCTURE.FUSION, DIM_OUT: {error}") from error


def build_person_head(cfg: CfgNode, backbone: SlowFast) -> PersonHead | None:
    """The person head of MODEL.ROI_PERSON_HEAD; None where it is not active.

    Raises:
        ConfigError: there is no slow pathway to find persons on.
    """
    node = cfg.MODEL.ROI_PERSON_HEAD
    if not node.ACTIVE:
        return None
    if backbone.slow is None:
        raise ConfigError(
            "MODEL.ROI_PERSON_HEAD.ACTIVE: got True, expected False: persons are found on the slow pathway's map, and "
            "MODEL.BACKBONE.SLOWFAST.SLOW.ACTIVE is False"
        )
    return PersonHead(
        backbone.slow.dims[-1],
        PersonHeadOptions(
            channels=node.CHANNELS,
            dim=node.MLP_HEAD_DIM,
            anchor_sizes=tuple(node.ANCHOR_SIZES),
            anchor_ratios=tuple(node.ANCHOR_RATIOS),
            proposals=node.PROPOSALS,
            samples=node.SAMPLES,
            nms=float(node.NMS_THRESH),
            max_persons=node.MAX_PERSONS,
            score_threshold=float(cfg.TEST.BOX_THRESH),
            extend_scale=tuple(cfg.TEST.EXTEND_SCALE),
        ),
    )


def build_person_criterion(cfg: CfgNode) -> PersonCriterion | None:
    """`criterion(losses, share=) -> LossOutput` of the person head; None where it is not active."""
    node = cfg.MODEL.ROI_PERSON_HEAD
    if not node.ACTIVE:
        return None
    if cfg.INPUT.SLOW_JITTER:
        logger.warning(
            "INPUT.SLOW_JITTER moves the slow pathway's frames away from the keyframe at random: the person head learns"
            " boxes that do not fit what it sees. Better leave it False."
        )
    return PersonCriterion(
        {
            "loss_objectness": float(node.OBJECTNESS_LOSS_WEIGHT),
            "loss_rpn_box": float(node.RPN_BOX_LOSS_WEIGHT),
            "loss_person": float(node.PERSON_LOSS_WEIGHT),
            "loss_person_box": float(node.PERSON_BOX_LOSS_WEIGHT),
        }
    )


def build_interaction(cfg: CfgNode, *, dim_in: int) -> InteractionStructure:
    """The interaction structure of MODEL.IA_STRUCTURE on pooled features of `dim_in` channels.

    Raises:
        ConfigError: an unknown structure, or blocks that it cannot have.
    """
    node = cfg.MODEL.IA_STRUCTURE
    structure = STRUCTURES.get(node.STRUCTURE)
    if structure is None:
        raise _not_among("MODEL.IA_STRUCTURE.STRUCTURE", node.STRUCTURE, STRUCTURES)
    nested = any(not isinstance(item, str) for item in node.I_BLOCK_LIST)
    if node.I_BLOCK_LIST and nested != (node.STRUCTURE == "parallel"):
        expected = "a list of layers, e.g. [['P', 'O', 'M'], ['P', 'O', 'M']]" if not nested else "a list of blocks"
        raise ConfigError(
            f"MODEL.IA_STRUCTURE.I_BLOCK_LIST: got {node.I_BLOCK_LIST}, expected {expected} "
            f"with STRUCTURE {node.STRUCTURE!r}"
        )
    try:
        return structure(
            node.I_BLOCK_LIST if nested else [[kind] for kind in node.I_BLOCK_LIST],
            dim_in=dim_in,
            dim_out=node.DIM_OUT,
            limits=ContextLimits(
                persons=node.MAX_PERSON,
                objects=node.MAX_OBJECT,
                per_second=node.MAX_PER_SEC,
                seconds_before=node.LENGTH[0],
                seconds_after=node.LENGTH[1],
                random_in_test=cfg.QUIRKS.RANDOM_CHOICE_IN_TEST,
            ),
            options=BlockOptions(
                dim_inner=node.DIM_INNER,
                bias=not node.NO_BIAS,
                init_std=node.CONV_INIT_STD,
                zero_init=node.USE_ZERO_INIT_CONV,
                layer_norm=node.LAYER_NORM,
                dropout=node.DROPOUT,
            ),
            temporal_position=node.TEMPORAL_POSITION,
        )
    except ValueError as error:
        raise ConfigError(f"MODEL.IA_STRUCTURE.I_BLOCK_LIST: {error}") from error


def build_criterion(
    cfg: CfgNode, *, class_counts: Sequence[int] | None = None, class_names: Sequence[str] = ()
) -> ActionCriterion:
    """`criterion(logits, labels, num_boxes) -> LossOutput`.

    Args:
        class_counts: persons of the training set with each class; needed for CLASS_BALANCE.
        class_names: for the log.

    Raises:
        ConfigError: CLASS_WEIGHTS are not as many as the classes.
    """
    focal = cfg.MODEL.ROI_ACTION_HEAD.FOCAL_LOSS
    groups = action_groups(cfg)
    weights = _class_weights(cfg, groups, class_counts)
    if weights is not None:
        names = class_names or [f"class {i}" for i in range(len(weights))]
        table = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(names, weights, strict=True))
        logger.info("Weights of the classes' losses: %s", table)
    return ActionCriterion(
        groups,
        gamma=focal.GAMMA,
        alpha=focal.ALPHA,
        class_weights=weights,
        unlabelled_is_first_class=cfg.QUIRKS.UNLABELLED_POSE_IS_FIRST_CLASS,
    )


def _class_weights(
    cfg: CfgNode, groups: Sequence[ActionGroup], class_counts: Sequence[int] | None
) -> list[float] | None:
    """CLASS_WEIGHTS times what CLASS_BALANCE gives; None where both are off."""
    node, num_classes = cfg.MODEL.ROI_ACTION_HEAD, _num_classes(cfg)
    given = [float(weight) for weight in node.CLASS_WEIGHTS]
    if given and len(given) != num_classes:
        raise ConfigError(
            f"MODEL.ROI_ACTION_HEAD.CLASS_WEIGHTS: got {len(given)} weights, expected {num_classes}, one per class "
            "in the order of the classes (or () for all 1)"
        )
    if not node.CLASS_BALANCE:
        return given or None
    if class_counts is None:
        raise ValueError("class_counts: got None, expected the persons of each class (CLASS_BALANCE is on)")
    balanced = balanced_weights(class_counts, groups, power=float(node.CLASS_BALANCE))
    return [a * b for a, b in zip(given or [1.0] * num_classes, balanced, strict=True)]


def build_postprocess(cfg: CfgNode) -> Postprocess:
    """`postprocess(logits) -> scores`, both [R, K]."""
    return Postprocess(action_groups(cfg))


def action_groups(cfg: CfgNode) -> tuple[ActionGroup, ...]:
    """How the classes are grouped for loss and scores, in class order.

    Three groups of the configured sizes: poses (exclusive), actions with objects, actions with persons. When only
    NUM_CLASSES was changed and the sizes are still those of AVA, all classes form one group of independent classes.

    Raises:
        ConfigError: the sizes do not sum to NUM_CLASSES.
    """
    node = cfg.MODEL.ROI_ACTION_HEAD
    num_classes = _num_classes(cfg)
    sizes = (
        node.NUM_PERSON_MOVEMENT_CLASSES,
        node.NUM_OBJECT_MANIPULATION_CLASSES,
        node.NUM_PERSON_INTERACTION_CLASSES,
    )
    if num_classes != sum(sizes) and sizes == _AVA_GROUP_SIZES:
        return (ActionGroup(name="multi_label", start=0, size=num_classes, loss="sigmoid", weight=float(num_classes)),)
    if num_classes != sum(sizes) or min(sizes) < 0:
        raise ConfigError(
            f"MODEL.ROI_ACTION_HEAD.NUM_CLASSES: got {num_classes}, but NUM_PERSON_MOVEMENT_CLASSES {sizes[0]} + "
            f"NUM_OBJECT_MANIPULATION_CLASSES {sizes[1]} + NUM_PERSON_INTERACTION_CLASSES {sizes[2]} = {sum(sizes)}; "
            "make them sum to NUM_CLASSES (0 drops a group), or leave all three at AVA's 14, 49, 17 for one "
            "multi-label group of all classes"
        )
    rows: tuple[tuple[str, int, Loss, float], ...] = (
        ("pose_action", sizes[0], "softmax", node.POSE_LOSS_WEIGHT),
        ("object_interaction", sizes[1], "sigmoid", node.OBJECT_LOSS_WEIGHT),
        ("person_interaction", sizes[2], "sigmoid", node.PERSON_LOSS_WEIGHT),
    )
    groups, start = [], 0
    for name, size, loss, weight in rows:
        if size:
            groups.append(ActionGroup(name=name, start=start, size=size, loss=loss, weight=weight))
        start += size
    return tuple(groups)


def _num_classes(cfg: CfgNode) -> int:
    num_classes = cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES
    if num_classes < 1:
        raise ConfigError(
            f"MODEL.ROI_ACTION_HEAD.NUM_CLASSES: got {num_classes}, expected the number of action classes (0 stands "
            "for the data set's own number only where a data set is read first, as in train_net.py and test_net.py)"
        )
    return num_classes


def _batch_norm(node: CfgNode) -> BatchNormOptions:
    return BatchNormOptions(
        frozen=node.FROZEN_BN, eps=node.BN_EPSILON, momentum=node.BN_MOMENTUM, last_gamma=node.BN_INIT_GAMMA
    )


def _nonlocal_places(node: CfgNode) -> NonLocalPlaces:
    return NonLocalPlaces(conv3=node.CONV3_NONLOCAL, conv4=node.CONV4_NONLOCAL, group_conv3=node.CONV3_GROUP_NL)


def _not_among(key: str, value: object, allowed: Iterable[str]) -> ConfigError:
    return ConfigError(f"{key}: got {value!r}, expected one of {', '.join(map(repr, allowed))}")
