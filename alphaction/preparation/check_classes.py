"""Faults that show only over a whole split or between splits: classes and shared videos.

Shapes: N keyframes, K classes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from alphaction.preparation.check_findings import Findings
from alphaction.preparation.check_split import SplitFacts

FEW = 10  # training examples
UNEQUAL = 20  # ratio of the largest to the smallest class from which it is told
NAMED = 10  # shared keyframes that are listed


def check_classes(splits: Sequence[SplitFacts], findings: Findings) -> None:
    """Classes that cannot be learnt or measured, and classes of very different sizes."""
    _compare_lists(splits, findings)
    training = [split for split in splits if split.training]
    if not training and len(splits) == 1 and not splits[0].testing:
        training = list(splits)
    if not training:
        return
    classes = training[0].raw.classes
    testing = [
        split for split in splits if not any(split is one for one in training) and split.raw.classes.ids == classes.ids
    ]
    counts, measured = (
        np.sum([np.zeros(len(classes), np.int64), *(split.label_counts() for split in some)], axis=0)
        for some in ([split for split in training if split.raw.classes.ids == classes.ids], testing)
    )
    file, name = training[0].source, training[0].name
    for class_id, title, learnt, tested in zip(classes.ids, classes.names, counts, measured, strict=True):
        which = f"class {class_id}" if str(class_id) == title else f"class {class_id} ({title})"
        if not learnt:
            told = f", {int(tested)} in the test splits" if tested else ""
            findings.add(
                "class-without-example", split=name, file=file, message=f"{which} has no training example{told}"
            )
        elif testing and not tested:
            findings.add("class-only-in-train", split=name, file=file, message=f"{which}: {_examples(learnt)}")
        if 0 < learnt < FEW:
            findings.add("class-few", split=name, file=file, message=f"{which} has {_examples(learnt)}")
    used = np.flatnonzero(counts)
    if len(used) > 1 and counts[used].max() >= UNEQUAL * counts[used].min():
        rare, common = used[counts[used].argmin()], used[counts[used].argmax()]
        message = f"{classes.names[common]} has {_examples(counts[common])}, {classes.names[rare]} {counts[rare]}"
        findings.add("imbalance", split=name, file=file, message=message)


def _examples(count: int) -> str:
    return f"{count} training example{'' if count == 1 else 's'}"


def _compare_lists(splits: Sequence[SplitFacts], findings: Findings) -> None:
    for split in splits[1:]:
        ours, theirs = splits[0].raw.classes, split.raw.classes
        if ours == theirs or (ours.ids == theirs.ids and not (ours.named and theirs.named)):
            continue
        pairs = [dict(zip(known.ids, known.names, strict=True)) for known in (ours, theirs)]
        wrong = next((i for i in [*pairs[0], *pairs[1]] if pairs[0].get(i) != pairs[1].get(i)), ours.ids[0])
        told = [repr(pair[wrong]) if wrong in pair else "missing" for pair in pairs]
        message = (
            f"{len(theirs)} classes, {splits[0].name} has {len(ours)}: id {wrong!r} is {told[1]} here "
            f"and {told[0]} in {splits[0].source}"
        )
        findings.add("classes-differ", split=split.name, file=split.source, message=message)


def check_shared(splits: Sequence[SplitFacts], findings: Findings) -> None:
    """Videos and keyframes that two splits have in common."""
    for first, second in combinations(splits, 2):
        if os.path.realpath(first.spec["video_root"]) != os.path.realpath(second.spec["video_root"]):
            continue
        shared = sorted(set(first.raw.movies) & set(second.raw.movies))
        both = f"{first.name} + {second.name}"
        keys = [split.raw.rows_by_key() for split in (first, second)]
        same = sorted(keys[0].keys() & keys[1].keys())
        for movie in shared:
            rows = [next(row for row in _rows(split, movie)) for split in (first, second)]
            message = (
                f"video {movie} is in {first.name} ({first.row_of_keyframe(rows[0])}) and in {second.name} "
                f"({second.source} {second.row_of_keyframe(rows[1])})"
            )
            findings.add("video-in-two-splits", split=both, file=first.source, message=message, movie=movie)
        for movie, time in same[:NAMED]:
            rows = [table[movie, time] for table in keys]
            message = (
                f"{movie} at {time:g} s is in {first.name} and in {second.name} "
                f"({second.source} {second.row_of_keyframe(rows[1])})"
            )
            where = first.row_of_keyframe(rows[0])
            findings.add(
                "keyframes-shared", split=both, file=first.source, row=where, message=message, movie=movie, time=time
            )
        if len(same) > NAMED:
            message = f"{len(same)} keyframes of {first.name} are in {second.name} too; the first {NAMED} are listed"
            findings.add("keyframes-shared", split=both, file=first.source, message=message)


def _rows(split: SplitFacts, movie: str) -> np.ndarray:
    return np.flatnonzero(split.raw.movie == split.raw.movies.index(movie))
