import pytest
import torch
import zoo_kit

from alphaction.checkpoint.zoo import converted, recognised
from alphaction.checkpoint.zoo.formats import CAFFE2_SLOWFAST, FORMATS, MMACTION2_SLOWFAST, PREDICTOR
from alphaction.modeling import build_detection_model

NETWORKS = sorted(zoo_kit.CONFIGS)


def _model_state(config_name, *, num_classes=80):
    cfg = zoo_kit.config(config_name, num_classes=num_classes, trainable_norms=True)
    with torch.device("meta"):
        return build_detection_model(cfg).state_dict()


def test_every_recorded_network_is_tested():
    recorded = {(project, network) for project, networks in zoo_kit.NAMES.items() for network in networks}
    assert recorded == set(zoo_kit.CONFIGS)


@pytest.mark.parametrize(("project", "network"), NETWORKS)
def test_every_name_and_shape_fits_the_configurations_network(project, network):
    theirs = zoo_kit.state(project, network)
    result = converted(theirs, recognised(theirs))
    assert result.unknown == () and len(result.renamed) == len(theirs)
    num_classes = len(result.weights.get(PREDICTOR + "weight", range(80)))
    ours = _model_state(zoo_kit.CONFIGS[project, network], num_classes=num_classes)
    lacking = set() if PREDICTOR + "weight" in result.weights else {PREDICTOR + "weight", PREDICTOR + "bias"}
    assert {name: tuple(tensor.shape) for name, tensor in result.weights.items()} == {
        name: tuple(tensor.shape) for name, tensor in ours.items() if name not in lacking
    }


@pytest.mark.parametrize(("project", "network"), NETWORKS)
def test_the_inverse_gives_their_names_back(project, network):
    theirs = zoo_kit.state(project, network)
    table = recognised(theirs)
    back = table.to_theirs(converted(theirs, table).weights)
    assert set(back.values()) == set(theirs) and len(back) == len(theirs)


@pytest.mark.parametrize("network", sorted(zoo_kit.NAMES["mmaction2"]))
def test_detectors_of_mmaction2_have_a_prefix_and_a_background_row(network):
    theirs = {f"backbone.{name}": tensor for name, tensor in zoo_kit.state("mmaction2", network).items()}
    width = 2048 if network == "slowonly_r50" else 2304
    theirs["roi_head.bbox_head.fc_cls.weight"] = torch.arange(81.0)[:, None].expand(81, width)
    theirs["roi_head.bbox_head.fc_cls.bias"] = torch.arange(81.0)
    table = recognised(theirs)
    result = converted(theirs, table)
    assert result.unknown == () and set(table.to_theirs(result.weights).values()) == set(theirs)
    assert result.weights[PREDICTOR + "bias"].tolist() == list(range(1, 81))
    assert result.weights[PREDICTOR + "weight"][:, 0].tolist() == list(range(1, 81))
    assert "row 0 (background) of roi_head.bbox_head.fc_cls.weight and" in result.notes[0]
    assert set(result.weights) == set(_model_state(zoo_kit.CONFIGS["mmaction2", network]))


@pytest.mark.parametrize(
    "network", ["AVA/c2/SLOWFAST_32x2_R101_50_50", "Kinetics/SLOWFAST_8x8_R50", "AVA/SLOW_8x8_R50_SHORT"]
)
def test_caffe2_has_a_name_for_every_tensor(network):
    """No list of such a file is at hand: the names go there and back, and are those that the loader's comments show."""
    state = zoo_kit.state("pyslowfast", network)
    ours = {name: t for name, t in converted(state, recognised(state)).weights.items() if "num_batches" not in name}
    names = CAFFE2_SLOWFAST.to_theirs(ours)
    assert set(names) == set(ours) and len(set(names.values())) == len(names)
    result = converted({names[name]: tensor for name, tensor in ours.items()}, CAFFE2_SLOWFAST)
    assert result.unknown == () and set(result.weights) == set(ours)
    assert recognised({names[name]: tensor for name, tensor in ours.items()}) is CAFFE2_SLOWFAST


def test_caffe2_names_of_each_kind():
    block = "backbone.{}.res_nl3.res_5."
    ours = {
        "backbone.slow.conv1.weight": "conv1_w",
        "backbone.fast.bn1.running_var": "t_res_conv1_bn_riv",
        block.format("slow") + "btnk.conv3.bn.weight": "res4_5_branch2c_bn_s",
        block.format("fast") + "btnk.conv1.conv.weight": "t_res4_5_branch2a_w",
        "backbone.slow.res_nl1.res_0.shortcut.bn.bias": "res2_0_branch1_bn_b",
        "backbone.fast.Tconv1.bn.running_mean": "t_pool1_subsample_bn_rm",
        "backbone.fast.Tconv4.conv.weight": "t_res4_5_branch2c_bn_subsample_w",
        "backbone.slow.res_nl3.nonlocal_6.theta.bias": "nonlocal_conv4_6_theta_b",
        "backbone.slow.res_nl3.nonlocal_6.bn.weight": "nonlocal_conv4_6_bn_s",
        PREDICTOR + "weight": "pred_w",
    }
    assert CAFFE2_SLOWFAST.to_theirs(ours) == ours


def test_what_a_table_does_not_know_keeps_its_name():
    result = converted({"head.projection.weight": torch.ones(2, 3), "head.extra": torch.ones(1)}, FORMATS[0])
    assert set(result.weights) == {PREDICTOR + "weight", "head.extra"} and result.unknown == ("head.extra",)
    leftover = converted({"conv1_w_momentum": torch.ones(1), "lr": torch.ones(1)}, CAFFE2_SLOWFAST)
    assert leftover.unknown == ("lr",) and leftover.notes[0].startswith("1 tensors of the optimizer left out")


def test_no_format_is_taken_for_another():
    for project, network in NETWORKS:
        state = zoo_kit.state(project, network)
        fitting = [table.title for table in FORMATS if any(name in state for name in table.signatures)]
        assert len(fitting) == 1
    for config_name in ("slowfast_r50_4x16_mmaction2", "slow_r50_8x8_pyslowfast"):
        assert recognised(dict.fromkeys(_model_state(config_name), torch.ones(1))) is None, "ours"
    assert recognised({"conv1_w": torch.empty(64, 3, 5, 7, 7)}) is None, "an I3D network"
    assert MMACTION2_SLOWFAST.to_ours("backbone.slow_path.layer5.0.conv1.conv.weight") is None
