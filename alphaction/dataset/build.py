"""Data sets and loaders from the configuration: the only file of this package that reads cfg."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from alphaction.config.paths_catalog import DatasetCatalog
from alphaction.dataset.action_dataset import ActionDataset, ClipOptions, check_same_classes
from alphaction.dataset.annotations import check_num_classes, read_annotations
from alphaction.dataset.box_files import read_boxes
from alphaction.dataset.collate import collate
from alphaction.dataset.entry_classes import entry_classes, named_by_label_map
from alphaction.dataset.raw import RawAnnotations
from alphaction.dataset.resolve import Resolved, resolve, resolve_boxes
from alphaction.dataset.samplers import TestBatchSampler, TrainBatchSampler, repeat_factors
from alphaction.dataset.sampling import ClipSampling
from alphaction.dataset.sharing import share_datasets
from alphaction.dataset.stored_frames import stored_frames_of
from alphaction.dataset.transforms import AugmentationPolicy, ClipTransform
from alphaction.dataset.video_index import VideoIndex
from alphaction.errors import ConfigError, DataError, UserError
from alphaction.structures import ClassList, PackedBoxes
from alphaction.utils.device import resolve_device
from alphaction.utils.stop import shield_worker

logger = logging.getLogger(__name__)

_SHOWN_CLASSES = 10  # in a line of the log


def build_datasets(cfg: CfgNode, split: Literal["train", "test"]) -> list[ActionDataset]:
    """Reads the data sets of DATASETS.TRAIN or DATASETS.TEST and logs what is in them.

    Returns:
        One data set for training, all of DATASETS.TRAIN together; one per name for testing.

    Raises:
        DataError, VideoError: faults of the files, see `read_annotations`, `resolve`, `read_boxes`.
        ConfigError: unknown data set, NUM_CLASSES disagrees, boxes are asked for that the set does not have.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split: got {split!r}, expected 'train' or 'test'")
    names = cfg.DATASETS.TRAIN if split == "train" else cfg.DATASETS.TEST
    if split == "train" and not names:
        raise ConfigError("DATASETS.TRAIN is empty: name a data set to train on")
    datasets = [_build_dataset(cfg, name, training=split == "train") for name in dict.fromkeys(names)]
    return [ActionDataset.concat(datasets)] if split == "train" else datasets


def class_list(datasets: Sequence[ActionDataset]) -> ClassList:
    """The classes that all of `datasets` have.

    Raises:
        DataError: they differ.
    """
    check_same_classes(datasets)
    return datasets[0].annotations.classes


def set_num_classes(cfg: CfgNode, datasets: Sequence[ActionDataset]) -> None:
    """Sets MODEL.ROI_ACTION_HEAD.NUM_CLASSES to the number of classes of `datasets` if it is 0.

    Raises:
        DataError: the data sets have different classes.
        ConfigError: the key is another number.
    """
    if not datasets:
        return
    count = len(class_list(datasets))
    check_num_classes(cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES, count, f"data set {datasets[0].name}")
    if cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES == 0:
        frozen = cfg.is_frozen()
        cfg.defrost()
        cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES = count
        if frozen:
            cfg.freeze()


def build_loader(
    cfg: CfgNode,
    dataset: ActionDataset,
    *,
    train: bool,
    start_iter: int = 0,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader:
    """A loader of `ClipBatch` (None for a batch without a readable clip).

    Args:
        train: shuffled batches of the iterations start_iter + 1 .. SOLVER.MAX_ITER; else every sample once.
        seed: of the order and of the augmentation.
        rank, world_size: this process and the number of processes; VIDEOS_PER_BATCH is divided among them. A process
            without a clip in a small last batch gets None for it, so that all have the same number of batches.

    Raises:
        ConfigError: VIDEOS_PER_BATCH cannot be divided evenly.
    """
    key = "SOLVER" if train else "TEST"
    videos = cfg.SOLVER.VIDEOS_PER_BATCH if train else cfg.TEST.VIDEOS_PER_BATCH
    if videos % world_size:
        raise ConfigError(f"{key}.VIDEOS_PER_BATCH is {videos}, expected a multiple of the {world_size} processes")
    sampler: TrainBatchSampler | TestBatchSampler
    groups = dataset.aspect_groups() if cfg.DATALOADER.ASPECT_RATIO_GROUPING else None
    if train:
        dataset = dataset.with_seed(seed)
        sampler = TrainBatchSampler(
            len(dataset),
            batch_size=videos,
            num_iterations=cfg.SOLVER.MAX_ITER,
            start_iter=start_iter,
            group_ids=groups,
            factors=_repeat_factors(cfg, dataset),
            seed=seed,
            share_each_pass=cfg.QUIRKS.SHARE_EACH_PASS,
            rank=rank,
            world_size=world_size,
        )
    else:
        sampler = TestBatchSampler(
            len(dataset), batch_size=videos // world_size, group_ids=groups, rank=rank, world_size=world_size
        )
    workers = min(cfg.DATALOADER.NUM_WORKERS, len(sampler))
    share_datasets()
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=functools.partial(collate, size_divisibility=cfg.DATALOADER.SIZE_DIVISIBILITY),
        pin_memory=resolve_device(cfg.MODEL.DEVICE).type == "cuda",
        worker_init_fn=_start_worker,
        persistent_workers=train and workers > 0,
        # The loader draws its workers' seeds from the global generator otherwise; nothing in a worker uses them.
        generator=torch.Generator(),
    )


def _repeat_factors(cfg: CfgNode, dataset: ActionDataset) -> np.ndarray | None:
    """How often each clip should come in a pass, float64 [S]; None = once. The log says what follows from it."""
    threshold = cfg.DATALOADER.REPEAT_THRESHOLD
    if not threshold:
        return None
    labels = dataset.clip_labels()
    clips, classes = repeat_factors(labels, threshold)
    rarest = sorted(np.flatnonzero(classes > 1).tolist(), key=lambda i: -classes[i])
    counts, names = labels.sum(axis=0).tolist(), dataset.annotations.classes.names
    shown = [f"{names[i]} {classes[i]:.2f} ({counts[i]} of {len(clips)} clips)" for i in rarest[:_SHOWN_CLASSES]]
    more = f" and {len(rarest) - len(shown)} more" if len(rarest) > len(shown) else ""
    logger.info(
        "DATALOADER.REPEAT_THRESHOLD %g: a pass has about %.0f clips instead of %d. How often a clip comes for its "
        "rarest class: %s",
        threshold,
        clips.sum(),
        len(clips),
        f"{', '.join(shown)}{more}" if shown else "once, since no class is in a smaller share of the clips",
    )
    return clips


def _start_worker(worker: int) -> None:
    """One thread per worker: the processes are the parallelism. The run, not a signal, ends them."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    shield_worker()


def _build_dataset(cfg: CfgNode, name: str, *, training: bool) -> ActionDataset:
    spec = DatasetCatalog.get(name)
    if not spec["video_root"] or not spec["ann_file"]:
        raise DataError(f"data set {name} has no videos or annotations yet: it is made by {spec['generator']!r}")
    raw = named_by_label_map(_read(cfg, spec), spec)
    resolved = resolve(raw, VideoIndex(spec["video_root"]), name=spec["name"], on_error=cfg.DATASETS.ON_ERROR)
    uses_head = not training and _uses_head(cfg, spec)
    detections = None if training or uses_head else _detections(cfg, spec, raw, resolved)
    objects = _objects(cfg, spec, raw, resolved)
    dataset = ActionDataset(
        name=spec["name"],
        spec=spec,
        annotations=resolved.annotations,
        paths=resolved.paths,
        report=resolved.report,
        options=_clip_options(cfg, training=training),
        detections=detections,
        objects=objects,
        stored=stored_frames_of(spec["root"]),
        max_found=cfg.MODEL.ROI_PERSON_HEAD.MAX_PERSONS if uses_head else 0,
    )
    logger.info("%s", resolved.report.summary())
    if not training:
        whence = "annotated ones" if detections is None else f"those of {spec['box_file']}"
        whence = "found by the network's person head" if uses_head else whence
        logger.info("Persons of %s: %s (TEST.BOXES %s)", spec["name"], whence, cfg.TEST.BOXES)
    if not len(dataset):
        kind = "training set" if training else "test set"
        raise DataError(
            f"the {kind} {spec['name']} is empty: {spec['ann_file']} has {resolved.report.keyframes} usable keyframes, "
            f"but none with a usable person. Dropped: {resolved.report.reasons()}"
        )
    return dataset


def _read(cfg: CfgNode, spec: Mapping[str, Any]) -> RawAnnotations:
    """The annotation file, with the classes that the entry, the file or NUM_CLASSES defines.

    Where nothing but the ids in use tells how many classes there are (NUM_CLASSES 0), all sets of the configuration are
    asked: each may lack the last classes.
    """
    classes, origin = entry_classes(spec)
    num_classes = cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES
    raw = read_annotations(spec["ann_file"], classes, num_classes, classes_origin=origin)
    if num_classes or not raw.numbered:
        return raw
    count = max(_num_classes(name) for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))
    return read_annotations(spec["ann_file"], None, count) if count > len(raw.classes) else raw


def _num_classes(name: str) -> int:
    """How many classes a data set shows; 0 for one that cannot be read (said when its turn comes, if it ever does)."""
    try:
        spec = DatasetCatalog.get(name)
        return len(read_annotations(spec["ann_file"], entry_classes(spec)[0]).classes)
    except UserError:
        return 0


def _uses_head(cfg: CfgNode, spec: Mapping[str, Any]) -> bool:
    """Whether the network's person head says where the persons of a test set are."""
    if cfg.TEST.BOXES == "head":
        return True
    return cfg.MODEL.ROI_PERSON_HEAD.ACTIVE and not spec["box_file"] and cfg.TEST.BOXES in ("auto", "both")


def _detections(cfg: CfgNode, spec: Mapping[str, Any], raw: RawAnnotations, resolved: Resolved) -> PackedBoxes | None:
    """Detected persons as TEST.BOXES says; None = the annotated ones."""
    choice, path = cfg.TEST.BOXES, spec["box_file"]
    if choice not in ("auto", "detected", "ground_truth", "both"):
        raise ConfigError(f"TEST.BOXES is {choice!r}, expected 'auto', 'detected', 'head', 'ground_truth' or 'both'")
    if choice in ("detected", "both") and not path:
        raise ConfigError(
            f"TEST.BOXES is {choice!r}, but data set {spec['name']} has no file of detected persons. Name one in its "
            "entry ('box_file', or 'person_boxes' in a dataset.yaml), or set TEST.BOXES ground_truth, or train with "
            "MODEL.ROI_PERSON_HEAD.ACTIVE True and set TEST.BOXES head."
        )
    if choice == "ground_truth" or not path:
        return None
    if not os.path.isfile(path):
        raise DataError(
            f"{path}: the file of detected persons of data set {spec['name']} does not exist. "
            "Make it, or set TEST.BOXES ground_truth to test on the annotated boxes."
        )
    boxes = read_boxes(path, raw, min_score=cfg.TEST.BOX_THRESH)
    packed = resolve_boxes(boxes, resolved, what="person", clip=True)
    if not len(packed.xyxy):
        raise DataError(
            f"{path}: no usable box has a score of at least TEST.BOX_THRESH {cfg.TEST.BOX_THRESH:g} "
            f"({boxes.below} are below). Lower TEST.BOX_THRESH."
        )
    return packed


def _objects(cfg: CfgNode, spec: Mapping[str, Any], raw: RawAnnotations, resolved: Resolved) -> PackedBoxes | None:
    """Detected objects when the model has blocks that look at them; all scores count (QUIRKS 18)."""
    if not _max_objects(cfg):
        return None
    if not spec["object_file"]:
        if not cfg.MODEL.IA_STRUCTURE.ALLOW_NO_OBJECTS:
            raise ConfigError(
                f"MODEL.IA_STRUCTURE.I_BLOCK_LIST has an 'O' block, but data set {spec['name']} has no file of "
                "detected objects. Name one in its entry ('object_file', or 'object_boxes' in a dataset.yaml), leave "
                "the 'O' blocks out, or set MODEL.IA_STRUCTURE.ALLOW_NO_OBJECTS True to let them see none."
            )
        logger.warning("Data set %s has no file of detected objects: O blocks see none.", spec["name"])
        nothing = np.zeros(0, np.int64)
        return PackedBoxes.pack(nothing, np.zeros((0, 4)), len(resolved.annotations), scores=nothing)
    return resolve_boxes(read_boxes(spec["object_file"], raw), resolved, what="object", clip=False)


def _max_objects(cfg: CfgNode) -> int:
    structure = cfg.MODEL.IA_STRUCTURE
    return structure.MAX_OBJECT if structure.ACTIVE and "O" in _flat(structure.I_BLOCK_LIST) else 0


def _flat(blocks: Sequence) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, str):
            yield block
        else:
            yield from _flat(block)


def clip_sampling(cfg: CfgNode) -> ClipSampling:
    """Which frames of a video make a clip (`INPUT.*`)."""
    clip, pathways = cfg.INPUT, cfg.MODEL.BACKBONE.SLOWFAST
    slowfast = cfg.MODEL.BACKBONE.CONV_BODY.startswith("Slowfast")
    return ClipSampling(
        frame_num=clip.FRAME_NUM,
        sample_rate=clip.FRAME_SAMPLE_RATE,
        tau=clip.TAU,
        alpha=clip.ALPHA,
        frame_rate=clip.FRAME_RATE,
        slow=pathways.SLOW.ACTIVE or not slowfast,
        fast=pathways.FAST.ACTIVE or not slowfast,
        slow_frames=clip.SLOW_FRAMES,
    )


def _clip_options(cfg: CfgNode, *, training: bool) -> ClipOptions:
    clip = cfg.INPUT
    augmentation = AugmentationPolicy(
        color_jitter=clip.COLOR_JITTER,
        slow_jitter=clip.SLOW_JITTER,
        tau=clip.TAU,
        hue_jitter=clip.HUE_JITTER,
        sat_jitter=clip.SAT_JITTER,
        val_jitter=clip.VAL_JITTER,
        max_persons=cfg.MODEL.ROI_ACTION_HEAD.PROPOSAL_PER_CLIP,
    )
    return ClipOptions(
        sampling=clip_sampling(cfg),
        transform=ClipTransform(
            min_size=clip.MIN_SIZE_TRAIN if training else clip.MIN_SIZE_TEST,
            max_size=clip.MAX_SIZE_TRAIN if training else clip.MAX_SIZE_TEST,
            to_bgr=clip.TO_BGR,
            swap_size=cfg.QUIRKS.SWAP_CLIP_SIZE,
            flip_objects=not cfg.QUIRKS.KEEP_OBJECTS_UNFLIPPED,
        ),
        augmentation=augmentation if training else None,
        extend_scale=tuple(cfg.TEST.EXTEND_SCALE),
        max_objects=_max_objects(cfg),
        skip_unreadable=cfg.DATASETS.ON_ERROR == "skip",
        on_device=cfg.INPUT.TRANSFORM == "device",
    )
