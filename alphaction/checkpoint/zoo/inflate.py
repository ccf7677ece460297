"""Weights of torchvision's ResNets for images, in a slow pathway.

A kernel that sees k frames gets the image kernel k times, divided by k: on a clip that stands still it computes what
the image network computes. Channels that the image network does not have (those of the lateral connections) get weights
of 0, so that a SlowFast network begins as the image network, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_OUR_BLOCK = re.compile(
    r"backbone\.slow\.res_nl(?P<stage>\d)\.res_(?P<block>\d+)\."
    r"(?:btnk\.conv(?P<conv>\d)|(?P<shortcut>shortcut))\.(?P<kind>conv|bn)\.(?P<part>\w+)"
)
_OUR_STEM = re.compile(r"backbone\.slow\.(?P<layer>conv1|bn1)\.(?P<part>\w+)")
_THEIR_BLOCK = re.compile(r"layer(\d)\.(\d+)\.(.+)")
_SHOWN_AS = "torchvision ResNet (images)"


class ImageWeights(dict[str, Tensor]):
    """Tensors by torchvision's names, to be inflated when the network is known."""

    title = _SHOWN_AS


def is_image_network(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are the weights of a ResNet of torchvision with bottleneck blocks (50 layers or more)."""
    stem, third = weights.get("conv1.weight"), weights.get("layer1.0.conv3.weight")
    return stem is not None and third is not None and stem.ndim == third.ndim == 4


def image_name(name: str) -> str | None:
    """torchvision's name of one of our tensors; None if the image network has no such tensor."""
    found = _OUR_STEM.fullmatch(name)
    if found:
        return f"{found['layer']}.{found['part']}"
    found = _OUR_BLOCK.fullmatch(name)
    if not found:
        return None
    if found["shortcut"]:
        layer = "downsample.0" if found["kind"] == "conv" else "downsample.1"
    else:
        layer = f"{found['kind']}{found['conv']}"
    return f"layer{found['stage']}.{found['block']}.{layer}.{found['part']}"


def inflated(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under our names and in the shapes of a network.

    Args:
        weights: torchvision's.
        expected: the network's state; only names and shapes count.

    Returns:
        Tensors by our names. What has no place in the network is there, too, and what cannot be brought into its shape
        keeps its own, so that loading tells of both, and of blocks that a network of another depth has.
    """
    used, result = set(), {}
    for name, place in expected.items():
        theirs = image_name(name)
        if theirs is not None and theirs in weights:
            used.add(theirs)
            result[name] = _in_shape(weights[theirs], tuple(place.shape))
    for name, tensor in weights.items():
        if name not in used:
            result[_THEIR_BLOCK.sub(r"backbone.slow.res_nl\1.res_\2.\3", name)] = tensor
    return result


def _in_shape(kernel: Tensor, shape: tuple[int, ...]) -> Tensor:
    """[O, I, h, w] to [O, I + J, t, h, w], the J added channels 0; other tensors as they are."""
    if kernel.ndim != 4 or len(shape) != 5:
        return kernel
    frames, added = shape[2], shape[1] - kernel.shape[1]
    clip = kernel.unsqueeze(2).expand(-1, -1, frames, -1, -1) / frames
    if added <= 0:
        return clip.contiguous()
    zeros = clip.new_zeros((clip.shape[0], added, *clip.shape[2:]))
    return torch.cat([clip, zeros], dim=1)
