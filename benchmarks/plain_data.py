"""The original's way from one-second clips to a batch: what benchmarks/data.py measures ours against.

Written by us for the comparison (the original's code is not ours to carry), and never used by the package. It gives the
same numbers as ours in the straightforward way:

- every second file that the window touches is decoded as a whole, every frame turned to RGB;
- the window is cut out, then all of its frames are resized, recoloured in HSV and mirrored, whether a pathway reads
  them or not;
- all of them become float32 and are normalised on the processor; the pathways are picked last;
- the batch is put together in float32.

Boxes are left out, in its favour. Shapes: T frames of the window, H x W pixels decoded, h x w resized.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from alphaction.dataset.frame_forms import FrameConverter
from alphaction.dataset.sampling import fast_positions, slow_positions
from alphaction.dataset.transforms import resized_size


@dataclass(frozen=True)
class PlainPipeline:
    """One sample after the other.

    Attributes:
        frame_num, sample_rate, tau, alpha, min_size, max_size: the INPUT keys.
        mean, std: of the normalisation, levels of 8 bits.
        size_divisibility: DATALOADER.SIZE_DIVISIBILITY.
    """

    frame_num: int
    sample_rate: int
    tau: int
    alpha: int
    min_size: int
    max_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size_divisibility: int

    def sample(
        self, files: Mapping[int, str], second: int, *, color: tuple[int, int, int] | None = None, flip: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Slow and fast pathway, float32 [3, T', h, w].

        Args:
            files: paths of the one-second clips by second.
            second: of the keyframe.
            color: added to hue (of 180), saturation and value; None = no jitter.
        """
        frames = self._window(files, second)
        height, width = resized_size(frames[0].shape[:2], min_size=self.min_size, max_size=self.max_size)
        frames = [cv2.resize(frame, (width, height)) for frame in frames]
        if color is not None:
            frames = [_recoloured(frame, color) for frame in frames]
        clip = np.stack(frames)
        if flip:
            clip = np.ascontiguousarray(clip[:, :, ::-1])
        planes = torch.from_numpy(clip.astype(np.float32)).permute(3, 0, 1, 2)
        shape = (3, 1, 1, 1)
        planes.sub_(torch.tensor(self.mean).view(shape)).div_(torch.tensor(self.std).view(shape))
        slow = planes[:, torch.from_numpy(slow_positions(self.frame_num, self.tau))]
        fast = planes[:, torch.from_numpy(fast_positions(self.frame_num, self.tau, self.alpha))]
        return slow, fast

    def collate(self, samples: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """float32 [N, 3, T', H, W] of each pathway, zeros at the right and the bottom."""
        slow, fast = zip(*samples, strict=True)
        return self._padded(slow), self._padded(fast)

    def _window(self, files: Mapping[int, str], second: int) -> list[np.ndarray]:
        """The sampled frames uint8 [H, W, 3], from as many whole seconds on both sides as hold the window."""
        span = self.frame_num * self.sample_rate
        right, left, step = decode_all(files[second]), [], 1
        while len(right) < span // 2 and second + step in files:
            right += decode_all(files[second + step])
            step += 1
        step = 1
        while len(left) < span // 2 and second - step in files:
            left = decode_all(files[second - step]) + left
            step += 1
        right += [right[-1]] * (span // 2 - len(right))
        left = [(left or right)[0]] * (span // 2 - len(left)) + left
        window = left[len(left) - span // 2 :] + right[: span // 2]
        return window[(self.sample_rate - 1) // 2 :: self.sample_rate]

    def _padded(self, clips: Sequence[Tensor]) -> Tensor:
        height, width = (max(clip.shape[axis] for clip in clips) for axis in (2, 3))
        if self.size_divisibility > 0:
            height, width = (-(-side // self.size_divisibility) * self.size_divisibility for side in (height, width))
        batch = torch.zeros(len(clips), *clips[0].shape[:2], height, width)
        for row, clip in zip(batch, clips, strict=True):
            row[:, :, : clip.shape[2], : clip.shape[3]].copy_(clip)
        return batch


def decode_all(path: str) -> list[np.ndarray]:
    """Every frame of a file, uint8 [H, W, 3] RGB.

    By one converter: `frame.to_ndarray` makes one for every frame, which in newer PyAV starts threads of its own each
    time and takes twice as long. One thread is what is compared here.
    """
    converter = FrameConverter()
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return [converter.rgb(frame) for frame in container.decode(video=0)]


def _recoloured(frame: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    hue, saturation, value = cv2.split(cv2.cvtColor(frame, cv2.COLOR_RGB2HSV).astype(np.float32))
    planes = (hue + color[0]) % 180, (saturation + color[1]).clip(0, 255), (value + color[2]).clip(0, 255)
    return cv2.cvtColor(cv2.merge(planes).astype(np.uint8), cv2.COLOR_HSV2RGB)
