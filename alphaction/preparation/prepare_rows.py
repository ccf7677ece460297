"""The user's annotations as one table, thinned and split by video.

Shapes: P persons (boxes), K classes, V videos.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from alphaction.errors import DataError
from alphaction.preparation.prepare_evidence import count
from alphaction.preparation.sources import some

DENSE = 0.2  # seconds: keyframes closer than this show the same clip again and again
DEFAULT_STEP = 1.0  # seconds between the keyframes that are kept of a dense set
EPSILON = 1e-6  # seconds; also the exactness at which the loader tells keyframes apart
_SWAPS = 4000  # tries to better a split, at most
_MISSING_TRAIN, _MISSING_VAL = 1e6, 1e3


@dataclass
class Person:
    """One person at one moment: class ids of the new set, corners as shares, identity ("" = unknown)."""

    box: tuple[float, float, float, float]
    person: str
    actions: set[int] = field(default_factory=set)


class Table:
    """Persons by video and time; the same box of the same person at the same moment is one person."""

    def __init__(self) -> None:
        self.videos: dict[str, dict[float, dict[tuple, Person]]] = {}
        self.duplicates = 0

    def add(
        self, video: str, time: float, box: Sequence[float] | None, actions: Iterable[int] = (), person: str = ""
    ) -> None:
        """Adds a person; without a box a moment without persons."""
        persons = self.videos.setdefault(video, {}).setdefault(round(time, 6), {})
        if box is None:
            return
        x1, y1, x2, y2 = (round(min(max(float(value), 0.0), 1.0), 9) for value in box)
        corners = (x1, y1, x2, y2)
        entry = persons.setdefault((corners, person), Person(corners, person))
        new = set(actions)
        self.duplicates += bool(new & entry.actions)
        entry.actions |= new

    def keyframes(self, video: str) -> list[float]:
        return sorted(self.videos[video])

    def num_keyframes(self, videos: Iterable[str]) -> int:
        return sum(len(self.videos[video]) for video in videos)

    def num_persons(self, videos: Iterable[str]) -> int:
        return sum(len(persons) for video in videos for persons in self.videos[video].values())

    def num_clips(self, videos: Iterable[str]) -> int:
        """Keyframes with a person."""
        return sum(bool(persons) for video in videos for persons in self.videos[video].values())

    def counts(self, classes: Sequence[int]) -> np.ndarray:
        """Persons per video and class, int64 [V, K]."""
        column = {class_id: i for i, class_id in enumerate(classes)}
        counts = np.zeros((len(self.videos), len(classes)), np.int64)
        for row, moments in enumerate(self.videos.values()):
            for persons in moments.values():
                for person in persons.values():
                    counts[row, [column[action] for action in person.actions]] += 1
        return counts

    def single_label(self) -> bool:
        """Whether every person has exactly one action."""
        moments = (persons for video in self.videos.values() for persons in video.values())
        return all(len(person.actions) == 1 for persons in moments for person in persons.values())


def thin(table: Table, *, step: float | None) -> str:
    """Keeps one keyframe per `step` seconds of each video, in place.

    Args:
        table: the annotations.
        step: seconds; 0 = keep all; None = `DEFAULT_STEP`, only for videos whose keyframes are closer than `DENSE`.

    Returns:
        What was done, in words; "" for nothing.
    """
    left_out: dict[str, int] = {}
    if step == 0:
        return ""
    for video, moments in table.videos.items():
        times = sorted(moments)
        gap = float(np.median(np.diff(times))) if len(times) > 1 else np.inf
        if step is None and gap >= DENSE:
            continue
        wanted = DEFAULT_STEP if step is None else step
        kept_times = _one_per_step(moments, wanted, slack=min(gap / 2, wanted / 10) + EPSILON)
        for time in times:
            if time not in kept_times:
                del moments[time]
        if len(moments) < len(times):
            left_out[video] = len(times) - len(moments)
    if not left_out:
        return ""
    wanted = DEFAULT_STEP if step is None else step
    kept = table.num_keyframes(left_out)
    dense = "keyframes closer than " + (f"{DENSE:g} s (every frame, or nearly so)" if step is None else f"{wanted:g} s")
    return (
        f"{count(len(left_out), 'video')} with {dense}: one per {wanted:g} s is kept, {kept} of "
        f"{kept + sum(left_out.values())} (and one for an action that only falls between). --keyframe-step changes "
        "this, 0 keeps all"
    )


def _one_per_step(moments: Mapping[float, Mapping[tuple, Person]], step: float, *, slack: float) -> set[float]:
    """The times to keep: at least `step` - `slack` seconds apart, and for an action without any the middle one it has.

    Of pictures of every frame of which only some are annotated, the annotated ones count.
    """
    usable = sorted(time for time, persons in moments.items() if persons) or sorted(moments)
    kept: set[float] = set()
    last = -np.inf
    for time in usable:
        if time >= last + step - slack:
            kept.add(time)
            last = time
    having: dict[int, list[float]] = {}
    for time in usable:
        for action in {action for person in moments[time].values() for action in person.actions}:
            having.setdefault(action, []).append(time)
    for times in having.values():
        if kept.isdisjoint(times):
            kept.add(times[len(times) // 2])
    return kept


@dataclass(frozen=True)
class Split:
    """Which videos are trained on and which are tested on, why, and what to know about it."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    evidence: str
    notes: tuple[str, ...] = ()


def split_by_share(videos: Sequence[str], counts: np.ndarray, *, val_share: float, seed: int) -> Split:
    """Draws the videos to validate on, such that both sides have examples of every class if that is possible.

    Args:
        videos: V names.
        counts: int64 [V, K], persons per video and class.
        val_share: part of the videos to validate on, in [0, 1).
        seed: the same seed and videos give the same split.

    Raises:
        DataError: there is only one video.
    """
    if val_share == 0:
        return Split(tuple(sorted(videos)), (), "--val-share 0")
    if len(videos) < 2:
        raise DataError(
            "there is only one video with annotations, and a video is never on both sides of the split. Annotate "
            "another one, cut this one into several files, or say --val-share 0 to train without validation"
        )
    order = sorted(range(len(videos)), key=lambda i: videos[i])
    videos, counts = [videos[i] for i in order], counts[order]
    size = min(max(round(len(videos) * val_share), 1), len(videos) - 1)
    in_val = _draw(counts, size, share=val_share, rng=np.random.default_rng(seed))
    train = tuple(video for video, val in zip(videos, in_val, strict=True) if not val)
    val = tuple(video for video, val in zip(videos, in_val, strict=True) if val)
    why = f"{size} of {len(videos)} videos drawn with --val-share {val_share:g} --seed {seed}, balanced by class"
    return Split(train, val, why)


def split_by_lists(
    videos: Sequence[str], train: Iterable[str] | None, val: Iterable[str] | None, *, evidence: str
) -> Split:
    """The split that lists of videos say; with one list, the rest is the other side.

    Raises:
        DataError: a video is in both lists, or one side is empty.
    """
    train_set = set(videos) - set(val or ()) if train is None else set(train)
    val_set = set(videos) - train_set if val is None else set(val)
    both = sorted(train_set & val_set)
    if both:
        raise DataError(
            f"the split by {evidence}: {some(both)} would be on both sides; a video that trains cannot test. "
            "Take it out of one of them"
        )
    sides = [tuple(video for video in sorted(videos) if video in side) for side in (train_set, val_set)]
    for side, name in zip(sides, ("train", "validate"), strict=True):
        if not side:
            raise DataError(f"the split by {evidence}: no annotated video is left to {name} on")
    unused = sorted(set(videos) - train_set - val_set)
    notes = (f"in no list, so not used: {some(unused)}",) if unused else ()
    return Split(sides[0], sides[1], evidence, notes)


def class_notes(split: Split, table: Table, names: Mapping[int, str]) -> list[str]:
    """What the split means for each class that has too few examples."""
    counts = table.counts(list(names))
    rows = {video: i for i, video in enumerate(table.videos)}
    train = counts[[rows[video] for video in split.train]].sum(axis=0)
    val = counts[[rows[video] for video in split.val]].sum(axis=0)
    in_videos = (counts > 0).sum(axis=0)
    notes = []
    for i, name in enumerate(names.values()):
        if in_videos[i] == 0:
            continue
        if train[i] == 0:
            notes.append(f"class {name}: no example to train on (all {val[i]} are in the validation videos)")
        elif split.val and val[i] == 0:
            reason = "it occurs in one video only" if in_videos[i] == 1 else "the split leaves it none"
            notes.append(f"class {name}: no example to validate on ({reason}); its AP will be 'n/a'")
    missing = [name for i, name in enumerate(names.values()) if in_videos[i] == 0]
    if missing:
        notes.append(f"no example at all of {len(missing)} of {len(names)} classes: {some(missing, most=20)}")
    return notes


def _draw(counts: np.ndarray, size: int, *, share: float, rng: np.random.Generator) -> np.ndarray:
    """bool [V]: a random choice of `size` videos, bettered by exchanging two at a time."""
    in_val = np.zeros(len(counts), bool)
    in_val[rng.permutation(len(counts))[:size]] = True
    present = (counts > 0).sum(axis=0)
    weights = np.maximum(counts.sum(axis=0), 1)

    def cost(sums: np.ndarray) -> float:
        missing_train = ((present > 0) & (sums == weights)).sum()
        missing_val = ((present > 1) & (sums == 0)).sum()
        return _MISSING_TRAIN * missing_train + _MISSING_VAL * missing_val + np.abs(sums / weights - share).sum()

    sums = counts[in_val].sum(axis=0)
    best = cost(sums)
    for _ in range(min(_SWAPS, 30 * size * (len(counts) - size))):
        out, into = rng.choice(np.flatnonzero(in_val)), rng.choice(np.flatnonzero(~in_val))
        moved = sums - counts[out] + counts[into]
        now = cost(moved)
        if now < best:
            best, sums = now, moved
            in_val[out], in_val[into] = False, True
    return in_val
