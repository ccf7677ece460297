import pytest
import torch

from alphaction.utils.seed import seed_all


@pytest.mark.parametrize("seed", [0, 2, -1, 2**63, 2**70])
def test_any_whole_number_is_a_seed(seed):
    seed_all(seed)
    first = torch.rand(3)
    seed_all(seed)
    assert torch.equal(torch.rand(3), first)
