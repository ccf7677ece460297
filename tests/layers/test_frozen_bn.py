import torch
from torch import nn

from alphaction.layers import FrozenBatchNorm


def filled(module):
    generator = torch.Generator().manual_seed(0)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + (0.5 if name == "running_var" else 0))
    return module


def test_formula():
    bn = filled(FrozenBatchNorm(3, eps=1e-3))
    x = torch.randn(2, 3, 4, 5, 6)
    column = (slice(None), None, None, None)
    scale = bn.weight / torch.sqrt(bn.running_var + 1e-3)
    expected = scale[column] * x + (bn.bias - bn.running_mean * scale)[column]
    torch.testing.assert_close(bn(x), expected)
    torch.testing.assert_close(bn.train()(x), expected)


def test_nothing_moves_and_nothing_is_a_parameter():
    bn = filled(FrozenBatchNorm(3))
    before = {name: value.clone() for name, value in bn.state_dict().items()}
    x = torch.randn(2, 3, 1, 2, 2, requires_grad=True)
    bn.train()(x).sum().backward()
    assert not list(bn.parameters())
    assert list(before) == ["weight", "bias", "running_mean", "running_var"]
    assert all(torch.equal(value, before[name]) for name, value in bn.state_dict().items())
    assert x.grad.abs().sum() > 0


def test_loads_the_file_of_a_trainable_batch_norm():
    trainable = filled(nn.BatchNorm3d(3))
    frozen = FrozenBatchNorm(3)
    assert "num_batches_tracked" in trainable.state_dict()
    frozen.load_state_dict(trainable.state_dict(), strict=True)
    x = torch.randn(2, 3, 1, 2, 2)
    torch.testing.assert_close(frozen(x), trainable.eval()(x))
