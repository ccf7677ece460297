"""The mistakes that are worth a look: false rows with the highest scores, true classes with the lowest."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from alphaction.evaluation.analysis import Confusion, Judged, TruePersons
from alphaction.evaluation.matching import Detections, best_overlaps

_LOOKED_AT = 20_000  # of the false rows, those of highest score


@dataclass(frozen=True)
class Mistake:
    """One class of one box.

    Attributes:
        image: index of the image.
        label: class index.
        score: that the class got; NaN for a true box that was not found.
        xyxy: float64 [4], the box in question, shares of the frame.
        true: classes that the true person of this place has; empty if there is none.
        rival, rival_score: of a miss, the class that it was taken for; -1 and NaN without a box, or of a false row.
        found: for a miss, the predicted box float64 [4]; None if there is none. For a false row the true box.
    """

    image: int
    label: int
    score: float
    xyxy: np.ndarray
    true: tuple[int, ...]
    found: np.ndarray | None
    rival: int = -1
    rival_score: float = math.nan


def worst_false(
    judged: Judged, *, detections: Detections, persons: TruePersons, iou_threshold: float, number: int
) -> list[Mistake]:
    """False positives that cost AP: they stand before a hit of their class. At most one of an image.

    Without any hit of the class all its rows are such. Classes without true boxes have no AP to lose.
    """
    lowest = np.full(len(judged.num_truth), np.inf)
    np.minimum.at(lowest, judged.label[judged.hit], judged.score[judged.hit])
    lowest[np.isinf(lowest)] = -np.inf
    costly = np.flatnonzero(~judged.hit & (judged.score > lowest[judged.label]) & (judged.num_truth > 0)[judged.label])
    order = costly[np.argsort(-judged.score[costly], kind="stable")][:_LOOKED_AT]
    chosen = _varied(
        zip(order.tolist(), judged.image[order].tolist(), judged.label[order].tolist(), strict=True), number
    )
    xyxy = detections.xyxy[judged.box[chosen]].reshape(-1, 4)
    overlap, place = best_overlaps(judged.image[chosen], xyxy=xyxy, other_image=persons.image, other=persons.xyxy)
    mistakes = []
    for i, row in enumerate(chosen):
        is_there = place[i] >= 0 and overlap[i] >= iou_threshold
        true = tuple(np.flatnonzero(persons.labels[place[i]]).tolist()) if is_there else ()
        box = persons.xyxy[place[i]] if is_there else None
        mistakes.append(
            Mistake(int(judged.image[row]), int(judged.label[row]), float(judged.score[row]), xyxy[i], true, box)
        )
    return mistakes


def worst_misses(
    persons: TruePersons,
    result: Confusion,
    *,
    box: np.ndarray,
    xyxy: np.ndarray,
    drawable: np.ndarray,
    number: int,
) -> list[Mistake]:
    """True classes that score lowest among those taken for another class, and boxes that were not found, in turns.

    Args:
        box: int64 [T], the predicted box of each true person, -1 = none.
        xyxy: float64 [P, 4], the predicted boxes.
        drawable: int, images of which there is a picture.
    """
    person, label = np.nonzero(result.is_missed & np.isin(persons.image, drawable)[:, None])
    score = result.score[person, label]
    low = np.argsort(score, kind="stable")
    low = low[~np.isnan(score[low])]
    lost = np.flatnonzero(np.isnan(score))
    lost = lost[(np.arange(len(lost)) * 7919) % len(lost)] if len(lost) % 7919 else lost  # spread over the set
    paired = min(len(low), len(lost))
    turns = np.concatenate([np.stack([low[:paired], lost[:paired]], axis=1).reshape(-1), low[paired:], lost[paired:]])
    chosen = _varied(((i, int(persons.image[person[i]]), int(label[i])) for i in turns.tolist()), number)
    mistakes = []
    for i in chosen:
        one = person[i]
        true = tuple(np.flatnonzero(persons.labels[one]).tolist())
        found = xyxy[box[one]] if box[one] >= 0 else None
        rival = int(result.rival[one, label[i]])
        mistakes.append(
            Mistake(
                int(persons.image[one]),
                int(label[i]),
                float(score[i]),
                persons.xyxy[one],
                true,
                found,
                rival,
                float(result.score[one, rival]) if rival >= 0 else math.nan,
            )
        )
    return mistakes


def _varied(candidates: Iterable[tuple[int, int, int]], number: int) -> list[int]:
    """The first of (candidate, image, class): each image once, and a class for the n-th time when others are short."""
    seen: set[int] = set()
    by_class: dict[int, list[tuple[int, int]]] = {}
    for place, (candidate, image, label) in enumerate(candidates):
        members = by_class.setdefault(label, [])
        if len(members) < number and image not in seen:
            seen.add(image)
            members.append((place, candidate))
    turns = sorted(
        (turn, place, candidate) for members in by_class.values() for turn, (place, candidate) in enumerate(members)
    )
    return [candidate for _, _, candidate in turns[: max(number, 0)]]
