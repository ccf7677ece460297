"""A fresh model's weights are drawn from the recorded distributions."""

import math

import pytest
import torch
from goldens import load, read_record, record_files
from model_kit import config_of

from alphaction.modeling.build import build_backbone, build_detection_model

RECORD = load("initial_weights")


@pytest.mark.parametrize("config", sorted(RECORD["configs"]))
def test_recorded_distributions(config):
    torch.manual_seed(0)
    state = build_detection_model(config_of({"config": config, "opts": []})).state_dict()
    recorded = RECORD["configs"][config]
    assert list(state) == list(recorded)
    for key, value in state.items():
        mean, std, low, high = recorded[key]
        value = value.double()
        noise = 6 * std / math.sqrt(value.numel())  # six standard errors
        assert abs(value.mean().item() - mean) <= noise, key
        assert abs(value.std(correction=0).item() - std) <= noise, key
        assert abs(value.min().item() - low) <= 3 * std and abs(value.max().item() - high) <= 3 * std, key


def test_recorded_gamma_of_fresh_residual_branches():
    record = read_record(record_files("keys", "extra/*")["resnet50_bn_trainable"])
    cfg = config_of({"config": record["config"], "opts": record["opts"]})
    backbone = build_backbone(cfg)
    gammas = [value for key, value in backbone.state_dict().items() if key.endswith("conv3.bn.weight")]
    assert gammas and all((gamma == record["initial_bn_weight_conv3"]).all() for gamma in gammas)


def test_uniform_layers_keep_to_their_bounds():
    """fc1 and fc2 are uniform within sqrt(3 / fan-in), so that their variance is 1 / fan-in."""
    cfg = config_of({"config": None, "opts": ["MODEL.BACKBONE.CONV_BODY", "Slowfast-Tiny"]})
    extractor = build_detection_model(cfg).roi_heads["action"].feature_extractor
    for layer in (extractor.fc1, extractor.fc2):
        bound = math.sqrt(3 / layer.in_features)
        assert layer.weight.abs().max().item() <= bound
        assert layer.weight.abs().max().item() >= 0.99 * bound
        assert (layer.bias == 0).all()
