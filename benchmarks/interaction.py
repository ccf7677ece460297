"""Does interaction aggregation learn? Trains a small detector without and with each structure; AP by kind of class.

    python benchmarks/interaction.py [--structures baseline serial] [--seeds 0 1] [--output data/output/interaction]
    python benchmarks/interaction.py --structures only-P only-O only-M --seeds 0

The data set (alphaction/synthetic/interaction.py, made on first use) has classes that need the other person, objects of
the scene, or the memory: docs/INTERACTION.md. Every run is `train_net.py` with config_files/interaction_tiny.yaml and
lies in a folder of its own; one that is complete is not repeated, one that was interrupted goes on from its last
checkpoint. Keys at the end of the line are given to every run (`SOLVER.MAX_ITER 4` for a first look): choose another
--output with them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from alphaction.synthetic.interaction import KINDS

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "config_files" / "interaction_tiny.yaml"
NODE = "MODEL.IA_STRUCTURE"


def _structure(name: str, blocks: object) -> tuple[str, ...]:
    return (f"{NODE}.ACTIVE", "True", f"{NODE}.STRUCTURE", name, f"{NODE}.I_BLOCK_LIST", repr(blocks))


SERIAL = list("POMPOM")
STRUCTURES: dict[str, tuple[str, ...]] = {
    "baseline": (f"{NODE}.ACTIVE", "False"),
    "parallel": _structure("parallel", [list("POM"), list("POM")]),
    "serial": _structure("serial", SERIAL),
    "dense": _structure("dense", SERIAL),
    # Which letter helps which kind of class; not part of the default.
    "only-P": _structure("serial", list("PP")),
    "only-O": _structure("serial", list("OO")),
    "only-M": _structure("serial", list("MM")),
}
MAIN = ("baseline", "parallel", "serial", "dense")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", nargs="+", choices=list(STRUCTURES), default=list(MAIN))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--output", type=Path, default=Path("data/output/interaction"), help="runs, and table.md")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="configuration keys and values, for every run")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, float]]] = {}
    shares: dict[str, float] = {}
    for seed in args.seeds:
        for name in args.structures:
            metrics = run(name, seed=seed, output=args.output, opts=args.opts)
            shares = kind_shares(metrics)
            results.setdefault(name, []).append(by_kind(metrics))
            text = table(results, shares)
            (args.output / "table.md").write_text(text + "\n", encoding="utf-8")
            print(text, flush=True)


def run(name: str, *, seed: int, output: Path, opts: Sequence[str] = ()) -> dict:
    """Trains and tests one structure unless that is done; what its `metrics.json` says."""
    folder = (output / f"{name}_seed{seed}").resolve()
    found = sorted(folder.glob("inference/*/metrics.json"))
    if not (folder / "model_final.pth").is_file() or not found:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(ROOT / "train_net.py"), "--config-file", str(CONFIG), "--seed", str(seed)]
        command += [*opts, *STRUCTURES[name], "OUTPUT_DIR", str(folder)]
        print(f"{name}, seed {seed}: {folder / 'log.txt'}", flush=True)
        started = time.monotonic()
        with open(folder / "console.txt", "a", encoding="utf-8") as console:
            done = subprocess.run(command, cwd=ROOT, env=os.environ, stdout=console, stderr=subprocess.STDOUT)
        if done.returncode:
            sys.exit(f"{name}, seed {seed}: training failed, see {folder / 'console.txt'}")
        print(f"{name}, seed {seed}: {time.monotonic() - started:.0f} s", flush=True)
        [found] = [sorted(folder.glob("inference/*/metrics.json"))]
    return json.loads(found[0].read_text(encoding="utf-8"))


def by_kind(metrics: Mapping) -> dict[str, float]:
    """Mean AP over the classes of each kind."""
    return {kind: float(np.mean([metrics["per_class"][name] for name in names])) for kind, names in KINDS.items()}


def kind_shares(metrics: Mapping) -> dict[str, float]:
    """Share of the persons that have a class, mean over the classes of each kind: the AP of a guess."""
    persons = sum(entry["ground_truth"] for entry in metrics["classes"] if entry["name"] in KINDS["own"])
    share = {entry["name"]: entry["ground_truth"] / persons for entry in metrics["classes"]}
    return {kind: float(np.mean([share[name] for name in names])) for kind, names in KINDS.items()}


def table(results: Mapping[str, Sequence[Mapping[str, float]]], shares: Mapping[str, float]) -> str:
    """Markdown: a row per structure, a column per kind; mean and range over the seeds."""
    lines = ["| AP | " + " | ".join(KINDS) + " | seeds |", "| --- |" + " ---: |" * (len(KINDS) + 1)]
    lines.append("| a guess (share of the persons) | " + " | ".join(f"{shares[kind]:.2f}" for kind in KINDS) + " | |")
    for name, runs in results.items():
        cells = [_cell([figures[kind] for figures in runs]) for kind in KINDS]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {len(runs)} |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
