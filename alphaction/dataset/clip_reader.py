"""Reads the clips of several samples, those of one video together.

Neighbouring keyframes, as a test has them in a batch, share most of their windows: of each file every needed frame is
decoded once for all of them.

Shapes: T frames of a pathway, h x w pixels of a clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from alphaction.dataset.clip_canvas import PlaneCanvas, RgbCanvas
from alphaction.dataset.sampling import ClipSampling
from alphaction.dataset.transforms import Augmentation, ClipTransform, pathways
from alphaction.dataset.video_cache import shared_cache
from alphaction.dataset.video_io import ClipRequest, VideoSource, place_of, visit_clips
from alphaction.errors import VideoError
from alphaction.structures.planes import ClipPlanes


@dataclass(frozen=True)
class ClipJob:
    """What to read.

    Attributes:
        source: the video.
        key_time: the keyframe, in seconds from the video's first frame.
        augmentation: the numbers drawn for it.
    """

    source: VideoSource
    key_time: float
    augmentation: Augmentation


@dataclass(frozen=True)
class FinishedClip:
    """A clip as the network reads it.

    Attributes:
        slow, fast: uint8 [3, T, h, w]; None for a pathway that is off.
        planes: instead of these, with INPUT.TRANSFORM "device".
        source_size: (height, width) in pixels of the frames before the transform.
    """

    slow: Tensor | None
    fast: Tensor | None
    planes: ClipPlanes | None
    source_size: tuple[int, int]


def read_clips(
    jobs: Sequence[ClipJob], *, sampling: ClipSampling, transform: ClipTransform, on_device: bool = False
) -> list[FinishedClip | Exception]:
    """The clips in the order of `jobs`; for one that cannot be read the VideoError or OSError that says why."""
    videos: dict[str, list[int]] = {}
    for place, job in enumerate(jobs):
        videos.setdefault(place_of(job.source), []).append(place)
    done: dict[int, FinishedClip | Exception] = {}
    for places in videos.values():
        try:
            together = _read([jobs[place] for place in places], sampling, transform, on_device)
            done.update(zip(places, together, strict=True))
        except (VideoError, OSError) as error:
            done.update({places[0]: error} if len(places) == 1 else {})
    for place, job in enumerate(jobs):
        if place not in done:  # something is wrong with one of a video's clips: each on its own
            try:
                done[place] = _read([job], sampling, transform, on_device)[0]
            except (VideoError, OSError) as error:
                done[place] = error
    return [done[place] for place in range(len(jobs))]


def _read(
    jobs: Sequence[ClipJob], sampling: ClipSampling, transform: ClipTransform, on_device: bool
) -> list[FinishedClip]:
    cache = shared_cache()
    fast = sampling.fast_window()
    canvases, requests = [], []
    for job in jobs:
        slow = sampling.slow_window(job.augmentation.slow_shift)
        canvas: RgbCanvas | PlaneCanvas
        if on_device:
            canvas = PlaneCanvas(
                len(slow),
                len(fast),
                resized=transform.resized,
                converter=cache.converter,
                color=job.augmentation.color,
                flip=job.augmentation.flip,
                to_bgr=transform.to_bgr,
            )
        else:
            canvas = RgbCanvas(
                len(slow) + len(fast),
                resized=transform.resized,
                converter=cache.converter,
                color=job.augmentation.color,
                flip=job.augmentation.flip,
                to_bgr=transform.to_bgr,
            )
        positions = np.concatenate([slow, fast])
        canvases.append(canvas)
        requests.append(
            ClipRequest(job.source, job.key_time, positions, sampling.span, sampling.frame_rate, canvas.receive)
        )
    sizes = visit_clips(requests, cache=cache)
    slow_frames = len(sampling.slow_window())
    return [_finished(canvas, slow_frames, size) for canvas, size in zip(canvases, sizes, strict=True)]


def _finished(canvas: RgbCanvas | PlaneCanvas, slow_frames: int, size: tuple[int, int]) -> FinishedClip:
    if isinstance(canvas, PlaneCanvas):
        return FinishedClip(None, None, canvas.clip(), size)
    slow, fast = pathways(canvas.clip(), slow_frames)
    return FinishedClip(slow, fast, None, size)
