"""What a user of an exported file has to know: classes, frames, sizes, boxes, memory. Plain values, for JSON."""

from __future__ import annotations

from alphaction import __version__
from alphaction.dataset.sampling import key_position
from alphaction.export.network import OpenNetwork
from alphaction.prediction.settings import Network

VERSION = 1

_BOXES = (
    "rows of (clip, x1, y1, x2, y2): number of the clip in the call from 0, then pixels of the clip without padding, "
    "corners inclusive: x from 0 to width - 1. In any order. To compute as training and prediction do, enlarge "
    "persons' boxes by extend_scale first."
)
_MEMORY = (
    "features (second output) of the persons seen in each moment, zeros for empty places. What is given for the clip's "
    "own moment is not read: the clip's own persons are taken."
)


def facts_of(network: Network, opened: OpenNetwork, *, size: tuple[int, int] | None) -> dict[str, object]:
    """The facts, by name; every value can be written as JSON.

    Args:
        size: (height, width) of the clips with padding, where the file takes no other.
    """
    facts: dict[str, object] = {
        "alphaction_export": VERSION,
        "alphaction_version": __version__,
        "weights": network.source,
        "classes": list(network.classes.names),
        "class_ids": list(network.classes.ids),
        "exclusive_classes": [[columns.start, columns.stop] for columns in network.exclusive],
        "inputs": _inputs(network, opened, size),
        "outputs": {
            "scores": "float32 [persons, classes], probabilities",
            "features": "float32 [persons, channels], what the memory keeps",
        },
        "pixels": {
            "range": [0, 255],
            "channels": "BGR" if network.transform.to_bgr else "RGB",
            "mean": opened.pixel_mean.flatten().tolist(),
            "std": opened.pixel_std.flatten().tolist(),
            "normalised": "inside the network: give pixels as they are",
        },
        "frames": _frames(network),
        "size": {
            "min_side": network.transform.min_size,
            "max_side": network.transform.max_size,
            "padded_to_multiple_of": max(network.size_divisibility, 1),
            "fixed": None if size is None else list(size),
        },
        "boxes": {"convention": _BOXES, "extend_scale": list(network.extend_scale)},
        "person_threshold": network.box_threshold,
        "person_head": "not in this file" if network.model.person_head is not None else "none",
    }
    structure = network.model.head.feature_extractor.ia_structure
    if structure is not None:
        facts["limits"] = {"persons": structure.limits.persons, "objects": structure.limits.objects}
    if network.memory is not None:
        span = network.memory.span
        facts["memory"] = {
            "moments_before": span.before,
            "moments_after": span.after,
            "seconds_between_moments": span.rate * network.memory.step,
            "persons_per_moment": span.persons,
            "channels": network.memory.channels,
            "content": _MEMORY,
        }
    return facts


def _inputs(network: Network, opened: OpenNetwork, size: tuple[int, int] | None) -> dict[str, str]:
    """Type and shape of each input, in the order in which they are given."""
    sides = "height, width" if size is None else f"{size[0]}, {size[1]}"
    sampling = network.sampling
    told = {
        "slow": f"{_kind(opened)} [clips, 3, {len(sampling.slow_window())}, {sides}]",
        "fast": f"{_kind(opened)} [clips, 3, {len(sampling.fast_window())}, {sides}]",
        "sizes": "int64 [clips, 2], (height, width) of each clip without padding, pixels",
        "boxes": "float32 [persons, 5]",
        "objects": "float32 [objects, 5], at most limits.objects of a clip are looked at, the first ones",
    }
    if network.memory is not None:
        span = network.memory.span
        told["memory"] = f"float32 [clips, {span.moments}, {span.persons}, {network.memory.channels}]"
    return {name: told[name] for name in opened.input_names}


def _kind(opened: OpenNetwork) -> str:
    return str(opened.pixels).removeprefix("torch.")


def _frames(network: Network) -> dict[str, object]:
    """Which frames of a window around the keyframe each pathway takes."""
    sampling = network.sampling
    return {
        "frame_num": sampling.frame_num,
        "sample_rate": sampling.sample_rate,
        "tau": sampling.tau,
        "alpha": sampling.alpha,
        "positions_per_second": sampling.frame_rate or "the video's own frames",
        "window": sampling.span,
        "keyframe_at": key_position(sampling.span),
        "slow_at": sampling.slow_window().tolist(),
        "fast_at": sampling.fast_window().tolist(),
    }
