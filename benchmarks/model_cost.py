"""What a pass costs at least, and what the machine could do: floors for benchmarks/model.py."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

_CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)


@dataclass(frozen=True)
class Cost:
    """flops: multiplications and additions; bytes: what the convolutions read and write if each does so once."""

    flops: int
    bytes: int


class _Traffic(TorchDispatchMode):
    """Adds up the tensors that convolutions take and give."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in _CONVOLUTIONS:
            self.bytes += sum(x.nbytes for x in tree_leaves((args, out)) if isinstance(x, Tensor))
        return out


def cost_of(run: Callable[[], Tensor]) -> tuple[Cost, Tensor]:
    """Of one call, and its result."""
    with FlopCounterMode(display=False) as flops, _Traffic() as traffic:
        result = run()
    return Cost(flops=flops.get_total_flops(), bytes=traffic.bytes), result


@dataclass(frozen=True)
class Speed:
    """What one large operation reaches here: operations per second of a matrix product, bytes per second of a copy."""

    device: str
    matmul_float32: float
    matmul_bfloat16: float
    copy: float

    def matmul(self, bf16: bool) -> float:
        return self.matmul_bfloat16 if bf16 else self.matmul_float32

    def __str__(self) -> str:
        return (
            f"matrix product {self.matmul_float32 / 1e9:.0f} GFLOP/s (float32), {self.matmul_bfloat16 / 1e9:.0f} "
            f"(bfloat16), copy {self.copy / 1e9:.1f} GB/s read and written"
        )


def speed_of_machine(device: torch.device, clock: Callable[[Callable[[], object]], float]) -> Speed:
    """Measured: best of four."""
    is_gpu = device.type == "cuda"
    side, megabytes = (8192, 1024) if is_gpu else (1536, 128)

    def product(kind: torch.dtype) -> float:
        a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
        before = torch.get_float32_matmul_precision()
        if is_gpu:
            torch.set_float32_matmul_precision("high")  # in TF32, as convolutions of float32 are computed there
        try:
            return 2 * side**3 / _best(clock, lambda: a @ b)
        finally:
            torch.set_float32_matmul_precision(before)

    source = torch.ones(megabytes * 2**18, device=device)
    target = torch.empty_like(source)
    return Speed(
        device=torch.cuda.get_device_name(device) if is_gpu else platform.machine(),
        matmul_float32=product(torch.float32),
        matmul_bfloat16=product(torch.bfloat16),
        copy=2 * source.nbytes / _best(clock, lambda: target.copy_(source)),
    )


def _best(clock: Callable[[Callable[[], object]], float], run: Callable[[], object]) -> float:
    run()
    return min(clock(run) for _ in range(4))


def present_bytes(device: torch.device) -> int | None:
    """Memory in use: of the GPU's tensors, or of this process (Linux; None elsewhere)."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _status("VmRSS:")


def peak_bytes(device: torch.device) -> int | None:
    """The largest since `reset_peak`."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM:")


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # not Linux, or not allowed: then the peak is that since the start
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _status(name: str) -> int | None:
    try:
        lines: Iterable[str] = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)
