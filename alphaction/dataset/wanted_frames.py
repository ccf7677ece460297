"""Which frames of a video are still to be decoded, and in which runs."""

from __future__ import annotations

from collections.abc import Callable

import av
import numpy as np

from alphaction.dataset.frame_index import FrameIndex

WORTH_SEEKING = 4  # frames left undecoded from which on a seek is cheaper

Receiver = Callable[[np.ndarray, av.VideoFrame], None]  # takes places (int64) and the frame that belongs there


class WantedFrames:
    """The frames that are still to be handed over, by number, with their places in what was asked for.

    Args:
        numbers: int64 [P], frames by number, in any order and as often as they are asked for.
        receive: called with the places 0..P-1 of a number and its frame.
    """

    def __init__(self, numbers: np.ndarray, receive: Receiver) -> None:
        self._receive = receive
        self._places = {int(n): np.flatnonzero(numbers == n) for n in np.unique(numbers)}

    def numbers(self) -> list[int]:
        """Those not found yet, ascending."""
        return sorted(self._places)

    def places(self) -> dict[int, int]:
        """{number: number} of those not found yet, for a video whose frames are counted."""
        return {number: number for number in self.numbers()}

    def clip(self, last: int) -> None:
        """Numbers above `last` become `last`."""
        beyond = [self._places.pop(number) for number in self.numbers() if number >= last]
        if beyond:
            self._places[last] = np.sort(np.concatenate(beyond))

    def found(self, number: int, frame: av.VideoFrame) -> None:
        self._receive(self._places.pop(number), frame)


def runs_between_keys(index: FrameIndex, numbers: list[int]) -> list[list[int]]:
    """Ascending frame numbers in runs, cut where a seek to a key frame leaves out some frames between two of them."""
    if index.pts is None or len(index.keys) == 0 or len(numbers) < 2:
        return [numbers] if numbers else []
    stamps = index.pts[numbers]
    keys = index.keys[(np.searchsorted(index.keys, stamps, side="right") - 1).clip(0)]
    left_out = np.searchsorted(index.pts, keys[1:]) - np.array(numbers[:-1])
    ends = np.flatnonzero((keys[1:] > stamps[:-1]) & (left_out > WORTH_SEEKING)) + 1
    return [run.tolist() for run in np.split(np.array(numbers), ends)]
