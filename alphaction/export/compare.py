"""Whether an exported file computes what the network computes.

Shapes: N clips, R persons over all clips, K classes, C channels; S, Q: see `interaction`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from alphaction.dataset.collate import pad_clips
from alphaction.export.clips import fitted
from alphaction.export.formats import Compute
from alphaction.export.network import OpenNetwork
from alphaction.modeling.pooler import rois_of
from alphaction.prediction.settings import Network
from alphaction.structures import Boxes, ClipBatch, ClipSample, MemorySpan, MemoryWindow

#: Largest difference that is no error, of scores, and of features as a share of the largest one.
TOLERANCE = 1e-4
_PASSES = 3  # of which the fastest counts
_FILLED = 0.6  # share of the memory's places with a person


@dataclass(frozen=True)
class Difference:
    """How far file and network are apart on one input.

    Attributes:
        clips, persons, objects: how many.
        size: (height, width) with padding, pixels.
        scores: largest difference.
        features: largest difference, as a share of the largest feature.
    """

    clips: int
    persons: int
    objects: int
    size: tuple[int, int]
    scores: float
    features: float

    @property
    def largest(self) -> float:
        return max(self.scores, self.features)


@dataclass(frozen=True)
class Speed:
    """Seconds for one clip with its persons, the fastest of a few passes.

    Attributes:
        size: (height, width) with padding, pixels.
    """

    size: tuple[int, int]
    persons: int
    network: float
    file: float


@torch.inference_mode()
def differences(
    network: Network,
    opened: OpenNetwork,
    compute: Compute,
    samples: Sequence[ClipSample],
    *,
    size: tuple[int, int] | None,
) -> list[Difference]:
    """Compares on one clip with its persons, on one person, on all clips with more persons than are looked at, and on
    nobody.

    Args:
        compute: from `Format.read`.
        samples: each with a person or more.
        size: (height, width) with padding, where the file takes no other.
    """
    first = samples[0]
    crowd = [_crowded(sample, network) for sample in samples]
    alone = replace(first, regions=first.regions[:1], objects=None if first.objects is None else first.objects[:1])
    nobody = replace(first, regions=first.regions[:0], objects=None if first.objects is None else first.objects[:0])
    groups = ([first], [alone], list(samples), crowd, [nobody])
    return [_difference(network, opened, compute, _batch(group, network, size)) for group in groups]


@torch.inference_mode()
def speed(
    network: Network,
    opened: OpenNetwork,
    compute: Compute,
    sample: ClipSample,
    *,
    size: tuple[int, int] | None,
) -> Speed:
    """How long both take for one clip; arguments as of `differences`."""
    batch = _batch([sample], network, size)
    memory = _memory(network, batch, torch.zeros(0, 0))
    inputs = _inputs(opened, batch, memory)
    window = None if memory is None or network.memory is None else _window(memory, network.memory.span)
    works = (lambda: network.postprocess(network.model(batch, window).logits), lambda: compute(inputs))
    # One after the other, so that a busy machine is as busy for both.
    rounds = [[_seconds(work) for work in works] for _ in range(_PASSES)]
    of_network, of_file = (min(times) for times in zip(*rounds, strict=True))
    return Speed(_padded_size(batch), persons=len(sample.regions), network=of_network, file=of_file)


def example(network: Network, opened: OpenNetwork, *, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """An input to record the pass with: two clips of `size`, three persons, five objects, pixels at random."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    frames = {"slow": len(network.sampling.slow_window()), "fast": len(network.sampling.fast_window())}
    boxes = torch.tensor([[0, 3.0, 4.0, 40.0, 30.0], [1, 8.0, 2.0, 60.0, 50.0], [1, 1.0, 1.0, 20.0, 44.0]])
    given = {
        "sizes": torch.tensor([[height, width], [height - 3, width - 5]]),
        "boxes": boxes,
        "objects": torch.cat([boxes, boxes[:2]]),
    }
    for name, count in frames.items():
        given[name] = torch.randint(0, 256, (2, 3, count, height, width), generator=generator).to(opened.pixels)
    if network.memory is not None:
        span = network.memory.span
        given["memory"] = torch.rand(2, span.moments, span.persons, network.memory.channels, generator=generator)
    return tuple(given[name] for name in opened.input_names)


def _difference(network: Network, opened: OpenNetwork, compute: Compute, batch: ClipBatch) -> Difference:
    features = network.model.extract(batch)
    pooled = features.person.flatten(1)
    memory = _memory(network, batch, pooled)
    window = None if memory is None or network.memory is None else _window(memory, network.memory.span)
    scores = network.postprocess(network.model.classify(features, window))
    inputs = _inputs(opened, batch, memory)
    file_scores, file_features = compute(inputs)
    return Difference(
        clips=len(batch),
        persons=len(scores),
        objects=0 if batch.objects is None else sum(map(len, batch.objects)),
        size=_padded_size(batch),
        scores=_apart(file_scores, scores),
        features=_apart(file_features, pooled) / max(1.0, float(pooled.abs().max()) if len(pooled) else 1.0),
    )


def _padded_size(batch: ClipBatch) -> tuple[int, int]:
    clip = batch.slow if batch.slow is not None else batch.fast
    if clip is None:
        raise ValueError("batch: got no clips")
    return int(clip.shape[3]), int(clip.shape[4])


def _apart(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference; infinite for other shapes and for what is no number."""
    if ours.shape != theirs.shape:
        return float("inf")
    if not ours.numel():
        return 0.0
    largest = float((ours - theirs).abs().max())
    return largest if largest == largest else float("inf")


def _batch(samples: Sequence[ClipSample], network: Network, size: tuple[int, int] | None) -> ClipBatch:
    """The samples as one batch, padded to `size` or as the network's configuration says."""
    if size is not None:
        samples = [fitted(sample, size) for sample in samples]

    def padded(name: str) -> Tensor | None:
        clips = [getattr(sample, name) for sample in samples]
        if clips[0] is None:
            return None
        joined = pad_clips(clips, size_divisibility=network.size_divisibility if size is None else 0)
        if size is None:
            return joined
        return torch.nn.functional.pad(joined, (0, size[1] - joined.shape[4], 0, size[0] - joined.shape[3]))

    regions = [sample.regions for sample in samples]
    return ClipBatch(
        slow=padded("slow"),
        fast=padded("fast"),
        sizes=[sample.size for sample in samples],
        persons=regions,
        regions=regions,
        labels=None,
        person_scores=None,
        objects=[sample.objects for sample in samples if sample.objects is not None] if network.max_objects else None,
        keys=[sample.key for sample in samples],
        indices=list(range(len(samples))),
    )


def _crowded(sample: ClipSample, network: Network) -> ClipSample:
    """More persons and objects than the network looks at: the same boxes once more, smaller each time."""
    structure = network.model.head.feature_extractor.ia_structure
    most = 8 if structure is None else max(structure.limits.persons, structure.limits.per_second)
    objects = sample.objects
    if objects is not None:
        objects = _more(objects, network.max_objects + 2)
    return replace(sample, regions=_more(sample.regions, most + 3), objects=objects)


def _more(boxes: Boxes, count: int) -> Boxes:
    rounds = -(-count // len(boxes))
    x1, y1, x2, y2 = boxes.xyxy.unbind(1)
    shares = [1 - 0.7 * i / rounds for i in range(rounds)]
    rows = [torch.stack([x1, y1, x1 + (x2 - x1) * share, y1 + (y2 - y1) * share], dim=1) for share in shares]
    return Boxes(torch.cat(rows)[:count], boxes.size)


def _memory(network: Network, batch: ClipBatch, pooled: Tensor) -> Tensor | None:
    """[N, S, Q, C]: the batch's own persons in other moments, with empty places; None without M blocks."""
    if network.memory is None:
        return None
    span, generator = network.memory.span, torch.Generator().manual_seed(1)
    places = (len(batch), span.moments, span.persons)
    if not len(pooled):
        return torch.zeros(*places, network.memory.channels)
    who = torch.randint(0, len(pooled), places, generator=generator)
    return pooled[who] * (torch.rand(places, generator=generator) < _FILLED).unsqueeze(3)


def _window(memory: Tensor, span: MemorySpan) -> MemoryWindow:
    """What the network takes: the persons that are there, nobody in the clip's own moment."""
    there = memory.any(dim=3)
    there[:, span.before] = False
    counts = there.sum(dim=(1, 2)).tolist()
    rows = memory.new_zeros(len(memory), max(counts), memory.shape[3])
    moments = torch.full(rows.shape[:2], span.moments)
    for clip, count in enumerate(counts):
        rows[clip, :count] = memory[clip][there[clip]]
        moments[clip, :count] = there[clip].nonzero()[:, 0]
    return MemoryWindow(rows, moments, span)


def _inputs(opened: OpenNetwork, batch: ClipBatch, memory: Tensor | None) -> tuple[Tensor, ...]:
    given = {
        "slow": None if batch.slow is None else batch.slow.to(opened.pixels),
        "fast": None if batch.fast is None else batch.fast.to(opened.pixels),
        "sizes": torch.tensor(batch.sizes, dtype=torch.int64),
        "boxes": rois_of(batch.regions),
        "objects": None if batch.objects is None else rois_of(batch.objects),
        "memory": memory,
    }
    chosen = [given[name] for name in opened.input_names]
    return tuple(x for x in chosen if x is not None)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
