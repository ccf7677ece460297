"""Which frames make a clip: pure functions on times and frame counts, no video in sight.

A clip is `frame_num` frames, every `sample_rate`-th of a window of span = frame_num * sample_rate positions around the
keyframe. Position 0 is the window's first; the keyframe stands at position `key_position(span)`. Of the sampled frames
each pathway takes its own, so a pathway's frames are named by window positions from the start and only those are read.

How positions become frames:
- by time (INPUT.FRAME_RATE f > 0): position p stands for the time `key_time + (p - key_position) / f`, and the frame
  shown nearest to that time is taken. A source of any frame rate gives the same span of time.
- by index (INPUT.FRAME_RATE 0, the original's way): positions count the source's own frames.

Either way the first and the last frame repeat where the window leaves the video.

Shapes: P positions, M frames of a video.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

SlowFrames = Literal["middle", "first", "spread"]

TIE = 1e-6  # seconds: two frames whose distances to a time differ by less are equally near


@dataclass(frozen=True)
class ClipSampling:
    """How clips are cut from a video.

    Attributes:
        frame_num: frames sampled from the window (INPUT.FRAME_NUM).
        sample_rate: positions of the window per sampled frame (INPUT.FRAME_SAMPLE_RATE).
        tau: sampled frames per slow frame (INPUT.TAU).
        alpha: fast frames per slow frame (INPUT.ALPHA).
        frame_rate: window positions per second of time (INPUT.FRAME_RATE); 0 counts the source's own frames.
        slow, fast: whether the pathway is in use.
        slow_frames: which of the sampled frames are the slow ones, see `slow_positions` (INPUT.SLOW_FRAMES).
    """

    frame_num: int
    sample_rate: int
    tau: int
    alpha: int
    frame_rate: float = 25.0
    slow: bool = True
    fast: bool = True
    slow_frames: SlowFrames = "middle"

    def __post_init__(self) -> None:
        for name in ("frame_num", "sample_rate", "tau", "alpha"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected at least 1")
        if self.fast and self.tau % self.alpha:
            raise ValueError(f"alpha: got {self.alpha}, expected a divisor of tau = {self.tau}")
        if self.slow and self.frame_num < (self.tau + 1) // 2:
            raise ValueError(f"tau: got {self.tau}, no slow frame among frame_num = {self.frame_num} sampled frames")
        if not self.frame_rate >= 0:
            raise ValueError(f"frame_rate: got {self.frame_rate}, expected a number >= 0")
        if not (self.slow or self.fast):
            raise ValueError("slow, fast: both pathways are off")

    @property
    def span(self) -> int:
        """Length of the window in positions."""
        return self.frame_num * self.sample_rate

    def slow_window(self, shift: int = 0) -> np.ndarray:
        """Window positions of the slow pathway's frames, int64 [T_slow]; empty when the pathway is off."""
        if not self.slow:
            return np.zeros(0, dtype=np.int64)
        chosen = slow_positions(self.frame_num, self.tau, shift, which=self.slow_frames)
        return window_indices(self.frame_num, self.sample_rate)[chosen]

    def fast_window(self) -> np.ndarray:
        """Window positions of the fast pathway's frames, int64 [T_fast]; empty when the pathway is off."""
        if not self.fast:
            return np.zeros(0, dtype=np.int64)
        return window_indices(self.frame_num, self.sample_rate)[fast_positions(self.frame_num, self.tau, self.alpha)]


def window_indices(frame_num: int, sample_rate: int) -> np.ndarray:
    """Window positions of the sampled frames, int64 [frame_num]: the middle one of every `sample_rate` positions."""
    return np.arange(frame_num, dtype=np.int64) * sample_rate + (sample_rate - 1) // 2


def slow_positions(frame_num: int, tau: int, shift: int = 0, *, which: SlowFrames = "middle") -> np.ndarray:
    """The slow pathway's frames among the sampled ones, int64 [T_slow].

    Args:
        which: "middle": (tau - 1) // 2 + shift + k tau; "first": shift + k tau; "spread": evenly from the first to the
            last sampled frame, and then moved by shift.
        shift: random move of the pathway in sampled frames (INPUT.SLOW_JITTER), see `slow_shift_range`. The number of
            frames does not depend on it (the last sampled frame repeats where it must).
    """
    centre = (tau - 1) // 2
    count = len(range(centre, frame_num, tau))
    if which == "spread":
        # In float32, as PySlowFast and PyTorchVideo compute it: a frame may depend on the last bit.
        places = torch.linspace(0, frame_num - 1, count).long().numpy()
    else:
        places = np.arange(count, dtype=np.int64) * tau + (centre if which == "middle" else 0)
    return np.clip(places + shift, 0, frame_num - 1)


def slow_shift_range(tau: int) -> tuple[int, int]:
    """Smallest and largest shift of the slow pathway, both inclusive: its first frame is any of the first tau."""
    centre = (tau - 1) // 2
    return -centre, tau - 1 - centre


def fast_positions(frame_num: int, tau: int, alpha: int) -> np.ndarray:
    """The fast pathway's frames among the sampled ones, every tau / alpha-th, int64 [T_fast].

    Slow and fast frames need not coincide (4x16: 7, 23, 39, 55 and 0, 2, ..., 62); kept as trained (QUIRKS 8).
    """
    if tau % alpha:
        raise ValueError(f"alpha: got {alpha}, expected a divisor of tau = {tau}")
    stride = tau // alpha
    return np.arange((stride - 1) // 2, frame_num, stride, dtype=np.int64)


def key_position(span: int) -> int:
    """Position of the keyframe in a window of `span` positions: the first one of the second half."""
    return (span + 1) // 2


def frame_times(key_time: float, positions: np.ndarray, *, span: int, frame_rate: float) -> np.ndarray:
    """Times in seconds of window positions, float64 [P]; the keyframe's position is at exactly `key_time`."""
    if not frame_rate > 0:
        raise ValueError(f"frame_rate: got {frame_rate}, expected a number > 0")
    return key_time + (np.asarray(positions) - key_position(span)) / frame_rate


def nearest_frames(times: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The frame shown nearest to each target, ties to the earlier frame, int64 [P].

    Args:
        times: float64 [M], ascending presentation times in seconds, M >= 1.
        targets: float64 [P], seconds. Targets outside `times` give the first or the last frame.
    """
    if len(times) == 0:
        raise ValueError("times: got none, expected at least one frame")
    targets = np.asarray(targets, dtype=np.float64)
    after = np.searchsorted(times, targets).clip(0, len(times) - 1)
    before = (after - 1).clip(0)
    later_is_nearer = np.abs(times[after] - targets) < np.abs(times[before] - targets) - TIE
    nearest = np.where(later_is_nearer, after, before)
    # Frames shown at the same time (broken files): the first of them, whatever the target.
    return np.searchsorted(times, times[nearest]).astype(np.int64)


def index_frames(key_time: float, positions: np.ndarray, *, span: int, fps: float, num_frames: int) -> np.ndarray:
    """Frames of a whole video counted by index around frame round(key_time * fps), int64 [P]."""
    if num_frames < 1:
        raise ValueError(f"num_frames: got {num_frames}, expected at least 1")
    key_frame = int(np.floor(key_time * fps + 0.5))
    return (key_frame + np.asarray(positions, dtype=np.int64) - key_position(span)).clip(0, num_frames - 1)


def second_file_frames(
    key_time: float, positions: np.ndarray, *, span: int, num_frames: Callable[[int], int | None]
) -> np.ndarray:
    """Frames of one-second files counted by index around the keyframe, int64 [P, 2]: (second, frame in its file).

    As the original: whole seconds are joined on both sides of the keyframe until each side holds half a window, both
    sides are cut to the shorter one, and the window is the centre. Where the original stopped with an error because a
    second has no file, that side ends there and its outermost frame repeats.

    Args:
        key_time: a whole number of seconds is the first frame of that second's file; a fraction is that part of it.
        num_frames: frames in the file of a second, None where there is no such file. Asked only for what is needed.
    """
    second = int(np.floor(key_time + TIE))
    in_key_file = num_frames(second)
    if not in_key_file:
        raise ValueError(f"second {second}: got {in_key_file} frames, expected at least 1 in the keyframe's own file")
    key_frame = min(int(np.floor(max(key_time - second, 0.0) * in_key_file + 0.5)), in_key_file - 1)
    half = key_position(span)

    right = [(second, frame) for frame in range(key_frame, in_key_file)]
    left = [(second, frame) for frame in range(key_frame)]
    right = _joined(right, second, 1, half, num_frames)
    left = _joined(left, second, -1, half, num_frames)
    right += [right[-1]] * (half - len(right))
    left = [(left or right)[0]] * (half - len(left)) + left

    shorter = min(len(left), len(right))
    window = left[len(left) - shorter :] + right[:shorter]
    start = (len(window) - span) // 2
    return np.array([window[start + int(p)] for p in positions], dtype=np.int64).reshape(-1, 2)


def _joined(
    frames: list[tuple[int, int]], second: int, step: int, half: int, num_frames: Callable[[int], int | None]
) -> list[tuple[int, int]]:
    """`frames` with the following (step 1) or preceding (-1) seconds, until there are `half` or no file is left."""
    while len(frames) < half:
        second += step
        count = num_frames(second)
        if count is None:
            break
        new = [(second, frame) for frame in range(count)]
        frames = frames + new if step > 0 else new + frames
    return frames
