"""Small networks that predict: a real one with random weights in a checkpoint, and a stand-in that costs nothing."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np
import run_kit
import torch

from alphaction.checkpoint import Checkpointer
from alphaction.config import load_config
from alphaction.dataset.sampling import ClipSampling
from alphaction.dataset.transforms import ClipTransform
from alphaction.modeling import build_detection_model
from alphaction.prediction.boxes.persons import Seen
from alphaction.prediction.settings import MemorySettings, Network
from alphaction.structures import ClassList, MemorySpan, RoiFeatures

IA = "MODEL.IA_STRUCTURE."
INTERACTION = [
    *[IA + "ACTIVE", True, IA + "DIM_IN", 576, IA + "DIM_INNER", 16, IA + "DIM_OUT", 16, IA + "MAX_OBJECT", 2],
    *[IA + "MAX_PERSON", 3, IA + "MAX_PER_SEC", 2, IA + "LENGTH", (2, 2), IA + "MEMORY_STEP", 0.5],
    *[IA + "USE_ZERO_INIT_CONV", False, IA + "CONV_INIT_STD", 0.1],
]
MEMORY = [*INTERACTION, IA + "I_BLOCK_LIST", ["P", "M"], IA + "MAX_OBJECT", 0]


def save_network(
    folder: pathlib.Path,
    config: pathlib.Path,
    *opts: object,
    names: tuple[str, ...] = run_kit.CLASSES,
    with_config: bool = True,
) -> pathlib.Path:
    """A checkpoint of a network with random weights whose scores differ clearly from person to person."""
    tree = load_config(config, opts)
    torch.manual_seed(0)
    model = build_detection_model(tree)
    with torch.no_grad():
        for name, weight in model.roi_heads.named_parameters():
            if name.endswith("cls_score.weight"):
                weight.mul_(100)
    text = tree.dump() if with_config else ""
    path = Checkpointer(folder, model, class_names=names, config_text=text).save("model_final", iteration=0)
    assert path is not None
    return path


class StandIn(torch.nn.Module):
    """A network whose features say how bright the clip is and where the box lies."""

    person_head = None

    def __init__(self, channels: int = 4, *, classes: int = 2) -> None:
        super().__init__()
        self.channels, self.classes = channels, classes
        self.times: list[float] = []
        self.windows: list[object] = []

    def extract(self, batch) -> RoiFeatures:
        self.times += [key.time for key in batch.keys]
        rows = [
            torch.full((len(boxes), self.channels), float(clip.float().mean()))
            for boxes, clip in zip(batch.regions, batch.slow, strict=True)
        ]
        objects = None if batch.objects is None else torch.zeros(sum(map(len, batch.objects)), self.channels, 1, 1, 1)
        return RoiFeatures(
            person=torch.cat(rows)[:, :, None, None, None],
            person_counts=[len(boxes) for boxes in batch.regions],
            object=objects,
            object_counts=None if batch.objects is None else list(map(len, batch.objects)),
        )

    def classify(self, features: RoiFeatures, memory=None) -> torch.Tensor:
        self.windows.append(memory)
        return features.person.flatten(1)[:, :1].expand(-1, self.classes) / 255


def stand_in(
    *, memory: MemorySpan | None = None, channels: int = 4, batch_size: int = 1, rate: float = 10.0
) -> Network:
    """Clips of 4 frames, a tenth of a second apart, 16 pixels high."""
    return Network(
        model=StandIn(channels),
        postprocess=lambda logits: logits,
        classes=ClassList((1, 2), ("walk", "run")),
        device=torch.device("cpu"),
        sampling=ClipSampling(frame_num=4, sample_rate=1, tau=2, alpha=2, frame_rate=rate),
        transform=ClipTransform(min_size=16, max_size=64),
        memory=None if memory is None else MemorySettings(memory, step=1.0, channels=channels),
        batch_size=batch_size,
    )


def one_person(box=(4.0, 6.0, 27.0, 41.0), score: float = 0.9) -> Callable[[float, np.ndarray], Seen]:
    """The same box at any time."""
    return lambda time, image: Seen(np.array([box], np.float32), np.array([score], np.float32))
