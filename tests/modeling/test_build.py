import logging

import pytest
import torch

from alphaction.config import get_cfg
from alphaction.errors import ConfigError
from alphaction.modeling import action_groups, build_criterion, build_detection_model

HEAD = "MODEL.ROI_ACTION_HEAD."
SIZES = ("NUM_PERSON_MOVEMENT_CLASSES", "NUM_OBJECT_MANIPULATION_CLASSES", "NUM_PERSON_INTERACTION_CLASSES")


def config(*opts):
    cfg = get_cfg()
    cfg.merge_from_list(list(opts))
    return cfg


def sizes(*counts):
    return [item for key, count in zip(SIZES, counts, strict=True) for item in (HEAD + key, count)]


def test_groups_of_ava():
    groups = action_groups(config(HEAD + "POSE_LOSS_WEIGHT", 2.5))
    assert [(g.name, g.start, g.size, g.loss, g.weight) for g in groups] == [
        ("pose_action", 0, 14, "softmax", 2.5),
        ("object_interaction", 14, 49, "sigmoid", 49.0),
        ("person_interaction", 63, 17, "sigmoid", 17.0),
    ]


@pytest.mark.parametrize("num_classes", [1, 8, 79, 81])
def test_changing_only_the_number_of_classes_gives_one_multi_label_group(num_classes):
    groups = action_groups(config(HEAD + "NUM_CLASSES", num_classes))
    assert [(g.name, g.start, g.size, g.loss, g.weight) for g in groups] == [
        ("multi_label", 0, num_classes, "sigmoid", num_classes)
    ]


def test_own_groups_and_left_out_groups():
    groups = action_groups(config(HEAD + "NUM_CLASSES", 9, *sizes(5, 0, 4)))
    assert [(g.name, g.start, g.size) for g in groups] == [("pose_action", 0, 5), ("person_interaction", 5, 4)]
    groups = action_groups(config(HEAD + "NUM_CLASSES", 4, *sizes(0, 4, 0)))
    assert [(g.name, g.columns) for g in groups] == [("object_interaction", slice(0, 4))]


def test_sizes_that_do_not_sum():
    with pytest.raises(ConfigError, match=r"NUM_CLASSES: got 9, but NUM_PERSON_MOVEMENT_CLASSES 5 \+ .* = 12; make"):
        action_groups(config(HEAD + "NUM_CLASSES", 9, *sizes(5, 3, 4)))


def test_the_criterion_takes_its_options_from_the_config():
    focal = [HEAD + "FOCAL_LOSS.GAMMA", 1.5, HEAD + "FOCAL_LOSS.ALPHA", 0.25]
    criterion = build_criterion(config(*focal))
    assert (criterion.gamma, criterion.alpha, criterion.unlabelled_is_first_class) == (1.5, 0.25, False)
    assert build_criterion(config("QUIRKS.UNLABELLED_POSE_IS_FIRST_CLASS", True)).unlabelled_is_first_class


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.BACKBONE.CONV_BODY", "I3D-Resnet50"], r"CONV_BODY: got 'I3D-Resnet50', expected one of 'Slowfast-"),
        (["MODEL.BACKBONE.SLOWFAST.LATERAL", "sum"], "LATERAL: got 'sum', expected one of 'tconv'"),
        (["MODEL.BACKBONE.SLOWFAST.BETA", 0.3], "SLOWFAST: beta: got 0.3, .* expected a whole number"),
        (
            ["MODEL.BACKBONE.SLOWFAST.SLOW.ACTIVE", False, "MODEL.BACKBONE.SLOWFAST.FAST.ACTIVE", False],
            "both pathways are off",
        ),
        ([HEAD + "POOLER_TYPE", "crop"], "POOLER_TYPE: got 'crop', expected one of 'align3d', 'pooling3d'"),
        ([HEAD + "FEATURE_EXTRACTOR", "x"], "FEATURE_EXTRACTOR: got 'x', expected one of '2MLPFeatureExtractor'"),
        ([HEAD + "PREDICTOR", "x"], "PREDICTOR: got 'x', expected one of 'FCPredictor'"),
        ([HEAD + "NUM_CLASSES", 0], "NUM_CLASSES: got 0, expected the number of action classes"),
    ],
)
def test_what_cannot_be_built(opts, message):
    with torch.device("meta"), pytest.raises(ConfigError, match=message):
        build_detection_model(config(*opts))


def test_the_head_takes_its_width_from_the_backbone():
    for opts, width in (
        ([], 2048 + 256),
        (["MODEL.BACKBONE.SLOWFAST.FAST.ACTIVE", False], 2048),
        (["MODEL.BACKBONE.CONV_BODY", "Slowfast-Tiny"], 512 + 64),
    ):
        with torch.device("meta"):
            model = build_detection_model(config(*opts))
        assert model.roi_heads["action"].feature_extractor.fc1.in_features == width
        assert sum(model.backbone.out_channels) == width


def test_class_weights_and_balance():
    few = [HEAD + "NUM_CLASSES", 3]
    assert build_criterion(config(*few)).class_weights is None
    given = build_criterion(config(*few, HEAD + "CLASS_WEIGHTS", (1.0, 2.0, 0.5)))
    assert given.class_weights.tolist() == [1.0, 2.0, 0.5]
    both = config(*few, HEAD + "CLASS_WEIGHTS", (1.0, 2.0, 0.5), HEAD + "CLASS_BALANCE", 1.0)
    weights = build_criterion(both, class_counts=[1, 3, 0]).class_weights
    torch.testing.assert_close(weights, torch.tensor([1.5, 2 * 0.5, 0.5]))


def test_class_weights_of_another_number_of_classes():
    with pytest.raises(ConfigError) as caught:
        build_criterion(config(HEAD + "NUM_CLASSES", 3, HEAD + "CLASS_WEIGHTS", (1.0, 2.0)))
    assert str(caught.value) == (
        "MODEL.ROI_ACTION_HEAD.CLASS_WEIGHTS: got 2 weights, expected 3, one per class in the order of the classes "
        "(or () for all 1)"
    )


def test_the_weights_are_logged_with_their_classes(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("alphaction"), "propagate", True)
    caplog.set_level(logging.INFO, logger="alphaction")
    cfg = config(HEAD + "NUM_CLASSES", 2, HEAD + "CLASS_BALANCE", 0.5)
    build_criterion(cfg, class_counts=[1, 9], class_names=["sit", "run"])
    assert "Weights of the classes' losses: sit 1.5, run 0.5" in caplog.text


def test_activation_checkpointing_reaches_both_pathways():
    backbone = build_detection_model(config("MODEL.BACKBONE.ACTIVATION_CHECKPOINTING", True)).backbone
    assert backbone.slow.recompute and backbone.fast.recompute
