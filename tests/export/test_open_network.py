"""The network as tensor operations gives what the network gives."""

import pytest
import torch
from export_kit import POM, detector, expected, inputs_of
from prediction_kit import IA, INTERACTION

from alphaction.modeling.blocks import ConvBn

COUNTS = [([1], [0]), ([3, 2], [2, 1]), ([7, 0, 5], [4, 0, 3]), ([2, 1], [0, 0]), ([0], [0])]
BACKBONE = "MODEL.BACKBONE."
NETWORKS = {
    "no interaction": [],
    "serial": [*POM, IA + "TEMPORAL_POSITION", False, IA + "FUSION", "concat"],
    "dense": [*INTERACTION, IA + "STRUCTURE", "dense", IA + "I_BLOCK_LIST", ["P", "O", "M", "P", "M"]],
    "parallel": [*INTERACTION, IA + "STRUCTURE", "parallel", IA + "I_BLOCK_LIST", [["P", "O", "M"]] * 2],
    "non-local blocks": [BACKBONE + "SLOWFAST.SLOW.CONV4_NONLOCAL", True, BACKBONE + "FROZEN_BN", True],
    "pooled after": ["MODEL.ROI_ACTION_HEAD.MEAN_BEFORE_POOLER", False],
    "largest cells": ["MODEL.ROI_ACTION_HEAD.POOLER_TYPE", "pooling3d"],
}


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_it_gives_what_the_network_gives(config, name):
    model, opened, postprocess = detector(config, *NETWORKS[name])
    for persons, objects in COUNTS:
        batch, window, inputs = inputs_of(opened, persons, objects)
        scores, features = expected(model, postprocess, batch, window)
        got_scores, got_features = opened(*inputs)
        torch.testing.assert_close(got_scores, scores, atol=1e-5, rtol=0)
        torch.testing.assert_close(got_features, features, atol=1e-5, rtol=1e-5)
    assert len(scores) == 0 and torch.isfinite(got_scores).all()


@torch.no_grad()
def test_the_order_of_boxes_does_not_matter_where_all_are_seen(config):
    _, opened, _ = detector(config, *POM, IA + "MAX_PERSON", 9, IA + "MAX_PER_SEC", 9, IA + "MAX_OBJECT", 9)
    _, _, inputs = inputs_of(opened, [3, 2], [2, 1])
    given = dict(zip(opened.input_names, inputs, strict=True))
    given["memory"] = torch.zeros(2, 5, 9, 576)
    scores, _ = opened(*given.values())
    order = torch.tensor([4, 0, 3, 1, 2])
    given["boxes"], given["objects"] = given["boxes"][order], given["objects"].flip(0)
    torch.testing.assert_close(opened(*given.values())[0], scores[order], atol=1e-5, rtol=0)
    assert scores.std(dim=0).max() > 0.05  # else anything would pass


@torch.no_grad()
def test_padding_and_the_clips_own_moment_of_the_memory_are_not_read(config):
    _, opened, _ = detector(config, *POM)
    _, _, inputs = inputs_of(opened, [3, 2], [2, 1])
    given = dict(zip(opened.input_names, inputs, strict=True))
    scores, _ = opened(*given.values())
    given["slow"] = given["slow"].clone()
    given["slow"][1, :, :, 29:], given["slow"][1, :, :, :, 43:] = 7, 7
    given["memory"] = given["memory"].clone()
    given["memory"][:, 2] = 9
    assert torch.equal(opened(*given.values())[0], scores)
    given["memory"][:, 1] = 9
    assert not torch.allclose(opened(*given.values())[0], scores, atol=1e-4)


@torch.no_grad()
def test_batch_norms_go_into_the_convolutions_of_the_copy_only(config):
    model, opened, _ = detector(config)
    kinds = {type(module.bn) for module in opened.modules() if isinstance(module, ConvBn)}
    assert kinds == {torch.nn.Identity}
    assert not any(type(module.bn) is torch.nn.Identity for module in model.modules() if isinstance(module, ConvBn))
