"""Runs a model over a data set: in one pass, or in two where persons are classified with the memory of all others.

Of several processes each predicts its share of the keyframes; `gathered` puts the shares together.

Shapes: N keyframes, P predicted persons, R persons of a batch, K classes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from alphaction.engine.memory import PersonMemory
from alphaction.modeling.detector import ActionDetector
from alphaction.structures import Boxes, ClipBatch, Predictions, RoiFeatures
from alphaction.utils.distributed import ALONE, Processes
from alphaction.utils.stop import Interrupted
from alphaction.utils.watch import note

logger = logging.getLogger(__name__)

T = TypeVar("T")

_END: Any = object()

#: Clips that the second pass classifies at once: it takes features, not frames.
CLIPS_AT_ONCE = 64


def predict(
    model: ActionDetector,
    loader: Iterable[ClipBatch | None],
    postprocess: Callable[[Tensor], Tensor],
    device: torch.device | str,
    *,
    finds_persons: bool = False,
    progress: bool = True,
    processes: Processes = ALONE,
    should_stop: Callable[[], int] | None = None,
) -> Predictions:
    """Scores of all persons that the loader brings, in the order of the keyframes, whatever the order of the batches.

    Args:
        model: without `finds_persons` anything that returns a `DetectorOutput` for a `ClipBatch` will do. Each of its
            modules is in the mode it was in afterwards.
        loader: yields batches; None = no clip of the batch was readable. A clip that comes twice counts once.
        postprocess: logits [R, K] -> scores [R, K] in 0..1.
        device: where the model is.
        finds_persons: the model's person head says where the persons are, not the batches.
        progress: shows a bar on a terminal.
        processes: all of which call this, each with a loader of its share. An error of one is raised in all.
        should_stop: asked before every batch: number of the signal that asks this process to stop, 0 = none.

    Returns:
        Of this process's share.

    Raises:
        Interrupted: in all processes, if any was asked to stop.
    """

    def begun(batch: ClipBatch | None) -> Callable[[], Predictions] | None:
        if batch is not None and finds_persons:
            found, features = model.find_persons(batch.to(device, non_blocking=True))
            return _begun(found, postprocess(model.classify(features))) if found.num_persons else None
        if batch is not None and batch.num_persons:
            return _begun(batch, postprocess(model(batch.to(device, non_blocking=True)).logits))
        return None

    with _evaluating(model), torch.inference_mode(), _in_step(processes):
        batches = _batches(loader, "test", shown=progress and processes.is_main, should_stop=should_stop)
        return merge_predictions(list(_one_late(map(begun, batches))))


def predict_with_memory(
    model: ActionDetector,
    loader: Iterable[ClipBatch | None],
    postprocess: Callable[[Tensor], Tensor],
    device: torch.device | str,
    *,
    memory: PersonMemory,
    clips_at_once: int = CLIPS_AT_ONCE,
    finds_persons: bool = False,
    progress: bool = True,
    processes: Processes = ALONE,
    should_stop: Callable[[], int] | None = None,
) -> Predictions:
    """`predict` for a model with M blocks: features of all clips first, which fill the memory, then their classes.

    Features wait in main memory: 4 bytes times the feature's width for each person and object, and once more for each
    person in the memory.

    Args:
        memory: an empty one, which gathers over `processes`.
        clips_at_once: how many clips the second pass takes at a time.
        finds_persons, progress, processes, should_stop: as in `predict`.
    """
    shown = progress and processes.is_main

    def extracted(batch: ClipBatch | None) -> Callable[[], _Seen] | None:
        if batch is None or not (batch.num_persons or finds_persons):
            return None
        moved = batch.to(device, non_blocking=True)
        if not finds_persons:
            return _begun_features(batch, model.extract(moved))
        batch, features = model.find_persons(moved)
        return _begun_features(batch, features) if batch.num_persons else None

    def classified(group: Sequence[_Seen]) -> Callable[[], Predictions]:
        window = memory.window([key for one in group for key in one.batch.keys])
        scores = _copying(postprocess(model.classify(_moved(_joined(group), device), window)))
        counts = [one.batch.num_persons for one in group]
        return lambda: merge_predictions(
            [_batch_predictions(one.batch, part) for one, part in zip(group, scores().split(counts), strict=True)]
        )

    with _evaluating(model), torch.inference_mode():
        with _in_step(processes):
            batches = _batches(loader, "features", shown=shown, should_stop=should_stop)
            seen = list(_one_late(map(extracted, batches)))
        _remember(memory, seen, processes)
        with _in_step(processes):
            groups = _batches(_groups(seen, clips_at_once), "classes", shown=shown, should_stop=should_stop)
            return merge_predictions(list(_one_late(map(classified, groups))))


def gathered(predictions: Predictions, processes: Processes) -> Predictions:
    """The shares of all processes, in order, in process 0; nothing in the others."""
    if processes.size == 1:
        return predictions
    # A share without any person does not know the number of classes.
    return merge_predictions([part for part in processes.to_main(predictions) if len(part)])


@contextmanager
def _in_step(processes: Processes) -> Iterator[None]:
    """Every process does its share in the block; all leave it together, with an error if any of them has one."""
    error = None
    try:
        yield
    except Exception as raised:  # the others wait at the end of the block, or will
        if processes.size == 1:
            raise
        error = raised
    processes.raise_first(error)


def _remember(memory: PersonMemory, seen: Sequence[_Seen], processes: Processes) -> None:
    """Puts the persons of all processes into the memory. Shares differ: all take part as often as the largest needs."""
    for i in range(max(processes.gather(len(seen)))):
        batch, features = seen[i] if i < len(seen) else (None, None)
        memory.update(batch, features, loss=0.0)


class _Seen(NamedTuple):
    """A batch after the first pass."""

    batch: ClipBatch  # without frames
    features: RoiFeatures


def _groups(seen: Sequence[_Seen], clips: int) -> list[list[_Seen]]:
    """Successive batches together, up to so many clips (or one batch with more)."""
    groups: list[list[_Seen]] = []
    room = 0
    for one in seen:
        if len(one.batch) > room:
            groups.append([])
            room = max(clips, len(one.batch))
        groups[-1].append(one)
        room -= len(one.batch)
    return groups


def _joined(group: Sequence[_Seen]) -> RoiFeatures:
    features = [one.features for one in group]
    objects = [one.object for one in features if one.object is not None]
    return RoiFeatures(
        person=torch.cat([one.person for one in features]),
        person_counts=[count for one in features for count in one.person_counts],
        object=torch.cat(objects) if objects else None,
        object_counts=[count for one in features for count in one.object_counts or ()] if objects else None,
    )


def _moved(features: RoiFeatures, device: torch.device | str) -> RoiFeatures:
    """float32 on `device`."""
    objects = features.object
    return replace(
        features,
        person=features.person.to(device, torch.float32),
        object=None if objects is None else objects.to(device, torch.float32),
    )


def _one_late(begun: Iterable[Callable[[], T] | None]) -> Iterator[T]:
    """What each of the functions returns, called when the next one is there: so a GPU need not wait for its copies."""
    last: Callable[[], T] | None = None
    for finish in begun:
        if last is not None:
            yield last()
        last = finish
    if last is not None:
        yield last()


def _begun(batch: ClipBatch, scores: Tensor) -> Callable[[], Predictions]:
    copied = _copying(scores)
    batch = batch.without_frames()
    return lambda: _batch_predictions(batch, copied())


def _begun_features(batch: ClipBatch, features: RoiFeatures) -> Callable[[], _Seen]:
    person = _copying(features.person)
    objects = None if features.object is None else _copying(features.object)
    kept = _begun_boxes(batch.without_frames())
    return lambda: _Seen(kept(), replace(features, person=person(), object=None if objects is None else objects()))


def _begun_boxes(batch: ClipBatch) -> Callable[[], ClipBatch]:
    """The batch with its persons in main memory: the person head found them on the device. Features need no others.

    In memory of their own: that of a batch from a loader's process is an open file, and of those there are too few for
    the batches of a whole pass.
    """
    boxes = [_copying(one.xyxy.clone()) for one in batch.persons]
    scores = None if batch.person_scores is None else _copying(batch.person_scores.clone())
    sizes = [one.size for one in batch.persons]
    batch = replace(batch, persons=(), regions=(), objects=None, person_scores=None, labels=None, annotated=None)
    return lambda: replace(
        batch,
        persons=[Boxes(one(), size) for one, size in zip(boxes, sizes, strict=True)],
        person_scores=None if scores is None else scores(),
    )


def _copying(x: Tensor) -> Callable[[], Tensor]:
    """Begins to copy a tensor to main memory; the function that is returned waits for it, and gives float32."""
    on_gpu = x.device.type == "cuda"
    if not on_gpu:
        return lambda: x.to("cpu", torch.float32)
    copy = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    copy.copy_(x, non_blocking=True)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(x.device))

    def finish() -> Tensor:
        done.synchronize()
        return copy.to(torch.float32, copy=True)  # what is pinned is scarce, and used again

    return finish


def _batches(items: Iterable[T], text: str, *, shown: bool, should_stop: Callable[[], int] | None) -> Iterator[T]:
    """The items, with a bar on a terminal and a note for the other processes.

    Raises:
        Interrupted: this process is asked to stop.
    """
    note(f"{text}: batch 1")
    bar = iter(tqdm(items, desc=text, unit="batch", disable=None if shown else True, leave=False))
    number, waited, begun = 0, 0.0, time.perf_counter()
    while True:
        asked = time.perf_counter()
        item = next(bar, _END)
        waited += time.perf_counter() - asked
        if item is _END:
            break
        number += 1
        signal = 0 if should_stop is None else should_stop()
        if signal:
            raise Interrupted(f"asked to stop during the test ({text}, batch {number})", signal=signal)
        yield item
        note(f"{text}: batch {number + 1}")
    seconds = time.perf_counter() - begun
    if shown and number:
        share = 100 * waited / max(seconds, 1e-9)
        logger.info("%s: %d batches in %.1f s, %.0f %% of it waiting for data", text, number, seconds, share)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block; module by module, for some are frozen while others train."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        model.eval()  # lets go of the folded weights: those of the averaged model would stay for the whole training
        for module, mode in modes:
            module.training = mode


def _batch_predictions(batch: ClipBatch, scores: Tensor) -> Predictions:
    counts = [len(boxes) for boxes in batch.persons]
    sizes = np.array([boxes.size for boxes in batch.persons], np.int32).reshape(-1, 2)
    confidence = np.ones(len(scores), np.float32)
    if batch.person_scores is not None:
        confidence = batch.person_scores.float().cpu().numpy()
    return Predictions(
        keyframe=np.repeat(np.asarray(batch.indices, np.int64), counts),
        boxes=torch.cat([boxes.xyxy for boxes in batch.persons]).float().cpu().numpy(),
        clip_size=np.repeat(sizes, counts, axis=0),
        box_scores=confidence,
        scores=scores.float().cpu().numpy(),
    )


def merge_predictions(parts: Sequence[Predictions], *, num_classes: int = 0) -> Predictions:
    """One `Predictions` of many, ascending by keyframe; of a keyframe in several parts the first part counts.

    Args:
        parts: of batches, or of processes (whose sampler may repeat clips to make equal shares).
        num_classes: K of the result when there is no part.
    """
    if not parts:
        shapes = {"keyframe": (0, np.int64), "box_scores": (0, np.float32)}
        pairs = {
            "boxes": ((0, 4), np.float32),
            "clip_size": ((0, 2), np.int32),
            "scores": ((0, num_classes), np.float32),
        }
        return Predictions(**{name: np.zeros(*args) for name, args in (shapes | pairs).items()})
    keyframe = np.concatenate([part.keyframe for part in parts])
    origin = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = np.argsort(keyframe, kind="stable")
    frames, first = np.unique(keyframe[order], return_index=True)
    chosen = origin[order][first]
    order = order[origin[order] == chosen[np.searchsorted(frames, keyframe[order])]]
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])[order]
        for name in ("keyframe", "boxes", "clip_size", "box_scores", "scores")
    }
    return Predictions(**joined)
