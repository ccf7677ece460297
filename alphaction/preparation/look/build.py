"""Opens a data set for looking at it, with the clips of a configuration; the only file here that reads cfg."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from yacs.config import CfgNode

from alphaction.config.generate import ensure_generated
from alphaction.config.load import load_config
from alphaction.config.paths_catalog import DatasetCatalog
from alphaction.dataset.action_dataset import ActionDataset
from alphaction.dataset.build import build_datasets, clip_sampling
from alphaction.dataset.collate import pad_clips
from alphaction.dataset.sampling import key_position
from alphaction.preparation.look.sheet import Boxed, Look
from alphaction.structures import Boxes, ClipSample
from alphaction.structures.render import with_pixels

_OBJECTS = 5  # of highest score, as the released models see


class Looker:
    """Samples of one split, ready to be drawn.

    Args:
        name: of the data set, see `DatasetCatalog.get`.
        config_file: whose clips are shown; "" for the defaults.
        opts: further keys and values.
        train: show clips as training sees them (mirrored, recoloured, jittered), else as a test does.

    Raises:
        UserError: the data set or the configuration is wrong.
    """

    def __init__(self, name: str, *, config_file: str = "", opts: Sequence[str] = (), train: bool = False) -> None:
        entry = DatasetCatalog.get(name)
        ensure_generated(entry)
        cfg = load_config(config_file, opts)
        cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES = 0
        cfg.DATASETS.ON_ERROR = "skip"
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ((name,), ()) if train else ((), (name,))
        if not config_file and entry["object_file"]:  # so that the objects are read
            cfg.MODEL.IA_STRUCTURE.ACTIVE = True
            cfg.MODEL.IA_STRUCTURE.I_BLOCK_LIST = ["O"]
            cfg.MODEL.IA_STRUCTURE.MAX_OBJECT = _OBJECTS
        self.dataset: ActionDataset = build_datasets(cfg, "train" if train else "test")[0]
        self._train = train
        self._divisor: int = cfg.DATALOADER.SIZE_DIVISIBILITY
        self._bgr: bool = cfg.INPUT.TO_BGR
        self.frames_per_second, self._offsets = _timing(cfg)

    def __len__(self) -> int:
        return len(self.dataset)

    def look(self, index: int, *, epoch: int = 0) -> Look | None:
        """The sample `index` as it is loaded in pass `epoch`; None when its clip cannot be read."""
        sample = self.dataset[epoch, index]
        if sample is None:
            return None
        sample = with_pixels(sample)
        clip = sample.fast if sample.fast is not None else sample.slow
        if clip is None:
            return None
        frames = pad_clips([clip], size_divisibility=self._divisor)[0].permute(1, 2, 3, 0).numpy()
        keyframe = int(self.dataset.keyframes[index])
        picture = np.ascontiguousarray(self.dataset.keyframe_image(keyframe))
        offsets = self._offsets if self._offsets is not None and len(self._offsets) == len(frames) else None
        middle = len(frames) // 2 if offsets is None else int(np.abs(offsets).argmin())
        annotated_names, annotated = self._annotated(keyframe, picture.shape[:2])
        size = int(clip.shape[2]), int(clip.shape[3])
        mirrored = self._train and is_mirrored(picture, frames[middle, : size[0], : size[1]])
        mode = f"training, pass {epoch + 1}" if self._train else "testing"
        return Look(
            title=f"{self.dataset.name}: {sample.key}, sample {index} ({mode})",
            keyframe=picture,
            annotated=annotated,
            frames=np.ascontiguousarray(frames[..., ::-1] if self._bgr else frames),
            size=size,
            loaded=_boxed(sample, self._loaded_tags(sample, annotated, picture.shape[:2], size)),
            offsets=offsets,
            middle=middle,
            annotated_names=annotated_names,
            loaded_names=self._names(sample),
            remarks=self._remarks(picture, frames, size, mirrored),
        )

    def _annotated(self, keyframe: int, size: tuple[int, int]) -> tuple[list[str], Boxed]:
        annotations = self.dataset.annotations
        rows = annotations.boxes.rows(keyframe)
        names = [_actions(annotations.classes.names, labels) for labels in annotations.labels[rows]]
        height, width = annotations.size[keyframe].tolist()
        ratio = np.array([size[1] / width, size[0] / height] * 2)
        objects = self.dataset.objects(keyframe)
        boxes = Boxed(
            persons=annotations.boxes.xyxy[rows] * ratio,
            regions=np.zeros((0, 4)),
            objects=np.zeros((0, 4)) if objects is None else objects.xyxy.numpy() * ratio,
            tags=[str(i + 1) for i in range(len(names))],
        )
        return names, boxes

    def _loaded_tags(
        self, sample: ClipSample, annotated: Boxed, before: tuple[int, int], after: tuple[int, int]
    ) -> list[str]:
        """The annotated persons' numbers, letters for detected ones."""
        if sample.labels is None:
            return [letters(i) for i in range(len(sample.persons))]
        ratio = np.array([after[1] / before[1], after[0] / before[0]] * 2)
        rows = matching_rows(sample.persons.xyxy.numpy(), annotated.persons * ratio, after[1])
        return [annotated.tags[row] for row in rows]

    def _names(self, sample: ClipSample) -> list[str]:
        if sample.labels is not None:
            return [_actions(self.dataset.annotations.classes.names, row.numpy()) for row in sample.labels]
        scores = sample.person_scores
        return [f"score {score:.2f}" for score in (scores.tolist() if scores is not None else ())]

    def _remarks(self, picture: np.ndarray, frames: np.ndarray, size: tuple[int, int], mirrored: bool) -> list[str]:
        height, width = picture.shape[:2]
        text = f"video {width} x {height}, clip {size[1]} x {size[0]} pixels"
        if frames.shape[1:3] != size:
            text += f", padded to {frames.shape[2]} x {frames.shape[1]} (hatched)"
        text += ", mirrored" if mirrored else ""
        return [text + (", channels blue-green-red, shown in order" if self._bgr else "")]


def letters(number: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def is_mirrored(picture: np.ndarray, frame: np.ndarray) -> bool:
    """Whether `frame` is rather the mirror image of `picture` than the picture itself; uint8 [h, w, 3] of any sizes."""
    small = [
        cv2.resize(cv2.cvtColor(np.ascontiguousarray(p), cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA)
        for p in (picture, frame)
    ]
    before, after = (p.astype(np.float64) - p.mean() for p in small)
    return bool((before[:, ::-1] * after).sum() > (before * after).sum())


def matching_rows(loaded: np.ndarray, annotated: np.ndarray, width: int) -> list[int]:
    """For each loaded box the annotated one that it was, in an image of `width` pixels that may have been mirrored.

    Training may keep a choice of the persons, in their order.
    """
    if len(loaded) == len(annotated):
        return list(range(len(loaded)))
    mirrored = annotated[:, [2, 1, 0, 3]].copy()
    mirrored[:, [0, 2]] = width - 1 - mirrored[:, [0, 2]]
    distances = [np.abs(loaded[:, None] - boxes).max(axis=2) for boxes in (annotated, mirrored)]
    return min(distances, key=lambda d: d.min(axis=1).sum()).argmin(axis=1).tolist()


def _boxed(sample: ClipSample, tags: Sequence[str]) -> Boxed:
    def array(boxes: Boxes | None) -> np.ndarray:
        return np.zeros((0, 4)) if boxes is None else boxes.xyxy.numpy()

    return Boxed(array(sample.persons), array(sample.regions), array(sample.objects), tags)


def _actions(names: Sequence[str], labels: np.ndarray) -> str:
    return ", ".join(names[k] for k in np.flatnonzero(labels).tolist()) or "no action"


def _timing(cfg: CfgNode) -> tuple[float, np.ndarray | None]:
    """(frames per second at which a clip plays in real time, seconds from the keyframe of each of its frames)."""
    sampling, frame_rate = clip_sampling(cfg), cfg.INPUT.FRAME_RATE
    window = sampling.fast_window() if sampling.fast else sampling.slow_window()
    rate = frame_rate or 25.0
    offsets = (window - key_position(sampling.span)) / rate
    step = float(np.median(np.diff(window))) if len(window) > 1 else 1.0
    return rate / step, offsets if frame_rate else None
