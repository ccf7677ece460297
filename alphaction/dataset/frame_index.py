"""The frames of a video in the order they are shown, from its packets alone.

Shapes: M frames of the video.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np


@dataclass
class FrameIndex:
    """The frames of a video in the order they are shown.

    Attributes:
        times: float64 [M], seconds from the first frame, ascending.
        pts: int64 [M], time stamps in units of the stream, ascending; None where the file's are unusable (raw streams,
            AVI with B-frames): then frames are found by counting from the start.
        keys: int64, time stamps of the packets that decoding can start from, ascending.
        tick: seconds per unit of the time stamps: times = (pts - pts[0]) * tick; 0 where `pts` is None.
    """

    times: np.ndarray
    pts: np.ndarray | None
    keys: np.ndarray
    tick: float = 0.0
    _last_duration: float | None = field(default=None, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def last_duration(self) -> float:
        """Seconds that the last frame is shown for, taken as the usual step between frames."""
        if self._last_duration is None:  # asked for at every clip; the median of a long video takes a while
            self._last_duration = float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0
        return self._last_duration

    def cut(self, length: int) -> None:
        """Forget the frames from `length` on."""
        self.times = self.times[:length]
        self.pts = None if self.pts is None else self.pts[:length]
        self._last_duration = None


def stamped_index(pts: np.ndarray, *, tick: float, keys: np.ndarray) -> FrameIndex:
    """The index of frames with time stamps `pts`, in units of `tick` seconds; see `FrameIndex`."""
    return FrameIndex(times=(pts - pts[:1]) * tick, pts=pts, keys=keys, tick=tick)


def index_packets(
    packets: Iterable[av.Packet], *, time_base: Fraction, rate: Fraction | None, trust_pts: bool = True
) -> FrameIndex:
    """The index of a video track, without decoding.

    Args:
        packets: all packets of the track in the file's order.
        time_base: seconds per unit of their time stamps.
        rate: frames per second, for packets without any time stamp; 25 when unknown.
        trust_pts: False when presentation time stamps are known to be made up.

    Returns:
        An index of no frames when there are no packets.
    """
    pts, dts, keys = [], [], []
    for packet in packets:
        if packet.is_keyframe and packet.pts is not None:
            keys.append(packet.pts)
        if not packet.is_discard:  # before the start that an edit list sets: decoded, never shown
            pts.append(packet.pts)
            dts.append(packet.dts)
    if trust_pts and None not in pts:
        stamps = np.unique(np.array(pts, dtype=np.int64))
        return stamped_index(stamps, tick=float(time_base), keys=np.unique(np.array(keys, dtype=np.int64)))
    no_keys = np.zeros(0, dtype=np.int64)
    if None in dts:
        return FrameIndex(times=np.arange(len(dts)) / float(rate or 25), pts=None, keys=no_keys)
    ticks = np.sort(np.array(dts, dtype=np.int64))  # decoding times have the same steps as presentation times
    return FrameIndex(times=(ticks - ticks[0]) * float(time_base), pts=None, keys=no_keys)
