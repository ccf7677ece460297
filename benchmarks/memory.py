"""The memory of person features and the attention to it: ours, and the original's form of the same.

    python benchmarks/memory.py [--stages store assembly attention pass gather] [--keyframes 184000]

Prints one table. Takes about 5 minutes and 5 GB of memory on an idle machine with two cores, and 6 GB of disk in the
temporary folder (`--folder`). Each stage is a process of its own, with one thread (`--threads`). The forms of a stage
are measured in turn, and the middle one of several times counts.

The original's form is written here by us: a dict of box objects, pickled; keys and values for every slot, empty or not,
once for each person (`plain_interaction.py`). "per clip" computes them once for each clip. Features are random, two
persons in each of the keyframes; in the attention about 100 of the 305 slots hold somebody, as on AVA.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from plain_interaction import Counts, PlainInteraction
from torch import Tensor, multiprocessing, nn
from torch.nn import functional as F

from alphaction.config import load_config
from alphaction.engine.memory import pack_rows
from alphaction.modeling.attention import ClipRows, Context, InteractionBlock
from alphaction.modeling.build import build_head
from alphaction.modeling.interaction import InteractionStructure
from alphaction.structures import FeatureMemory, MemorySpan, MemoryWindow, RoiFeatures
from alphaction.utils.atomic import atomic_write
from alphaction.utils.distributed import Processes

CHANNELS, PER_KEYFRAME, PER_MOVIE = 2304, 2, 900
SPAN = MemorySpan(before=30, after=30, rate=1, persons=5)
CONFIG = Path(__file__).parents[1] / "config_files/resnet50_4x16f_denseserial.yaml"
PERSONS, OBJECTS = 3, 3  # of a clip, in the attention
WRITES = 3

Pool = dict[str, dict[int, "PlainBoxes"]]


class PlainBoxes:
    """The persons of a keyframe as the original keeps them: an object with tensors."""

    def __init__(self, features: Tensor) -> None:
        self.bbox = torch.zeros(len(features), 4)
        self.size, self.mode = (340, 256), "xyxy"
        self.extra_fields = {"pooled_feature": features.view(-1, CHANNELS, 1, 1, 1), "loss_tag": 1.0}


def key_of(number: int) -> tuple[str, float]:
    return f"movie_{number // PER_MOVIE:04d}", 902.0 + number % PER_MOVIE


def plain_pool(numbers: Sequence[int]) -> Pool:
    pool: Pool = {}
    for number in numbers:
        movie, second = key_of(number)
        pool.setdefault(movie, {})[int(second)] = PlainBoxes(torch.rand(PER_KEYFRAME, CHANNELS))
    return pool


def filled(numbers: Sequence[int], dtype: torch.dtype) -> FeatureMemory:
    memory = FeatureMemory(CHANNELS, dtype=dtype)
    memory.reserve(PER_KEYFRAME * len(numbers))
    for first in range(0, len(numbers), 16):
        keys = [key_of(number) for number in numbers[first : first + 16]]
        memory.put(keys, torch.rand(PER_KEYFRAME * len(keys), CHANNELS), [PER_KEYFRAME] * len(keys))
    return memory


def shuffled(count: int) -> list[int]:
    """Keyframes in the order of a training pass."""
    numbers = list(range(count))
    random.Random(0).shuffle(numbers)
    return numbers


def plain_window(pool: Pool, keys: Sequence[tuple[str, float]]) -> Tensor:
    """[N, S, Q, C], second by second."""
    clips = []
    for movie, time_of in keys:
        moments = []
        for second in range(int(time_of) - SPAN.before, int(time_of) + SPAN.after + 1):
            boxes = pool.get(movie, {}).get(second) if second != int(time_of) else None
            if boxes is None:
                moments.append(torch.zeros(SPAN.persons, CHANNELS, 1, 1, 1))
                continue
            features = boxes.extra_fields["pooled_feature"]
            features = features[torch.randperm(len(features))[: SPAN.persons]]
            moments.append(torch.cat([features, torch.zeros(SPAN.persons - len(features), CHANNELS, 1, 1, 1)]))
        clips.append(torch.stack(moments))
    return torch.stack(clips)


def show(what: str, plain: float, ours: float, unit: str, *, note: str = "", better: str = "lower") -> None:
    ratio = plain / ours if better == "lower" else ours / plain
    print(f"| {what} | {plain:,.4g} {unit} | {ours:,.4g} {unit} | {ratio:,.3g}x | {note} |", flush=True)


def middle(works: Sequence[Callable[[], object]], *, seconds: float, least: int = 3) -> list[float]:
    """Seconds of each work, done in turn for about so long; the first round warms up.

    With one thread the processor's: other work on the machine counts less.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: list[list[float]] = [[] for _ in works]
    end = time.perf_counter() + seconds
    while len(times[0]) < least + 1 or time.perf_counter() < end:
        for each, work in zip(times, works, strict=True):
            begun = clock()
            work()
            each.append(clock() - begun)
    return [statistics.median(each[1:]) for each in times]


def resident() -> float:
    """Largest memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def stored(form: str, args: argparse.Namespace) -> list[float]:
    """GB, seconds to write, to write as many bytes without any form, and to read of one form."""
    path = Path(args.folder) / f"{form}.pth"
    numbers, before = shuffled(args.keyframes), resident()
    if form == "plain":
        pool = plain_pool(numbers)
        held = resident() - before
        content: object = pool

        def read() -> None:
            torch.load(path, weights_only=False)

    else:
        memory = filled(numbers, getattr(torch, form))
        held = resident() - before
        content = memory.state_dict()
        again = FeatureMemory(CHANNELS, dtype=memory.dtype)

        def read() -> None:
            again.load_state_dict(torch.load(path, mmap=True, weights_only=True))

    written, floor = [], []
    for _ in range(1 if form == "plain" else WRITES):  # in turn: how fast a disk is depends on what it did just before
        written.append(timed(lambda: saved(content, path)))
        floor.append(timed(lambda: bytes_written(path.stat().st_size, path.with_suffix(".raw"))))
    seconds = timed(read)
    path.unlink()
    return [held, statistics.median(written), statistics.median(floor), seconds]


def saved(content: object, path: Path) -> None:
    with atomic_write(path) as file:
        torch.save(content, file)


def bytes_written(number: int, path: Path) -> None:
    """The disk's floor: noise, written and flushed."""
    part = np.random.default_rng(0).bytes(1 << 24)
    with open(path, "wb", buffering=0) as file:
        for first in range(0, number, len(part)):
            file.write(part[: number - first])
        os.fsync(file.fileno())
    path.unlink()


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def store(args: argparse.Namespace) -> None:
    results = {}
    for form in ("plain", "float32", "float16"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            results[form] = pool.apply(stored, (form, args))
    for form in ("float32", "float16"):
        for what, unit, plain, ours in zip(
            ("memory", "write", "the disk's floor", "read"),
            ("GB", "s", "s", "s"),
            results["plain"],
            results[form],
            strict=True,
        ):
            note = {"read": "mapped, with its tables", "write": f"and flushed; the middle one of {WRITES} times"}.get(
                what, ""
            )
            show(f"store, {args.keyframes} keyframes, {form}: {what}", plain, ours, unit, note=note)


def assembly(args: argparse.Namespace) -> None:
    count = args.keyframes // 8
    numbers = shuffled(count)
    pool = plain_pool(numbers)
    memories = {"float32": filled(numbers, torch.float32), "float16": filled(numbers, torch.float16)}
    draw = random.Random(1)
    for clips in (2, 16, 64):

        def keys(clips: int = clips) -> list[tuple[str, float]]:
            return [key_of(number) for number in draw.sample(numbers, clips)]

        works = [lambda: plain_window(pool, keys())]  # noqa: B023 (called at once)
        works += [lambda memory=memory: memory.window(keys(), SPAN) for memory in memories.values()]  # noqa: B023
        plain, *ours = middle(works, seconds=6)
        for name, seconds in zip(memories, ours, strict=True):
            show(
                f"assemble {clips} clips x {SPAN.moments} s x {SPAN.persons}, {name}", plain * 1e3, seconds * 1e3, "ms"
            )


class ClipwiseBlock(nn.Module):
    """A block with keys and values of all slots, once for each clip."""

    def __init__(self, block: InteractionBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, persons: Tensor, context: Context, rows: ClipRows) -> Tensor:
        block, (slots,) = self.block, context.parts
        key, value = block.key(slots), block.value(slots)
        if block.temporal_position_k is not None:
            places = slots.shape[1] // len(block.temporal_position_k)
            key = key + block.temporal_position_k.flatten(1).repeat_interleave(places, dim=0)
            value = value + block.temporal_position_v.flatten(1).repeat_interleave(places, dim=0)
        attention = rows.to_clips(block.query(persons)) @ key.transpose(1, 2) * persons.shape[1] ** -0.5
        gathered = rows.from_clips(attention.softmax(dim=2) @ value)
        if block.layer_norm:
            gathered = F.layer_norm(gathered, gathered.shape[1:])
        shortcut = persons if block.shortcut is None else block.shortcut(persons)
        return block.dropout(block.out(F.relu(gathered))) + shortcut


def clipwise(structure: InteractionStructure, features: RoiFeatures, memory: Tensor) -> Tensor:
    """The structure (dense serial) with contexts of all slots."""
    limits, rows = structure.limits, ClipRows(features.person_counts)
    persons = features.person.flatten(1)
    memory = memory.clone()
    memory[:, limits.seconds_before, :PERSONS] = rows.to_clips(persons.detach())
    objects = ClipRows(features.object_counts).to_clips(features.object.flatten(1))
    slots = {
        "M": structure.mem_dim_reduce(memory.flatten(1, 2)),
        "O": structure.object_dim_reduce(F.pad(objects, (0, 0, 0, limits.objects - OBJECTS))),
    }
    nobody = torch.zeros(0)
    query, key = structure.person_dim_reduce(persons), structure.person_key_dim_reduce(persons)
    outputs: list[Tensor] = []
    for i, (kind,) in enumerate(structure.layers):
        query = structure.block_input(query, outputs)
        slots["P"] = F.pad(rows.to_clips(query if i else key), (0, 0, 0, limits.persons - PERSONS))
        outputs.append(ClipwiseBlock(structure.block(i, 0))(query, Context([slots[kind]], nobody, nobody), rows))
    return outputs[-1]


def structures() -> tuple[InteractionStructure, PlainInteraction]:
    cfg = load_config(CONFIG)
    head = build_head(cfg, dim_in=CHANNELS)
    ours = head.feature_extractor.ia_structure
    plain = PlainInteraction(cfg, CHANNELS)
    for parameter in ours.parameters():  # output layers begin at zero, and much of the backward pass with them
        if parameter.ndim == 5 and not parameter.any():
            nn.init.normal_(parameter, std=0.01)
    plain.load_state_dict(ours.state_dict())
    return ours.eval(), plain.eval()  # without dropout: the forms can be compared


def example(clips: int) -> tuple[RoiFeatures, MemoryWindow, Tensor]:
    """Features, the window around them, and the same with its empty slots, [N, S, Q, C]."""
    rng = np.random.default_rng(0)
    counts = rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15], size=(clips, SPAN.moments))
    counts[:, SPAN.before] = 0
    all_slots = torch.rand(clips, SPAN.moments, SPAN.persons, CHANNELS)
    is_filled = torch.arange(SPAN.persons) < torch.from_numpy(counts)[:, :, None]
    all_slots[~is_filled] = 0
    memory = FeatureMemory(CHANNELS)
    for clip in range(clips):
        for moment in np.flatnonzero(counts[clip]):
            memory.put(
                [(f"{clip}", float(moment))], all_slots[clip, moment, : counts[clip, moment]], [counts[clip, moment]]
            )
    window = memory.window([(f"{clip}", float(SPAN.before)) for clip in range(clips)], SPAN)
    features = RoiFeatures(
        person=torch.rand(PERSONS * clips, CHANNELS, 1, 1, 1),
        person_counts=[PERSONS] * clips,
        object=torch.rand(OBJECTS * clips, CHANNELS, 1, 1, 1),
        object_counts=[OBJECTS] * clips,
    )
    return features, window, all_slots


def attention(args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    ours, plain = structures()
    for clips, is_training in ((2, True), (16, True), (2, False), (64, False)):
        features, window, all_slots = example(clips)
        few = min(clips, 4)  # of which the original's form is measured: they take it long enough
        part = replace(features, person=features.person[: PERSONS * few], object=features.object[: OBJECTS * few])
        per_clip = Counts([PERSONS] * few, [OBJECTS] * few)
        forms: list[Callable[[], Tensor]] = [
            lambda: plain(part.person, part.object, all_slots[:few], per_clip).flatten(1),  # noqa: B023
            lambda: clipwise(ours, features, all_slots),  # noqa: B023
            lambda: ours(features, window),  # noqa: B023
        ]
        error = compared(forms)
        if is_training:
            part.person.requires_grad_()
            features.person.requires_grad_()
            works = [lambda form=form: backward(form) for form in forms]
        else:
            works = [lambda form=form: inferred(form) for form in forms]
        original, once, seconds = (1e3 * each for each in middle(works, seconds=8, least=2))
        original *= clips / few
        what = f"attention, {clips} clips x {PERSONS} persons, {'forward + backward' if is_training else 'forward'}"
        note = f"per clip: {once:,.4g} ms ({once / seconds:.3g}x); difference {error:.0e}"
        note += f"; original's form: {few} clips, times {clips // few}" if few < clips else ""
        show(what, original, seconds, "ms", note=note)


@torch.no_grad()
def compared(forms: Sequence[Callable[[], Tensor]]) -> float:
    """Largest difference of the forms' results, as a share of the largest number in them."""
    results = [form() for form in forms]
    rows = min(len(result) for result in results)
    return max(((each[:rows] - results[0]).abs().max() / results[0].abs().max()).item() for each in results[1:])


def backward(form: Callable[[], Tensor]) -> None:
    form().square().sum().backward()


@torch.no_grad()
def inferred(form: Callable[[], Tensor]) -> None:
    form()


def second_pass(args: argparse.Namespace) -> None:
    """The head on so many clips at once, in the form of a test: window, interaction, classes."""
    count = 16 * 256
    memory = filled(list(range(count)), torch.float32)
    ours, _ = structures()
    sizes = (1, 8, 16, 32, 64, 128, 256)
    examples = {size: example(size)[0] for size in sizes}

    @torch.no_grad()
    def classified(size: int) -> None:
        ours(examples[size], memory.window([key_of(number) for number in range(size)], SPAN))

    seconds = middle([lambda size=size: classified(size) for size in sizes], seconds=20)
    for size, each in zip(sizes, seconds, strict=True):
        note = "in place of the original's form: ours, one clip at a time"
        show(f"second pass, {size} clips at once, per clip", 1e3 * seconds[0], 1e3 * each / size, "ms", note=note)


def gather(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(gather_member, args=(f"file://{folder}/store",), nprocs=2)


def gather_member(rank: int, store_file: str) -> None:
    """16 clips of two persons: 8 in each process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=store_file, rank=rank, world_size=2)
    processes = Processes(rank=rank, size=2)
    features = RoiFeatures(torch.rand(2 * 8, CHANNELS, 1, 1, 1), [2] * 8)
    parts = [PlainBoxes(part.clone()) for part in features.person.flatten(1).split(2)]

    def plain() -> None:
        for share in processes.gather(dict(enumerate(parts))):
            list(share.values())

    def ours(dtype: torch.dtype) -> None:
        processes.gather_rows(pack_rows(list(range(8)), features, loss=1.0, dtype=dtype))

    # Always as often in both processes.
    times: list[list[float]] = [[], [], []]
    for _ in range(100):
        for each, work in zip(times, (plain, lambda: ours(torch.float32), lambda: ours(torch.float16)), strict=True):
            processes.wait()
            each.append(timed(work))
    if rank == 0:
        pickled = 2 * len(pickle.dumps(dict(enumerate(parts)))) / 1e3
        middles = [1e3 * statistics.median(each[10:]) for each in times]
        for i, dtype in enumerate((torch.float32, torch.float16), 1):
            size = 2 * pack_rows(list(range(8)), features, loss=1.0, dtype=dtype).numel() / 1e3
            name = f"gather 16 clips in 2 processes, {str(dtype)[6:]}"
            show(name, middles[0], middles[i], "ms")
            show(f"{name}: sent", pickled, size, "kB")
    dist.destroy_process_group()


STAGES = {"store": store, "assembly": assembly, "attention": attention, "pass": second_pass, "gather": gather}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--keyframes", type=int, default=184_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", help="for the files that are written (default: a temporary one)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.inside:
        STAGES[args.stages[0]](args)
        return
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, {args.threads} threads; load of the machine: {load}\n")
    print("| what | original's form | ours | ratio | |\n| --- | ---: | ---: | ---: | --- |", flush=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for stage in args.stages:
            options = ["--keyframes", str(args.keyframes), "--threads", str(args.threads), "--folder", folder]
            subprocess.run([sys.executable, __file__, "--inside", "--stages", stage, *options], check=True)


if __name__ == "__main__":
    main()
