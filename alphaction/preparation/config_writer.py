"""Writes a configuration to train on a data set, sized to the data and to this machine, with comments that say why."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from alphaction.preparation.prepare_evidence import count

_WIDEST = 2.4  # long side over short side; wider pictures are shrunk
WEIGHTS = "data/models/pretrained_models/"


@dataclass(frozen=True)
class Body:
    """A network and how it is trained.

    Attributes:
        weights: the file to start from, "" if there is none.
        link: where that file is.
        frame_num, tau, alpha: the INPUT keys.
        base_rate: BASE_LR times the number of classes, for a batch of 16 clips. Losses are sums over the classes, so
            more classes want a smaller rate: AVA's 66 with 0.0004 give the first number.
        bytes_per_pixel: of activations kept for the backward pass, per pixel and frame of both pathways (float32;
            counted with torch.autograd.graph.saved_tensors_hooks).
        fixed_gib: weights, gradients, momentum, and what the GPU's libraries take.
    """

    weights: str
    link: str
    frame_num: int
    tau: int
    alpha: int
    base_rate: float
    bytes_per_pixel: float
    fixed_gib: float


BODIES = {
    "Slowfast-Resnet50": Body(
        WEIGHTS + "SlowFast-ResNet50-4x16.pth",
        "https://drive.google.com/file/d/1hqFuhD1p0lMpl3Yi5paIGY-hlPTVYgyi/view?usp=sharing",
        64,
        16,
        8,
        0.026,
        450.0,
        1.5,
    ),
    "Slowfast-Resnet101": Body(
        WEIGHTS + "SlowFast-ResNet101-8x8.pth",
        "https://drive.google.com/file/d/1JDQLyyL-GFd3qi0S31Mdt5oNmUXnyJza/view?usp=sharing",
        64,
        8,
        4,
        0.026,
        850.0,
        2.0,
    ),
    "Slowfast-Tiny": Body("", "", 32, 16, 4, 0.4, 150.0, 1.0),
}


@dataclass(frozen=True)
class Machine:
    """What trains: `gpu` is the GPU's name or "", `gib` the memory of one GPU (0 without), `cores` of the processor."""

    gpu: str
    gib: float
    gpus: int
    cores: int

    def __str__(self) -> str:
        if not self.gpu:
            return f"no GPU, {count(self.cores, 'processor core')}"
        return (
            f"{self.gpus} x {self.gpu} with {self.gib:.0f} GiB" if self.gpus > 1 else f"{self.gpu}, {self.gib:.0f} GiB"
        )


def this_machine() -> Machine:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not torch.cuda.is_available() or not torch.cuda.device_count():
        return Machine("", 0.0, 0, cores)
    properties = torch.cuda.get_device_properties(0)
    return Machine(properties.name, properties.total_memory / 2**30, torch.cuda.device_count(), cores)


@dataclass(frozen=True)
class Facts:
    """What a configuration is made of.

    Attributes:
        train: name of the training set, "path/to/dataset.yaml:train" or of the catalog.
        val: name of the validation set; "" = there is none.
        config: path of the configuration, for the commands in it.
        name: of the data set.
        classes: names in the order of the ids.
        clips: keyframes with persons to train on.
        size: (short side of the middle one in pixels, long side over short side of the widest) of the videos.
        single_label: every person has exactly one action.
        person_boxes: there are detected boxes of the validation split.
        most_persons: in one training clip.
        from_scratch: there are no weights to start from.
        weights: the file to start from; "" = the body's own.
        body: a key of `BODIES`; "" = chosen here.
        epochs: passes over the training clips; 0 = chosen here.
    """

    train: str
    val: str
    config: str
    name: str
    classes: Sequence[str]
    clips: int
    size: tuple[int, float]
    single_label: bool = False
    person_boxes: bool = False
    most_persons: int = 1
    from_scratch: bool = False
    weights: str = ""
    body: str = ""
    epochs: int = 0
    machine: Machine = field(default_factory=this_machine)


@dataclass(frozen=True)
class Plan:
    """The numbers of a configuration."""

    body: str
    min_size: int
    max_size: int
    batch: int
    base_lr: float
    epochs: int
    iterations: int
    warmup: int
    period: int


def make_plan(facts: Facts) -> Plan:
    """Chooses network, input size, batch, learning rate and schedule."""
    name = facts.body or ("Slowfast-Tiny" if facts.from_scratch else "Slowfast-Resnet50")
    body = BODIES[name]
    short, shape = facts.size
    largest = 256 if facts.machine.gpu or not facts.from_scratch else 128
    min_size = max(min(largest, short // 16 * 16), 32)
    max_size = math.ceil(min_size * min(shape, _WIDEST) / 16) * 16
    frames = body.frame_num // body.tau * (1 + body.alpha)
    clip_gib = frames * min_size * min(max_size, 2 * min_size) * body.bytes_per_pixel / 2**30
    if facts.machine.gpu:
        fitting = int((facts.machine.gib * 0.85 - body.fixed_gib) / clip_gib)
        batch = _power_of_two(min(fitting, 16, max(facts.clips // 8, 1)))
    else:
        batch = _power_of_two(min(8 if name == "Slowfast-Tiny" else 2, max(facts.clips // 2, 1)))
    epochs = facts.epochs or (
        80 if facts.from_scratch else 30 if facts.clips < 2000 else 20 if facts.clips < 20000 else 8
    )
    iterations = max(math.ceil(facts.clips / batch) * epochs, 1)
    rate = min(body.base_rate / len(facts.classes), 0.1 if facts.from_scratch else 0.005) * batch / 16
    per_epoch = math.ceil(facts.clips / batch)
    period = max(per_epoch, math.ceil(iterations / 10))
    return Plan(
        body=name,
        min_size=min_size,
        max_size=max(max_size, min_size),
        batch=batch,
        base_lr=float(f"{rate:.2g}"),
        epochs=epochs,
        iterations=iterations,
        warmup=min(max(iterations // 20, 1), 2000),
        period=period,
    )


def output_dir(facts: Facts) -> str:
    """OUTPUT_DIR of the configuration."""
    return f"data/output/{facts.name}"


def config_text(facts: Facts, plan: Plan, *, command: str) -> str:
    """The configuration as a YAML text; `command` is what made it."""
    train = f"python train_net.py --config-file {facts.config}"
    lines = [
        f"# Made by: {' '.join(command.split())}",
        f"# for {count(facts.clips, 'training clip')} and this machine ({facts.machine}).",
        "# Change what you like; what each key means stands in alphaction/config/ (defaults.py, model_defaults.py).",
        "#",
        f"#     {train}{'' if facts.from_scratch else ' --transfer --no-head'}",
        f"#     python test_net.py --config-file {facts.config}",
        *_model_lines(facts, plan),
        *_input_lines(facts, plan),
        "DATASETS:",
        f'  TRAIN: ("{facts.train}",)',
        f'  TEST: ("{facts.val or facts.train}",)'
        + ("" if facts.val else " # there is no validation split: this mAP says nothing about new videos"),
        "DATALOADER:",
        f"  NUM_WORKERS: {min(4, facts.machine.cores)}",
        "  SIZE_DIVISIBILITY: 16",
        *_solver_lines(facts, plan),
        "TEST:",
        f"  VIDEOS_PER_BATCH: {plan.batch}",
        *_box_lines(facts),
        "  ACTION_THRESH: 0.0 # keep every score",
        f'OUTPUT_DIR: "{output_dir(facts)}"',
    ]
    return "\n".join(lines) + "\n"


def _model_lines(facts: Facts, plan: Plan) -> list[str]:
    tiny = plan.body == "Slowfast-Tiny"
    names = textwrap.wrap(", ".join(facts.classes), 110, initial_indent="    #   ", subsequent_indent="    #   ")
    return [
        "MODEL:",
        *_weight_lines(facts, BODIES[plan.body]),
        "  BACKBONE:",
        f'    CONV_BODY: "{plan.body}"',
        *_norm_lines(facts, tiny),
        "  NONLOCAL:",
        "    USE_ZERO_INIT_CONV: False",
        "    BN_INIT_GAMMA: 0.0",
        f"    FROZEN_BN: {not facts.from_scratch}",
        "  ROI_ACTION_HEAD:",
        '    FEATURE_EXTRACTOR: "2MLPFeatureExtractor"',
        "    MEAN_BEFORE_POOLER: True",
        *(["    MLP_HEAD_DIM: 256"] if tiny else []),
        "    DROPOUT_RATE: 0.2",
        f"    # {count(len(facts.classes), 'class')}, in this order:",
        *names,
        f"    NUM_CLASSES: {len(facts.classes)}",
        *_single_label_lines(facts),
        "    # The most persons of a training clip, at most 25.",
        f"    PROPOSAL_PER_CLIP: {min(max(facts.most_persons, 1), 25)}",
        "  IA_STRUCTURE:",
        "    ACTIVE: False # interaction of persons; config_files/resnet50_4x16f_denseserial.yaml shows its keys",
    ]


def _input_lines(facts: Facts, plan: Plan) -> list[str]:
    body = BODIES[plan.body]
    slow = body.frame_num // body.tau
    return [
        "INPUT:",
        f"  # Half of the videos have a short side of {facts.size[0]} pixels or more.",
        f"  MIN_SIZE_TRAIN: {plan.min_size}",
        f"  MAX_SIZE_TRAIN: {plan.max_size}",
        f"  MIN_SIZE_TEST: {plan.min_size}",
        f"  MAX_SIZE_TEST: {plan.max_size}",
        f"  # {body.frame_num} frames at 25 per second = {body.frame_num / 25:.2f} seconds around a keyframe, whatever",
        f"  # the video's rate; the slow pathway sees {slow} of them, the fast one {slow * body.alpha}.",
        f"  FRAME_NUM: {body.frame_num}",
        "  FRAME_SAMPLE_RATE: 1",
        f"  TAU: {body.tau}",
        f"  ALPHA: {body.alpha}",
        "  SLOW_JITTER: True",
        "  COLOR_JITTER: True",
    ]


def _solver_lines(facts: Facts, plan: Plan) -> list[str]:
    steps = sorted({max(plan.iterations * 5 // 9, 1), max(plan.iterations * 7 // 9, 1)})
    falls = '  SCHEDULER: "half_period_cosine"' if facts.from_scratch else f"  STEPS: {tuple(steps)}"
    return [
        "SOLVER:",
        *_batch_lines(facts, plan),
        "  # Suits the batch and the number of classes; with half the batch half of it.",
        f"  BASE_LR: {plan.base_lr}",
        "  BIAS_LR_FACTOR: 2",
        f"  WEIGHT_DECAY: {'1e-4' if facts.from_scratch else '1e-7'}",
        f"  # {count(plan.epochs, 'pass')} over {count(facts.clips, 'clip')}.",
        f"  MAX_ITER: {plan.iterations}",
        falls,
        f"  WARMUP_ITERS: {plan.warmup}",
        "  WARMUP_FACTOR: 0.25",
        "  # In iterations: about ten checkpoints and validations, the last three and the best are kept.",
        f"  CHECKPOINT_PERIOD: {plan.period}",
        f"  EVAL_PERIOD: {plan.period}",
        f"  LOG_PERIOD: {min(max(plan.iterations // 50, 1), 20)}",
        "  KEEP_CHECKPOINTS: 3",
        "  KEEP_BEST: True",
    ]


def _weight_lines(facts: Facts, body: Body) -> list[str]:
    if facts.from_scratch:
        return [
            "  # No weights to start from (--from-scratch): train without --transfer and --no-head.",
            '  WEIGHT: ""',
        ]
    weights = facts.weights or body.weights
    lines = ["  # SlowFast trained on Kinetics-700, without a head. Get it with a browser from"]
    lines += (
        [f"  # {body.link}", f"  # and put it there as {weights} (MODEL_ZOO.md has the list)."] if body.link else []
    )
    return [
        *(lines if not facts.weights and body.link else ["  # Start from these weights."]),
        f'  WEIGHT: "{weights}"',
    ]


def _norm_lines(facts: Facts, tiny: bool) -> list[str]:
    why = "trained from nothing, so its statistics are, too" if facts.from_scratch else "batches are too small for it"
    lines = [f"    FROZEN_BN: {not facts.from_scratch} # batch norm: {why}"]
    lines += ["    SLOWFAST:"]
    lines += ["      BETA: 0.5 # a wide fast pathway"] if tiny else []
    return [
        *lines,
        "      SLOW: {CONV3_NONLOCAL: False, CONV4_NONLOCAL: False}",
        "      FAST: {CONV3_NONLOCAL: False, CONV4_NONLOCAL: False}",
    ]


def _single_label_lines(facts: Facts) -> list[str]:
    if not facts.single_label or len(facts.classes) < 2:
        return ["    # Any number of them may hold at once (sigmoid)."]
    return [
        "    # Every person of this set has exactly one of them. As it stands any number may hold at once (sigmoid);",
        "    # to make them exclude each other (softmax):",
        f"    # NUM_PERSON_MOVEMENT_CLASSES: {len(facts.classes)}",
        "    # NUM_OBJECT_MANIPULATION_CLASSES: 0",
        "    # NUM_PERSON_INTERACTION_CLASSES: 0",
    ]


def _batch_lines(facts: Facts, plan: Plan) -> list[str]:
    machine = facts.machine
    lines = [
        f"  # Clips per batch, estimated to fit into {machine.gib:.0f} GiB of GPU memory."
        if machine.gpu
        else "  # Clips per batch, small since there is no GPU."
    ]
    if machine.gpus > 1:
        lines += [
            f"  # All {machine.gpus} GPUs: torchrun --nproc_per_node {machine.gpus} train_net.py ... with",
            f"  # SOLVER.AUTO_SCALE True SOLVER.VIDEOS_PER_BATCH {plan.batch * machine.gpus} (the schedule follows).",
        ]
    lines += ['  # PRECISION: "bfloat16" # less memory and quicker on GPUs since 2020'] if machine.gpu else []
    return [*lines, f"  VIDEOS_PER_BATCH: {plan.batch}"]


def _box_lines(facts: Facts) -> list[str]:
    if facts.person_boxes:
        return ["  BOX_THRESH: 0.8 # detected persons with a lower score are not classified"]
    return [
        "  # The set has no detected persons: the annotated boxes are classified, and the mAP is an upper bound.",
        '  # With boxes of tools/detect_persons.py as person_boxes in dataset.yaml, change this to "auto".',
        '  BOXES: "ground_truth"',
    ]


def _power_of_two(value: int) -> int:
    return 1 << (max(value, 1).bit_length() - 1)
