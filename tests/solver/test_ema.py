"""The running mean of the weights."""

import io

import pytest
import torch
from torch import nn

from alphaction.solver import AveragedWeights


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model.register_buffer("scale", torch.tensor([2.0, 3.0]), persistent=False)
    return model


def train(model, averaged, steps):
    """Weights and statistics after each step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    seen = []
    for step in range(steps):
        draw = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(5, 3, generator=draw)).square().sum().backward()
        optimizer.step()
        averaged.update()
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
    return seen


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_recursion(decay):
    model = network()
    averaged = AveragedWeights(model, decay=decay)
    seen = train(model, averaged, 5)
    for name, value in averaged.model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        mean = seen[0][name]
        for state in seen[1:]:
            mean = decay * mean + (1 - decay) * state[name]
        torch.testing.assert_close(value, mean)
    assert torch.equal(averaged.model.scale, model.scale)


def test_nothing_is_shared_with_the_model():
    model = network()
    averaged = AveragedWeights(model, decay=0.5)
    assert not {v.data_ptr() for v in averaged.model.state_dict().values()} & {
        v.data_ptr() for v in model.state_dict().values()
    }
    assert not any(parameter.requires_grad for parameter in averaged.model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_before_the_first_update_it_is_the_model():
    model = network()
    averaged = AveragedWeights(model, decay=0.5)
    with torch.no_grad():
        model[0].weight.fill_(7.0)  # as when weights are loaded
    assert (averaged.model[0].weight == 7).all()


def test_it_goes_on_from_its_state_bit_for_bit():
    model = network()
    averaged = AveragedWeights(model, decay=0.9)
    train(model, averaged, 3)
    file = io.BytesIO()
    torch.save(averaged.state_dict(), file)
    other = network()
    other.load_state_dict(model.state_dict())
    again = AveragedWeights(other, decay=0.9)
    again.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    train(model, averaged, 2)
    train(other, again, 2)
    ours, theirs = averaged.state_dict(), again.state_dict()
    assert list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert int(ours["n_averaged"]) == 5 and "module.0.weight" in ours


def test_a_decay_that_is_no_share():
    with pytest.raises(ValueError, match=r"decay: got 1.0, expected a share in \[0, 1\)"):
        AveragedWeights(network(), decay=1.0)
