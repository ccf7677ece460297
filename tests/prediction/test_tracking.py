"""Numbers of persons: crossing, gaps, newcomers, few moments per second; every box has one number."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphaction.prediction.tracking import Tracker

WIDTH, HEIGHT = 60, 180


def box(x, y=100):
    return [x, y, x + WIDTH, y + HEIGHT]


def follow(moments, rate=4, **options):
    """Numbers of each moment; `moments` are lists of boxes, or of (box, score)."""
    tracker = Tracker(rate=rate, **options)
    numbers = []
    for i, boxes in enumerate(moments):
        pairs = [b if isinstance(b, tuple) else (b, 0.9) for b in boxes]
        found = tracker.update(
            i / rate, np.array([b for b, _ in pairs], float).reshape(-1, 4), np.array([s for _, s in pairs])
        )
        assert found.dtype == np.int64
        numbers.append(found.tolist())
    return numbers


@pytest.mark.parametrize("rate", [2, 4, 10])
def test_persons_that_cross_keep_their_numbers(rate):
    moments = [[box(20 + 60 * i / rate), box(500 - 60 * i / rate, y=112)] for i in range(8 * rate)]
    assert follow(moments, rate) == [[0, 1]] * len(moments)


@pytest.mark.parametrize("rate", [1, 4])
def test_a_person_may_move_by_its_width_between_moments_but_not_by_two(rate):
    assert follow([[box(WIDTH * i)] for i in range(6)], rate) == [[0]] * 6
    assert follow([[box(2 * WIDTH * i)] for i in range(4)], rate) == [[0], [1], [2], [3]]


def test_the_number_survives_a_gap_up_to_the_limit():
    gap = [[]] * 7  # seen at 0.25 s and again at 2.25 s
    assert follow([[box(20)], [box(20)], *gap, [box(22)]], lost_after=2.0)[-1] == [0]
    assert follow([[box(20)], [box(20)], *gap, [], [box(22)]], lost_after=2.0)[-1] == [1]


def test_moments_without_persons_may_be_left_out():
    tracker = Tracker(rate=4, lost_after=2.0)
    one, sure = np.array([box(20)], float), np.array([0.9])
    assert [tracker.update(time, one, sure).tolist() for time in (0, 0.25, 2.25, 4.5)] == [[0], [0], [0], [1]]


def test_a_walk_goes_on_where_it_is_expected_after_a_gap():
    walk = [[box(20 + 15 * i)] for i in range(20)]
    for i in range(10, 15):
        walk[i] = []
    assert [n for n in follow(walk) if n] == [[0]] * 15


def test_a_newcomer_gets_the_next_number_and_the_order_of_boxes_does_not_matter():
    assert follow([[box(20)], [box(400), box(22)], [box(24), box(402)]]) == [[0], [1, 0], [0, 1]]


def test_weak_boxes_are_followed_from_their_first_sight():
    weak = [[(box(20 + 5 * i), 0.1), (box(300), 0.9 if i % 2 else 0.05)] for i in range(6)]
    assert follow(weak) == [[0, 1]] * 6


def test_a_strong_box_chooses_its_track_before_a_weak_one():
    double = [[box(20)], [box(20)], [(box(22), 0.3), (box(28), 0.9)]]
    assert follow(double)[-1] == [1, 0]


def test_nobody():
    assert follow([[], [], []]) == [[], [], []]


def test_trackers_do_not_know_of_each_other():
    moments = [[box(20), box(300)], [box(22), box(302)]]
    assert follow(moments) == follow(moments) == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("time", "boxes", "scores", "words"),
    [
        (0.0, [[0, 0, 1, 1]], [1.0], "time: got 0.0 after 0.0"),
        (float("nan"), [], [], "time: got nan"),
        (1.0, [[0, 0, 1, 1]], [], "scores: got 0 for 1 boxes"),
        (1.0, [[0, 0, float("inf"), 1]], [0.5], "not finite"),
        (1.0, [[5, 0, 1, 1]], [0.5], "x2 < x1"),
    ],
)
def test_what_cannot_be_is_refused(time, boxes, scores, words):
    tracker = Tracker(rate=1)
    tracker.update(0.0, np.zeros((0, 4)), np.zeros(0))
    with pytest.raises(ValueError, match=words):
        tracker.update(time, np.array(boxes, float).reshape(-1, 4), np.array(scores))


@pytest.mark.parametrize("options", [{"rate": 0}, {"rate": 1, "lost_after": -1}, {"rate": float("nan")}])
def test_settings_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        Tracker(**options)


side = st.floats(0, 300, width=32)
some_boxes = st.lists(st.tuples(side, side, side, side, st.floats(0, 1)), max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(some_boxes, max_size=8), st.floats(0, 2))
def test_every_box_has_one_number_and_numbers_count_up(moments, lost_after):
    tracker = Tracker(rate=4, lost_after=lost_after)
    seen = 0
    for i, rows in enumerate(moments):
        boxes = np.array([[x, y, x + w, y + h] for x, y, w, h, _ in rows], float).reshape(-1, 4)
        numbers = tracker.update(i / 4, boxes, np.array([row[4] for row in rows])).tolist()
        assert len(numbers) == len(rows)
        assert len(set(numbers)) == len(numbers)
        new = [n for n in numbers if n >= seen]
        assert new == list(range(seen, seen + len(new)))  # in the order of the boxes
        seen += len(new)
