"""Which person is which: a number for each box, kept from moment to moment.

ByteTrack (the `trackers` package) predicts where each person goes and finds its box: first among the boxes of high
score, then among the others. Tracks are opened here, not there: ByteTrack gives a person its number at the second
sight and a weak box none at all, while every box of ours needs one at once.
"""

from __future__ import annotations

import math

import numpy as np

_STRONG = 0.6  # boxes from this score on choose their track first
_OVERLAP = 0.1  # least IoU, of boxes enlarged by _MARGIN, of a track's expected box and the one that continues it
_MARGIN = 0.3  # of width and height, to each side: people move by their own width between moments that are far apart
_NEVER = 2.0  # no score reaches it


class Tracker:
    """Numbers persons: 0, 1, 2, ... in the order in which they are first seen.

    Within a moment, new persons are numbered in the order of their boxes. The numbers depend on what this tracker has
    been given and on nothing else.
    """

    def __init__(self, *, rate: float, lost_after: float = 2.0) -> None:
        """Imports the `trackers` package, which takes a second or two.

        Args:
            rate: moments per second, about.
            lost_after: seconds; a person that is not seen for longer comes back as a new one.
        """
        if not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"rate: got {rate}, expected moments per second, > 0")
        if not (math.isfinite(lost_after) and lost_after >= 0):
            raise ValueError(f"lost_after: got {lost_after}, expected seconds, >= 0")
        from trackers import BIoU, ByteTrackTracker

        self._next = 0
        self._time: float | None = None
        self._tracker = ByteTrackTracker(
            lost_track_buffer=math.ceil(lost_after * 30),  # whatever the rate, it counts in 1/30 s
            frame_rate=rate,
            track_activation_threshold=_NEVER,
            high_conf_det_threshold=_STRONG,
            minimum_iou_threshold=_OVERLAP,
            iou=BIoU(buffer_ratio=_MARGIN),
        )

    def update(self, time: float, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The numbers of a moment's persons.

        Args:
            time: seconds, later than the last moment's. Moments without persons may be left out.
            boxes: [n, 4], x1, y1, x2, y2 in pixels.
            scores: [n], 0..1.

        Returns:
            int64 [n], all different.
        """
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        scores = np.asarray(scores, np.float64).reshape(-1)
        _check(time, self._time, boxes, scores)
        self._time = time
        import supervision
        from trackers.core.bytetrack.tracklet import ByteTrackTracklet

        rows = np.arange(len(boxes))
        seen = self._tracker.update(
            supervision.Detections(xyxy=boxes, confidence=scores, data={"row": rows}), timestamp=time
        )
        numbers = np.full(len(boxes), -1, np.int64)
        if seen.tracker_id is not None and len(seen):  # in an order of its own
            numbers[seen.data["row"]] = seen.tracker_id
        for row in np.flatnonzero(numbers < 0):
            track = ByteTrackTracklet(initial_bbox=boxes[row])
            track.tracker_id = numbers[row] = self._next
            self._tracker.tracks.append(track)
            self._next += 1
        return numbers


def _check(time: float, last: float | None, boxes: np.ndarray, scores: np.ndarray) -> None:
    if not math.isfinite(time) or (last is not None and time <= last):
        raise ValueError(f"time: got {time} after {last}, expected increasing seconds")
    if len(boxes) != len(scores):
        raise ValueError(f"scores: got {len(scores)} for {len(boxes)} boxes")
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError("boxes, scores: got a value that is not finite")
    if (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError("boxes: got x2 < x1 or y2 < y1, expected x1, y1, x2, y2")
