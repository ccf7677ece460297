import goldens
import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from alphaction.config import get_cfg
from alphaction.errors import ConfigError
from alphaction.solver import build_averaged, build_optimizer, build_scaler, build_scheduler, parameter_groups

KEYS = {name: goldens.read_record(path) for name, path in goldens.record_files("keys").items()}
KEYS = {name: record for name, record in KEYS.items() if "groups" in record}


def _config(name, opts=()):
    """The original's defaults, one of its YAML files and the case's options on top."""
    cfg = CfgNode(goldens.config_record("defaults"))
    cfg.SOLVER.OPTIMIZER = "sgd"  # a key of ours, at its default
    if name:
        changes = goldens.config_record(name)
        cfg.merge_from_list([value for item in changes.items() for value in item])
    cfg.merge_from_list(list(opts))
    return cfg


def _model(keys):
    """An empty model with the recorded parameters, in their order; batch norms where running statistics are kept."""
    root = nn.Module()
    buffers = set(keys["buffers"])
    for name in keys["parameters"]:
        *path, leaf = name.split(".")
        shape = keys["state_dict"][name][0]
        module = root
        for depth, part in enumerate(path):
            if part not in module._modules:
                is_bn = ".".join([*path[: depth + 1], "running_mean"]) in buffers and depth == len(path) - 1
                module.add_module(part, nn.BatchNorm3d(shape[0], device="meta") if is_bn else nn.Module())
            module = module._modules[part]
        if leaf not in module._parameters:
            module.register_parameter(leaf, nn.Parameter(torch.empty(shape, device="meta")))
    return root


@pytest.mark.parametrize("record", KEYS)
@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "ddp_names"])
def test_groups_equal_the_recorded_ones(record, wrapped):
    keys = KEYS[record]
    model = _model(keys)
    names = [name for name, _ in model.named_parameters()]
    assert names == keys["parameters"]
    if wrapped:
        model = nn.ModuleDict({"module": model})
    optimizer = build_optimizer(_config(keys["config"], keys.get("opts", [])), model)
    assert list(keys["groups"]) == names
    parameters = dict(model.named_parameters())
    report = goldens.parity.Report(record, 1e-12)
    for name, group in zip(names, optimizer.param_groups, strict=True):
        assert len(group["params"]) == 1
        assert group["params"][0] is parameters["module." * wrapped + name]
        report.close(name, [group["lr"], group["weight_decay"]], keys["groups"][name])
    report.finish()
    recorded = keys.get("optimizer", {})
    assert type(optimizer).__name__ == recorded.get("type", "SGD")
    for option in recorded.keys() - {"type"}:
        assert all(group[option] == recorded[option] for group in optimizer.param_groups)


def test_frozen_parameters_get_no_group():
    model = nn.Linear(2, 3)
    model.weight.requires_grad_(False)
    groups = parameter_groups(model, base_lr=1.0, weight_decay=0.5, bias_lr_factor=2.0)
    assert [group["lr"] for group in groups] == [2.0]
    assert groups[0]["weight_decay"] == 0.0


def test_model_without_trainable_parameters():
    with pytest.raises(ConfigError, match="nothing to train"):
        build_optimizer(_config(None), nn.ReLU())


def test_adamw_has_the_same_groups():
    model = nn.Sequential(nn.Conv3d(2, 3, 1), nn.BatchNorm3d(3))
    opts = ["SOLVER.BIAS_LR_FACTOR", 3.0, "SOLVER.WEIGHT_DECAY", 0.05, "SOLVER.WEIGHT_DECAY_BN", 0.2]
    groups = {}
    for name in ("sgd", "adamw"):
        cfg = get_cfg()
        cfg.merge_from_list([*opts, "SOLVER.OPTIMIZER", name, "SOLVER.ADAMW_BETAS", (0.8, 0.99)])
        optimizer = build_optimizer(cfg, model)
        groups[name] = [
            (id(group["params"][0]), group["lr"], group["weight_decay"]) for group in optimizer.param_groups
        ]
    assert groups["sgd"] == groups["adamw"] and len({row[1:] for row in groups["adamw"]}) == 3
    assert isinstance(optimizer, torch.optim.AdamW)
    assert all(group["betas"] == (0.8, 0.99) for group in optimizer.param_groups)
    assert build_scheduler(cfg, optimizer) is not None


def test_an_unknown_optimizer():
    cfg = get_cfg()
    cfg.SOLVER.OPTIMIZER = "lion"
    with pytest.raises(ConfigError, match="SOLVER.OPTIMIZER: got 'lion', expected 'sgd' or 'adamw'"):
        build_optimizer(cfg, nn.Linear(2, 2))


@pytest.mark.parametrize(("precision", "on"), [("float32", False), ("bfloat16", False), ("float16", True)])
def test_only_float16_scales_its_loss(precision, on):
    cfg = get_cfg()
    cfg.SOLVER.PRECISION = precision
    assert (build_scaler(cfg, torch.device("cpu")) is not None) == on


def test_the_mean_of_the_weights_is_off_by_default():
    cfg = get_cfg()
    assert build_averaged(cfg, nn.Linear(2, 2)) is None
    cfg.SOLVER.EMA_DECAY = 0.5
    assert build_averaged(cfg, nn.Linear(2, 2)).model.weight.shape == (2, 2)
