"""Pictures: sizes, colours where boxes are, and text that OpenCV can draw. How they look was judged by eye."""

import numpy as np
import pytest

from alphaction.errors import UserError
from alphaction.evaluation import pictures
from alphaction.evaluation.pictures import Person, draw_keyframe, drawable, evenly_spread, write_picture


def person(box, names, scores=None):
    return Person(np.array(box, np.float64), names, scores)


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(64, 64, (640, 640)), (240, 426, (361, 640)), (1080, 1920, (720, 1280))]
)
def test_pictures_are_scaled_to_a_width_one_can_read(height, width, expected):
    drawn = draw_keyframe(np.zeros((height, width, 3), np.uint8), true=[], predicted=[], title="a")
    assert drawn.shape == (expected[0], expected[1] + pictures._PANEL_WIDTH, 3)
    assert drawn.dtype == np.uint8


def test_true_and_predicted_boxes_are_where_they_should_be():
    black = np.zeros((480, 640, 3), np.uint8)
    drawn = draw_keyframe(
        black,
        true=[person([100, 100, 200, 300], ["stand"])],
        predicted=[person([400, 50, 500, 450], ["walk"], [0.9])],
        title="a",
    )
    assert tuple(drawn[200, 100]) == pictures._TRUE
    assert tuple(drawn[200, 200]) == pictures._TRUE
    assert tuple(drawn[300, 400]) == pictures._PREDICTED
    assert tuple(drawn[200, 150]) == (0, 0, 0)


def test_both_boxes_are_seen_where_they_coincide():
    drawn = draw_keyframe(
        np.zeros((480, 640, 3), np.uint8),
        true=[person([100, 100, 300, 300], ["stand"])],
        predicted=[person([100, 100, 300, 300], ["stand"], [0.9])],
        title="a",
    )
    seen = {tuple(colour) for colour in drawn[200, 92:109].tolist()}
    assert {pictures._TRUE, pictures._PREDICTED} <= seen


def test_any_number_of_persons_and_names_of_any_length_fit():
    rng = np.random.default_rng(0)
    boxes = rng.uniform(-20, 80, (30, 4))
    names = ["x" * 300, "一人で歩く", "", "a (b)"]
    drawn = draw_keyframe(
        np.zeros((60, 80, 3), np.uint8),
        true=[person(np.sort(box.reshape(2, 2), axis=0).reshape(-1), names) for box in boxes],
        predicted=[person(np.sort(box.reshape(2, 2), axis=0).reshape(-1), names, [0.5] * 4) for box in boxes],
        title="long " * 50,
    )
    right_edge = drawn[:, -pictures._MARGIN + 4 :]
    assert (right_edge == pictures._PANEL).all()


def test_a_prediction_shares_the_number_of_the_true_person_it_overlaps():
    true = [person([0, 0, 9, 9], []), person([20, 0, 29, 9], [])]
    predicted = [person([21, 0, 30, 9], [], []), person([50, 0, 59, 9], [], []), person([0, 0, 9, 6], [], [])]
    assert pictures._pair(true, predicted) == [
        (true[0], predicted[2]),
        (true[1], predicted[0]),
        (None, predicted[1]),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("répondre", "repondre"), ("歩く!", "??!"), ("a\tb", "a?b"), ("talk to (a), b/c", "talk to (a), b/c")],
)
def test_drawable(text, expected):
    assert drawable(text) == expected


def test_evenly_spread():
    np.testing.assert_array_equal(evenly_spread(np.arange(10), 2), [2, 7])
    np.testing.assert_array_equal(evenly_spread(np.arange(3), 5), [0, 1, 2])
    assert len(evenly_spread(np.arange(3), 0)) == 0


def test_unknown_kind_of_file(tmp_path):
    with pytest.raises(UserError, match="xyz"):
        write_picture(tmp_path / "a.xyz", np.zeros((4, 4, 3), np.uint8))
    write_picture(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
