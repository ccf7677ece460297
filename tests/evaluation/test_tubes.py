"""Tubes: linking, overlap in space and time, AP; made by hand and against a slow twin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphaction.evaluation.tubes import (
    THRESHOLDS,
    keyframe_steps,
    linked_tubes,
    true_tubes,
    tube_overlaps,
    video_map,
)

LEFT, RIGHT = (0, 0, 10, 10), (20, 0, 30, 10)


def truth_of(rows, **options):
    """rows: (video, step, person, label, box)."""
    return true_tubes(**columns(rows, "video step person label"), **options)


def linked(rows, **options):
    """rows: (video, step, label, score, box)."""
    return linked_tubes(**columns(rows, "video step label score"), **options)


def columns(rows, names):
    names = names.split()
    made = {
        name: np.array([row[i] for row in rows], np.float64 if name == "score" else np.int64)
        for i, name in enumerate(names)
    }
    return made | {"xyxy": np.array([row[-1] for row in rows], np.float64).reshape(-1, 4)}


def as_sets(tubes):
    """(video, label, score, ((step, box), ..)) of each tube."""
    return [
        (
            int(tubes.video[i]),
            int(tubes.label[i]),
            round(float(tubes.score[i]), 9),
            tuple(
                (int(tubes.step[j]), tuple(tubes.xyxy[j].tolist())) for j in range(tubes.first[i], tubes.first[i + 1])
            ),
        )
        for i in range(len(tubes))
    ]


def stay(box, steps, *, video=0, label=0, score=0.9):
    return [(video, step, label, score, box) for step in steps]


def person(box, steps, *, video=0, who=0, label=0):
    return [(video, step, who, label, box) for step in steps]


def test_perfect_predictions_have_map_one():
    truth = truth_of(person(LEFT, range(5)) + person(RIGHT, range(3, 8), who=1) + person(LEFT, range(4), label=2))
    tubes = linked(stay(LEFT, range(5)) + stay(RIGHT, range(3, 8), score=0.3) + stay(LEFT, range(4), label=2))
    scores = video_map(tubes, truth=truth, num_classes=3)
    np.testing.assert_array_equal(scores.mean, np.ones(len(THRESHOLDS)))
    np.testing.assert_array_equal(scores.num_truth, [2, 0, 1])
    assert np.isnan(scores.ap[:, 1]).all()
    np.testing.assert_array_equal(tubes.lengths(), [5, 5, 4])


def test_half_in_time_is_an_overlap_of_one_half():
    truth = truth_of(person(LEFT, range(8)))
    tubes = linked(stay(LEFT, range(4)))
    assert tube_overlaps(tubes, truth)[2].tolist() == [0.5]
    assert video_map(tubes, truth=truth, num_classes=1, thresholds=(0.2, 0.5, 0.55)).mean.tolist() == [1, 1, 0]


def test_overlap_is_that_of_the_spans_times_the_mean_of_the_boxes():
    truth = truth_of(person(LEFT, range(4)))
    tubes = linked([*stay(LEFT, (2,)), *stay((0, 0, 10, 5), (3,)), *stay((0, 0, 10, 5), (4, 5))])
    assert tube_overlaps(tubes, truth)[2].tolist() == [pytest.approx(2 / 6 * (1 + 0.5) / 2)]


def test_tubes_without_a_common_keyframe_do_not_overlap():
    truth = truth_of(person(LEFT, (0, 2)) + person(LEFT, range(9), video=1) + person(LEFT, range(9), label=1))
    assert len(tube_overlaps(linked(stay(LEFT, (1, 3))), truth)[2]) == 0


def test_swapped_persons_do_not_match():
    """The persons change places between two keyframes, which the linking cannot follow: half of each is right."""
    truth = truth_of([(0, s, (s >= 4) ^ w, 0, box) for w, box in enumerate((LEFT, RIGHT)) for s in range(8)])
    tubes = linked(stay(LEFT, range(8)) + stay(RIGHT, range(8), score=0.4))
    assert tube_overlaps(tubes, truth)[2].tolist() == [0.5] * 4
    assert video_map(tubes, truth=truth, num_classes=1, thresholds=(0.5, 0.55)).num_hits.tolist() == [[2], [0]]


def test_two_persons_that_cross_are_followed_by_their_last_boxes():
    rows, truth = [], []
    for s in range(7):
        for who, (x, y) in enumerate(((4 * s, 0), (24 - 4 * s, 3))):
            box = (x, y, x + 10, y + 10)
            rows.append((0, s, 0, 0.9 if who == 0 else 0.5, box))
            truth.append((0, s, who, 0, box))
    tubes, truth = linked(rows, link_iou=0.4), truth_of(truth)
    assert sorted(round(t[2], 6) for t in as_sets(tubes)) == [0.5, 0.9]  # neither took a box of the other
    assert video_map(tubes, truth=truth, num_classes=1).mean.tolist() == [1] * len(THRESHOLDS)


def test_the_better_tube_chooses_first_and_takes_the_box_of_highest_score():
    near = (1, 0, 11, 10)
    rows = [(0, 0, 0, 0.9, LEFT), (0, 0, 0, 0.5, near), (0, 1, 0, 0.8, near), (0, 1, 0, 0.3, LEFT)]
    assert [(t[2], [box for _, box in t[3]]) for t in as_sets(linked(rows))] == [
        (0.85, [LEFT, near]),
        (0.4, [near, LEFT]),
    ]


@pytest.mark.parametrize(("most_missed", "lengths"), [(0, [2, 2]), (1, [5])])
def test_a_missed_keyframe(most_missed, lengths):
    assert linked(stay(LEFT, (0, 1, 3, 4)), most_missed=most_missed).lengths().tolist() == lengths
    assert truth_of(person(LEFT, (0, 1, 3, 4)), most_missed=most_missed).lengths().tolist() == lengths


def test_a_missed_keyframe_is_no_part_of_the_mean_of_the_boxes():
    truth = truth_of(person(LEFT, range(5)))
    assert tube_overlaps(linked(stay(LEFT, (0, 1, 3, 4))), truth)[2].tolist() == [1]


@pytest.mark.parametrize(("shift", "tubes"), [(5, 1), (6, 2)])  # IoU 1/3, 1/4
def test_a_box_that_overlaps_the_last_one_too_little_starts_a_tube(shift, tubes):
    assert len(linked(stay(LEFT, (0,)) + stay((shift, 0, 10 + shift, 10), (1,)))) == tubes


def test_duplicates_are_false_positives():
    truth = truth_of(person(LEFT, range(4)) + person(RIGHT, range(4), who=1))
    tubes = linked(stay(LEFT, range(4)) + stay(LEFT, range(4), score=0.8) + stay(RIGHT, range(4), score=0.1))
    scores = video_map(tubes, truth=truth, num_classes=1)
    np.testing.assert_allclose(scores.mean, (1 + 2 / 3) / 2)
    assert (scores.num_tubes.tolist(), scores.num_hits[0].tolist()) == ([3], [2])


def test_a_second_tube_takes_the_true_one_that_is_left():
    truth = truth_of(person(LEFT, range(4)) + person((3, 0, 13, 10), range(4), who=1))
    tubes = linked(stay(LEFT, range(4)) + stay(LEFT, range(4), score=0.8))
    assert video_map(tubes, truth=truth, num_classes=1, thresholds=(0.5,)).num_hits.tolist() == [[2]]


def test_a_person_twice_in_a_keyframe_counts_once():
    assert len(truth_of(person(LEFT, (0, 1)) + person(RIGHT, (1,))).step) == 2


def test_nothing():
    none, some = linked([]), truth_of(person(LEFT, range(3)))
    scores = video_map(none, truth=some, num_classes=2)
    assert scores.mean.tolist() == [0] * len(THRESHOLDS)
    scores = video_map(linked(stay(LEFT, range(3))), truth=truth_of([]), num_classes=2)
    assert np.isnan(scores.mean).all()
    assert np.isnan(video_map(none, truth=truth_of([]), num_classes=2).mean).all()


def test_steps_of_keyframes():
    video = np.array([1, 0, 0, 0, 0, 0, 1, 2, 2, 2])
    time = np.array([902, 0, 0.5, 1.01, 3, 3, 903.0, 0, 1, 10])
    assert keyframe_steps(video, time).tolist() == [0, 0, 1, 2, 6, 6, 1, 0, 1, 10]
    assert keyframe_steps(video[:0], time[:0]).tolist() == []


# ------------------------------------------------------------------------------------------------------- a slow twin


def slow_iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(w, 0) * max(h, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def slow_links(rows, link_iou, most_missed):
    done = []
    for video, label in sorted({(row[0], row[2]) for row in rows}):
        tubes = []
        for step in sorted({row[1] for row in rows}):
            free = [row for row in rows if (row[0], row[1], row[2]) == (video, step, label)]
            for tube in sorted(tubes, key=lambda t: -sum(row[3] for row in t) / len(t)):
                if step - tube[-1][1] - 1 > most_missed:
                    continue
                near = [row for row in free if slow_iou(row[4], tube[-1][4]) >= link_iou]
                if near:
                    best = max(near, key=lambda row: row[3])
                    tube.append(best)
                    free.remove(best)
            tubes += [[row] for row in sorted(free, key=lambda row: -row[3])]
        done += [(video, label, sum(r[3] for r in t) / len(t), {r[1]: r[4] for r in t}) for t in tubes]
    return done


def slow_truth(rows, most_missed):
    done = []
    for video, who, label in sorted({(row[0], row[2], row[3]) for row in rows}):
        tube = {}
        for row in sorted((r for r in rows if (r[0], r[2], r[3]) == (video, who, label)), key=lambda r: r[1]):
            if tube and row[1] - max(tube) - 1 > most_missed:
                done.append((video, label, 1, tube))
                tube = {}
            tube.setdefault(row[1], row[4])
        done.append((video, label, 1, tube))
    return done


def slow_overlap(a, b):
    if a[:2] != b[:2] or not set(a[3]) & set(b[3]):
        return 0
    spans = [set(range(min(t), max(t) + 1)) for t in (a[3], b[3])]
    shared = set(a[3]) & set(b[3])
    mean = sum(slow_iou(a[3][s], b[3][s]) for s in shared) / len(shared)
    return mean * len(spans[0] & spans[1]) / len(spans[0] | spans[1])


def slow_ap(tubes, truth, label, threshold):
    free = [t for t in truth if t[1] == label]
    number, hits, precisions = len(free), 0, []
    for n, tube in enumerate(sorted((t for t in tubes if t[1] == label), key=lambda t: -t[2]), start=1):
        best = max(free, key=lambda t: slow_overlap(tube, t), default=None)
        if best is not None and slow_overlap(tube, best) >= threshold:
            free.remove(best)
            hits += 1
            precisions.append(hits / n)
    return sum(max(precisions[i:]) for i in range(hits)) / number if number else float("nan")


@settings(max_examples=250, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2), st.sampled_from([0.1, 0.3, 0.6]))
def test_the_same_as_a_slow_twin(seed, most_missed, link_iou):
    rng = np.random.default_rng(seed)

    def boxes(n):
        corner, size = rng.uniform(0, 8, (n, 2)), rng.uniform(6, 12, (n, 2))
        return [tuple(box) for box in np.concatenate([corner, corner + size], 1).tolist()]

    def rows(n, *limits):
        return [tuple(int(rng.integers(limit)) for limit in limits) for _ in range(n)]

    found, annotated = int(rng.integers(0, 40)), int(rng.integers(0, 25))
    detected = [
        (*row, score, box)
        for row, score, box in zip(rows(found, 2, 6, 2), rng.permutation(found) / 64, boxes(found), strict=True)
    ]
    persons = [(*row, box) for row, box in zip(rows(annotated, 2, 6, 3, 2), boxes(annotated), strict=True)]

    tubes, truth = (
        linked(detected, link_iou=link_iou, most_missed=most_missed),
        truth_of(persons, most_missed=most_missed),
    )
    slow, slow_true = slow_links(detected, link_iou, most_missed), slow_truth(persons, most_missed)

    def plain(made):
        return sorted((v, k, round(s, 9), tuple(sorted(boxes.items()))) for v, k, s, boxes in made)

    assert sorted(as_sets(tubes)) == plain(slow)
    assert sorted(as_sets(truth)) == plain(slow_true)
    if len({round(t[2], 9) for t in slow}) == len(slow):  # the order of equal scores is another test's
        thresholds = (0.05, 0.1, 0.2, 0.5)
        got = video_map(tubes, truth=truth, num_classes=2, thresholds=thresholds).ap
        expected = [[slow_ap(slow, slow_true, k, threshold) for k in range(2)] for threshold in thresholds]
        np.testing.assert_allclose(got, expected, rtol=1e-12)
