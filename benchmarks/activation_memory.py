"""What MODEL.BACKBONE.ACTIVATION_CHECKPOINTING saves and costs: one clip through the backbone, forward and backward.

    python benchmarks/activation_memory.py [--config-file config_files/resnet50_4x16f_baseline.yaml] [--size 256 352]

Each way runs in a process of its own. "Kept" are the bytes that the forward pass keeps for the backward pass, without
the weights; time is processor time, the best of three passes with one thread. Linux only (peak memory from /proc).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import torch
from torch import Tensor, nn

from alphaction.config import load_config
from alphaction.modeling.build import build_backbone


def measure(config_file: str, *, height: int, width: int, recompute: bool) -> dict[str, float]:
    """Kept and peak memory in MiB, seconds of processor time per pass."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cfg = load_config(config_file, ["MODEL.BACKBONE.ACTIVATION_CHECKPOINTING", str(recompute)])
    backbone = build_backbone(cfg).train()
    frames = cfg.INPUT.FRAME_NUM // cfg.INPUT.TAU
    slow, fast = torch.randn(1, 3, frames, height, width), torch.randn(1, 3, frames * cfg.INPUT.ALPHA, height, width)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = _loss(backbone, slow, fast)
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*backbone.parameters(), *backbone.buffers())}
    size = sum(count for place, count in kept.items() if place not in weights)
    loss.backward()
    seconds = []
    for _ in range(3):
        started = time.process_time()
        _loss(backbone, slow, fast).backward()
        seconds.append(time.process_time() - started)
    return {"kept": size / 2**20, "peak": _peak(), "seconds": min(seconds)}


def _loss(backbone: nn.Module, slow: Tensor, fast: Tensor) -> Tensor:
    return sum(features.square().mean() for features in backbone(slow, fast))


def _peak() -> float:
    with open("/proc/self/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config-file", default="config_files/resnet50_4x16f_baseline.yaml")
    parser.add_argument("--size", nargs=2, type=int, default=(256, 352), metavar=("HEIGHT", "WIDTH"), help="pixels")
    parser.add_argument("--way", choices=("off", "on"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    height, width = args.size
    if args.way:
        print(json.dumps(measure(args.config_file, height=height, width=width, recompute=args.way == "on")))
        return
    print("| activation checkpointing | kept for the backward pass | peak memory | processor time per pass |")
    print("| --- | ---: | ---: | ---: |")
    for way in ("off", "on"):
        command = [sys.executable, __file__, "--config-file", args.config_file, "--size", str(height), str(width)]
        done = subprocess.run([*command, "--way", way], check=True, capture_output=True, text=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        print(f"| {way} | {figures['kept']:.0f} MiB | {figures['peak']:.0f} MiB | {figures['seconds']:.1f} s |")


if __name__ == "__main__":
    main()
