import pytest
import torch
from torch import nn

from alphaction.layers import Conv3d

CASES = [(2, 3, 1), (4, 5, 2), (3, 5, 1), (1, 3, 1), (8, 5, 4), (4, 3, 1)]  # frames, kernel, stride


def gradients(conv, x, *, precision=None):
    conv.zero_grad()
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=precision or torch.bfloat16, enabled=precision is not None):
        y = conv(x)
    y.float().backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)))
    return [y.detach().float(), x.grad, conv.weight.grad, conv.bias.grad]


@pytest.mark.parametrize(("frames", "kernel", "stride"), CASES)
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_gradients_of_few_frames(frames, kernel, stride, precision):
    torch.manual_seed(0)
    conv = Conv3d(6, 8, (kernel, 1, 1), stride=(stride, 1, 1), padding=(kernel // 2, 0, 0))
    x = torch.randn(2, 6, frames, 5, 4)
    for value, want in zip(gradients(conv, x, precision=precision), gradients(conv, x), strict=True):
        assert (value - want).norm() / want.norm() < 0.01


def test_plain_is_torchs_own():
    torch.manual_seed(0)
    ours = Conv3d(3, 4, (5, 3, 3), padding=(2, 1, 1))
    ours.plain = True
    theirs = nn.Conv3d(3, 4, (5, 3, 3), padding=(2, 1, 1))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 3, 2, 6, 6)
    assert all(map(torch.equal, gradients(ours, x), gradients(theirs, x)))
