"""Boxes from a detector or a function."""

import numpy as np
import pytest
import torch

from alphaction.errors import DataError
from alphaction.prediction.boxes.persons import DetectedPersons, GivenPersons, Seen
from alphaction.preparation.detect_models import Detector, Found

IMAGE = np.zeros((48, 64, 3), np.uint8)
FOUND = Found(
    xyxy=np.array([[1, 2, 11, 22], [5, 5, 30, 30], [0, 0, 64, 48], [3, 3, 9, 9], [2, 2, 4, 4]], np.float64),
    scores=np.array([0.4, 0.9, 0.8, 0.5, 0.01]),
    labels=np.array([1, 7, 1, 3, 9]),
)


def detector(**change):
    seen = []

    def run(pictures):
        seen.append(pictures)
        return [FOUND]

    return Detector(**({"name": "fake", "run": run} | change)), seen


def test_a_detector_s_persons_are_the_best_first_with_the_last_pixel_inside():
    fake, pictures = detector()
    seen = DetectedPersons(fake).find(0.0, IMAGE)
    assert seen.boxes.tolist() == [[0, 0, 63, 47], [1, 2, 10, 21]]
    np.testing.assert_allclose(seen.scores, [0.8, 0.4])
    assert len(seen.objects) == 0 and seen.tracks is None
    assert torch.equal(pictures[0][0], torch.from_numpy(IMAGE))


def test_a_detector_s_other_labels_are_objects():
    seen = DetectedPersons(detector()[0], objects=True).find(0.0, IMAGE)
    assert seen.objects.tolist() == [[5, 5, 29, 29], [3, 3, 8, 8]]  # the weakest is left out
    np.testing.assert_allclose(seen.object_scores, [0.9, 0.5])
    with pytest.raises(DataError, match="this detector knows persons only.*ALLOW_NO_OBJECTS True"):
        DetectedPersons(detector(objects=False)[0], objects=True)


def test_boxes_are_limited_to_the_picture():
    seen = Seen(
        np.array([[-5, 4, 20, 90], [70, 0, 80, 9], [3, 3, 3, 9], [1, 1, 9, 9]], np.float32),
        np.array([0.9, 0.9, 0.9, 0.2], np.float32),
        np.array([4, 5, 6, 7]),
    )
    inside = seen.within((48, 64), min_score=0.5)
    assert (inside.boxes.tolist(), inside.tracks.tolist()) == ([[0, 4, 20, 47]], [4])


def test_a_function_gives_lists_or_arrays():
    assert GivenPersons(lambda time, image: ([], [])).find(0.0, IMAGE).boxes.shape == (0, 4)
    seen = GivenPersons(lambda time, image: ([[1, 2, 3, 4]], [0.5])).find(0.0, IMAGE)
    assert (seen.boxes.dtype, seen.scores.tolist()) == (np.float32, [0.5])
    with pytest.raises(ValueError, match="got 1 boxes and scores of shape"):
        GivenPersons(lambda time, image: ([[1, 2, 3, 4]], [0.5, 0.6])).find(0.0, IMAGE)


@pytest.mark.parametrize("wrong", [[[float("nan"), 2, 3, 4]], [[9, 2, 3, 4]]])
def test_a_function_that_gives_no_boxes_is_told(wrong):
    with pytest.raises(ValueError, match="boxes: got .* expected numbers x1 <= x2, y1 <= y2"):
        GivenPersons(lambda time, image: (wrong, [0.5])).find(0.0, IMAGE)
    with pytest.raises(TypeError, match="the function returned None, expected a pair: boxes"):
        GivenPersons(lambda time, image: None).find(0.0, IMAGE)
