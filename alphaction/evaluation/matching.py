"""Which detections hit a ground-truth box: the PASCAL rule on packed arrays, all images and classes at once.

Shapes: B boxes, R rows (a box with one class and its score), G ground-truth rows (a box with one class), K classes.
Nothing here loops over images, except where the official script's heap has to be replayed to settle equal scores.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

import numpy as np

ROWS_AT_ONCE = 1 << 18  # what is computed on the way stays in the processor's cache
_SCORES_AT_ONCE = 1 << 16
_PAIRS_AT_ONCE = 2_000_000  # detection x ground-truth pairs whose IoU is computed in one go (about 0.3 GB)


@dataclass(frozen=True)
class GroundTruth:
    """Annotated boxes, one row per (box, class).

    Attributes:
        image: int [G], index of the image.
        xyxy: float64 [G, 4], any unit (the same as the detections'), x1 <= x2 and y1 <= y2.
        label: int [G], class index 0..K-1, ascending with the class id.
        images: int, every image that was annotated, with or without a box; None: those in `image`.
    """

    image: np.ndarray
    xyxy: np.ndarray
    label: np.ndarray
    images: np.ndarray | None = None

    def annotated(self) -> np.ndarray:
        """The annotated images, ascending."""
        return np.unique(self.image if self.images is None else np.concatenate([self.image, self.images]))


@dataclass(frozen=True)
class Detections:
    """Detected boxes and their scores. A box with many classes is stored once.

    Attributes:
        image: int [B], index of the image.
        xyxy: float64 [B, 4], continuous coordinates (width = x2 - x1).
        box: int [R], row in `xyxy`.
        label: int [R], class index 0..K-1, ascending with the class id.
        score: float [R]; only the order counts.
    """

    image: np.ndarray
    xyxy: np.ndarray
    box: np.ndarray
    label: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.box)


@dataclass(frozen=True)
class Rows:
    """Detections in the order of evaluation: images by first appearance, within an image as they arrived.

    Attributes:
        image_of_box: int [B].
        rank_of_box: int32 [B], position of each box's image among the images.
        box: int32 [R], row in `Detections.xyxy`; their ranks ascend.
        label: uint16 [R].
        ordinal: uint32 [R], order of the scores: higher score, higher number; equal for equal scores.
        score: float [R]; None where the ordinals will do.
    """

    image_of_box: np.ndarray
    rank_of_box: np.ndarray
    box: np.ndarray
    label: np.ndarray
    ordinal: np.ndarray
    score: np.ndarray | None

    def __len__(self) -> int:
        return len(self.box)

    @property
    def rank(self) -> np.ndarray:
        """int32 [R], position of the row's image among the images, ascending; made anew each time."""
        return self.rank_of_box[self.box]

    @property
    def image(self) -> np.ndarray:
        """int [R], made anew each time."""
        return self.image_of_box[self.box]

    def take(self, keep: np.ndarray) -> Rows:
        """The rows where `keep` (bool [R] or indices) says so; itself when nothing is dropped."""
        if keep.dtype == bool and keep.all():
            return self
        score = None if self.score is None else self.score[keep]
        return Rows(self.image_of_box, self.rank_of_box, self.box[keep], self.label[keep], self.ordinal[keep], score)


def score_ordinals(score: np.ndarray) -> np.ndarray:
    """uint32 numbers in the order of the scores, equal where the scores are equal."""
    if score.dtype.itemsize <= 4 or _are_narrow(score):
        narrow = score.astype(np.float32)
        narrow += np.float32(0)  # makes -0.0 equal to 0.0
        bits = narrow.view(np.uint32)
        if len(narrow) and narrow.min() < 0:
            return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
        bits |= np.uint32(1 << 31)
        return bits
    if score.min() >= 0 and score.max() <= 4:
        billionths = _billionths(score)  # of decimals as CSV files have them
        if billionths is not None:
            return billionths
    return np.unique(score, return_inverse=True)[1].reshape(-1).astype(np.uint32)


def _are_narrow(score: np.ndarray) -> bool:
    """Whether all scores are float32 numbers; tells most that are not from the first ones."""
    parts = (score[begin : begin + _SCORES_AT_ONCE] for begin in range(0, len(score), _SCORES_AT_ONCE))
    return all(np.array_equal(part.astype(np.float32), part) for part in parts)


def _billionths(score: np.ndarray) -> np.ndarray | None:
    """uint32, the scores times 10**9 if all are whole then."""
    billionths = np.empty(len(score), np.uint32)
    for begin in range(0, len(score), _SCORES_AT_ONCE):
        part = score[begin : begin + _SCORES_AT_ONCE]
        whole = np.rint(part * 1e9)
        if not np.array_equal(whole / 1e9, part):
            return None
        billionths[begin : begin + _SCORES_AT_ONCE] = whole
    return billionths


def arrange(detections: Detections, *, num_images: int, with_scores: bool = True) -> Rows:
    """Sorts the rows by the first appearance of their image, keeping the order of arrival within an image."""
    box = detections.box.astype(np.int32, copy=False)
    changes = np.flatnonzero(box[1:] != box[:-1]) + 1  # another box at least where there is another image
    runs = detections.image[box[np.concatenate([[0], changes])] if len(box) else box]
    first = np.full(num_images, len(runs), np.int64)
    first[runs[::-1]] = np.arange(len(runs) - 1, -1, -1)  # of repeated indices the last assignment stays
    rank_of = np.empty(num_images, np.int32)
    rank_of[np.argsort(first, kind="stable")] = np.arange(num_images, dtype=np.int32)
    rows = Rows(
        detections.image,
        rank_of[detections.image],
        box,
        detections.label.astype(np.uint16, copy=False),
        score_ordinals(detections.score),
        detections.score if with_scores else None,
    )
    if (np.diff(rank_of[runs]) >= 0).all():
        return rows
    return rows.take(np.argsort(rows.rank, kind="stable"))


def best_rows_per_image(rows: Rows, *, xyxy: np.ndarray, limit: int) -> np.ndarray:
    """bool [R]: the `limit` rows that the official script's bounded heap keeps of each image.

    The heap holds (score, class, y1, x1, y2, x2); a full one takes a row only if its score is above the smallest, which
    it then drops. So every row above the `limit`-th best score stays, and of the rows with exactly that score those
    which came before the heap was full compete, the largest (class, y1, x1, y2, x2) stays.
    """
    rank = rows.rank
    count = count_rows(rank, int(rank[-1]) + 1)
    start = np.cumsum(count) - count
    ranked = rank.astype(np.uint64)
    ranked <<= np.uint64(32)
    ranked |= ~rows.ordinal
    ranked.sort()  # best score first in each image
    full = np.flatnonzero(count > limit)
    threshold = np.zeros(len(count), np.uint32)
    threshold[full] = ~(ranked[start[full] + limit - 1].astype(np.uint32))  # the cast keeps the low 32 bits
    del ranked
    limit_of_row = threshold[rank]
    keep = rows.ordinal > limit_of_row
    keep |= (count <= limit)[rank]
    tied = np.flatnonzero((rows.ordinal == limit_of_row) & (count > limit)[rank])
    places = limit - np.bincount(rank[keep], minlength=len(count))
    at_least = rows.ordinal >= limit_of_row
    arrived = np.cumsum(at_least, dtype=np.int32)  # up to and with the row; of the first row of an image: without it
    before = arrived[start] - at_least[start]
    tied = tied[arrived[tied] - 1 - before[rank[tied]] < limit]
    x1, y1, x2, y2 = xyxy[rows.box[tied]].T
    tied = tied[np.lexsort((-x2, -y2, -x1, -y1, -rows.label[tied].astype(np.int64), rank[tied]))]
    keep[tied[_place_in_group(rank[tied]) < places[rank[tied]]]] = True
    return keep


def _place_in_group(group: np.ndarray) -> np.ndarray:
    """0, 1, 2, .. within each run of equal numbers."""
    begins = np.ones(len(group), bool)
    begins[1:] = group[1:] != group[:-1]
    index = np.arange(len(group))
    return index - np.maximum.accumulate(np.where(begins, index, 0))


@dataclass(frozen=True)
class Candidates:
    """The rows of an image and class that have ground truth; every other row misses.

    Attributes:
        row: int64 [C], index in `Rows`.
        truth: int64 [C], the best-overlapping ground-truth row of the same image and class.
        iou: float64 [C], its overlap.
        tie: int64 [C], among rows of equal score in an image and class the lower is matched first.
        group: int64 [C], number of the image and class.
    """

    row: np.ndarray
    truth: np.ndarray
    iou: np.ndarray
    tie: np.ndarray
    group: np.ndarray


def find_candidates(
    rows: Rows, *, xyxy: np.ndarray, truth: GroundTruth, num_classes: int, num_images: int
) -> Candidates:
    """The best-overlapping ground-truth box of each row whose image and class have one (the first of equals)."""
    truth_group = truth.image.astype(np.int64) * num_classes + truth.label
    has_truth = np.zeros(num_images * num_classes, bool)
    has_truth[truth_group] = True
    group_of_box = rows.image_of_box.astype(np.int64) * num_classes  # of its first class
    group_of_box = group_of_box.astype(np.int32 if len(has_truth) < 2**31 else np.int64)
    begins = range(0, max(len(rows), 1), ROWS_AT_ONCE)
    row = np.concatenate([begin + _with_truth(rows, group_of_box, has_truth, begin) for begin in begins])
    group = group_of_box[rows.box[row]].astype(np.int64) + rows.label[row]
    order = np.argsort(truth_group, kind="stable")
    in_order = truth_group[order]
    first = np.searchsorted(in_order, group, side="left")
    count = np.searchsorted(in_order, group, side="right") - first
    best = np.zeros(len(row), np.int64)
    overlap = np.zeros(len(row))
    ends = np.cumsum(count)
    begin = 0
    while begin < len(row):
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + _PAIRS_AT_ONCE, side="right")))
        part = slice(begin, end)
        offsets = ends[part] - count[part] - done
        owner = np.repeat(np.arange(end - begin), count[part])
        candidate = order[first[part][owner] + np.arange(len(owner)) - offsets[owner]]
        iou = box_iou(xyxy[rows.box[row[part]]][owner], truth.xyxy[candidate])
        overlap[part] = np.maximum.reduceat(iou, offsets)
        winners = np.flatnonzero(iou == overlap[part][owner])
        owners, where = np.unique(owner[winners], return_index=True)
        best[begin + owners] = candidate[winners[where]]
        begin = end
    return Candidates(row, best, overlap, -row, group)


def _with_truth(rows: Rows, group_of_box: np.ndarray, has_truth: np.ndarray, begin: int) -> np.ndarray:
    """Which of the next rows have ground truth of their image and class."""
    part = slice(begin, begin + ROWS_AT_ONCE)
    group = group_of_box[rows.box[part]]
    group += rows.label[part]
    return np.flatnonzero(has_truth[group])


def count_rows(values: np.ndarray, size: int) -> np.ndarray:
    """How often each number below `size` occurs, int64; `np.bincount` would copy all of them to 64 bits first."""
    counts = np.zeros(size, np.int64)
    for begin in range(0, len(values), ROWS_AT_ONCE):
        counts += np.bincount(values[begin : begin + ROWS_AT_ONCE], minlength=size)
    return counts


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of pairs of boxes; xyxy float64 [n, 4] each -> [n]."""
    width = np.minimum(first[:, 2], second[:, 2]) - np.maximum(first[:, 0], second[:, 0])
    height = np.minimum(first[:, 3], second[:, 3]) - np.maximum(first[:, 1], second[:, 1])
    common = np.maximum(height, 0) * np.maximum(width, 0)
    area = [(b[:, 3] - b[:, 1]) * (b[:, 2] - b[:, 0]) for b in (first, second)]
    return common / (area[0] + area[1] - common)


def replay_heap(
    candidates: Candidates, *, rows: Rows, arrived: Rows, xyxy: np.ndarray, limit: int, lowest_iou: float
) -> Candidates:
    """Equal scores in the order in which the official script lists them: that of its heap's array.

    Args:
        rows: the rows under evaluation.
        arrived: all rows of the same images, before any was dropped.
        limit: rows that the heap holds; 0 = all.
        lowest_iou: the lowest overlap that may count; where no row of an image and class reaches it, order is idle.
    """
    ordinal = rows.ordinal[candidates.row]
    order = np.lexsort((ordinal, candidates.group))
    same = candidates.group[order][1:] == candidates.group[order][:-1]
    equal = same & (ordinal[order][1:] == ordinal[order][:-1])
    groups = np.intersect1d(candidates.group[order][1:][equal], candidates.group[candidates.iou >= lowest_iou])
    tie = candidates.tie.copy()
    by_group = order[np.isin(candidates.group[order], groups)]
    ranks = arrived.rank
    listings: dict[int, dict[tuple[float, ...], list[int]]] = {}
    taken: dict[tuple[int, tuple[float, ...]], int] = {}
    for candidate in by_group[np.lexsort((candidates.row[by_group], candidates.group[by_group]))]:
        row = candidates.row[candidate]
        rank = int(rows.rank_of_box[rows.box[row]])
        if rank not in listings:
            which = range(*np.searchsorted(ranks, [rank, rank + 1]))
            listings[rank] = _heap_listing(arrived, which, xyxy=xyxy, limit=limit)
        entry = _heap_entry(rows, row, xyxy)
        nth = taken.get((rank, entry), 0)  # the n-th of identical rows: which is which makes no difference
        taken[rank, entry] = nth + 1
        tie[candidate] = listings[rank][entry][nth]
    return replace(candidates, tie=tie)


def _heap_entry(rows: Rows, row: int, xyxy: np.ndarray) -> tuple[float, ...]:
    x1, y1, x2, y2 = xyxy[rows.box[row]].tolist()
    return (int(rows.ordinal[row]), int(rows.label[row]), y1, x1, y2, x2)


def _heap_listing(arrived: Rows, which: range, *, xyxy: np.ndarray, limit: int) -> dict[tuple[float, ...], list[int]]:
    """Entry -> its positions in the list by descending score of an image, whose rows `which` are."""
    heap: list[tuple[float, ...]] = []
    for row in which:
        entry = _heap_entry(arrived, row, xyxy)
        if limit < 1 or len(heap) < limit:
            heapq.heappush(heap, entry)
        elif entry[0] > heap[0][0]:
            heapq.heapreplace(heap, entry)
    places: dict[tuple[float, ...], list[int]] = {}
    for position, entry in enumerate(sorted(heap, key=lambda item: -item[0])):
        places.setdefault(entry, []).append(position)
    return places


def hits(candidates: Candidates, *, rows: Rows, iou_threshold: float) -> np.ndarray:
    """Rows that count as found: per ground-truth box the first, by descending score, that overlaps it enough."""
    enough = np.flatnonzero(candidates.iou >= iou_threshold)
    truth, row = candidates.truth[enough], candidates.row[enough]
    order = np.lexsort((candidates.tie[enough], ~rows.ordinal[row], truth))
    _, first = np.unique(truth[order], return_index=True)
    return row[order[first]]


def best_overlaps(
    image: np.ndarray, *, xyxy: np.ndarray, other_image: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each box the box of the same image that overlaps it best.

    Args:
        image: int [n], the image of each box of `xyxy` float64 [n, 4].
        other_image: int [m], ascending, the image of each box of `other` float64 [m, 4].

    Returns:
        intersection over union float64 [n], 0 where the image has no other box; its row in `other` int64 [n], else -1.
    """
    first = np.searchsorted(other_image, image, side="left")
    count = np.searchsorted(other_image, image, side="right") - first
    best, place = np.zeros(len(image)), np.full(len(image), -1, np.int64)
    ends = np.cumsum(count)
    begin = 0
    while begin < len(image):
        done = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + _PAIRS_AT_ONCE, side="right")))
        part = slice(begin, end)
        owner = np.repeat(np.arange(begin, end), count[part])
        candidate = first[owner] + np.arange(len(owner)) - (ends - count)[owner] + done
        iou = box_iou(xyxy[owner], other[candidate])
        np.maximum.at(best, owner, iou)
        winners = np.flatnonzero(iou == best[owner])[::-1]  # of repeated rows the last assignment stays
        place[owner[winners]] = candidate[winners]
        begin = end
    return best, place
