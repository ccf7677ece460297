import pytest
import torch
from goldens import fill, load, parity, read_record, record_files
from model_kit import cases_of, config_of, selection, tensor

from alphaction.modeling.blocks import BatchNormOptions
from alphaction.modeling.build import build_backbone
from alphaction.modeling.slowfast import BODIES, NUM_STAGES, Body, NonLocalPlaces, SlowFast

GOLDENS = ("backbone_r50_4x16", "backbone_r101_8x8", "backbone_variants")
SMALL = Body(depths=(1, 2, 2, 1), width=8)


def recorded_outputs(backbone):
    """Hooks that note every intermediate result which the goldens have a name for."""
    noted = {}

    def note(name):
        return lambda module, inputs, output: noted.__setitem__(name, output.detach())

    for name in ("slow", "fast"):
        pathway = getattr(backbone, name)
        if pathway is not None:
            pathway.maxpool1.register_forward_hook(note(f"stage/{name}/stem"))
            for i in range(1, NUM_STAGES + 1):
                getattr(pathway, f"res_nl{i}").register_forward_hook(note(f"stage/{name}/stage{i}"))
    return noted


def add_lateral_outputs(backbone, noted):
    """The lateral connections on the noted fast features (without a slow pathway the network itself skips them)."""
    if backbone.fast is not None:
        for i in range(1, NUM_STAGES + 1):
            source = "stem" if i == 1 else f"stage{i - 1}"
            lateral = getattr(backbone.fast, f"Tconv{i}")
            noted[f"stage/fast/lateral{i}"] = lateral(noted[f"stage/fast/{source}"])


@pytest.mark.parametrize(("golden", "name"), cases_of(*GOLDENS))
@torch.no_grad()
def test_recorded_features(golden, name):
    meta, arrays = load(golden)
    case = meta["cases"][name]
    cfg = config_of(case)
    if cfg.MODEL.BACKBONE.CONV_BODY not in BODIES:
        pytest.skip(f"body {cfg.MODEL.BACKBONE.CONV_BODY} is not in this version")
    backbone = build_backbone(cfg)
    fill.fill_module(backbone, case["weight_salt"], case["key_prefix"]).train(case["mode"] == "train")
    noted = recorded_outputs(backbone)
    index = {path: case[f"{path}_index"] for path in ("slow", "fast")}
    slow, fast = fill.model_inputs(
        case["clips"], index["slow"] or [], index["fast"] or [], case["pad_to"], case["clip_salt"]
    )
    maps = backbone(None if index["slow"] is None else tensor(slow), None if index["fast"] is None else tensor(fast))
    add_lateral_outputs(backbone, noted)

    # Batch statistics of few values are noisier than anything else here (shared/parity/README.md).
    report = parity.Report(golden, None if case["mode"] == "train" else parity.TOLERANCE["backbone_r50_4x16"])
    for path, features in zip(("slow", "fast"), maps, strict=True):
        assert (features is None) == (index[path] is None)
        if features is not None:
            assert list(features.shape) == case[f"{path}_shape"]
            report.close(path, features[selection(case[f"{path}_slice"])], arrays[f"{name}/out/{path}_slice"])
            report.close(f"{path} stats", fill.channel_stats(features.numpy()), arrays[f"{name}/out/{path}_stats"])
    stages = [key.removeprefix(f"{name}/out/") for key in arrays if key.startswith(f"{name}/out/stage/")]
    assert set(stages) == set(noted)
    for stage in stages:
        report.close(stage, fill.channel_stats(noted[stage].numpy()), arrays[f"{name}/out/{stage}"])
    if "running_stat_keys" in case:
        state = backbone.state_dict()
        values = [state[key.removeprefix(case["key_prefix"])].double() for key in case["running_stat_keys"]]
        sums = torch.stack([torch.stack([value.sum(), value.abs().sum()]) for value in values])
        report.close("running statistics", sums, arrays[f"{name}/out/running_stat_sums"])
    report.finish()


@pytest.mark.parametrize("name", record_files("keys", "extra/*"))
def test_names_and_shapes_of_variants(name):
    record = read_record(record_files("keys", "extra/*")[name])
    cfg = config_of({"config": record.get("config"), "opts": record["opts"]})
    if cfg.MODEL.BACKBONE.CONV_BODY not in BODIES:
        pytest.skip(f"body {cfg.MODEL.BACKBONE.CONV_BODY} is not in this version")
    expected = record.get("keys") or record["state_dict"]
    expected = {key: shape for key, (shape, _) in expected.items() if key.startswith("backbone.")}
    with torch.device("meta"):
        backbone = build_backbone(cfg)
    assert [(f"backbone.{key}", list(value.shape)) for key, value in backbone.state_dict().items()] == list(
        expected.items()
    )
    if isinstance(record["parameters"], list):
        parameters = [key for key in record["parameters"] if key.startswith("backbone.")]
        assert [f"backbone.{key}" for key, _ in backbone.named_parameters()] == parameters


def test_pathways_alone_and_together_have_the_declared_channels():
    for slow, fast in ((True, True), (True, False), (False, True)):
        backbone = SlowFast(SMALL, alpha=2, beta=0.5, slow=slow, fast=fast)
        maps = backbone(torch.zeros(1, 3, 2, 32, 48), torch.zeros(1, 3, 4, 32, 48))
        assert tuple(features.shape[1] for features in maps if features is not None) == backbone.out_channels
        assert [features is not None for features in maps] == [slow, fast]


def test_every_trainable_weight_gets_a_gradient():
    for slow, fast in ((True, True), (True, False), (False, True)):
        places = NonLocalPlaces(conv3=True, conv4=True, group_conv3=True)
        backbone = SlowFast(
            SMALL,
            alpha=2,
            beta=0.5,
            slow=slow,
            fast=fast,
            bn=BatchNormOptions(last_gamma=1.0),
            slow_nonlocal=places,
            fast_nonlocal=places,
        )
        maps = backbone(torch.randn(1, 3, 4, 64, 64), torch.randn(1, 3, 8, 64, 64))
        sum(features.square().sum() for features in maps if features is not None).backward()
        without = [name for name, value in backbone.named_parameters() if value.requires_grad and value.grad is None]
        assert without == []


def test_a_frozen_network_has_no_trainable_batch_norm():
    backbone = SlowFast(SMALL, alpha=2, beta=0.5, bn=BatchNormOptions(frozen=True))
    assert [name for name, _ in backbone.named_parameters() if "bn" in name] == []
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in backbone.modules())


def test_fresh_residual_branches_begin_at_the_configured_gamma():
    for gamma in (0.0, 0.7):
        backbone = SlowFast(SMALL, alpha=2, beta=0.5, bn=BatchNormOptions(last_gamma=gamma))
        gammas = {name: value for name, value in backbone.state_dict().items() if name.endswith("bn.weight")}
        for name, value in gammas.items():
            assert (value == (gamma if "conv3" in name else 1.0)).all(), name


@pytest.mark.parametrize("body", sorted(BODIES))
def test_nonlocal_blocks_of_each_body(body):
    """The paper's five blocks: two in conv3, three in conv4."""
    places = NonLocalPlaces(conv3=True, conv4=True)
    with torch.device("meta"):
        backbone = SlowFast(BODIES[body], alpha=4, slow_nonlocal=places)
    counts = [
        sum(name.startswith("nonlocal") for name, _ in getattr(backbone.slow, f"res_nl{i}").named_children())
        for i in range(1, NUM_STAGES + 1)
    ]
    assert counts == ([0, 0, 0, 0] if max(BODIES[body].depths) == 1 else [0, 2, 3, 0])


@pytest.mark.parametrize("beta", [0.25, 0.5, 1.0])
def test_beta_sets_the_width_of_the_fast_pathway(beta):
    with torch.device("meta"):
        backbone = SlowFast(BODIES["Slowfast-Resnet50"], alpha=8, beta=beta)
    assert backbone.out_channels == (2048, 2048 * beta)


def test_impossible_arguments():
    with pytest.raises(ValueError, match="both pathways are off"):
        SlowFast(SMALL, alpha=2, slow=False, fast=False)
    with pytest.raises(ValueError, match=r"beta: got 0.3, .* 2.4 channels wide .* expected a whole number"):
        SlowFast(SMALL, alpha=2, beta=0.3)
    backbone = SlowFast(SMALL, alpha=2, beta=0.5)
    with pytest.raises(ValueError, match=r"got 2 slow and 6 fast, expected 2 \(alpha\) fast frames per slow frame"):
        backbone(torch.zeros(1, 3, 2, 32, 32), torch.zeros(1, 3, 6, 32, 32))
    with pytest.raises(ValueError, match="slow clip: got None"):
        backbone(None, torch.zeros(1, 3, 6, 32, 32))
