from types import SimpleNamespace

import pytest
import torch

from alphaction.errors import ConfigError
from alphaction.utils.device import has_bfloat16, is_device_name, resolve_device


@pytest.fixture
def gpus(monkeypatch):
    def pretend(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_names_of_devices(name):
    assert is_device_name(name)


@pytest.mark.parametrize(
    "name", ["", "gpu", "GPU", "cuda:", "cuda:-1", "cuda:a", "cuda:1 ", "cuda:0,1", "mps", "cpu:0"]
)
def test_names_of_no_device(name):
    assert not is_device_name(name)
    with pytest.raises(ConfigError, match="^MODEL.DEVICE: got '.*', expected auto, cpu, cuda, or cuda:N with N a GPU"):
        resolve_device(name)


@pytest.mark.parametrize(
    ("name", "count", "local_rank", "expected"),
    [
        ("auto", 0, 0, "cpu"),
        ("auto", 0, 3, "cpu"),
        ("auto", 2, 0, "cuda:0"),
        ("auto", 2, 1, "cuda:1"),
        ("cpu", 2, 1, "cpu"),
        ("cuda", 1, 0, "cuda:0"),
        ("cuda", 4, 3, "cuda:3"),
        ("cuda:1", 2, 0, "cuda:1"),
    ],
)
def test_the_device(gpus, name, count, local_rank, expected):
    gpus(count)
    assert resolve_device(name, local_rank=local_rank) == torch.device(expected)


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_gpu_that_is_not_there(gpus, monkeypatch, name):
    gpus(0)
    with pytest.raises(ConfigError) as caught:
        resolve_device(name)
    message = str(caught.value)
    assert message.startswith(f"MODEL.DEVICE: got '{name}', but PyTorch sees no GPU on this machine (")
    assert message.endswith("To run on the processor: MODEL.DEVICE cpu (or auto)")

    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(ConfigError, match="is a build without GPU support"):
        resolve_device(name)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    with pytest.raises(ConfigError, match="is the driver installed, and is CUDA_VISIBLE_DEVICES empty"):
        resolve_device(name)


def test_too_few_gpus(gpus):
    gpus(2)
    with pytest.raises(ConfigError, match="got 'cuda:2', but PyTorch sees only cuda:0 to cuda:1 on this machine"):
        resolve_device("cuda:2")
    with pytest.raises(ConfigError, match=r"for process 2 of this machine, which has only 2 GPU\(s\)"):
        resolve_device("auto", local_rank=2)
    gpus(1)
    with pytest.raises(ConfigError, match="sees only cuda:0 on this machine"):
        resolve_device("cuda:1")


@pytest.mark.parametrize(("major", "expected"), [(7, False), (8, True), (9, True)])
def test_gpus_before_ampere_only_imitate_bfloat16(monkeypatch, major, expected):
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=major))
    assert has_bfloat16(torch.device("cuda", 0)) is expected
    assert has_bfloat16(torch.device("cpu"))
