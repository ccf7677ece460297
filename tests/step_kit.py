"""A tiny detector, batches for it, and trainings of a few steps: alone, in parts, and by several processes."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import torch
import torch.distributed as dist
from memory_kit import loss_of

from alphaction.config import load_config
from alphaction.engine.memory import PersonMemory
from alphaction.engine.step import StepOptions, TrainingError, TrainStep
from alphaction.modeling import build_criterion, build_detection_model
from alphaction.solver import AveragedWeights, build_optimizer
from alphaction.structures import Boxes, ClipBatch, ClipKey, FeatureMemory, MemorySpan
from alphaction.utils.distributed import ALONE, Processes

CPU = torch.device("cpu")
COUNTS = (2, 1, 3, 2)  # persons per clip
HEIGHT, WIDTH = 32, 48
CHANNELS = 576  # of Slowfast-Tiny's features
IA = "MODEL.IA_STRUCTURE."
HEAD = "MODEL.ROI_ACTION_HEAD."
OPTS = [
    *["MODEL.BACKBONE.CONV_BODY", "Slowfast-Tiny", "MODEL.BACKBONE.FROZEN_BN", True, "MODEL.NONLOCAL.FROZEN_BN", True],
    *["INPUT.FRAME_NUM", 8, "INPUT.TAU", 2, "INPUT.ALPHA", 2, HEAD + "MLP_HEAD_DIM", 16, HEAD + "NUM_CLASSES", 6],
    *[HEAD + "NUM_PERSON_MOVEMENT_CLASSES", 3, HEAD + "NUM_OBJECT_MANIPULATION_CLASSES", 2],
    *[HEAD + "NUM_PERSON_INTERACTION_CLASSES", 1, "SOLVER.BASE_LR", 0.0002],
]
WITH_MEMORY = [
    *[
        IA + "ACTIVE",
        True,
        IA + "STRUCTURE",
        "dense",
        IA + "I_BLOCK_LIST",
        ["P", "M", "P", "M"],
        IA + "DIM_IN",
        CHANNELS,
    ],
    *[IA + "DIM_INNER", 16, IA + "DIM_OUT", 16, IA + "MAX_PERSON", 4, IA + "MAX_PER_SEC", 4, IA + "LENGTH", (5, 5)],
    *[IA + "USE_ZERO_INIT_CONV", False, IA + "CONV_INIT_STD", 0.1],
]


def batch_of(number: int, counts: Sequence[int] = COUNTS) -> ClipBatch:
    """Clips `len(counts) * number ...` of one video, a second apart; some persons have no label of the first group."""
    draw = torch.Generator().manual_seed(100 + number)
    clips, total = len(counts), sum(counts)
    corners = torch.rand(total, 4, generator=draw) * torch.tensor([WIDTH / 2, HEIGHT / 2] * 2)
    corners[:, 2:] += torch.tensor([WIDTH / 2 - 1, HEIGHT / 2 - 1])
    boxes = [Boxes(part, (HEIGHT, WIDTH)) for part in corners.split(list(counts))]
    indices = range(clips * number, clips * (number + 1))
    return ClipBatch(
        slow=torch.randint(0, 256, (clips, 3, 4, HEIGHT, WIDTH), generator=draw, dtype=torch.uint8),
        fast=torch.randint(0, 256, (clips, 3, 8, HEIGHT, WIDTH), generator=draw, dtype=torch.uint8),
        sizes=[(HEIGHT, WIDTH)] * clips,
        persons=boxes,
        regions=boxes,
        labels=torch.rand(total, 6, generator=draw) > 0.7,
        person_scores=None,
        objects=None,
        keys=[ClipKey("park", float(i)) for i in indices],
        indices=indices,
    )


def spoiled(number: int, clip: int) -> ClipBatch:
    """A batch of which the loss of one clip is NaN (with `Spoiling`): its first person has every label."""
    batch = batch_of(number)
    batch.labels[:, 0] = False
    batch.labels[sum(COUNTS[:clip])] = True
    return batch


class Spoiling:
    """A criterion that gives NaN for a person with every label."""

    def __init__(self, criterion) -> None:
        self._criterion = criterion

    def __call__(self, logits, labels, num_boxes):
        bad = labels.all(dim=1, keepdim=True)
        return self._criterion(logits * torch.where(bad, float("nan"), 1.0), labels, num_boxes)


class Run:
    """A training of the tiny detector."""

    def __init__(
        self,
        *opts: object,
        processes: Processes = ALONE,
        options: StepOptions | None = None,
        decay: float = 0.0,
        **step,
    ) -> None:
        cfg = load_config("", list(map(str, [*OPTS, *opts])))
        torch.manual_seed(5)
        self.model = build_detection_model(cfg).train()
        self.optimizer = build_optimizer(cfg, self.model)
        self.averaged = AveragedWeights(self.model, decay=decay) if decay else None
        self.memory = None
        if self.model.needs_memory:
            self.memory = PersonMemory(
                FeatureMemory(CHANNELS),
                MemorySpan(before=5, after=5, rate=1, persons=4),
                key_of=lambda index: ClipKey("park", float(index)),
                device="cpu",
                penalty=True,
                random_choice=True,
                gather=processes.gather_rows,
            )
        self.step = TrainStep(
            self.model,
            Spoiling(build_criterion(cfg)),
            self.optimizer,
            device=CPU,
            memory=self.memory,
            processes=processes,
            options=options,
            averaged=self.averaged,
            **step,
        )
        self.figures: list[dict[str, float] | None] = []

    def __call__(self, batches: Sequence[ClipBatch | None]) -> Run:
        for batch in batches:
            self.figures.append(self.step(batch, iteration=len(self.figures) + 1))
        return self

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def result(self) -> dict:
        memory = None
        if self.memory is not None:
            store = self.memory.store
            memory = {second: store.get(("park", float(second))) for second in range(40)}
            memory = {second: rows for second, rows in memory.items() if len(rows)}
            memory |= {f"loss {second}": loss_of(store, ("park", float(second))) for second in list(memory)}
        return {"figures": self.figures, "weights": self.weights, "memory": memory}


def share(batch: ClipBatch, rank: int) -> ClipBatch:
    return batch.split(2)[rank]


PLAIN = [batch_of(i) for i in range(3)]
NOBODY = (0, 0)
#: Name -> options of the run, batches of process 0, of process 1, those of one process alone (None: it raises).
SCENARIOS = {
    "plain": ([], {}, [share(b, 0) for b in PLAIN], [share(b, 1) for b in PLAIN], PLAIN),
    "memory": (WITH_MEMORY, {}, [share(b, 0) for b in PLAIN], [share(b, 1) for b in PLAIN], PLAIN),
    "memory and parts": (
        [*WITH_MEMORY, "MODEL.BACKBONE.ACTIVATION_CHECKPOINTING", True],
        {"options": StepOptions(parts=2, max_grad_norm=0.5)},
        [share(b, 0) for b in PLAIN],
        [share(b, 1) for b in PLAIN],
        PLAIN,
    ),
    "a process without clips": (
        WITH_MEMORY,
        {},
        [share(b, 0) for b in PLAIN],
        [share(PLAIN[0], 1), None, share(PLAIN[2], 1)],
        [PLAIN[0], share(PLAIN[1], 0), PLAIN[2]],
    ),
    "a process without persons": (
        [],
        {"options": StepOptions(parts=2)},
        [batch_of(4, NOBODY), share(PLAIN[1], 0), None],
        [share(PLAIN[0], 1), share(PLAIN[1], 1), None],
        [share(PLAIN[0], 1), PLAIN[1], None],
    ),
    "not finite, left out": (
        WITH_MEMORY,
        {"options": StepOptions(skip_nonfinite=True), "decay": 0.5},
        [share(PLAIN[0], 0), share(spoiled(1, 3), 0), share(PLAIN[2], 0)],
        [share(PLAIN[0], 1), share(spoiled(1, 3), 1), share(PLAIN[2], 1)],
        [PLAIN[0], spoiled(1, 3), PLAIN[2]],
    ),
    "not finite": ([], {}, [share(spoiled(1, 3), 0)], [share(spoiled(1, 3), 1)], None),
}


def member(folder: str) -> None:
    """What one of two processes does: every scenario, one after the other; its results go to a file."""
    dist.init_process_group("gloo")
    processes = Processes(rank=dist.get_rank(), size=dist.get_world_size(), local_rank=dist.get_rank())
    results = {}
    for name, (opts, how, *shares, _) in SCENARIOS.items():
        run = Run(*opts, processes=processes, **how)
        try:
            results[name] = run(shares[processes.rank]).result()
        except TrainingError as error:
            results[name] = (str(error), error.told_elsewhere)
    torch.save(results, pathlib.Path(folder) / f"{processes.rank}.pt")
    dist.destroy_process_group()
