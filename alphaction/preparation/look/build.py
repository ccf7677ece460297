"""Opens a data set for looking at it, with the clips of a configuration; the only file here that reads cfg."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from yacs.config import CfgNode

from alphaction.config.generate import ensure_generated
from alphaction.config.load import load_config
from alphaction.config.paths_catalog import DatasetCatalog
from alphaction.dataset.action_dataset import ActionDataset
from alphaction.dataset.build import build_datasets
from alphaction.dataset.collate import pad_clips
from alphaction.dataset.sampling import ClipSampling, key_position
from alphaction.preparation.look.sheet import Boxed, Look
from alphaction.structures import Boxes, ClipSample


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
        clip = sample.fast if sample.fast is not None else sample.slow
        frames = pad_clips([clip], size_divisibility=self._divisor)[0].permute(1, 2, 3, 0).numpy()
        keyframe = int(self.dataset.keyframes[index])
        picture = np.ascontiguousarray(self.dataset.keyframe_image(keyframe))
        offsets = self._offsets if self._offsets is not None and len(self._offsets) == len(frames) else None
        annotated_names, annotated = self._annotated(keyframe, picture.shape[:2])
        size = int(clip.shape[2]), int(clip.shape[3])
        mode = f"training, pass {epoch + 1}" if self._train else "testing"
        return Look(
            title=f"{self.dataset.name}: {sample.key}, sample {index} ({mode})",
            keyframe=picture,
            annotated=annotated,
            frames=np.ascontiguousarray(frames[..., ::-1] if self._bgr else frames),
            size=size,
            loaded=_boxed(sample, annotated, self._loaded_tags(sample)),
            offsets=offsets,
            middle=len(frames) // 2 if offsets is None else int(np.abs(offsets).argmin()),
            annotated_names=annotated_names,
            loaded_names=self._names(sample),
            remarks=self._remarks(picture, frames, size),
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

    def _loaded_tags(self, sample: ClipSample) -> list[str]:
        """Numbers where these are the annotated persons, letters for detected ones."""
        if sample.labels is not None:
            return [str(i + 1) for i in range(len(sample.persons))]
        return [letters(i) for i in range(len(sample.persons))]

    def _names(self, sample: ClipSample) -> list[str]:
        if sample.labels is not None:
            return [_actions(self.dataset.annotations.classes.names, row.numpy()) for row in sample.labels]
        scores = sample.person_scores
        return [f"score {score:.2f}" for score in (scores.tolist() if scores is not None else ())]

    def _remarks(self, picture: np.ndarray, frames: np.ndarray, size: tuple[int, int]) -> list[str]:
        height, width = picture.shape[:2]
        text = f"video {width} x {height}, clip {size[1]} x {size[0]} pixels"
        if frames.shape[1:3] != size:
            text += f", padded to {frames.shape[2]} x {frames.shape[1]} (hatched)"
        return [text + (", channels blue-green-red, shown in order" if self._bgr else "")]


def letters(number: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def _boxed(sample: ClipSample, annotated: Boxed, tags: Sequence[str]) -> Boxed:
    def array(boxes: Boxes | None) -> np.ndarray:
        return np.zeros((0, 4)) if boxes is None else boxes.xyxy.numpy()

    return Boxed(array(sample.persons), array(sample.regions), array(sample.objects), tags)


def _actions(names: Sequence[str], labels: np.ndarray) -> str:
    return ", ".join(names[k] for k in np.flatnonzero(labels)) or "no action"


def _timing(cfg: CfgNode) -> tuple[float, np.ndarray | None]:
    """(frames per second at which a clip plays in real time, seconds from the keyframe of each of its frames)."""
    clip, pathways = cfg.INPUT, cfg.MODEL.BACKBONE.SLOWFAST
    slowfast = cfg.MODEL.BACKBONE.CONV_BODY.startswith("Slowfast")
    sampling = ClipSampling(
        frame_num=clip.FRAME_NUM,
        sample_rate=clip.FRAME_SAMPLE_RATE,
        tau=clip.TAU,
        alpha=clip.ALPHA,
        frame_rate=clip.FRAME_RATE,
        slow=pathways.SLOW.ACTIVE or not slowfast,
        fast=pathways.FAST.ACTIVE or not slowfast,
    )
    window = sampling.fast_window() if sampling.fast else sampling.slow_window()
    rate = clip.FRAME_RATE or 25.0
    offsets = (window - key_position(sampling.span)) / rate
    step = float(np.median(np.diff(window))) if len(window) > 1 else 1.0
    return rate / step, offsets if clip.FRAME_RATE else None
