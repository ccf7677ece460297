"""What the model's golden tests share: configurations, inputs and slices as a golden's meta describes them."""

from __future__ import annotations

import pathlib

import torch
from goldens import REFERENCE_OPTS, fill, load

from alphaction.config import load_config
from alphaction.modeling import build_detection_model
from alphaction.structures import Boxes, ClipBatch, ClipKey

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


def config_of(case, extra=()):
    """The configuration of a case: a shipped YAML file or the defaults, the case's options, the original's quirks."""
    path = REPOSITORY / "config_files" / f"{case['config']}.yaml" if case.get("config") else ""
    cfg = load_config(path, [*REFERENCE_OPTS, *case["opts"], *extra])
    cfg.freeze()
    return cfg


def filled_model(cfg, salt):
    """The network with the kit's weights."""
    with torch.device("meta"):  # every weight is filled below, none need be drawn
        model = build_detection_model(cfg)
    model.to_empty(device="cpu")
    model.pixel_mean.copy_(torch.tensor(cfg.INPUT.PIXEL_MEAN).reshape(-1, 1, 1, 1))
    model.pixel_std.copy_(torch.tensor(cfg.INPUT.PIXEL_STD).reshape(-1, 1, 1, 1))
    return fill.fill_module(model, salt)


def cases_of(*names):
    """(golden, case) for every case of the goldens, to parametrise over."""
    return [(name, case) for name in names for case in sorted(load(name)[0]["cases"])]


def tensor(array):
    return None if array is None else torch.from_numpy(array.copy())


def selection(text):
    """'[:, ::2, :]' -> the tuple of slices."""
    parts = [part.strip() for part in text.strip("[]").split(",")]
    return tuple(slice(*(int(v) if v else None for v in part.split(":"))) for part in parts)


def split_boxes(array, counts, sizes):
    """Boxes per clip from a concatenated [R, 4] array; sizes are (height, width)."""
    parts = torch.from_numpy(array.copy()).split(list(map(int, counts)))
    return [Boxes(part, size) for part, size in zip(parts, sizes, strict=True)]


def clip_batch(clips, case, *, persons, regions, objects=None, labels=None):
    """A batch of the kit's clips as the data loader makes it: uint8, and noise in the padding, which must not matter.

    clips: dicts with "clip" (name), "height", "width" and, where known, "movie", "timestamp".
    """
    sizes = [(clip["height"], clip["width"]) for clip in clips]
    pad = case["pad_to"]
    height, width = (-(-max(side) // pad) * pad for side in zip(*sizes, strict=True))
    pathways = {}
    for name in ("slow", "fast"):
        index = case[f"{name}_index"]
        pathways[name] = None
        if index is not None:
            frames = torch.randint(0, 256, (len(clips), 3, len(index), height, width), dtype=torch.uint8)
            for i, (clip, (h, w)) in enumerate(zip(clips, sizes, strict=True)):
                pixels = torch.from_numpy(fill.clip_u8(clip["clip"], 64, h, w, case["clip_salt"])[index])
                frames[i, :, :, :h, :w] = pixels.permute(3, 0, 1, 2)
            pathways[name] = frames
    return ClipBatch(
        **pathways,
        sizes=sizes,
        persons=persons,
        regions=regions,
        labels=labels,
        person_scores=None,
        objects=objects,
        keys=[ClipKey(clip.get("movie", "m"), float(clip.get("timestamp", 0))) for clip in clips],
        indices=list(range(len(clips))),
    )
