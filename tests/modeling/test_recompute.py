"""Activation checkpointing: the same numbers with less memory."""

import pytest
import torch

from alphaction.modeling.blocks import BatchNormOptions
from alphaction.modeling.slowfast import Body, NonLocalPlaces, SlowFast

BODY = Body(depths=(1, 2, 2, 1), width=8)


def backbone(*, recompute, frozen=False):
    torch.manual_seed(0)
    places = NonLocalPlaces(conv3=True, conv4=True)
    bn = BatchNormOptions(frozen=frozen, last_gamma=1.0)
    return SlowFast(BODY, alpha=2, beta=0.5, bn=bn, slow_nonlocal=places, recompute=recompute)


def clips():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 3, frames, 32, 32, generator=generator) for frames in (2, 4)]


def one_pass(network):
    """(loss, gradients, buffers, bytes kept for the backward pass)."""
    kept = {}

    def pack(value):
        kept[value.data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        slow, fast = network(*clips())
        loss = slow.square().mean() + fast.square().mean()
        held = sum(kept.values())
        loss.backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    return loss, gradients, dict(network.named_buffers()), held


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_not_a_bit_changes(frozen, precision):
    plain, recomputed = (backbone(recompute=recompute, frozen=frozen) for recompute in (False, True))
    assert list(plain.state_dict()) == list(recomputed.state_dict())
    for _ in range(2):
        with torch.autocast("cpu", dtype=precision or torch.bfloat16, enabled=precision is not None):
            results = [one_pass(network) for network in (plain, recomputed)]
        (loss, gradients, buffers, _), (again, gradients_again, buffers_again, _) = results
        assert torch.equal(loss, again)
        assert all(torch.equal(gradients[name], gradients_again[name]) for name in gradients)
        assert all(torch.equal(buffers[name], buffers_again[name]) for name in buffers)
    if not frozen:
        assert (
            buffers["slow.bn1.num_batches_tracked"] == buffers["slow.res_nl2.res_0.btnk.conv1.bn.num_batches_tracked"]
        )
        assert buffers["slow.res_nl2.res_0.btnk.conv1.bn.running_mean"].any()


def test_less_is_kept():
    held = [one_pass(backbone(recompute=recompute))[-1] for recompute in (False, True)]
    assert held[1] < held[0] / 2


def test_testing_keeps_nothing_and_is_the_same():
    plain, recomputed = (backbone(recompute=recompute).eval() for recompute in (False, True))
    for network in (plain, recomputed):
        network.requires_grad_(False)
    assert all(map(torch.equal, plain(*clips()), recomputed(*clips())))
