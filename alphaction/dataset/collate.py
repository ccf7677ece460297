"""Joins samples to a batch: clips padded at the right and the bottom to one size, everything else in order.

Shapes: N clips, C channels, T frames, h x w pixels of a clip, H x W pixels of the batch, R persons over all clips.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from alphaction.structures.batch import ClipBatch, ClipSample
from alphaction.structures.boxes import Boxes
from alphaction.structures.planes import ClipPlanes


def pad_clips(clips: Sequence[Tensor], *, size_divisibility: int = 0) -> Tensor:
    """One tensor [N, C, T, H, W] of clips [C, t, h, w], each in its upper left corner with zeros beyond.

    T, H, W are the largest of the batch, H and W rounded up to multiples of `size_divisibility` (0: as they are). A
    single clip that needs no padding is not copied.
    """
    if not clips:
        raise ValueError("clips: got none, expected at least one")
    if len({clip.shape[0] for clip in clips}) > 1 or any(clip.ndim != 4 for clip in clips):
        raise ValueError(f"clips: got shapes {[tuple(clip.shape) for clip in clips]}, expected [C, T, h, w] of one C")
    frames = max(clip.shape[1] for clip in clips)
    height, width = _padded([(clip.shape[2], clip.shape[3]) for clip in clips], size_divisibility)
    shape = (len(clips), clips[0].shape[0], frames, height, width)
    shared = _shared(shape, like=clips[0])
    if shared is None and all(clip.shape == shape[1:] for clip in clips):  # nothing to pad
        return clips[0].unsqueeze(0) if len(clips) == 1 else torch.stack(list(clips))
    batch = clips[0].new_zeros(shape) if shared is None else shared
    for row, clip in zip(batch, clips, strict=True):
        row[:, : clip.shape[1], : clip.shape[2], : clip.shape[3]] = clip
    return batch


def join_planes(clips: Sequence[ClipPlanes], *, size_divisibility: int = 0) -> ClipPlanes:
    """The planes of all clips in one tensor, to be padded as `pad_clips` does; one clip alone is not copied."""
    data = [clip.data for clip in clips]
    shared = _shared((sum(map(len, data)),), like=data[0])
    joined = data[0] if shared is None and len(data) == 1 else torch.cat(data, out=shared)
    layouts = [layout for clip in clips for layout in clip.layouts]
    return ClipPlanes(joined, layouts, _padded([layout.size for layout in layouts], size_divisibility))


def _padded(sizes: Sequence[tuple[int, int]], divisibility: int) -> tuple[int, int]:
    """(height, width) that clips of `sizes` fit in."""
    step = max(divisibility, 1)
    height, width = (-(-max(size[axis] for size in sizes) // step) * step for axis in (0, 1))
    return height, width


def _shared(shape: tuple[int, ...], *, like: Tensor) -> Tensor | None:
    """In a loader's worker zeros in memory that the main process shares, or the batch would be copied there once more.

    The way of torch's own `default_collate`, which cannot pad. None in the main process.
    """
    if get_worker_info() is None:
        return None
    storage = like._typed_storage()._new_shared(math.prod(shape), device=like.device)
    return like.new(storage).resize_(shape)  # a new file of the system's shared memory holds zeros


def collate(items: Sequence[ClipSample | None], size_divisibility: int = 0) -> ClipBatch | None:
    """The batch of samples; samples that could not be read (None) are left out.

    Args:
        items: as the dataset gives them, in the order of the batch.
        size_divisibility: the padded height and width are multiples of it (DATALOADER.SIZE_DIVISIBILITY).

    Returns:
        None when no sample is left.
    """
    samples = [item for item in items if item is not None]
    if not samples:
        return None
    for name in ("slow", "fast", "planes", "labels"):
        given = [getattr(sample, name) is not None for sample in samples]
        if any(given) != all(given):
            keys = [sample.key for sample, has in zip(samples, given, strict=True) if not has]
            raise ValueError(f"{name}: missing in {keys}, present in the other samples of the batch")

    def padded(name: str) -> Tensor | None:
        clips = [getattr(sample, name) for sample in samples]
        return None if clips[0] is None else pad_clips(clips, size_divisibility=size_divisibility)

    labels = [sample.labels for sample in samples if sample.labels is not None]
    planes = [sample.planes for sample in samples if sample.planes is not None]
    persons, regions = [sample.persons for sample in samples], [sample.regions for sample in samples]
    objects, annotated = _objects(samples), _annotated(samples)
    joined = _joined([*persons, *regions, *(objects or ()), *(annotated or ())])
    return ClipBatch(
        slow=padded("slow"),
        fast=padded("fast"),
        sizes=[sample.size for sample in samples],
        persons=joined(persons),
        regions=joined(regions),
        labels=torch.cat(labels) if labels else None,
        person_scores=_scores(samples),
        objects=None if objects is None else joined(objects),
        keys=[sample.key for sample in samples],
        indices=[sample.index for sample in samples],
        annotated=None if annotated is None else joined(annotated),
        planes=join_planes(planes, size_divisibility=size_divisibility) if planes else None,
    )


def _joined(boxes: Iterable[Boxes]) -> Callable[[Sequence[Boxes]], list[Boxes]]:
    """Looks up boxes as views of one tensor: each tensor of a worker is an open file, and of those there are few."""
    every = {id(clip): clip for clip in boxes}
    rows = torch.cat([clip.xyxy for clip in every.values()]).split([len(clip) for clip in every.values()])
    views = {key: Boxes(part, clip.size) for (key, clip), part in zip(every.items(), rows, strict=True)}
    return lambda clips: [views[id(clip)] for clip in clips]


def _scores(samples: Sequence[ClipSample]) -> Tensor | None:
    """float32 [R], 1 for annotated boxes next to detected ones; None when all are annotated."""
    if all(sample.person_scores is None for sample in samples):
        return None
    return torch.cat([torch.ones(len(s.persons)) if s.person_scores is None else s.person_scores for s in samples])


def _objects(samples: Sequence[ClipSample]) -> list[Boxes] | None:
    """Object boxes per clip, none for a clip of a set without objects; None when no clip has any to give."""
    if all(sample.objects is None for sample in samples):
        return None
    return [Boxes(torch.zeros(0, 4), s.size) if s.objects is None else s.objects for s in samples]


def _annotated(samples: Sequence[ClipSample]) -> list[Boxes] | None:
    """All annotated persons per clip; None when `persons` are all of them in every clip."""
    if all(sample.annotated is None for sample in samples):
        return None
    return [s.persons if s.annotated is None else s.annotated for s in samples]
