"""Clips for tests, by the way that training takes: frames put into the canvas, or clips read from files."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from alphaction.dataset.clip_canvas import RgbCanvas
from alphaction.dataset.clip_reader import ClipJob, FinishedClip, read_clips
from alphaction.dataset.sampling import ClipSampling
from alphaction.dataset.transforms import Augmentation, ClipTransform, pathways, transform_boxes
from alphaction.dataset.video_io import VideoSource
from alphaction.structures.boxes import Boxes


class _AsDecoded(ClipTransform):
    """Frames keep their size."""

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        return size


AS_DECODED = _AsDecoded(min_size=1, max_size=1)


class Transformed(NamedTuple):
    """Pathways uint8 [3, T, h, w] and boxes in pixels of them."""

    slow: Tensor | None
    fast: Tensor | None
    persons: Boxes
    objects: Boxes | None


def transformed(
    slow: np.ndarray | None,
    fast: np.ndarray | None,
    *,
    persons: Boxes,
    transform: ClipTransform,
    objects: Boxes | None = None,
    augmentation: Augmentation | None = None,
) -> Transformed:
    """Frames uint8 [T, H, W, 3] RGB through the canvas, and their boxes moved along."""
    augmentation = Augmentation() if augmentation is None else augmentation
    frames = [image for given in (slow, fast) if given is not None for image in given]
    canvas = RgbCanvas(
        len(frames),
        resized=transform.resized,
        color=augmentation.color,
        flip=augmentation.flip,
        to_bgr=transform.to_bgr,
    )
    for place, image in enumerate(frames):
        canvas.put(np.array([place]), image)
    clips = pathways(canvas.clip(), 0 if slow is None else len(slow))
    return Transformed(*clips, *transform_boxes(persons, objects, transform=transform, flip=augmentation.flip))


def read_one(
    source: VideoSource,
    key_time: float,
    sampling: ClipSampling,
    *,
    transform: ClipTransform = AS_DECODED,
    slow_shift: int = 0,
) -> FinishedClip:
    """The clip of one keyframe; raises what `read_clips` found wrong with it."""
    job = ClipJob(source, key_time, Augmentation(slow_shift=slow_shift))
    [clip] = read_clips([job], sampling=sampling, transform=transform)
    if isinstance(clip, Exception):
        raise clip
    return clip


def frames_of(pathway: Tensor) -> np.ndarray:
    """uint8 [T, h, w, 3] of a pathway uint8 [3, T, h, w]."""
    return pathway.permute(1, 2, 3, 0).contiguous().numpy()
