"""Does interaction aggregation learn? Trains a small detector without and with each structure; AP by kind of class.

    python benchmarks/interaction.py [--structures baseline serial] [--seeds 0 1] [--output data/output/interaction]
    python benchmarks/interaction.py --structures only-P only-O only-M --seeds 0

The data set (alphaction/synthetic/interaction.py, made on first use) has classes that need the other person, objects of
the scene, or the memory: docs/INTERACTION.md. As in the paper, all structures start from the same backbone: the first
run, `pretrained`, trains the baseline from scratch. The others take its backbone, with batch norm frozen, and a new
head. Every run is `train_net.py` with config_files/interaction_tiny.yaml and lies in a folder of its own; one that is
complete is not repeated, one that was interrupted goes on from its last checkpoint. Keys at the end of the line are
given to every run (`SOLVER.MAX_ITER 4` for a first look): choose another --output with them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run from a checkout that is not installed

from alphaction.synthetic.interaction import KINDS  # noqa: E402 (see above)

CONFIG = ROOT / "config_files" / "interaction_tiny.yaml"
DONE = Path("inference/interaction_val/metrics.json")  # written last
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
PRETRAINING = STRUCTURES["baseline"]
FINE_TUNING = (
    *("MODEL.BACKBONE.FROZEN_BN", "True"),
    *("SOLVER.MAX_ITER", "300"),
    *("SOLVER.BASE_LR", "0.01"),
    *("SOLVER.IA_LR_FACTOR", "2.0"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", nargs="+", choices=list(STRUCTURES), default=list(MAIN))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--output", type=Path, default=Path("data/output/interaction"), help="runs, and table.md")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="configuration keys and values, for every run")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, float]]] = {}
    weight = args.output.resolve() / "pretrained"
    train("pretrained", folder=weight, seed=0, opts=(*PRETRAINING, *args.opts))
    for seed in args.seeds:
        for name in args.structures:
            opts = (*FINE_TUNING, *STRUCTURES[name], *args.opts, "MODEL.WEIGHT", str(weight / "model_final.pth"))
            folder = args.output.resolve() / f"{name}_seed{seed}"
            metrics = train(
                f"{name}, seed {seed}", folder=folder, seed=seed, opts=opts, flags=("--transfer", "--no-head")
            )
            results.setdefault(name, []).append(by_kind(metrics))
            shares = kind_shares(metrics)
            text = table(results, shares)
            (args.output / "table.md").write_text(text + "\n", encoding="utf-8")
            print(text, flush=True)


def train(title: str, *, folder: Path, seed: int, opts: Sequence[str], flags: Sequence[str] = ()) -> dict:
    """Runs train_net.py unless that is done; what the final test wrote to `metrics.json`."""
    if not (folder / DONE).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(ROOT / "train_net.py"), "--config-file", str(CONFIG), "--seed", str(seed)]
        command += [*flags, "--skip-val-in-train", *opts, "OUTPUT_DIR", str(folder)]
        print(f"{title}: {folder / 'log.txt'}", flush=True)
        started = time.monotonic()
        with open(folder / "console.txt", "a", encoding="utf-8") as console:
            done = subprocess.run(command, cwd=ROOT, stdout=console, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            sys.exit(f"{title}: training failed, see {folder / 'console.txt'}")
        print(f"{title}: {time.monotonic() - started:.0f} s", flush=True)
    return json.loads((folder / DONE).read_text(encoding="utf-8"))


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
