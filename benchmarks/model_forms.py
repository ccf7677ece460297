"""The forms of a detector that benchmarks/model.py measures, each ready to run on the same batch.

Ours, the plain form as the original computes it (`plain_model`), and PyTorchVideo's detection network, in float32 and
in bfloat16. All but PyTorchVideo's have the same weights.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from plain_interaction import Counts
from plain_model import PlainDetector, PlainInput
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer
from yacs.config import CfgNode

from alphaction.config import load_config
from alphaction.errors import ConfigError, UserError
from alphaction.modeling import build_criterion, build_detection_model, build_postprocess
from alphaction.solver import build_optimizer
from alphaction.structures import Boxes, ClipBatch, ClipKey, FeatureMemory, MemorySpan

OURS = ("ours", "ours-bf16")
ORIGINAL = ("original", "original-bf16")
COMPILED = ("ours-compiled", "ours-bf16-compiled")
PEERS = ("pytorchvideo", "pytorchvideo-bf16")
FORMS = (*ORIGINAL, *OURS, *COMPILED, *PEERS)

_PERSONS = (2, 3)  # per clip, in turn: AVA has 2.1 on average
_OBJECTS = 5
_PER_SECOND = (2, 2, 1)  # persons of a second of the memory, in turn
_STEP_SIZE = 1e-6  # the weights hardly move: every round measures the same network


@dataclass
class Form:
    """A network and what is measured of it.

    Attributes:
        scores: one inference, probabilities [R, K].
        step: one training step: forward, loss, backward, SGD with momentum; the loss.
        model: for its gradients.
    """

    name: str
    model: nn.Module
    scores: Callable[[], Tensor]
    step: Callable[[], Tensor]


@dataclass(frozen=True)
class Case:
    """What is measured: a configuration, with a batch of so many clips of a size in pixels."""

    config_file: str
    opts: Sequence[str]
    batch: int
    size: tuple[int, int]
    device: torch.device

    def config(self, *more: object) -> CfgNode:
        cfg = load_config(self.config_file, [*self.opts, *map(str, more)])
        if cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES == 0:  # "as many as the data set has": no data set is read here
            cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES = 80
        cfg.SOLVER.BASE_LR = _STEP_SIZE
        return cfg


@dataclass(frozen=True)
class Given:
    """A batch, with the memory for M blocks as ours reads it, and the same with its empty places, [N, S, Q, C]."""

    batch: ClipBatch
    window: object | None = None
    memory: Tensor | None = None

    @property
    def ours(self) -> tuple:
        return (self.batch,) if self.window is None else (self.batch, self.window)


def make_batch(cfg: CfgNode, case: Case) -> Given:
    """Clips of noise with 2 or 3 persons and 5 objects each, and for M blocks a memory as full as AVA's."""
    draw = torch.Generator().manual_seed(1)
    clips, (height, width) = case.batch, case.size
    counts = [_PERSONS[i % len(_PERSONS)] for i in range(clips)]
    persons = [_boxes(count, case.size, (0.3, 0.8), draw) for count in counts]
    frames = cfg.INPUT.FRAME_NUM // cfg.INPUT.TAU

    def pixels(count: int) -> Tensor:
        return torch.randint(0, 256, (clips, 3, count, height, width), generator=draw, dtype=torch.uint8)

    batch = ClipBatch(
        slow=pixels(frames),
        fast=pixels(frames * cfg.INPUT.ALPHA),
        sizes=[case.size] * clips,
        persons=persons,
        regions=persons,
        labels=torch.rand(sum(counts), cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES, generator=draw) > 0.95,
        person_scores=None,
        objects=[_boxes(_OBJECTS, case.size, (0.1, 0.3), draw) for _ in counts] if _needs(cfg, "O") else None,
        keys=[ClipKey(f"video {i}", 1000.0) for i in range(clips)],
        indices=list(range(clips)),
    )
    batch = batch.to(case.device)
    if not _needs(cfg, "M"):
        return Given(batch)
    return Given(batch, *_memory(cfg, batch.keys, draw, case.device))


def _needs(cfg: CfgNode, kind: str) -> bool:
    node = cfg.MODEL.IA_STRUCTURE
    return node.ACTIVE and any(kind in layer for layer in node.I_BLOCK_LIST)


def _boxes(count: int, size: tuple[int, int], sides: tuple[float, float], draw: torch.Generator) -> Boxes:
    """Boxes whose sides are between two shares of the clip's."""
    limits = torch.tensor([size[1], size[0]], dtype=torch.float32) - 1
    least, most = sides
    extent = (least + (most - least) * torch.rand(count, 2, generator=draw)) * limits
    corner = torch.rand(count, 2, generator=draw) * (limits - extent)
    return Boxes(torch.cat([corner, corner + extent], dim=1), size)


def _memory(
    cfg: CfgNode, keys: Sequence[ClipKey], draw: torch.Generator, device: torch.device
) -> tuple[object, Tensor]:
    """What is around the clips, each of a video of its own: 5 persons in 3 seconds, AVA has as many."""
    node = cfg.MODEL.IA_STRUCTURE
    before, after = node.LENGTH
    span = MemorySpan(before=before, after=after, rate=1, persons=node.MAX_PER_SEC)
    store = FeatureMemory(node.DIM_IN)
    dense = torch.zeros(len(keys), span.moments, node.MAX_PER_SEC, node.DIM_IN)
    for clip, key in enumerate(keys):
        for moment in range(span.moments):
            count = min(_PER_SECOND[moment % len(_PER_SECOND)], node.MAX_PER_SEC)
            if moment == before:
                continue  # the network adds the clip's own persons
            features = torch.rand(count, node.DIM_IN, generator=draw)
            store.put([ClipKey(key.movie, key.time + moment - before)], features, [count])
            dense[clip, moment, :count] = features
    return store.window(keys, span, device=device), dense.to(device)


def check(case: Case, *, peers: bool) -> None:
    """Builds the forms without storage, so that what cannot be built is told at once.

    Raises:
        UserError: the configuration is wrong, or the plain form or the peer has no such network.
    """
    cfg = case.config()
    with torch.device("meta"):
        PlainDetector(cfg)
        if peers:
            peer_network(cfg)


def common_weights(case: Case) -> dict[str, Tensor]:
    """A state dict for all forms: fresh weights, with norms as after training, and scores that differ.

    Fresh frozen norms let activations grow from block to block, and fresh output layers make all scores 0.5: neither
    would show an error of the arithmetic.
    """
    torch.manual_seed(0)
    cfg = case.config()
    model = build_detection_model(cfg).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            kind = name.rpartition(".")[2]
            if name.endswith(("bn.running_var", "bn1.running_var")):
                value.uniform_(0.5, 1.5)
            elif name.endswith(("bn.running_mean", "bn1.running_mean")):
                value.normal_(std=0.1)
            elif ".bn." in name or ".bn1." in name:
                is_last = ".conv3.bn." in name
                value.uniform_(0.1, 0.4) if is_last and kind == "weight" else None
                value.uniform_(0.7, 1.2) if not is_last and kind == "weight" else None
                value.normal_(std=0.05) if kind == "bias" else None
            elif "_block_" in name and name.endswith(".out.weight"):
                value.normal_(std=0.02)
        small = Case(case.config_file, case.opts, 1, (64, 80), torch.device("cpu"))
        logits = model(*make_batch(cfg, small).ours).logits
        layer = model.roi_heads["action"].predictor.cls_score
        layer.weight.mul_(2 / logits.std())
    return model.state_dict()


def build_form(name: str, case: Case, weights: dict[str, Tensor]) -> Form:
    """One of `FORMS`.

    Raises:
        UserError: the form does not exist for this configuration, or needs a package that is not installed.
    """
    if name in PEERS:
        return _peer(name, case)
    if name in ORIGINAL:
        return _original(name, case, weights)
    return _ours(name, case, weights)


def _ours(name: str, case: Case, weights: dict[str, Tensor]) -> Form:
    bf16, compiled = "bf16" in name, "compiled" in name
    cfg = case.config(*(("TEST.PRECISION", "bfloat16") if bf16 else ()))
    given = make_batch(cfg, case)
    batch = given.batch
    model = _loaded(build_detection_model, cfg, weights, case.device)
    if compiled:
        model.backbone.compile()
    criterion, postprocess = build_criterion(cfg), build_postprocess(cfg)
    optimizer = build_optimizer(cfg, model)

    def scores() -> Tensor:
        _to_testing(model)
        with torch.inference_mode():  # TEST.PRECISION is the model's own matter
            logits = model(*given.ours).logits
        return postprocess(logits)

    def loss() -> Tensor:
        with _arithmetic(case, bf16):
            logits = model(*given.ours).logits
        return criterion(logits, batch.labels, num_boxes=float(batch.num_persons)).total

    return Form(name, model, scores, _step(model, optimizer, loss))


def _original(name: str, case: Case, weights: dict[str, Tensor]) -> Form:
    cfg = case.config()
    prepared = make_batch(cfg, case)
    batch, given = prepared.batch, plain_input(cfg, prepared)
    model = _loaded(PlainDetector, cfg, weights, case.device)
    criterion, postprocess = build_criterion(cfg), build_postprocess(cfg)
    optimizer = build_optimizer(cfg, model)
    bf16 = "bf16" in name

    def scores() -> Tensor:
        _to_testing(model)
        with torch.no_grad(), _arithmetic(case, bf16):
            logits = model(given)
        return postprocess(logits)

    def loss() -> Tensor:
        with _arithmetic(case, bf16):
            logits = model(given)
        return criterion(logits, batch.labels, num_boxes=float(batch.num_persons)).total

    return Form(name, model, scores, _step(model, optimizer, loss))


def plain_input(cfg: CfgNode, given: Given) -> PlainInput:
    """The batch with clips normalised beforehand; without object boxes, none."""
    batch = given.batch
    mean, std = (
        torch.tensor(values, device=batch.slow.device).view(-1, 1, 1, 1)
        for values in (cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD)
    )
    clips = [(x - mean) / std for x in (batch.slow, batch.fast)]
    nothing = batch.slow.new_zeros(0, 5, dtype=torch.float32)
    objects = nothing if batch.objects is None else _rows(batch.objects)
    counts = Counts(
        [len(boxes) for boxes in batch.regions], [len(boxes) for boxes in batch.objects or [[]] * len(batch)]
    )
    return PlainInput(*clips, _rows(batch.regions), objects, counts, given.memory)


def _rows(boxes: Sequence[Boxes]) -> Tensor:
    """[n, 5]: (clip index, x1, y1, x2, y2)."""
    return torch.cat([F.pad(part.xyxy, (1, 0), value=float(i)) for i, part in enumerate(boxes)])


def _peer(name: str, case: Case) -> Form:
    """PyTorchVideo's network at the same frames, size and boxes; fresh weights of its own."""
    cfg = case.config()
    prepared = make_batch(cfg, case)
    batch, given = prepared.batch, plain_input(cfg, prepared)
    torch.manual_seed(0)
    model = peer_network(cfg).to(case.device)
    optimizer = SGD(model.parameters(), lr=_STEP_SIZE, momentum=0.9)
    bf16 = "bf16" in name
    labels = batch.labels.float()

    def scores() -> Tensor:
        _to_testing(model)
        with torch.no_grad(), _arithmetic(case, bf16):
            return model([given.slow, given.fast], given.persons).float()

    def loss() -> Tensor:
        with _arithmetic(case, bf16):
            found = model([given.slow, given.fast], given.persons)
        return F.binary_cross_entropy(found.float(), labels)

    return Form(name, model, scores, _step(model, optimizer, loss))


def peer_network(cfg: CfgNode) -> nn.Module:
    """PyTorchVideo's `slowfast_r50_detection`; at other frames or depth, what its builder makes of them.

    Raises:
        UserError: it is not installed, or has no such network.
    """
    try:
        hub = importlib.import_module("pytorchvideo.models.hub.slowfast")
        builder = importlib.import_module("pytorchvideo.models.slowfast")
    except ImportError as error:
        raise UserError(
            f"--peers: PyTorchVideo cannot be imported ({error}). Install it: pip install 'alphaction[benchmark]'"
        ) from error
    depth = {"Slowfast-Resnet50": 50, "Slowfast-Resnet101": 101}.get(cfg.MODEL.BACKBONE.CONV_BODY)
    if depth is None or cfg.MODEL.BACKBONE.SLOWFAST.BETA != 0.125:
        raise ConfigError(
            f"--peers: got CONV_BODY {cfg.MODEL.BACKBONE.CONV_BODY!r} with BETA {cfg.MODEL.BACKBONE.SLOWFAST.BETA}; "
            "PyTorchVideo's counterparts are Slowfast-Resnet50 and Slowfast-Resnet101 with BETA 0.125"
        )
    frames, alpha = cfg.INPUT.FRAME_NUM // cfg.INPUT.TAU, cfg.INPUT.ALPHA
    classes = cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES
    if (depth, frames, alpha) == (50, 8, 4):
        return hub.slowfast_r50_detection(model_num_class=classes)
    return builder.create_slowfast_with_roi_head(
        model_depth=depth,
        model_num_class=classes,
        # As in the authors' configurations of these networks; our fusion's kernel, too.
        slowfast_fusion_conv_kernel_size=(5, 1, 1),
        slowfast_fusion_conv_stride=(alpha, 1, 1),
        head_pool_kernel_sizes=((frames, 1, 1), (frames * alpha, 1, 1)),
    )


def _loaded(
    build: Callable[[CfgNode], nn.Module], cfg: CfgNode, weights: dict[str, Tensor], device: torch.device
) -> nn.Module:
    with device:
        model = build(cfg)
    model.load_state_dict(weights)
    return model


def _arithmetic(case: Case, bf16: bool) -> torch.autocast | nullcontext:
    return torch.autocast(case.device.type, dtype=torch.bfloat16) if bf16 else nullcontext()


def _to_testing(model: nn.Module) -> None:
    """Once, as a test does: `eval` makes ours forget its folded weights."""
    if model.training:
        model.eval()


def _step(model: nn.Module, optimizer: Optimizer, loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def step() -> Tensor:
        model.train()
        torch.manual_seed(2)  # the same dropout in every form and round
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        optimizer.step()
        return value.detach()

    return step
