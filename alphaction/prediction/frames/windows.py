"""The last few frames of a video, small, from which clips are cut.

Clips are those that testing makes: the same frames (`dataset.sampling`), resized in the same way
(`dataset.transforms`).

Shapes: T frames of a pathway, h x w pixels of a clip.
"""

from __future__ import annotations

import logging
from collections import deque

import cv2
import numpy as np
import torch
from torch import Tensor

from alphaction.dataset.sampling import ClipSampling, frame_times, key_position, nearest_frames
from alphaction.dataset.transforms import ClipTransform, resized_size
from alphaction.prediction.frames.source import Frame

logger = logging.getLogger(__name__)


class FrameWindow:
    """Frames in the order of showing, resized as they come; what no clip will need again is forgotten.

    Args:
        sampling: which frames make a clip.
        transform: size and channel order of the clips.
        size: (height, width) of the video's frames, pixels.
        fps: of the video; used where the sampling counts frames.
    """

    def __init__(self, sampling: ClipSampling, transform: ClipTransform, *, size: tuple[int, int], fps: float) -> None:
        self.clip_size = resized_size(
            size, min_size=transform.min_size, max_size=transform.max_size, swap_size=transform.swap_size
        )
        self._sampling = sampling
        self._to_bgr = transform.to_bgr
        self._size = size
        self._fps = fps
        self._slow, self._fast = sampling.slow_window(), sampling.fast_window()
        self._positions = np.concatenate([self._slow, self._fast])
        self._places: deque[float] = deque()  # of each frame, on the axis of `_targets`
        self._images: deque[np.ndarray] = deque()
        self._told = False

    @property
    def counted(self) -> bool:
        """Whether clips are laid over numbers of frames (INPUT.FRAME_RATE 0) instead of times."""
        return not self._sampling.frame_rate

    def __len__(self) -> int:
        return len(self._images)

    def reach(self, time: float) -> tuple[float, float]:
        """First and last time (or number) that a clip around `time` looks at."""
        targets = self._targets(time)
        return float(targets.min()), float(targets.max())

    def add(self, frame: Frame) -> None:
        """Takes the next frame."""
        image = frame.image
        if image.shape[:2] != self._size and not self._told:
            self._told = True
            height, width = image.shape[:2]
            logger.warning("Frames change to %d x %d pixels at %.2f s: resized.", width, height, frame.time)
        if image.shape[:2] != self.clip_size:
            image = cv2.resize(image, self.clip_size[::-1], interpolation=cv2.INTER_LINEAR)
        self._images.append(np.ascontiguousarray(image[..., ::-1]) if self._to_bgr else image)
        self._places.append(float(frame.number) if self.counted else frame.time)

    def covers(self, time: float) -> bool:
        """Whether no later frame can belong to the clip around `time`."""
        return bool(self._places) and self._places[-1] >= self.reach(time)[1]

    def clip(self, time: float) -> tuple[Tensor | None, Tensor | None]:
        """Both pathways' frames around `time`, uint8 [3, T, h, w]; None for a pathway that is off.

        The first and the last frame repeat where the video has no more.
        """
        chosen = nearest_frames(np.array(self._places), self._targets(time))
        images = [self._images[i] for i in chosen.tolist()]
        count = len(self._slow)
        return _planes(images[:count]), _planes(images[count:])

    def forget(self, time: float) -> None:
        """Lets go of the frames that no clip around `time` or later needs."""
        low = self.reach(time)[0]
        while len(self._places) > 1 and self._places[1] <= low:
            self._places.popleft()
            self._images.popleft()

    def _targets(self, time: float) -> np.ndarray:
        span = self._sampling.span
        if self.counted:
            return np.floor(time * self._fps + 0.5) + self._positions - key_position(span)
        return frame_times(time, self._positions, span=span, frame_rate=self._sampling.frame_rate)


def _planes(images: list[np.ndarray]) -> Tensor | None:
    """uint8 [3, T, h, w] of frames [h, w, 3]."""
    if not images:
        return None
    return torch.from_numpy(np.ascontiguousarray(np.stack(images).transpose(3, 0, 1, 2)))
