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


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The configuration of a very small run on a data set of three videos (`run_kit`)."""
    import run_kit

    folder = tmp_path_factory.mktemp("tiny")
    return run_kit.write_config(folder / "tiny.yaml", run_kit.write_dataset(folder))
