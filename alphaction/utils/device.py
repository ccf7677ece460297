"""The choice of the processor or GPU that a run uses.

PyTorch is imported where it is asked: the names of devices are a part of the configuration, which is quick without it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from alphaction.errors import ConfigError

if TYPE_CHECKING:
    import torch

#: What a device's name may look like, for messages.
DEVICE_NAMES = "auto, cpu, cuda, or cuda:N with N a GPU's number from 0"

_NAME = re.compile(r"auto|cpu|cuda(?::(?P<index>\d{1,4}))?")


def is_device_name(name: str) -> bool:
    """Whether `name` is one of `DEVICE_NAMES`. Says nothing about this machine's GPUs."""
    return _NAME.fullmatch(name) is not None


def resolve_device(name: str, *, local_rank: int = 0) -> torch.device:
    """The device that `MODEL.DEVICE` names on this machine.

    Args:
        name: "auto": a GPU if there is one, else the CPU; "cpu"; "cuda": a GPU; "cuda:N": the GPU with that number.
        local_rank: number of this process among those on this machine. "auto" and "cuda" give each process
            the GPU of its own number.

    Returns:
        The device; a GPU always with its number.

    Raises:
        ConfigError: the name is none of these, or it asks for a GPU that is not there.
    """
    import torch

    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigError(f"MODEL.DEVICE: got {name!r}, expected {DEVICE_NAMES}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and count == 0):
        return torch.device("cpu")
    if count == 0:
        raise ConfigError(
            f"MODEL.DEVICE: got {name!r}, but PyTorch sees no GPU on this machine{_why_no_gpu()}. "
            "To run on the processor: MODEL.DEVICE cpu (or auto)"
        )
    index = local_rank if match["index"] is None else int(match["index"])
    if index >= count:
        available = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        if match["index"] is None:
            raise ConfigError(
                f"MODEL.DEVICE: got {name!r} for process {index} of this machine, which has only {count} GPU(s) "
                f"({available}); start at most {count} process(es) per machine"
            )
        raise ConfigError(f"MODEL.DEVICE: got {name!r}, but PyTorch sees only {available} on this machine")
    return torch.device("cuda", index)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a GPU computes in bfloat16; True for the processor.

    Not `torch.cuda.is_bf16_supported()`, which by default also says yes to GPUs older than Ampere: they only imitate
    it, slowly, and cuDNN has no such convolutions for them.
    """
    import torch

    if device.type != "cuda" or torch.version.hip is not None:
        return True
    return torch.cuda.get_device_properties(device).major >= 8


def _why_no_gpu() -> str:
    import torch

    if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
        return f" (the installed PyTorch {torch.__version__} is a build without GPU support)"
    return " (is the driver installed, and is CUDA_VISIBLE_DEVICES empty?)"
