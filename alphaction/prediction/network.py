"""From clips to features, and from features to scores: the two halves of the network, with the memory between them.

A clip's persons can be classified only when the moments are known that its memory looks at. In a file these lie before
and behind it: features wait until the last of them has come. In a stream nothing lies behind. Either way only as many
features are kept as a memory shows, however long the video.

Shapes: n persons of a clip, R persons over all clips, C channels, K classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from alphaction.dataset.collate import collate
from alphaction.dataset.transforms import enlarged_regions
from alphaction.prediction.boxes.persons import Seen
from alphaction.prediction.settings import MemorySettings, Network
from alphaction.structures import Boxes, ClipBatch, ClipKey, ClipSample, FeatureMemory, MemoryWindow, RoiFeatures
from alphaction.structures.memory_window import random_ones

#: Clips that are classified at once: features, not frames.
_CLIPS_AT_ONCE = 64
_VIDEO = ""  # the memory's name for the one video of a run


class Clip(NamedTuple):
    """A moment before the network.

    Attributes:
        time: seconds.
        slow, fast: uint8 [3, T, h, w]; None for a pathway that is off.
        seen: its persons; None: the network's person head shall find them.
    """

    time: float
    slow: Tensor | None
    fast: Tensor | None
    seen: Seen | None


@dataclass(frozen=True)
class Sight:
    """A moment between the halves.

    Attributes:
        time: seconds.
        boxes: float32 [n, 4], pixels of the displayed frame.
        scores: float32 [n], of the boxes.
        tracks: int64 [n] where the boxes' file tells them, else None.
        person: features [n, C] on the CPU.
        object: features of the clip's objects on the CPU; None for a network that does not look at any.
    """

    time: float
    boxes: np.ndarray
    scores: np.ndarray
    tracks: np.ndarray | None
    person: Tensor
    object: Tensor | None = None


@torch.inference_mode()
def extract(network: Network, clips: Sequence[Clip], *, size: tuple[int, int], min_score: float) -> list[Sight]:
    """Features of the clips' persons; a clip without persons costs nothing, unless the person head has to look.

    Args:
        size: (height, width) of the frames that boxes belong to.
        min_score: of persons from the person head.
    """
    sights = [_nobody(clip) for clip in clips]
    asked = [i for i, clip in enumerate(clips) if clip.seen is None or len(clip.seen.boxes)]
    if not asked:
        return sights
    batch = collate([_sample(network, clips[i], i, size) for i in asked], network.size_divisibility)
    if batch is None:
        raise ValueError("clips: got a batch without clips")
    batch = batch.to(network.device)
    given = clips[asked[0]].seen is not None
    if given:
        features = network.model.extract(batch)
    else:
        batch, features = network.model.find_persons(batch)
    for i, sight in zip(asked, _sights(batch, features, size), strict=True):
        seen = clips[i].seen
        if seen is not None:  # as they were given, without the way to the clip's pixels and back
            sight = replace(sight, boxes=seen.boxes, scores=seen.scores, tracks=seen.tracks)
        sights[i] = sight if given else _of_score(sight, min_score)
    return sights


class Classifier:
    """Classifies sights, in their order, as soon as their memory is complete.

    Args:
        looks_ahead: whether later moments belong to the memory (a file), or not (a stream).
    """

    def __init__(self, network: Network, *, looks_ahead: bool) -> None:
        self._network = network
        self._memory = None if network.memory is None else _Memory(network.memory, network.device)
        self._looks_ahead = looks_ahead
        self._waiting: deque[Sight] = deque()

    @property
    def num_remembered(self) -> int:
        """Persons in the memory."""
        return 0 if self._memory is None else self._memory.store.num_persons

    def put(self, sight: Sight) -> None:
        """The next moment."""
        self._waiting.append(sight)
        if self._memory is not None:
            self._memory.put(sight)

    def classified(self, *, last: bool = False) -> Iterator[tuple[Sight, np.ndarray]]:
        """The moments that are ready, each with its scores, float32 [n, K].

        Args:
            last: no moment will follow.
        """
        while self._waiting:
            group: list[Sight] = []
            while self._waiting and len(group) < _CLIPS_AT_ONCE and (last or self._is_ready(self._waiting[0])):
                group.append(self._waiting.popleft())
            if not group:
                return
            yield from zip(group, self._scores(group), strict=True)
            if self._memory is not None:
                self._memory.forget_before((self._waiting[0] if self._waiting else group[-1]).time)

    def _is_ready(self, sight: Sight) -> bool:
        return self._memory is None or not self._looks_ahead or self._memory.is_complete(sight.time)

    @torch.inference_mode()
    def _scores(self, group: Sequence[Sight]) -> list[np.ndarray]:
        shown = [sight for sight in group if len(sight.boxes)]
        nothing = np.zeros((0, len(self._network.classes)), np.float32)
        if not shown:
            return [nothing] * len(group)
        device, counts = self._network.device, [len(sight.boxes) for sight in shown]
        objects = [sight.object for sight in shown if sight.object is not None]
        features = RoiFeatures(
            person=_pooled([sight.person for sight in shown], device),
            person_counts=counts,
            object=_pooled(objects, device) if objects else None,
            object_counts=[len(rows) for rows in objects] if objects else None,
        )
        window = None if self._memory is None else self._memory.window([sight.time for sight in shown])
        scores = self._network.postprocess(self._network.model.classify(features, window)).float().cpu()
        parts = iter(part.numpy() for part in scores.split(counts))
        return [next(parts) if len(sight.boxes) else nothing for sight in group]


class _Memory:
    """The persons of the moments that are or will be looked at."""

    def __init__(self, settings: MemorySettings, device: torch.device) -> None:
        self.store = FeatureMemory(settings.channels, step=settings.step)
        self._settings = settings
        self._device = device
        self._kept: deque[float] = deque()
        self._newest = -1.0

    def put(self, sight: Sight) -> None:
        self._newest = sight.time
        if len(sight.boxes):
            self.store.put([(_VIDEO, sight.time)], sight.person, [len(sight.boxes)])
            self._kept.append(sight.time)

    def is_complete(self, time: float) -> bool:
        """Whether no later moment can belong to the memory around `time`."""
        span = self._settings.span
        return self.store.slot(self._newest) > self.store.slot(time) + span.after * span.rate

    def window(self, times: Sequence[float]) -> MemoryWindow:
        choose = random_ones if self._settings.random_choice else None
        keys = [(_VIDEO, time) for time in times]
        return self.store.window(keys, self._settings.span, choose=choose, device=self._device)

    def forget_before(self, time: float) -> None:
        """Lets go of what no memory around `time` or later shows."""
        span = self._settings.span
        first = self.store.slot(time) - span.before * span.rate
        while self._kept and self.store.slot(self._kept[0]) < first:
            key = (_VIDEO, self._kept.popleft())
            self.store.put([key], torch.zeros(0, self.store.channels), [0])


def _sample(network: Network, clip: Clip, index: int, size: tuple[int, int]) -> ClipSample:
    frames = clip.slow if clip.slow is not None else clip.fast
    if frames is None:
        raise ValueError("clip: got no frames, expected those of one pathway at least")
    seen = clip.seen or Seen()
    inside = (int(frames.shape[2]), int(frames.shape[3]))
    persons = Boxes(torch.from_numpy(seen.boxes), size).resize(inside)
    objects = None
    if network.max_objects:
        objects = Boxes(torch.from_numpy(seen.objects), size).resize(inside)
        objects = objects[objects.top_k(network.max_objects, torch.from_numpy(seen.object_scores))]
    return ClipSample(
        slow=clip.slow,
        fast=clip.fast,
        persons=persons,
        regions=enlarged_regions(persons, network.extend_scale),
        labels=None,
        person_scores=torch.from_numpy(seen.scores),
        objects=objects,
        key=ClipKey(_VIDEO, clip.time),
        index=index,
    )


def _nobody(clip: Clip) -> Sight:
    empty = Seen()
    return Sight(clip.time, empty.boxes, empty.scores, None, torch.zeros(0, 0))


def _sights(batch: ClipBatch, features: RoiFeatures, size: tuple[int, int]) -> Iterator[Sight]:
    """The batch's clips one by one, on the CPU, boxes in a picture of `size`."""
    counts = list(features.person_counts)
    persons = features.person.flatten(1).float().cpu().split(counts)
    scores = torch.ones(sum(counts)) if batch.person_scores is None else batch.person_scores.float().cpu()
    objects: Sequence[Tensor | None] = [None] * len(batch)
    if features.object is not None and features.object_counts is not None:
        objects = features.object.flatten(1).float().cpu().split(list(features.object_counts))
    rows = zip(batch.keys, batch.persons, scores.split(counts), persons, objects, strict=True)
    for key, boxes, score, person, things in rows:
        yield Sight(key.time, boxes.to("cpu").resize(size).xyxy.numpy(), score.numpy(), None, person, things)


def _of_score(sight: Sight, min_score: float) -> Sight:
    keep = sight.scores >= min_score
    rows = torch.from_numpy(np.flatnonzero(keep))
    return replace(sight, boxes=sight.boxes[keep], scores=sight.scores[keep], person=sight.person[rows])


def _pooled(rows: Sequence[Tensor], device: torch.device) -> Tensor:
    """[R, C, 1, 1, 1] on the device."""
    return torch.cat(list(rows)).to(device)[:, :, None, None, None]
