import pathlib
import sys

import pytest
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # `import goldens`


@pytest.fixture(autouse=True)
def _one_thread():
    """The recorded numbers were made with one thread; the order of sums depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
