"""Converted networks compute what the projects' own networks computed (recorded) or compute (PyTorchVideo)."""

import json

import goldens
import numpy as np
import pytest
import torch
import zoo_kit

from alphaction.checkpoint import load_weights
from alphaction.checkpoint.zoo import converted, recognised
from alphaction.modeling import build_detection_model, build_postprocess
from alphaction.modeling.build import build_backbone
from alphaction.modeling.nonlocal_block import NonLocalBlock, NonLocalOptions
from alphaction.structures import Boxes, ClipBatch

GOLDEN = np.load(zoo_kit.ROOT / "tests" / "golden_zoo" / "outputs.npz")
META = json.loads(str(GOLDEN["meta"]))
CASES = {
    "kinetics_4x16": ("pyslowfast", "Kinetics/SLOWFAST_4x16_R50", zoo_kit.WHOLE_CLIPS),
    "kinetics_8x8": ("pyslowfast", "Kinetics/SLOWFAST_8x8_R50", zoo_kit.WHOLE_CLIPS),
    "ava_8x8": ("pyslowfast", "AVA/SLOWFAST_32x2_R50_SHORT", []),
    "mmaction2_4x16": ("mmaction2", "slowfast_r50_4x16", []),
    "mmaction2_8x8": ("mmaction2", "slowfast_r50_8x8", []),
}
TOLERANCE = {"rtol": 0, "atol": 1e-5}


def _filled(project, network):
    state = zoo_kit.state(project, network, device="cpu")
    goldens.fill.fill_state_dict(state, META["ava_8x8"]["salt"])
    return converted(state, recognised(state)).weights


def _clips(case, count):
    clips = [goldens.fill.clip_u8(name, 64, 64, 80) for name in META[case]["clips"][:count]]
    fast = (torch.from_numpy(np.stack(clips)[:, ::2]).permute(0, 4, 1, 2, 3).float() / 255 - 0.45) / 0.225
    return fast[:, :, :: META[case]["alpha"]].contiguous(), fast.contiguous()


@pytest.mark.parametrize("case", sorted(CASES))
def test_features_equal_the_recorded_ones(case):
    project, network, opts = CASES[case]
    cfg = zoo_kit.config(zoo_kit.CONFIGS[project, network], opts)
    assert META[case]["alpha"] == cfg.INPUT.ALPHA
    with torch.device("meta"):
        backbone = build_backbone(cfg)
    weights = {name.removeprefix("backbone."): tensor for name, tensor in _filled(project, network).items()}
    missing, _ = backbone.to_empty(device="cpu").load_state_dict(weights, strict=False)
    assert not missing
    count = 2 if case == "mmaction2_4x16" else 1  # one case whole, the others quickly
    with torch.no_grad():
        maps = backbone.eval()(*_clips(case, count))
    for path, features in zip(("slow", "fast"), maps, strict=True):
        assert list(features.shape[1:]) == META[case][path][1:]
        recorded = GOLDEN[f"{case}/{path}/slice"][:count]
        np.testing.assert_allclose(features[:, ::16, :, ::2, ::2].numpy(), recorded, **TOLERANCE)
        if count == len(META[case]["clips"]):
            double = features.double()
            stats = torch.stack([double.mean((0, 2, 3, 4)), double.abs().mean((0, 2, 3, 4))]).numpy()
            np.testing.assert_allclose(stats, GOLDEN[f"{case}/{path}/stats"], **TOLERANCE)


def _their_network(name):
    hub = pytest.importorskip("pytorchvideo.models.hub", reason="the package pytorchvideo is not installed")
    torch.manual_seed(0)
    network = getattr(hub, name)(pretrained=False).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(std=0.1)
    network.detection_head.proj.weight.data.normal_(std=0.001)
    return network


@pytest.mark.parametrize("name", ["slowfast_r50_detection", "slow_r50_detection"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_pytorchvideos_detector_as_a_whole(name):
    network = _their_network(name)
    cfg = zoo_kit.config(zoo_kit.CONFIGS["pytorchvideo", name])
    with torch.device("meta"):
        model = build_detection_model(cfg)
    model = model.to_empty(device="cpu").eval()
    mean, std = (torch.tensor(cfg.INPUT[key]).view(3, 1, 1, 1) for key in ("PIXEL_MEAN", "PIXEL_STD"))
    model.pixel_mean, model.pixel_std = mean, std  # not in the state dict
    weights = converted(network.state_dict(), recognised(network.state_dict())).weights
    report = load_weights(model, weights, source=name)
    assert not report.missing and not report.unexpected

    clip = torch.from_numpy(goldens.fill.clip_u8("zoo/detector", 32, 64, 80)).permute(3, 0, 1, 2)[None]
    slow = clip[:, :, :: cfg.INPUT.TAU].contiguous()
    boxes = torch.from_numpy(goldens.fill.boxes_xyxy("zoo/detector", 3, 80, 64))
    normalised = [(x.float() / 255 - 0.45) / 0.225 for x in (slow, clip)]
    two_paths = cfg.MODEL.BACKBONE.SLOWFAST.FAST.ACTIVE
    regions = [Boxes(boxes, (64, 80))]
    batch = ClipBatch(
        slow=slow,
        fast=clip if two_paths else None,
        sizes=[(64, 80)],
        persons=regions,
        regions=regions,
        objects=None,
        person_scores=None,
        labels=None,
        keys=[("zoo", 0.0)],
        indices=[0],
    )
    with torch.no_grad():
        theirs = network(normalised if two_paths else normalised[0], torch.cat([torch.zeros(3, 1), boxes], dim=1))
        ours = build_postprocess(cfg)(model(batch).logits)
    assert theirs.shape == (3, 80) and theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_pytorchvideos_network_with_few_temporal_kernels():
    hub = pytest.importorskip("pytorchvideo.models.hub", reason="the package pytorchvideo is not installed")
    with torch.device("meta"):
        theirs = hub.slowfast_16x8_r101_50_50(pretrained=False).state_dict()
        cfg = zoo_kit.config("slowfast_r101_16x8_pytorchvideo", num_classes=400, trainable_norms=True)
        ours = build_detection_model(cfg).state_dict()
    result = converted(theirs, recognised(theirs))
    assert not result.unknown
    assert {name: t.shape for name, t in result.weights.items()} == {name: t.shape for name, t in ours.items()}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["dot_product", "softmax"])
def test_nonlocal_block_equals_pytorchvideos(kind):
    nonlocal_net = pytest.importorskip("pytorchvideo.layers.nonlocal_net", reason="pytorchvideo is not installed")
    torch.manual_seed(0)
    theirs = nonlocal_net.create_nonlocal(dim_in=8, dim_inner=4, pool_size=(2, 2, 2), instantiation=kind).eval()
    ours = NonLocalBlock(8, 4, options=NonLocalOptions(pool_frames=2, softmax=kind == "softmax")).eval()
    for parameter in theirs.parameters():
        parameter.data.normal_()
    names = {"conv_theta": "theta", "conv_phi": "phi", "conv_g": "g", "conv_out": "out", "norm": "bn"}
    state = {names[name.split(".")[0]] + "." + name.split(".")[1]: t for name, t in theirs.state_dict().items()}
    ours.load_state_dict(state)
    x = torch.randn(2, 8, 4, 6, 5)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))
