"""The dataset: a keyframe in, a clip with its boxes out. Everything it holds is packed arrays and a few paths."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from alphaction.dataset.clip_reader import ClipJob, FinishedClip, read_clips
from alphaction.dataset.report import DataReport
from alphaction.dataset.samplers import aspect_group_ids
from alphaction.dataset.sampling import ClipSampling
from alphaction.dataset.stored_frames import StoredFrames
from alphaction.dataset.transforms import (
    Augmentation,
    AugmentationPolicy,
    ClipTransform,
    draw_augmentation,
    enlarged_regions,
    jittered_regions,
    transform_boxes,
)
from alphaction.dataset.video_index import open_source
from alphaction.dataset.video_io import VideoSource, read_frame
from alphaction.errors import DataError, VideoError
from alphaction.structures import Annotations, Boxes, ClipSample, PackedBoxes

logger = logging.getLogger(__name__)

Item = int | tuple[int, int] | tuple[int, int, int]  # index, (epoch, index) or (epoch, index, copy)


@dataclass(frozen=True)
class ClipOptions:
    """How clips are made from keyframes.

    Attributes:
        sampling: which frames.
        transform: size and channel order.
        augmentation: what is drawn at random; None for testing.
        extend_scale: testing: regions are wider and higher by these shares (TEST.EXTEND_SCALE).
        max_objects: objects per clip, those of highest score; 0 when the model uses none.
        skip_unreadable: a clip that cannot be read gives no sample instead of an error (DATASETS.ON_ERROR).
        on_device: clips stay as they were decoded; the network does the rest (INPUT.TRANSFORM "device").
    """

    sampling: ClipSampling
    transform: ClipTransform
    augmentation: AugmentationPolicy | None = None
    extend_scale: tuple[float, float] = (0.0, 0.0)
    max_objects: int = 0
    skip_unreadable: bool = False
    on_device: bool = False


@dataclass(frozen=True)
class _Draw:
    index: int
    keyframe: int
    augmentation: Augmentation


class ActionDataset(Dataset):
    """Clips around the keyframes of a split that have a person to classify.

    Training uses the annotated persons, testing the detected ones where given. A test keyframe without any is no
    sample, but stays in `annotations`, where its annotated persons count as missed. Where the network itself finds the
    persons every keyframe is a sample, without any person.

    Attributes:
        name: of the data set.
        spec: its catalog entry.
        annotations: all usable keyframes, with and without a sample.
        keyframes: int64 [S], the keyframe of each sample.
        uses_detections: whether persons are detections, those of a file or the network's own.
        report: what the files hold.
    """

    def __init__(
        self,
        *,
        name: str,
        spec: Mapping[str, Any],
        annotations: Annotations,
        paths: Sequence[str],
        report: DataReport,
        options: ClipOptions,
        detections: PackedBoxes | None = None,
        objects: PackedBoxes | None = None,
        stored: StoredFrames | None = None,
        max_found: int = 0,
        seed: int = 0,
    ) -> None:
        """
        Args:
            paths: for each of `annotations.movies` its video file or the folder of its one-second clips.
            detections: detected persons per keyframe of `annotations`, with scores.
            objects: detected objects per keyframe, with scores.
            max_found: above 0, the network finds the persons when testing, at most so many per clip.
            stored: frame indices of the videos, None to read them from the videos.
            seed: of the augmentation, which is a function of (seed, epoch, sample, copy) and nothing else.
        """
        if len(paths) != len(annotations.movies):
            raise ValueError(f"paths: got {len(paths)}, expected one for each of {len(annotations.movies)} movies")
        for what, boxes in (("detections", detections), ("objects", objects)):
            if boxes is not None and (len(boxes) != len(annotations) or boxes.scores is None):
                raise ValueError(f"{what}: expected boxes with scores for {len(annotations)} keyframes")
        if options.augmentation is not None and (detections is not None or max_found):
            raise ValueError("detections, max_found: training uses the annotated persons")
        if max_found:
            nothing = np.zeros(0, np.int64)
            detections = PackedBoxes.pack(nothing, np.zeros((0, 4)), len(annotations), scores=nothing)
        if options.max_objects and objects is None:
            raise ValueError(f"objects: got None, expected boxes (max_objects is {options.max_objects})")
        self.name = name
        self.spec: Mapping[str, Any] = dict(spec)
        self.annotations = annotations
        self.report = report
        self.uses_detections = detections is not None
        self._max_found = max_found
        self._persons = annotations.boxes if detections is None else detections
        self._choose(np.arange(len(annotations)) if max_found else np.flatnonzero(self._persons.counts() > 0))
        self._objects = objects if options.max_objects else None
        self._paths = tuple(paths)
        self._options = options
        self._stored = stored
        self._seed = seed

    def _choose(self, keyframes: np.ndarray) -> None:
        self.keyframes = keyframes
        # Shared between processes, so that what the workers could not read can be counted by the main process.
        self._unreadable = torch.zeros(len(keyframes), dtype=torch.bool).share_memory_()

    @property
    def is_training(self) -> bool:
        return self._options.augmentation is not None

    @property
    def finds_persons(self) -> bool:
        """Whether the network has to find the persons of each sample."""
        return self._max_found > 0

    @property
    def unreadable(self) -> list[int]:
        """The samples that could not be read so far, in any worker of this process, ascending."""
        return torch.nonzero(self._unreadable).flatten().tolist()

    def __len__(self) -> int:
        return len(self.keyframes)

    def __getitem__(self, item: Item) -> ClipSample | None:
        """The sample `index`, (epoch, index) or (epoch, index, copy); None if it cannot be read and such are skipped.

        Every copy (0, 1, ...) of a clip that comes several times in an epoch is augmented differently.
        `ClipSample.index` is the keyframe's position in `annotations`.
        """
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[Item]) -> list[ClipSample | None]:
        """The samples of a batch, as `__getitem__` gives each; the loader asks for them so.

        Those of one video are decoded together.
        """
        draws = [self._drawn(item) for item in items]
        jobs = [
            ClipJob(self._source(draw.keyframe), float(self.annotations.time[draw.keyframe]), draw.augmentation)
            for draw in draws
        ]
        options = self._options
        clips = read_clips(jobs, sampling=options.sampling, transform=options.transform, on_device=options.on_device)
        return [self._finished(draw, clip) for draw, clip in zip(draws, clips, strict=True)]

    def _drawn(self, item: Item) -> _Draw:
        epoch, index, repeat = (*item, 0)[:3] if isinstance(item, tuple) else (0, item, 0)
        if not 0 <= index < len(self):
            raise IndexError(f"index: got {index}, the data set {self.name} has {len(self)} samples")
        keyframe = int(self.keyframes[index])
        persons = len(self._persons.xyxy[self._persons.rows(keyframe)])
        return _Draw(index, keyframe, self._draw(epoch, index, repeat, num_persons=persons))

    def _finished(self, draw: _Draw, clip: FinishedClip | Exception) -> ClipSample | None:
        if isinstance(clip, Exception):
            self._cannot_read(draw.index, draw.keyframe, clip)
            return None
        return self._sample(draw.keyframe, draw.augmentation, clip)

    def _sample(self, keyframe: int, augmentation: Augmentation, clip: FinishedClip) -> ClipSample:
        persons, labels, scores = self.persons(keyframe)
        size = clip.source_size
        objects = self.objects(keyframe)
        persons, objects = transform_boxes(
            _in_frame(persons, size),
            None if objects is None else _in_frame(objects, size),
            transform=self._options.transform,
            flip=augmentation.flip,
        )
        annotated = None
        if augmentation.person_rows is not None:
            rows = torch.from_numpy(augmentation.person_rows)
            persons, labels, annotated = persons[rows], None if labels is None else labels[rows], persons
        if self.is_training:
            regions = jittered_regions(persons, augmentation)
        else:
            regions = enlarged_regions(persons, self._options.extend_scale)
        return ClipSample(
            slow=clip.slow,
            fast=clip.fast,
            persons=persons,
            regions=regions,
            labels=labels,
            person_scores=scores,
            objects=objects,
            key=self.annotations.key(keyframe),
            index=keyframe,
            annotated=annotated,
            planes=clip.planes,
        )

    def person_counts(self) -> np.ndarray:
        """Persons that each sample brings, or the most that the network finds in it; int64 [S]."""
        if self._max_found:
            return np.full(len(self), self._max_found, np.int64)
        counts = self._persons.counts()[self.keyframes]
        limit = None if self._options.augmentation is None else self._options.augmentation.max_persons
        return counts if limit is None else np.minimum(counts, limit)

    def clip_labels(self) -> np.ndarray:
        """The actions of any annotated person of each sample, bool [S, K]."""
        boxes, labels = self.annotations.boxes, self.annotations.labels
        rows, classes = np.nonzero(labels)
        out = np.zeros((len(boxes), labels.shape[1]), bool)
        out[np.repeat(np.arange(len(boxes)), boxes.counts())[rows], classes] = True
        return out[self.keyframes]

    def class_counts(self) -> np.ndarray:
        """Annotated persons of each class, int64 [K]; a person with two actions counts for both."""
        return self.annotations.labels.sum(axis=0, dtype=np.int64)

    def persons(self, keyframe: int) -> tuple[Boxes, Tensor | None, Tensor | None]:
        """Persons to classify, in pixels of the annotated frame.

        Returns:
            boxes; labels bool [r, K], None for detections; scores float32 [r], None for annotated persons.
        """
        rows = self._persons.rows(keyframe)
        boxes = self._boxes(self._persons, keyframe)
        if self._persons.scores is not None:
            return boxes, None, torch.from_numpy(self._persons.scores[rows].copy())
        return boxes, torch.from_numpy(self.annotations.labels[rows].copy()), None

    def objects(self, keyframe: int) -> Boxes | None:
        """The objects of highest score, ascending, in pixels of the annotated frame; None when the model uses none."""
        if self._objects is None:
            return None
        boxes = self._boxes(self._objects, keyframe)
        assert self._objects.scores is not None  # the constructor sees to it
        scores = torch.from_numpy(self._objects.scores[self._objects.rows(keyframe)].copy())
        return boxes[boxes.top_k(self._options.max_objects, scores)]

    def keyframe_image(self, keyframe: int) -> np.ndarray:
        """The picture of a keyframe of `annotations`, uint8 [h, w, 3] RGB, in the video's own size."""
        rate = self._options.sampling.frame_rate
        return read_frame(self._source(keyframe), float(self.annotations.time[keyframe]), frame_rate=rate)

    def aspect_groups(self) -> np.ndarray:
        """For each sample 1 if its frame is at least as high as wide, else 0; int64 [S]."""
        return aspect_group_ids(self.annotations.size[self.keyframes])

    def with_seed(self, seed: int) -> ActionDataset:
        """The same data set (nothing is copied) with another seed of the augmentation."""
        other = copy.copy(self)
        other._seed = seed
        return other

    def with_true_persons(self) -> ActionDataset:
        """The same data set (nothing is copied) with the annotated persons in place of detected ones."""
        other = copy.copy(self)
        other.name = f"{self.name}_true_boxes"
        other.uses_detections, other._max_found = False, 0
        other._persons = self.annotations.boxes
        other._choose(np.flatnonzero(other._persons.counts() > 0))
        return other

    def every(self, step: int) -> ActionDataset:
        """The same data set (nothing is copied) with the samples of every `step`-th keyframe of `annotations`."""
        other = copy.copy(self)
        other._choose(self.keyframes[self.keyframes % step == 0])
        return other

    @staticmethod
    def concat(datasets: Sequence[ActionDataset]) -> ActionDataset:
        """Several training sets as one.

        Raises:
            DataError: their classes differ.
        """
        first = datasets[0]
        if len(datasets) == 1:
            return first
        check_same_classes(datasets)
        if any(dataset.uses_detections or dataset._options != first._options for dataset in datasets):
            raise ValueError("datasets: expected annotated persons and the same options in all")
        objects = [dataset._objects for dataset in datasets if dataset._objects is not None]
        return ActionDataset(
            name="+".join(dataset.name for dataset in datasets),
            spec=first.spec,
            annotations=Annotations.concat([dataset.annotations for dataset in datasets]),
            paths=[path for dataset in datasets for path in dataset._paths],
            report=first.report,
            options=first._options,
            objects=PackedBoxes.concat(objects) if objects else None,
            stored=StoredFrames.joined(dataset._stored for dataset in datasets),
            seed=first._seed,
        )

    def _draw(self, epoch: int, index: int, repeat: int, *, num_persons: int) -> Augmentation:
        if self._options.augmentation is None:
            return Augmentation()
        words = [self._seed % 2**64, epoch, index]
        rng = np.random.default_rng([*words, repeat] if repeat else words)
        return draw_augmentation(rng, self._options.augmentation, num_persons=num_persons)

    def _boxes(self, packed: PackedBoxes, keyframe: int) -> Boxes:
        height, width = self.annotations.size[keyframe].tolist()
        return Boxes(torch.from_numpy(packed.xyxy[packed.rows(keyframe)].copy()), (height, width))

    def _source(self, keyframe: int) -> VideoSource:
        return open_source(self._paths[int(self.annotations.movie[keyframe])], self._stored)

    def _cannot_read(self, index: int, keyframe: int, error: Exception) -> None:
        key = self.annotations.key(keyframe)
        if not self._options.skip_unreadable:
            hint = "Mend the video, or set DATASETS.ON_ERROR skip to go on without such clips."
            raise VideoError(f"data set {self.name}, keyframe {key}: {error}. {hint}") from error
        if not self._unreadable[index]:
            self._unreadable[index] = True
            logger.warning("data set %s: the clip of %s cannot be read and is left out: %s", self.name, key, error)


def check_same_classes(datasets: Sequence[ActionDataset]) -> None:
    """Raises DataError when two data sets have different classes; those without names go with any of the same ids."""
    first = datasets[0]
    for other in datasets[1:]:
        ours, theirs = first.annotations.classes, other.annotations.classes
        if ours == theirs or (ours.ids == theirs.ids and not (ours.named and theirs.named)):
            continue
        pairs = [dict(zip(classes.ids, classes.names, strict=True)) for classes in (ours, theirs)]
        wrong = next((i for i in [*pairs[0], *pairs[1]] if pairs[0].get(i) != pairs[1].get(i)), ours.ids[0])
        names = [repr(pair[wrong]) if wrong in pair else "missing" for pair in pairs]
        raise DataError(
            f"the data sets {first.name} and {other.name} have different classes ({len(ours)} and {len(theirs)}): "
            f"id {wrong!r} is {names[0]} in {first.report.source} and {names[1]} in {other.report.source}. "
            "Give both the same class list ('classes' in their entries)."
        )


def _in_frame(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    """Boxes of the annotated frame in the decoded one, which may have another size."""
    size = (int(size[0]), int(size[1]))
    return boxes if boxes.size == size else boxes.resize(size)
