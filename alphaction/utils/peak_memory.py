"""How much memory a run has needed at most so far."""

from __future__ import annotations

import contextlib
import multiprocessing
import pathlib
import sys
from collections.abc import Iterable, Mapping

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

#: Names of the figures, in MiB.
HOST, WORKERS, GPU, GPU_RESERVED = "host_memory_mib", "worker_memory_mib", "gpu_memory_mib", "gpu_reserved_mib"


def peak_memory(device: torch.device) -> dict[str, float]:
    """Largest memory so far, in MiB, by name; figures that this system does not tell are left out.

    `HOST` is this process's, `WORKERS` that of its data loader's processes together (pages that processes share count
    in each). On a GPU `GPU` is what the tensors took up, `GPU_RESERVED` what PyTorch held, as `nvidia-smi` shows it.
    """
    figures = {}
    own, workers = peak_of_this_process(), peak_of_workers()
    if own:
        figures[HOST] = own / 2**20
    if workers:
        figures[WORKERS] = workers / 2**20
    if device.type == "cuda":
        figures[GPU] = torch.cuda.max_memory_allocated(device) / 2**20
        figures[GPU_RESERVED] = torch.cuda.max_memory_reserved(device) / 2**20
    return figures


def peak_of_this_process() -> int:
    """Bytes; 0 where the system does not tell."""
    if resource is None:
        return 0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024  # macOS counts bytes, Linux KiB


def peak_of_workers() -> int:
    """Bytes, of the processes that this one started and that still run; 0 where the system does not tell."""
    return sum(_peak_of(process.pid) for process in multiprocessing.active_children())


def _peak_of(pid: int | None) -> int:
    with contextlib.suppress(OSError, ValueError):  # no /proc, or the process has just ended
        for line in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def largest(every: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure the largest."""
    found: dict[str, float] = {}
    for figures in every:
        for name, value in figures.items():
            found[name] = max(value, found.get(name, value))
    return found


def shown_memory(figures: Mapping[str, float]) -> str:
    """In words for the log, "" without any figure."""
    parts = []
    if GPU in figures:
        parts.append(f"GPU memory {_gib(figures[GPU])} (reserved {_gib(figures[GPU_RESERVED])})")
    if HOST in figures:
        workers = f" + workers {_gib(figures[WORKERS])}" if WORKERS in figures else ""
        parts.append(f"memory {_gib(figures[HOST])}{workers}")
    return "  ".join(parts)


def _gib(mebibytes: float) -> str:
    return f"{mebibytes / 1024:.2f} GiB"
