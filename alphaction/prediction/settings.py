"""What a prediction knows of its network besides the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from alphaction.dataset.sampling import ClipSampling
from alphaction.dataset.transforms import ClipTransform
from alphaction.modeling.detector import ActionDetector
from alphaction.structures import ClassList, MemorySpan


@dataclass(frozen=True)
class MemorySettings:
    """The memory of the M blocks.

    Attributes:
        span: which moments a person's memory shows.
        step: seconds per slot (MODEL.IA_STRUCTURE.MEMORY_STEP).
        channels: width of a person's feature.
        random_choice: a crowded moment shows a random choice (QUIRKS.RANDOM_CHOICE_IN_TEST).
    """

    span: MemorySpan
    step: float
    channels: int
    random_choice: bool = False


@dataclass(frozen=True)
class Network:
    """A trained network and how its input is made, as in testing.

    Attributes:
        model: in evaluation mode, on `device`.
        postprocess: logits [R, K] to scores [R, K].
        classes: of the scores, in their order.
        device: where the model is.
        sampling, transform: which frames make a clip, and how they are resized.
        extend_scale: regions are wider and higher than boxes by these shares.
        size_divisibility: clips are padded to multiples of this, pixels.
        exclusive: columns of scores of which exactly one holds, such as poses.
        max_objects: objects per clip; 0 = the network does not look at objects.
        allow_no_objects: the network was made to do without objects where there are none.
        memory: None for a network without M blocks.
        box_threshold: least score of a person (TEST.BOX_THRESH).
        batch_size: clips that are computed together.
        source: the weights' file, for people.
    """

    model: ActionDetector
    postprocess: Callable[[Tensor], Tensor]
    classes: ClassList
    device: torch.device
    sampling: ClipSampling
    transform: ClipTransform
    extend_scale: tuple[float, float] = (0.0, 0.0)
    size_divisibility: int = 0
    exclusive: tuple[slice, ...] = ()
    max_objects: int = 0
    allow_no_objects: bool = False
    memory: MemorySettings | None = None
    box_threshold: float = 0.5
    batch_size: int = 1
    source: str = ""
