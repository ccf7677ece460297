"""What travels from the dataset to the model.

Shapes: N clips, T frames of a pathway, H x W pixels (padded), R persons over all clips, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from alphaction.structures.annotations import ClipKey
from alphaction.structures.boxes import Boxes
from alphaction.structures.planes import ClipPlanes


@dataclass(frozen=True)
class ClipSample:
    """One clip around a keyframe, resized and augmented, not yet normalised.

    Attributes:
        slow: uint8 [3, T_slow, h, w], RGB (BGR with INPUT.TO_BGR); None when the pathway is off.
        fast: uint8 [3, T_fast, h, w]; None when the pathway is off.
        persons: the boxes that are reported: annotated ones in training, detected or annotated in testing.
        regions: the boxes that features are pooled from, same order: jittered in training, enlarged in testing.
        labels: bool [r, K]; None where persons are detections.
        person_scores: float32 [r] detector confidence; None for annotated boxes.
        objects: object boxes with the highest scores; None when the model does not use objects.
        key: video and keyframe time.
        index: position of the keyframe in the data set's `annotations`.
        annotated: in training, where `persons` are a choice of the annotated ones, all of them; else None.
        planes: with INPUT.TRANSFORM "device" the clip as it was decoded, one clip with its padding being its own size;
            `slow` and `fast` are None then. Boxes are those of the clip that it becomes.
    """

    slow: Tensor | None
    fast: Tensor | None
    persons: Boxes
    regions: Boxes
    labels: Tensor | None
    person_scores: Tensor | None
    objects: Boxes | None
    key: ClipKey
    index: int
    annotated: Boxes | None = None
    planes: ClipPlanes | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the clip in pixels."""
        if self.planes is not None:
            return self.planes.layouts[0].size
        clip = self.slow if self.slow is not None else self.fast
        if clip is None:
            raise ValueError(f"{self.key}: got no clip, expected that of one pathway at least")
        return int(clip.shape[2]), int(clip.shape[3])


@dataclass(frozen=True)
class ClipBatch:
    """Clips of a batch, padded at the right and the bottom to one size.

    Attributes:
        slow: uint8 [N, 3, T_slow, H, W], or None.
        fast: uint8 [N, 3, T_fast, H, W], or None. The padding's pixel value does not matter: the model
            zeroes it after normalisation (`sizes` says where it begins).
        sizes: (height, width) in pixels of each clip without padding.
        persons, regions, objects: Boxes per clip, pixels of the unpadded clip.
        labels: bool [R, K], persons in batch order; None without labels.
        person_scores: float32 [R], or None.
        keys, indices: per clip.
        annotated: in training, where `persons` are a choice of the annotated ones, all of them, per clip; else None.
        planes: with INPUT.TRANSFORM "device" the clips as they were decoded, in place of `slow` and `fast`
            (`structures.render.network_clips` reads either).
    """

    slow: Tensor | None
    fast: Tensor | None
    sizes: Sequence[tuple[int, int]]
    persons: Sequence[Boxes]
    regions: Sequence[Boxes]
    labels: Tensor | None
    person_scores: Tensor | None
    objects: Sequence[Boxes] | None
    keys: Sequence[ClipKey]
    indices: Sequence[int]
    annotated: Sequence[Boxes] | None = None
    planes: ClipPlanes | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def num_persons(self) -> int:
        return sum(len(boxes) for boxes in self.persons)

    @property
    def frame_bytes(self) -> int:
        """Size of the clips, in bytes as they travel to the device."""
        clips = [self.slow, self.fast, None if self.planes is None else self.planes.data]
        return sum(tensor.numel() * tensor.element_size() for tensor in clips if tensor is not None)

    def without_frames(self) -> ClipBatch:
        """The batch without its clips: boxes, labels and names only."""
        return replace(self, slow=None, fast=None, planes=None)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ClipBatch:
        """The batch with every tensor the model reads on `device`. Sizes, keys and indices stay as they are."""

        return self._with_tensors(lambda value: value.to(device, non_blocking=non_blocking))

    def split(self, parts: int) -> list[ClipBatch]:
        """The batch in `parts` runs of clips, as equal as can be; fewer where there are fewer clips.

        The padding stays that of the whole batch, so that the network sees every clip as it would there.
        """
        if parts < 1:
            raise ValueError(f"parts: got {parts}, expected 1 or more")
        ends = [len(self) * i // min(parts, len(self)) for i in range(1, min(parts, len(self)) + 1)]
        return [self._clips(slice(start, end)) for start, end in zip([0, *ends], ends, strict=False)]

    def _clips(self, clips: slice) -> ClipBatch:
        """Some of the clips with their persons; the frames are not copied."""
        first = sum(map(len, self.persons[: clips.start]))
        persons = slice(first, first + sum(map(len, self.persons[clips])))
        return replace(
            self,
            slow=None if self.slow is None else self.slow[clips],
            fast=None if self.fast is None else self.fast[clips],
            sizes=self.sizes[clips],
            persons=self.persons[clips],
            regions=self.regions[clips],
            labels=None if self.labels is None else self.labels[persons],
            person_scores=None if self.person_scores is None else self.person_scores[persons],
            objects=None if self.objects is None else self.objects[clips],
            keys=self.keys[clips],
            indices=self.indices[clips],
            annotated=None if self.annotated is None else self.annotated[clips],
            planes=None if self.planes is None else self.planes[clips],
        )

    def pin_memory(self) -> ClipBatch:
        """Called by the DataLoader (pin_memory=True): all that `to` moves, or the rest would wait for the GPU."""
        # A clip may be a view of both pathways: strided copies to a GPU would go by way of ordinary memory.
        return self._with_tensors(lambda value: value.contiguous().pin_memory())

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> ClipBatch:
        """The batch with every tensor that the model reads changed."""

        def changed(value: Tensor | None) -> Tensor | None:
            return None if value is None else change(value)

        def boxes(clips: Sequence[Boxes]) -> list[Boxes]:
            return [Boxes(change(clip.xyxy), clip.size) for clip in clips]

        return replace(
            self,
            slow=changed(self.slow),
            fast=changed(self.fast),
            persons=boxes(self.persons),
            regions=boxes(self.regions),
            labels=changed(self.labels),
            objects=None if self.objects is None else boxes(self.objects),
            annotated=None if self.annotated is None else boxes(self.annotated),
            planes=None if self.planes is None else replace(self.planes, data=change(self.planes.data)),
        )


@dataclass(frozen=True)
class RoiFeatures:
    """Pooled features of a batch.

    Attributes:
        person: [R, C, 1, 1, 1], persons in batch order.
        person_counts: persons of each clip.
        object: [O, C, 1, 1, 1], or None.
        object_counts: objects of each clip, or None.
    """

    person: Tensor
    person_counts: Sequence[int]
    object: Tensor | None = None
    object_counts: Sequence[int] | None = None


@dataclass(frozen=True)
class DetectorOutput:
    """What the detector returns, in training and in testing alike.

    Attributes:
        logits: [R, K].
        features: what the logits were computed from (the memory keeps the person features).
        person_losses: of the person head in training, by their logged names, scalars with their graph: means over the
            batch's clips; None without a person head, and in testing.
    """

    logits: Tensor
    features: RoiFeatures
    person_losses: Mapping[str, Tensor] | None = None


def normalize_clips(clips: Tensor, sizes: Sequence[tuple[int, int]], mean: Tensor, std: Tensor) -> Tensor:
    """(clips - mean) / std per channel, and zero in the padding: the network sees the mean colour there.

    Args:
        clips: uint8 [N, 3, T, H, W], on any device.
        sizes: (height, width) in pixels of each clip without padding.
        mean, std: [3], in the order of the channels and on the clips' device.

    Returns:
        float32 [N, 3, T, H, W].
    """
    if len(sizes) != len(clips):
        raise ValueError(f"sizes: got {len(sizes)}, expected one for each of {len(clips)} clips")
    channel = (1, -1, 1, 1, 1)
    out = clips.to(torch.float32, copy=True).sub_(mean.float().view(channel)).div_(std.float().view(channel))
    for clip, (height, width) in zip(out, sizes, strict=True):
        clip[:, :, height:, :] = 0
        clip[:, :, :, width:] = 0
    return out
