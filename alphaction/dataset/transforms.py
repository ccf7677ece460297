"""From decoded frames to the network's clip: resize, colour jitter, mirror, channel order; all boxes move along.

Pure functions on numbers that were drawn beforehand (`Augmentation`), so that one draw can never be applied to the
frames and lost for the boxes, and a recorded draw can be replayed. Frames stay uint8; they are normalised on the device
(`structures.batch.normalize_clips`).

Shapes: T frames of a pathway, H x W pixels as decoded, h x w pixels resized, n persons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from alphaction.dataset.sampling import slow_shift_range
from alphaction.structures.boxes import Boxes

# How far the edges of a training region move, as fractions of the box's (width, height); as the released weights.
JITTER_OUTWARDS = (0.2, 0.1)
JITTER_INWARDS = (0.1, 0.05)


@dataclass(frozen=True)
class Augmentation:
    """The random numbers of one clip; the default changes nothing.

    Attributes:
        color: added to (hue in units of 2 degrees, saturation 0..255, value 0..255); None leaves the colours alone.
            (0, 0, 0) is not None: the way through 8-bit HSV and back rounds.
        flip: mirror left to right.
        slow_shift: move of the slow pathway in sampled frames (`sampling.slow_positions`); used when reading.
        person_rows: int64, persons kept of a crowded clip; None keeps all.
        jitter: float32 [n, 4] in [0, 1), for `Boxes.jitter` of the kept persons; None leaves regions alone.
    """

    color: tuple[int, int, int] | None = None
    flip: bool = False
    slow_shift: int = 0
    person_rows: np.ndarray | None = None
    jitter: np.ndarray | None = None


@dataclass(frozen=True)
class AugmentationPolicy:
    """What is drawn for a training clip, and from which range.

    Attributes:
        color_jitter: whether colours are changed (INPUT.COLOR_JITTER).
        hue_jitter: largest change of hue in degrees (INPUT.HUE_JITTER).
        sat_jitter, val_jitter: largest change of saturation and value as a fraction of their range (INPUT.SAT_JITTER).
        flip_prob: probability of mirroring.
        slow_jitter: whether the slow pathway moves in time (INPUT.SLOW_JITTER).
        tau: sampled frames per slow frame (INPUT.TAU).
        box_jitter: whether training regions differ from the annotated boxes.
        max_persons: persons kept of a clip, a random choice where there are more (PROPOSAL_PER_CLIP).
    """

    color_jitter: bool
    slow_jitter: bool
    tau: int
    hue_jitter: float = 20.0
    sat_jitter: float = 0.1
    val_jitter: float = 0.1
    flip_prob: float = 0.5
    box_jitter: bool = True
    max_persons: int | None = None

    @property
    def color_bounds(self) -> tuple[int, int, int]:
        """Largest change of hue (units of 2 degrees), saturation and value (0..255)."""
        return round(self.hue_jitter / 2), round(self.sat_jitter * 255), round(self.val_jitter * 255)


@dataclass(frozen=True)
class ClipTransform:
    """The fixed part of the transform.

    Attributes:
        min_size: the short side after resizing, pixels (INPUT.MIN_SIZE_*).
        max_size: limit of the long side, pixels (INPUT.MAX_SIZE_*).
        to_bgr: blue first (INPUT.TO_BGR). The normalisation constants are not reordered, as in the original.
        swap_size: exchange width and height of a clip whose short side fits already, as the original does by mistake
            (QUIRKS.SWAP_CLIP_SIZE).
        flip_objects: mirror the object boxes with the clip; False leaves them where they were, as the original does by
            mistake (QUIRKS.KEEP_OBJECTS_UNFLIPPED).
    """

    min_size: int
    max_size: int
    to_bgr: bool = False
    swap_size: bool = False
    flip_objects: bool = True

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of a clip from frames of `size`, see `resized_size`."""
        return resized_size(size, min_size=self.min_size, max_size=self.max_size, swap_size=self.swap_size)


def draw_augmentation(rng: np.random.Generator, policy: AugmentationPolicy, *, num_persons: int = 0) -> Augmentation:
    """Draws the numbers of one training clip.

    Everything is drawn in a fixed order whether the policy uses it or not: switching one kind of augmentation off
    leaves the draws of the others as they were.

    Args:
        rng: made from (seed, epoch, sample) alone, so that results do not depend on the number of workers.
        num_persons: boxes of the clip before the choice.
    """
    hue, saturation, value = (int(rng.integers(-bound, bound + 1)) for bound in policy.color_bounds)
    flip = bool(rng.random() < policy.flip_prob)
    low, high = slow_shift_range(policy.tau)
    slow_shift = int(rng.integers(low, high + 1))
    rows = None
    if policy.max_persons is not None and num_persons > policy.max_persons:
        rows = np.sort(rng.permutation(num_persons)[: policy.max_persons])
    kept = num_persons if rows is None else len(rows)
    jitter = rng.random((kept, 4), dtype=np.float32)
    return Augmentation(
        color=(hue, saturation, value) if policy.color_jitter else None,
        flip=flip,
        slow_shift=slow_shift if policy.slow_jitter else 0,
        person_rows=rows,
        jitter=jitter if policy.box_jitter else None,
    )


def resized_size(size: tuple[int, int], *, min_size: int, max_size: int, swap_size: bool = False) -> tuple[int, int]:
    """(height, width) in pixels after resizing a clip of `size` (height, width).

    The short side becomes `min_size`, or less where the long side would pass `max_size`. The long side is cut to whole
    pixels, so it may end one pixel below the limit (QUIRKS 3: kept).
    """
    height, width = size
    short, long = min(size), max(size)
    target = min_size
    if long / short * target > max_size:
        target = round(max_size * short / long)
    target = max(target, 1)
    if short == target:
        return (width, height) if swap_size else (height, width)
    if width < height:
        return int(target * height / width), target
    return target, int(target * width / height)


def transform_boxes(
    persons: Boxes, objects: Boxes | None, *, transform: ClipTransform, flip: bool
) -> tuple[Boxes, Boxes | None]:
    """Persons and objects, in pixels of the decoded frames, moved as the frames are."""
    size = transform.resized(persons.size)
    persons = persons.resize(size)
    objects = None if objects is None else objects.resize(size)
    if flip:
        persons = persons.hflip()
        objects = objects.hflip() if objects is not None and transform.flip_objects else objects
    return persons, objects


def pathways(clip: Tensor, slow_frames: int) -> tuple[Tensor | None, Tensor | None]:
    """Slow and fast pathway of a clip [3, T_slow + T_fast, h, w]; None for one without frames. Nothing is copied."""
    slow, fast = clip[:, :slow_frames], clip[:, slow_frames:]
    return slow if slow.shape[1] else None, fast if fast.shape[1] else None


def jittered_regions(persons: Boxes, augmentation: Augmentation) -> Boxes:
    """The regions that features are pooled from in training: every edge of a person's box moved at random."""
    if augmentation.jitter is None:
        return persons
    return persons.jitter(torch.from_numpy(augmentation.jitter), outwards=JITTER_OUTWARDS, inwards=JITTER_INWARDS)


def enlarged_regions(persons: Boxes, extend_scale: tuple[float, float]) -> Boxes:
    """The regions in testing: boxes enlarged by a fraction of their width and height (TEST.EXTEND_SCALE)."""
    return persons.extend(extend_scale)
