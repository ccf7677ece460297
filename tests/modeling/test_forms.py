"""The backbone's forms: the same maps in all of them, whatever the pass is for."""

import copy

import pytest
import torch

from alphaction.layers import FrozenBatchNorm
from alphaction.modeling.blocks import BatchNormOptions
from alphaction.modeling.nonlocal_block import NonLocalOptions
from alphaction.modeling.slowfast import BODIES, NonLocalPlaces, SlowFast

H, W = 48, 56


def network(*, plain=False, frozen=True, precision=torch.float32, nonlocal_blocks=False):
    torch.manual_seed(0)
    body = BODIES["Slowfast-Tiny"]
    bn = BatchNormOptions(frozen=frozen, last_gamma=1.0)
    model = SlowFast(
        body,
        alpha=4,
        beta=0.5,
        bn=bn,
        slow_nonlocal=NonLocalPlaces(conv3=nonlocal_blocks, conv4=nonlocal_blocks),
        nonlocal_options=NonLocalOptions(bn=bn),
        plain=plain,
        test_precision=precision,
    )
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm):
            module.weight.uniform_(0.5, 1)
            module.bias.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def clips(n=1):
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, 3, 2, H, W, generator=generator), torch.randn(n, 3, 8, H, W, generator=generator)


def difference(maps, others):
    return max((a - b).norm() / b.norm() for a, b in zip(maps, others, strict=True)).item()


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("nonlocal_blocks", [True, False])
def test_auto_is_plain(frozen, nonlocal_blocks):
    options = {"frozen": frozen, "nonlocal_blocks": nonlocal_blocks}
    auto, plain = network(**options), network(plain=True, **options)
    assert list(auto.state_dict()) == list(plain.state_dict())
    for n in (1, 2):
        results = []
        for model in (auto, plain):
            model.train().zero_grad()
            maps = model(*clips(n))
            sum(features.square().mean() for features in maps).backward()
            model.eval()
            with torch.inference_mode():
                tested = model(*clips(n))
            results.append(([features.detach() for features in maps], [p.grad for p in model.parameters()], tested))
        (maps, grads, tested), (maps_plain, grads_plain, tested_plain) = results
        assert difference(maps, maps_plain) < 2e-5 and difference(tested, tested_plain) < 2e-5
        scale = max(grad.norm() for grad in grads_plain if grad is not None)
        # With statistics of so few cells a ReLU may fall on the other side of 0, which moves whole gradients.
        share = 1e-4 if frozen else 0.05
        for grad, want in zip(grads, grads_plain, strict=True):
            assert (grad is None) == (want is None)
            assert grad is None or (grad - want).norm() < share * want.norm() + 1e-6 * scale


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_precision_of_tests(plain, frozen):
    exact, model = network(frozen=frozen).eval(), network(frozen=frozen, plain=plain, precision=torch.bfloat16).eval()
    with torch.inference_mode():
        maps, want = model(*clips()), exact(*clips())
    assert all(features.dtype is torch.float32 for features in maps)
    assert 1e-4 < difference(maps, want) < 0.05
    assert all(value.dtype is torch.float32 for value in model.state_dict().values() if value.is_floating_point())
    # Neither training nor a pass with gradients is concerned.
    assert difference([f.detach() for f in model(*clips())], want) < 1e-5
    twin = copy.deepcopy(model)
    with torch.inference_mode():
        assert all(map(torch.equal, twin(*clips()), maps))


@pytest.mark.parametrize("plain", [True, False])
def test_exported_graph_has_only_torchs_own_operators(plain):
    model = network(plain=plain).eval()
    with torch.no_grad():
        want = model(*clips())
        program = torch.export.export(model, clips())
        found = program.module()(*clips())
        traced = torch.jit.trace(model, clips(), check_trace=False)(*clips())
    assert difference(found, want) < 5e-6 and difference(traced, want) < 5e-6
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert any("conv3d" in name for name in names) and all(name.startswith(("aten.", "<built-in")) for name in names)


def test_a_changed_weight_changes_the_next_test():
    model = network().eval()
    with torch.inference_mode():
        before = model(*clips())
    state = {name: value * 1.1 for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    with torch.inference_mode():
        after = model(*clips())
    other = network().eval()
    other.load_state_dict(state)
    with torch.inference_mode():
        assert all(map(torch.equal, after, other(*clips())))
    assert difference(after, before) > 0.01
