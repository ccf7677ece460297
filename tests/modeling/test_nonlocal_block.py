import pytest
import torch
from goldens import fill, load, parity

from alphaction.modeling.blocks import BatchNormOptions, Bottleneck
from alphaction.modeling.nonlocal_block import NonLocalBlock, NonLocalOptions

META, ARRAYS = load("nonlocal_block")
OPTION = {"USE_MAXPOOL": "max_pool", "USE_SOFTMAX": "softmax", "USE_SCALE": "scale"}


def block_of(case):
    given = {key.removeprefix("MODEL.NONLOCAL."): value for key, value in parity.options(case["opts"]).items()}
    bn = BatchNormOptions(frozen=given.pop("FROZEN_BN", False)) if given.pop("USE_BN", True) else None
    bias = not given.pop("NO_BIAS", False)
    options = NonLocalOptions(bn=bn, bias=bias, **{OPTION[key]: value for key, value in given.items()})
    dim = case["shape"][1]
    inner = case["keys"]["theta.weight"][0]
    return NonLocalBlock(dim, inner, options=options, group_frames=4 if case["group"] else None)


@pytest.mark.parametrize("name", sorted(META["cases"]))
def test_recorded_output_and_gradient(name):
    case = META["cases"][name]
    block = block_of(case)
    assert {key: list(value.shape) for key, value in block.state_dict().items()} == case["keys"]
    fill.fill_module(block, case["weight_salt"], case["key_prefix"]).train(case["mode"] == "train")
    shape = tuple(case["shape"])
    x = torch.from_numpy(fill.bell(case["input_name"], shape, case["salt"])).requires_grad_()
    y = block(x)
    y.backward(torch.from_numpy(fill.bell(case["input_name"] + "/up", shape, case["salt"])))
    report = parity.Report("nonlocal_block")
    for key, value in (("y", y), ("grad_x", x.grad)):
        report.close(key, value, ARRAYS[f"{name}/out/{key}"])
    report.finish()


@pytest.mark.parametrize("frozen", [False, True])
def test_the_configured_gamma_holds_for_frozen_norms_too(frozen):
    """QUIRKS 37: in residual branches it holds for trainable ones only."""
    options = BatchNormOptions(frozen=frozen, last_gamma=0.0)
    block = NonLocalBlock(4, 2, options=NonLocalOptions(bn=options))
    assert (block.bn.weight == 0).all()
    clip = torch.randn(1, 4, 2, 6, 6)
    assert torch.equal(block.eval()(clip), clip)
    branch = Bottleneck(8, 2, 8, temporal_kernel=1, stride=1, dilation=1, bn=options)
    assert (branch.conv3.bn.weight == (1.0 if frozen else 0.0)).all()
