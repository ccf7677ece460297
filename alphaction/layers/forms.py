"""The one place that chooses the form in which a convolution over time and space is computed.

| where | form | measured |
| --- | --- | --- |
| x86 processor, float32, or bfloat16 where it computes in it | "onednn": oneDNN, channels-last, our gradients | yes |
| other processors, float16, float64 | "library": PyTorch's, memory as it comes | no |
| GPU | "library_last": PyTorch's, on channels-last memory | no (no GPU at hand) |
| processor, one channel | "library" | - |
| no batch, or a graph is being exported | "library" | - |

Measured on an AMD EPYC (AVX-512, bfloat16), torch 2.15, one thread, one clip: for each of the 49 shapes of R50-4x16 at
256 x 352 PyTorch's own choice, oneDNN on either memory layout, two-dimensional forms on single frames or on [T, H W],
and matrix products. All convolutions of the network together take 2.41 s in PyTorch's form and 1.42 s by oneDNN on
channels-last memory; with the best form of each shape it would be 1.40 s. docs/PERFORMANCE.md has more, and
layers/onednn_gradients.py the forms of the gradients.
"""

from __future__ import annotations

import functools
import platform

import torch
from torch import Tensor

X86 = frozenset({"x86_64", "AMD64"})


def form_of(x: Tensor, dtype: torch.dtype) -> str:
    """The form for input x, [N, C, T, H, W], and arithmetic in `dtype`: "onednn", "library" or "library_last"."""
    if x.numel() == 0 or is_exporting():
        return "library"
    if x.device.type == "cpu" and x.shape[1] == 1:
        return "library"  # oneDNN's calls of PyTorch 2.15 read and write past the end where one channel is strided
    if x.device.type == "cpu":
        return "onednn" if not torch.compiler.is_compiling() and _onednn_computes(dtype) else "library"
    return "library_last"


def is_exporting() -> bool:
    """Whether the pass is recorded as a graph for another program: it shall hold PyTorch's own operators only."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def arithmetic_of(x: Tensor) -> torch.dtype:
    """The type in which x is computed with: its own, or that of the autocast around."""
    if torch.is_autocast_enabled(x.device.type) and x.dtype is not torch.float64:
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def _onednn_computes(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.enabled:
        return False
    return dtype is torch.float32 and _has_onednn() or dtype is torch.bfloat16 and _has_bfloat16()


@functools.cache
def _has_onednn() -> bool:
    return (
        torch.backends.mkldnn.is_available()
        and platform.machine() in X86
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )


@functools.cache
def _has_bfloat16() -> bool:
    """Whether oneDNN computes in bfloat16 on this processor (AVX-512 is what it needs)."""
    return _has_onednn() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
