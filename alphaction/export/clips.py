"""Real clips with their persons, on which an exported file is compared with the network it comes from.

Shapes: n persons, m objects of a picture of h x w pixels.
"""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from alphaction.dataset.transforms import enlarged_regions
from alphaction.errors import DataError
from alphaction.prediction.boxes.table import FilePersons
from alphaction.prediction.frames.source import FileSource
from alphaction.prediction.frames.windows import FrameWindow
from alphaction.prediction.settings import Network
from alphaction.structures import Boxes, ClipKey, ClipSample
from alphaction.synthetic.planner import SceneOptions, plan_scene
from alphaction.synthetic.render import figure_box
from alphaction.synthetic.video import write_video

# Where nobody tells where persons and things are; as shares of width and height.
_MADE_UP = ((0.10, 0.10, 0.45, 0.95), (0.40, 0.20, 0.90, 0.90), (0.55, 0.05, 0.70, 0.60))
_THINGS = ((0.05, 0.60, 0.20, 0.75), (0.50, 0.50, 0.65, 0.58), (0.30, 0.05, 0.60, 0.40))


@dataclass(frozen=True)
class RealClips:
    """Clips to compare on.

    Attributes:
        samples: two, or one where there is no more; each with a person or more, and objects where the network looks
            at objects.
        origin: where they come from, for people.
    """

    samples: Sequence[ClipSample]
    origin: str


def of_video(path: str, network: Network, *, boxes: str = "") -> RealClips:
    """Two clips of a video.

    Args:
        boxes: file of its persons, see `prediction.boxes.table`; "" = boxes are made up.

    Raises:
        VideoError: it cannot be read.
        DataError: the boxes cannot be read, or show nobody.
    """
    source = FileSource(path)
    try:
        if not boxes:
            times = [source.start + (source.end - source.start) * share for share in (1 / 3, 2 / 3)]
            told = {time: _boxes(_MADE_UP, source.size) for time in times}
            return RealClips(_samples(source, network, told), f"video {path}, made-up boxes")
        persons = FilePersons(boxes, video=pathlib.Path(path).stem)
        found = {time: persons.find(time).within(source.size, min_score=0.0).boxes for time in persons.times(0, 1e9, 4)}
        told = {time: Boxes(torch.from_numpy(rows), source.size) for time, rows in found.items() if len(rows)}
        told = dict(list(told.items())[:2])
        if not told:
            raise DataError(f"{boxes}: has no box within the pictures of {path}, expected at least one")
        return RealClips(_samples(source, network, told), f"video {path}, boxes of {boxes}")
    finally:
        source.close()


def of_drawn_video(network: Network) -> RealClips:
    """Two clips of a short video of drawn figures, the generator of the quickstart data set."""
    rng = np.random.default_rng(0)
    options = SceneOptions(seconds=3.0)
    scene = plan_scene(rng, options)
    told = {}
    for beat in scene.beats[:2]:
        figures = [figure_box(look, scene.pose(i, beat.keyframe), scene.size) for i, look in enumerate(scene.looks)]
        told[beat.keyframe] = Boxes(torch.tensor(figures, dtype=torch.float32), scene.size).clip()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "figures.mp4"
        write_video(path, scene, rng=rng, fps=options.fps)
        source = FileSource(str(path))
        try:
            return RealClips(_samples(source, network, told), "a video of drawn figures (quickstart's generator)")
        finally:
            source.close()


def complete(sample: ClipSample, network: Network) -> ClipSample:
    """The sample with made-up persons and objects where it has none."""
    if not len(sample.regions):
        persons = _boxes(_MADE_UP, sample.size)
        regions = enlarged_regions(persons, network.extend_scale)
        sample = replace(sample, persons=persons, regions=regions, labels=None, person_scores=None, annotated=None)
    if network.max_objects and (sample.objects is None or not len(sample.objects)):
        sample = replace(sample, objects=_boxes(_THINGS, sample.size))
    return sample


def fitted(sample: ClipSample, size: tuple[int, int]) -> ClipSample:
    """The sample no larger than `size` (height, width): reduced, with its boxes, where it is."""
    height, width = sample.size
    share = min(size[0] / height, size[1] / width)
    if share >= 1:
        return sample
    new = (max(1, int(height * share)), max(1, int(width * share)))
    return replace(
        sample,
        slow=_reduced(sample.slow, new),
        fast=_reduced(sample.fast, new),
        persons=sample.persons.resize(new),
        regions=sample.regions.resize(new),
        objects=None if sample.objects is None else sample.objects.resize(new),
    )


def _samples(source: FileSource, network: Network, told: dict[float, Boxes]) -> list[ClipSample]:
    """The clips around some times, with the persons of each in pixels of the video."""
    samples = []
    for index, (time, boxes) in enumerate(told.items()):
        window = FrameWindow(network.sampling, network.transform, size=source.size, fps=source.fps)
        for frame in source.frames(*window.reach(time), counted=window.counted):
            window.add(frame)
        slow, fast = window.clip(time)
        persons = boxes.resize(window.clip_size)
        sample = ClipSample(
            slow=slow,
            fast=fast,
            persons=persons,
            regions=enlarged_regions(persons, network.extend_scale),
            labels=None,
            person_scores=None,
            objects=None,
            key=ClipKey(source.name, time),
            index=index,
        )
        samples.append(complete(sample, network))
    return samples


def _boxes(shares: Sequence[Sequence[float]], size: tuple[int, int]) -> Boxes:
    height, width = size
    scale = torch.tensor([width - 1.0, height - 1.0, width - 1.0, height - 1.0])
    return Boxes(torch.tensor(shares, dtype=torch.float32) * scale, size)


def _reduced(clip: Tensor | None, size: tuple[int, int]) -> Tensor | None:
    """uint8 [3, T, h, w] in another size."""
    if clip is None:
        return None
    frames = F.interpolate(clip.transpose(0, 1).float(), size, mode="bilinear", antialias=True)
    return frames.round().clamp(0, 255).to(torch.uint8).transpose(0, 1).contiguous()
