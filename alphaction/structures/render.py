"""From decoded planes to the network's pixels, on any device: resize, RGB, colours, rotation, mirror, channel order.

The same picture as the exact way (`dataset.clip_canvas.RgbCanvas`), computed in floats instead of by 8-bit steps:
colours are kept at half the resolution until they are resized with the frame (as the exact way spreads them), and
pixels are rounded once, before colours are changed.

Shapes: n clips of one geometry, P frames of a clip, H x W pixels of the planes, h x w pixels of a clip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from alphaction.structures.batch import ClipBatch, ClipSample, normalize_clips
from alphaction.structures.planes import ClipPlanes, PlaneLayout

_CPU_FRAMES = 8  # computed at a time: few enough to stay near the processor's cache
_GPU_PIXELS = 2**24  # of the planes, computed at a time: each takes 50 to 110 bytes on the way, together up to 1.7 GiB
# Shares of red and blue in luma, by the number of the colour matrix; others are BT.601, as libav takes them.
_LUMA_SHARES = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
_BT601 = (0.299, 0.114)


def network_clips(batch: ClipBatch, mean: Tensor, std: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Both pathways of a batch as the network reads them, from pixels or from planes.

    Args:
        batch: on the model's device.
        mean, std: [3], in the order of the channels and on the clips' device.

    Returns:
        slow and fast, float32 [N, 3, T, H, W], zero in the padding; None for a pathway that is off.
    """
    if batch.planes is None:
        slow, fast = (
            None if clips is None else normalize_clips(clips, batch.sizes, mean, std)
            for clips in (batch.slow, batch.fast)
        )
        return slow, fast
    shift, scale = (values.float().view(3, 1, 1, 1) for values in (mean, std))
    planes, layout = batch.planes, batch.planes.layouts[0]
    shapes = [(len(planes), 3, frames, *planes.padded) for frames in (layout.slow_frames, layout.fast_frames)]
    outs = [torch.zeros(shape, dtype=torch.float32, device=planes.data.device) for shape in shapes]
    for clip, first, pixels in _rendered(planes):
        height, width = pixels.shape[-2:]
        pixels = (pixels - shift) / scale
        begin = 0
        for out in outs:
            low, high = max(first - begin, 0), min(first + pixels.shape[1] - begin, out.shape[2])
            if low < high:
                here = pixels[:, low + begin - first : high + begin - first]
                out[clip, :, low:high, :height, :width] = here
            begin += out.shape[2]
    slow, fast = (out if out.shape[2] else None for out in outs)
    return slow, fast


def with_pixels(sample: ClipSample) -> ClipSample:
    """The sample with its clips as pixels, rounded to 8 bit, for looking at them."""
    if sample.planes is None:
        return sample
    layout = sample.planes.layouts[0]
    frames = torch.cat([pixels for _, _, pixels in _rendered(sample.planes)], dim=1).round().to(torch.uint8)
    slow, fast = frames[:, : layout.slow_frames], frames[:, layout.slow_frames :]
    return replace(
        sample,
        slow=slow if layout.slow_frames else None,
        fast=fast if layout.fast_frames else None,
        planes=None,
    )


def _rendered(planes: ClipPlanes) -> Iterator[tuple[int, int, Tensor]]:
    """(clip, its first frame here, pixels float32 [3, frames, h, w] in 0..255) for all frames of all clips."""
    most, clip = _frames_at_once(planes), 0
    for run in planes.runs(most):
        luma, chroma = run.stacked()
        for first in range(0, luma.shape[1], most):
            part = slice(first, first + most)
            # Within autocast, too: in bfloat16 levels above 128 would be rounded to even ones.
            with torch.autocast(planes.data.device.type, enabled=False):
                pixels = _pixels(luma[:, part], chroma[:, part], run.layouts)
            for place, layout in enumerate(run.layouts):
                yield clip + place, first, _oriented(pixels[place], layout).transpose(0, 1)
        clip += len(run)


def _frames_at_once(planes: ClipPlanes) -> int:
    if planes.data.device.type == "cpu":
        return _CPU_FRAMES
    return max(1, _GPU_PIXELS // max(math.prod(layout.source) for layout in planes.layouts))


def _pixels(luma: Tensor, chroma: Tensor, layouts: Sequence[PlaneLayout]) -> Tensor:
    """float32 [n, P, 3, h, w] RGB in 0..255, resized and recoloured, not yet rotated and mirrored."""
    count, frames, height, width = luma.shape
    size = layouts[0].size[::-1] if layouts[0].turns % 2 else layouts[0].size
    luma = luma.reshape(-1, 1, height, width).float()
    if (height, width) == size:
        chroma = chroma.reshape(-1, 2, *chroma.shape[-2:]).float()
        yuv = torch.cat([luma, _doubled(chroma, (height, width))], dim=1)
    else:
        chroma = _doubled(chroma.reshape(-1, 2, *chroma.shape[-2:]), (height, width)).float()
        # Bilinear without smoothing, as the exact way.
        resized = [F.interpolate(x, size, mode="bilinear", align_corners=False) for x in (luma, chroma)]
        yuv = torch.cat(resized, dim=1)
    coloured = (yuv[:, 1:] - 128).abs_().clamp_(max=1)
    yuv = torch.cat([yuv, coloured], dim=1)
    matrix, offset = (
        x.to(yuv, non_blocking=True) for x in _to_rgb(layouts[0].matrix, full_range=layouts[0].full_range)
    )
    rgb = torch.einsum("ij,njhw->nihw", matrix, yuv).add_(offset[:, None, None]).clamp_(0, 255)
    rgb = rgb.unflatten(0, (count, frames))
    colors = [layout.color for layout in layouts]
    if any(color is not None for color in colors):
        change = torch.tensor([color or (0, 0, 0) for color in colors], dtype=torch.float32).to(rgb, non_blocking=True)
        # To 8 bit first: what is grey by then has the hue red, as in the exact way.
        rgb = _recolored(rgb.round_(), change)
    return rgb


def _doubled(chroma: Tensor, size: tuple[int, int]) -> Tensor:
    """Colour planes [F, 2, ., .] at the size of luma, as libav spreads them.

    Each value stands for two by two pixels. With an odd height libav takes another way: bilinear down the columns, and
    along the rows as well if the width is odd, too.
    """
    height, width = size
    if chroma.shape[-2:] == size:
        return chroma
    if height % 2:
        across = width if width % 2 else chroma.shape[-1]
        chroma = F.interpolate(chroma.float(), (height, across), mode="bilinear", align_corners=False)
    else:
        chroma = chroma.repeat_interleave(2, -2)
    if chroma.shape[-1] < width:
        chroma = chroma.repeat_interleave(2, -1)
    return chroma[..., :width]


def _to_rgb(matrix: int, *, full_range: bool) -> tuple[Tensor, Tensor]:
    """[3, 5] and [3]: RGB = matrix @ (Y, U, V, whether U is not 128, whether V is not) + offset, all in 0..255.

    libav rounds every product down, so that its pixels are half a level darker for each one that is not whole; so are
    these. Without colour (U = 128) there is nothing to round.
    """
    red, blue = _LUMA_SHARES.get(matrix, _BT601)
    green = 1 - red - blue
    luma, chroma, black = (1.0, 1.0, 0.0) if full_range else (255 / 219, 255 / 224, 16.0)
    to_red, to_blue = 2 * (1 - red) * chroma, 2 * (1 - blue) * chroma
    rows = torch.tensor(
        [[luma, 0.0, to_red], [luma, -to_blue * blue / green, -to_red * red / green], [luma, to_blue, 0.0]]
    )
    rounded_down = ((rows != 0) & (rows != 1)) / 2
    offset = -rows @ torch.tensor([black, 128.0, 128.0]) - rounded_down[:, 0]
    return torch.cat([rows, -rounded_down[:, 1:]], dim=1), offset


def _recolored(rgb: Tensor, change: Tensor) -> Tensor:
    """Hue, saturation and value moved by way of HSV in floats.

    Args:
        rgb: [n, P, 3, h, w] in 0..255.
        change: [n, 3], in units of 2 degrees, 1/255 and 1/255.
    """
    hue_change, saturation_change, value_change = change.view(-1, 1, 3, 1, 1).split(1, dim=2)
    red, green, blue = rgb.split(1, dim=2)
    value, spread = rgb.amax(2, keepdim=True), rgb.amax(2, keepdim=True) - rgb.amin(2, keepdim=True)
    unit = spread.clamp(min=1e-6)
    hue = torch.where(value == green, 2 + (blue - red) / unit, 4 + (red - green) / unit)
    hue = torch.where(value == red, (green - blue) / unit, hue)  # sixths of the circle
    saturation = (spread / value.clamp(min=1e-6) + saturation_change / 255).clamp_(0, 1)
    value = (value + value_change).clamp_(0, 255)
    hue = hue + hue_change / 30
    shifts = hue.new_tensor([5.0, 3.0, 1.0]).view(1, 1, 3, 1, 1)
    place = (hue + shifts).remainder_(6)
    return value - value * saturation * torch.minimum(place, 4 - place).clamp_(0, 1)


def _oriented(frames: Tensor, layout: PlaneLayout) -> Tensor:
    """[P, 3, h, w] upright, mirrored, in the channels' order."""
    if layout.turns:
        frames = torch.rot90(frames, layout.turns, dims=(-2, -1))
    if layout.flip:
        frames = frames.flip(-1)
    return frames.flip(1) if layout.to_bgr else frames
