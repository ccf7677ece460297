"""Every form of a convolution gives the same values and gradients as torch's own in float64."""

import copy
import pickle
import platform

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from alphaction.layers import Conv3d, FrozenBatchNorm, conv3d, forms
from alphaction.layers.folding import FoldedCache

# kernel, stride, padding, dilation, channels in and out, frames, cells
CASES = {
    "point": ((1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1), 40, 36, 3, (5, 4)),
    "point, narrow": ((1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1), 6, 40, 3, (5, 4)),
    "point, strided": ((1, 1, 1), (1, 2, 2), (0, 0, 0), (1, 1, 1), 6, 5, 3, (5, 4)),
    "space": ((1, 3, 3), (1, 1, 1), (0, 1, 1), (1, 1, 1), 6, 5, 3, (5, 4)),
    "space, strided": ((1, 3, 3), (1, 2, 2), (0, 1, 1), (1, 1, 1), 6, 5, 3, (5, 4)),
    "space, dilated": ((1, 3, 3), (1, 1, 1), (0, 2, 2), (1, 2, 2), 6, 5, 3, (5, 4)),
    "space, dilated beyond the clip": ((1, 3, 3), (1, 1, 1), (0, 2, 2), (1, 2, 2), 6, 5, 1, (1, 2)),
    "time": ((3, 1, 1), (1, 1, 1), (1, 0, 0), (1, 1, 1), 40, 36, 5, (3, 4)),
    "time, narrow": ((3, 1, 1), (1, 1, 1), (1, 0, 0), (1, 1, 1), 6, 5, 5, (3, 4)),
    "time, one frame": ((3, 1, 1), (1, 1, 1), (1, 0, 0), (1, 1, 1), 6, 5, 1, (3, 4)),
    "time, dilated": ((3, 1, 1), (1, 1, 1), (2, 0, 0), (2, 1, 1), 6, 5, 3, (3, 4)),
    "time, no padding": ((3, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1), 6, 5, 4, (3, 4)),
    "time, much padding": ((3, 1, 1), (1, 1, 1), (3, 0, 0), (1, 1, 1), 6, 5, 2, (3, 4)),
    "time, strided": ((5, 1, 1), (4, 1, 1), (2, 0, 0), (1, 1, 1), 6, 5, 8, (3, 4)),
    "time, strided, few frames": ((5, 1, 1), (2, 1, 1), (2, 0, 0), (1, 1, 1), 40, 36, 2, (3, 4)),
    "stem": ((5, 7, 7), (1, 2, 2), (2, 3, 3), (1, 1, 1), 3, 8, 6, (10, 12)),
    "stem, odd width": ((5, 7, 7), (1, 2, 2), (2, 3, 3), (1, 1, 1), 3, 8, 6, (10, 13)),
    "stem, few frames": ((5, 7, 7), (1, 2, 2), (2, 3, 3), (1, 1, 1), 3, 8, 2, (10, 12)),
}
FORMS = ("onednn", "library", "library_last", "plain")


def made(case, *, bias=False, frozen=True):
    kernel, stride, padding, dilation, dim_in, dim_out, *_ = CASES[case]
    torch.manual_seed(0)
    conv = Conv3d(dim_in, dim_out, kernel, stride=stride, padding=padding, dilation=dilation, bias=bias)
    bn = FrozenBatchNorm(dim_out, eps=1e-3) if frozen else nn.BatchNorm3d(dim_out, eps=1e-3)
    for value in (bn.weight, bn.running_var):
        value.data.uniform_(0.5, 1.5)
    for value in (bn.bias, bn.running_mean):
        value.data.normal_()
    return conv, bn


def clip(case, n):
    *_, dim_in, _, frames, (height, width) = CASES[case]
    return torch.randn(n, dim_in, frames, height, width, generator=torch.Generator().manual_seed(n))


def set_form(monkeypatch, conv, form):
    if form == "onednn" and not forms._has_onednn():
        pytest.skip("not an x86 processor")
    conv.plain = form == "plain"
    monkeypatch.setattr(conv3d, "form_of", lambda x, dtype: form)


def values(conv, bn, x, other, *, relu=True, autocast=False):
    """Result, and gradients of x, the other summand, and everything learned."""
    x, other = x.clone().requires_grad_(), other.clone().requires_grad_()
    conv.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        y = conv.normed(x, bn, add=other, relu=relu)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(7)).to(y))
    return [y.detach(), x.grad, other.grad, *(parameter.grad for parameter in conv.parameters())]


def expected(conv, bn, x, other, *, relu=True):
    """The same in float64, by torch's functions alone."""
    x, other = x.double().requires_grad_(), other.double().requires_grad_()
    weights = [parameter.detach().double().requires_grad_() for parameter in conv.parameters()]
    y = F.conv3d(x, *weights, stride=conv.stride, padding=conv.padding, dilation=conv.dilation)
    terms = (bn.running_mean, bn.running_var, bn.weight, bn.bias)
    y = F.batch_norm(y, *(term.detach().double() for term in terms), eps=bn.eps)
    y = F.relu(y + other) if relu else y + other
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(7)).double())
    return [y.detach(), x.grad, other.grad, *(weight.grad for weight in weights)]


def summand(conv, bn, x):
    with torch.no_grad():
        return torch.randn(F.conv3d(x, conv.weight, None, conv.stride, conv.padding, conv.dilation).shape)


def close(value, want, share):
    return (value.double() - want).norm() <= share * want.norm() + 1e-12


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", FORMS)
def test_values_and_gradients(monkeypatch, case, form):
    for n, bias in ((1, False), (2, True)):
        conv, bn = made(case, bias=bias)
        set_form(monkeypatch, conv, form)
        x = clip(case, n)
        other = summand(conv, bn, x)
        wanted = expected(conv, bn, x, other)
        assert all(close(value, want, 2e-6) for value, want in zip(values(conv, bn, x, other), wanted, strict=True))
        for add, relu, want in ((other, True, wanted[0]), (other, False, None), (None, True, None)):
            with torch.inference_mode():
                y = conv.normed(x, bn, add=add, relu=relu)
                if want is None:
                    want = bn(F.conv3d(x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation)).double()
                    want = want if add is None else want + add
                    want = want.relu() if relu else want
            assert y.shape == want.shape and close(y, want, 2e-6)


@pytest.mark.skipif(not forms._has_bfloat16(), reason="the processor does not compute in bfloat16")
@pytest.mark.parametrize("case", CASES)
def test_bfloat16(monkeypatch, case):
    for n in (1, 2):
        conv, bn = made(case)
        set_form(monkeypatch, conv, "onednn")
        x = clip(case, n)
        other = summand(conv, bn, x)
        with torch.inference_mode():
            y = conv.normed(x.bfloat16(), bn, add=other.bfloat16(), relu=True)
        assert y.dtype is torch.bfloat16 and close(y, expected(conv, bn, x, other)[0], 0.02)
        # Without ReLU: one that falls on the other side of 0 than in float64 takes or lets through a whole gradient.
        wanted = expected(conv, bn, x, other, relu=False)
        found = values(conv, bn, x, other.bfloat16(), relu=False, autocast=True)
        assert all(close(value, want, 0.02) for value, want in zip(found, wanted, strict=True))


def test_trainable_batch_norm_is_not_folded_in_training():
    conv, bn = made("time", frozen=False)
    theirs = copy.deepcopy(bn)
    x = clip("time", 2)
    y, want = conv.normed(x, bn), theirs(F.conv3d(x, conv.weight, padding=conv.padding))
    assert torch.allclose(y, want, atol=1e-5)
    y.square().sum().backward()
    assert bn.weight.grad is not None and bn.bias.grad is not None
    assert torch.allclose(bn.running_mean, theirs.running_mean, atol=1e-6)
    assert not torch.equal(bn.running_mean, made("time", frozen=False)[1].running_mean)


def test_trainable_batch_norm_learns_in_evaluation_mode():
    conv, bn = made("time", frozen=False)
    conv.normed(clip("time", 1), bn.eval()).square().sum().backward()
    assert bn.weight.grad.abs().sum() > 0


def answers(conv, bn, x):
    with torch.inference_mode():
        y = conv.normed(x, bn)
    with torch.no_grad():
        return y, bn(F.conv3d(x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation))


def changed_by_optimizer(conv, bn):
    optimizer = torch.optim.SGD(conv.parameters(), lr=1.0)
    conv.normed(clip("space", 1), bn).sum().backward()
    optimizer.step()


def changed_in_inference(conv, bn):
    with torch.inference_mode():
        conv.weight.mul_(3)


CHANGES = {
    "load": lambda conv, bn: conv.load_state_dict({"weight": torch.randn_like(conv.weight)}),
    "optimizer": changed_by_optimizer,
    "in place": lambda conv, bn: conv.weight.detach().add_(1),
    "in place in inference mode": changed_in_inference,
    "cast and back": lambda conv, bn: conv.bfloat16().float(),
    "another parameter": lambda conv, bn: setattr(conv, "weight", nn.Parameter(torch.randn_like(conv.weight))),
    "data, then evaluation mode": lambda conv, bn: (conv.weight.data.mul_(2), conv.eval()),
    "batch norm's bias": lambda conv, bn: bn.bias.detach().add_(1),
    "batch norm's mean": lambda conv, bn: bn.running_mean.add_(1),
    "batch norm's buffer": lambda conv, bn: setattr(bn, "running_var", bn.running_var * 2),
}


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_inference_sees_every_change(change, frozen):
    conv, bn = made("space", frozen=frozen)
    bn.eval()
    x = clip("space", 2)
    before, want = answers(conv, bn, x)
    assert torch.allclose(before, want, atol=1e-5)
    assert torch.equal(before, answers(conv, bn, x)[0])
    CHANGES[change](conv, bn)
    after, want = answers(conv, bn, x)
    assert torch.allclose(after, want, rtol=1e-4, atol=1e-5) and not torch.equal(before, after)


def test_inference_tensors_are_not_cached():
    with torch.inference_mode():
        conv, bn = made("space")
        x = clip("space", 1)
        before, _ = answers(conv, bn, x)
        conv.weight.mul_(2)
        after, want = answers(conv, bn, x)
    assert torch.allclose(after, want, rtol=1e-4, atol=1e-5) and not torch.equal(before, after)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_go_their_own_way(copied):
    conv, bn = made("space")
    x = clip("space", 1)
    before, _ = answers(conv, bn, x)
    twin, twin_bn = copied((conv, bn))
    assert twin._ready is not conv._ready and twin._ready._kept is None
    with torch.no_grad():
        conv.weight.mul_(2)
    assert torch.equal(answers(twin, twin_bn, x)[0], before)
    assert not torch.equal(answers(conv, bn, x)[0], before)
    assert list(twin.state_dict()) == ["weight"]


class Interrupted(FoldedCache):
    """Whenever something was noted, another thread's turn comes."""

    other = None

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if self.other is not None:
            self.other()


def test_threads_that_share_a_model_get_what_they_asked_for():
    conv, _ = made("space")

    def ask(form):
        answer = cache.get(conv, None, dtype=torch.float32, form=form, make=lambda weight, bias: form)
        assert answer == form

    cache = Interrupted()
    ask("one")
    turns = iter(["one", "two", "one", "two"])

    def other():
        form = next(turns, None)
        if form is not None:
            ask(form)

    vars(cache)["other"] = other
    ask("two")
    assert next(turns, None) is None


def test_training_gives_the_memory_back():
    conv, bn = made("space")
    answers(conv, bn, clip("space", 1))
    assert conv._ready._kept is not None
    conv.normed(clip("space", 1), bn)
    assert conv._ready._kept is None


def test_where_each_form_is_chosen():
    x = torch.zeros(1, 2, 3, 4, 5)
    x86 = platform.machine() in forms.X86 and torch.backends.mkldnn.is_available()
    assert forms.form_of(x, torch.float32) == ("onednn" if x86 else "library")
    assert forms.form_of(x, torch.float64) == forms.form_of(x, torch.float16) == "library"
    assert forms.form_of(x[:0], torch.float32) == "library"
    assert forms.form_of(x.to("meta"), torch.float32) == "library_last"  # as on a GPU
    with torch.backends.mkldnn.flags(enabled=False):
        assert forms.form_of(x, torch.float32) == "library"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_channel_is_left_to_pytorch(dtype):
    """oneDNN's calls of PyTorch 2.15 read and write past its end where the kernel moves by several columns."""
    torch.manual_seed(0)
    conv = Conv3d(1, 8, (1, 7, 7), stride=(1, 1, 3), padding=(0, 3, 0))
    x = torch.randn(3, 1, 8, 7, 7).to(dtype)
    assert forms.form_of(x, dtype) == "library"
    want = F.conv3d(x.double(), conv.weight.double(), conv.bias.double(), conv.stride, conv.padding)
    for around in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with around(), torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            assert close(conv(x), want, 3e-2 if dtype is torch.bfloat16 else 1e-5)
