"""How fast is the network? Inference and training step of ours, of the original's form, and of PyTorchVideo.

    python benchmarks/model.py --config-file C [--config-file C2 ...] [--size 256 352] [--batch 1 2] [--test | --train]
        [--peers] [--compile] [--device cpu|cuda] [--rounds 5] [--seconds 200] [KEY VALUE ...]

"original" is the same network written plainly (benchmarks/plain_model.py) with the same weights: the floor of what a
change must beat, and what the outputs are compared with. All forms of a table take turns within each round, so that
whatever else the machine does slows all of them; a ratio is the median over the rounds of original / form, and the
spread is that of the ratios. Without --no-memory each form's memory is measured afterwards in a process of its own. One
configuration with batch 1 takes 2 to 4 minutes on two idle cores; --seconds bounds the rounds of the whole run (each
table makes at least one). While others use the machine: OMP_NUM_THREADS=1 and --clock processor.

A training step is forward, loss, backward and SGD with momentum. GFLOP are those of the plain form (multiplications and
additions counted apart), also in the rows of ours: work that ours leaves out counts as speed. "of matmul" compares with
the rate of one large matrix product on this machine in the form's precision; "of copy" the bytes that the convolutions
must read and write at least with the rate of one large copy.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]  # run from a checkout that is not installed

import torch  # noqa: E402 (see above)
from model_cost import Cost, Speed, cost_of, peak_bytes, present_bytes, reset_peak, speed_of_machine  # noqa: E402
from model_forms import COMPILED, ORIGINAL, OURS, PEERS, Case, Form, build_form, check, common_weights  # noqa: E402

from alphaction.errors import UserError  # noqa: E402
from alphaction.utils.device import resolve_device  # noqa: E402

MODES = ("inference", "training step")
_REFERENCE = ORIGINAL[0]


@dataclass(frozen=True)
class Row:
    """A form's figures.

    Attributes:
        seconds: of a pass, one per round.
        ratios: original / form, one per round.
        cost: of the plain form (of a peer: its own).
        difference: inference: largest difference of a score from the original's; training: length of the difference of
            the gradients, relative to the original's. None for a peer, whose weights are others.
        peak, per_clip: bytes of the whole process or GPU, and what a pass adds per clip; None: not measured.
    """

    form: str
    seconds: list[float]
    ratios: list[float]
    cost: Cost
    difference: float | None
    peak: int | None = None
    per_clip: int | None = None


class Clock:
    """Seconds of one call: on a GPU by its events, else of the wall clock or of the processor."""

    def __init__(self, device: torch.device, kind: str) -> None:
        self.device = device
        self._now = time.process_time if kind == "processor" else time.perf_counter

    def __call__(self, run: Callable[[], object]) -> float:
        if self.device.type != "cuda":
            started = self._now()
            run()
            return self._now() - started
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(self.device)
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize(self.device)
        return begin.elapsed_time(end) / 1000


def measure(case: Case, names: Sequence[str], mode: str, *, rounds: int, deadline: float, clock: Clock) -> list[Row]:
    """One table: a row per form, the original's first.

    Args:
        deadline: of `time.monotonic()`; no round begins after it, but there is always one.
    """
    weights = common_weights(case)
    forms = [build_form(name, case, weights) for name in names]
    del weights
    runs = {form.name: form.scores if mode == "inference" else form.step for form in forms}
    costs: dict[str, Cost] = {}
    differences: dict[str, float | None] = {}
    for form in forms:  # also warms up: libraries choose their algorithms, optimizers make their buffers
        if form.name in (_REFERENCE, PEERS[0]):
            costs[form.name], result = cost_of(runs[form.name])
        else:
            result = runs[form.name]()
        if form.name == _REFERENCE:
            expected = result
        differences[form.name] = None if form.name in PEERS else _difference(mode, form, forms[0], result, expected)
    seconds: dict[str, list[float]] = {form.name: [] for form in forms}
    for done in range(rounds):
        if done and time.monotonic() > deadline:
            break
        for form in forms:
            seconds[form.name].append(clock(runs[form.name]))
    reference = seconds[_REFERENCE]
    return [
        Row(
            form=name,
            seconds=times,
            ratios=[theirs / own for theirs, own in zip(reference, times, strict=True)],
            cost=_cost(name, costs),
            difference=differences[name],
        )
        for name, times in seconds.items()
    ]


def _difference(mode: str, form: Form, original: Form, result: torch.Tensor, expected: torch.Tensor) -> float:
    if mode == "inference":
        return (result - expected).abs().max().item()
    theirs = {name: parameter.grad for name, parameter in original.model.named_parameters()}
    change = size = 0.0
    for name, parameter in form.model.named_parameters():
        if parameter.grad is None or theirs[name] is None:
            continue
        change += (parameter.grad - theirs[name]).double().square().sum().item()
        size += theirs[name].double().square().sum().item()
    return (change / size) ** 0.5


def _cost(name: str, costs: dict[str, Cost]) -> Cost:
    cost = costs[PEERS[0] if name in PEERS else _REFERENCE]
    return replace(cost, bytes=cost.bytes // 2) if "bf16" in name else cost


def with_memory(rows: Sequence[Row], case: Case, mode: str) -> list[Row]:
    """The rows with the memory of each form, measured in processes of their own."""
    found = []
    for row in rows:
        command = [sys.executable, __file__, "--config-file", case.config_file, "--batch", str(case.batch)]
        command += ["--size", *map(str, case.size), "--device", str(case.device), "--child", row.form, mode]
        done = subprocess.run([*command, *case.opts], capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"memory of {row.form}: the process failed\n{done.stderr}")
        figures = json.loads(done.stdout.splitlines()[-1])
        found.append(replace(row, **figures))
    return found


def memory_of(name: str, case: Case, mode: str) -> dict[str, int | None]:
    """This process's peak in two passes, and what a pass adds per clip to network and batch."""
    form = build_form(name, case, common_weights(case))
    gc.collect()
    before = present_bytes(case.device)
    reset_peak(case.device)
    for _ in range(2):
        form.scores() if mode == "inference" else form.step()
    peak = peak_bytes(case.device)
    if peak is None or before is None:
        return {"peak": None, "per_clip": None}
    return {"peak": peak, "per_clip": (peak - before) // case.batch}


def table(rows: Sequence[Row], *, mode: str, batch: int, speed: Speed) -> str:
    """Markdown."""
    difference = "score difference" if mode == "inference" else "gradient difference"
    titles = ["form", "seconds", "clips/s", "original / form", "spread", "GFLOP", "GFLOP/s", "of matmul", "of copy"]
    titles += [difference, "peak memory", "per clip"]
    lines = [f"| {mode}, batch {batch} | " + " | ".join(titles[1:]) + " |", "| --- |" + " ---: |" * (len(titles) - 1)]
    for row in rows:
        middle, low, high = statistics.median(row.seconds), min(row.ratios), max(row.ratios)
        rate = row.cost.flops / middle
        cells = [
            row.form,
            f"{middle:.3g}",
            f"{batch / middle:.3g}",
            f"{statistics.median(row.ratios):.2f}x",
            f"{low:.2f} to {high:.2f}",
            f"{row.cost.flops / 1e9:.3g}",
            f"{rate / 1e9:.3g}",
            f"{rate / speed.matmul('bf16' in row.form):.0%}",
            f"{row.cost.bytes / middle / speed.copy:.0%}",
            "" if row.difference is None else f"{row.difference:.0e}",
            _mebibytes(row.peak),
            _mebibytes(row.per_clip),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mebibytes(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:.0f} MiB"


def main(arguments: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    try:
        device = resolve_device(args.device)
        if device.type == "cuda":
            torch.cuda.set_device(device)  # events are recorded on the current GPU
        cases = [
            Case(config, args.opts, batch, tuple(args.size), device)
            for config in args.config_file
            for batch in args.batch
        ]
        if args.child:
            print(json.dumps(memory_of(args.child[0], cases[0], args.child[1])))
            return
        _run(args, cases, device)
    except UserError as error:
        sys.exit(f"benchmarks/model.py: {error}")


def _run(args: argparse.Namespace, cases: Sequence[Case], device: torch.device) -> None:
    names = [*ORIGINAL, *OURS, *(COMPILED if args.compile else ()), *(PEERS if args.peers else ())]
    modes = [mode for mode, chosen in zip(MODES, (not args.train, not args.test), strict=True) if chosen]
    clock = Clock(device, args.clock)
    for case in cases:
        check(case, peers=args.peers)
    speed = speed_of_machine(device, clock)
    print(
        f"{speed.device}, {torch.get_num_threads()} threads, torch {torch.__version__}, {args.clock} clock: {speed}\n"
    )
    left = len(cases) * len(modes)
    end = time.monotonic() + args.seconds
    for case in cases:
        height, width = case.size
        print(f"{' '.join([Path(case.config_file).stem, *case.opts])}, {height}x{width}\n")
        if args.peers:
            print(_peer_notes(case) + "\n")
        for mode in modes:
            started = time.monotonic()
            deadline = started + max(end - started, 0) / left
            rows = measure(case, names, mode, rounds=args.rounds, deadline=deadline, clock=clock)
            gc.collect()
            if args.memory:
                paused = time.monotonic()
                rows = with_memory(rows, case, mode)
                end += time.monotonic() - paused
            left -= 1
            print(table(rows, mode=mode, batch=case.batch, speed=speed) + "\n")
            print(f"{len(rows[0].seconds)} rounds\n", flush=True)


def _peer_notes(case: Case) -> str:
    cfg = case.config()
    slow = cfg.INPUT.FRAME_NUM // cfg.INPUT.TAU
    return (
        f"PyTorchVideo: the same {slow} slow and {slow * cfg.INPUT.ALPHA} fast frames, boxes and precision of the "
        "arithmetic, clips normalised beforehand. What differs from ours: its fusion has batch norm and ReLU instead "
        "of a bias; its first pooling is padded (64 instead of 63 cells for 256 pixels); its batch norms learn their "
        "terms and, in the training step, take the batch's statistics; its head is one linear layer on the pooled box "
        "(ours: two more of 1024 units); the loss is the cross entropy of sigmoids. Ours in the kernel of the fusion, "
        "strides and dilation, except for 8 slow and 32 fast frames: there it is its own slowfast_r50_detection, whose "
        "fusion sees 7 frames instead of 5."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", action="append", required=True, help="may be given several times")
    parser.add_argument("--size", nargs=2, type=_side, default=(256, 352), metavar=("HEIGHT", "WIDTH"), help="pixels")
    parser.add_argument("--batch", nargs="+", type=_positive, default=[1], help="clips of a batch, a table for each")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or auto")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--test", action="store_true", help="inference only (default: both)")
    modes.add_argument("--train", action="store_true", help="training step only (default: both)")
    parser.add_argument("--peers", action="store_true", help="PyTorchVideo, too: pip install 'alphaction[benchmark]'")
    parser.add_argument("--compile", action="store_true", help="ours with torch.compile, too")
    parser.add_argument("--rounds", type=_positive, default=5)
    parser.add_argument("--seconds", type=float, default=200, help="for the rounds of all tables together")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall", help="on a GPU: its own events")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="do not measure memory")
    parser.add_argument("--child", nargs=2, metavar=("FORM", "MODE"), help=argparse.SUPPRESS)
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="configuration keys and values, for every file")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number of at least 1")
    return int(text)


def _side(text: str) -> int:
    if not text.isdecimal() or int(text) < 48 or int(text) % 16:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a multiple of 16 of at least 48 (pixels)")
    return int(text)


if __name__ == "__main__":
    main()
