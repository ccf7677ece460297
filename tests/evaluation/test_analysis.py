"""What lies behind an AP: curves against `frame_map`, confusion by hand, the worst mistakes of a set made for it."""

import numpy as np
import pytest

from alphaction.evaluation.analysis import Curve, TruePersons, boxes_of, confusion, curves, judge
from alphaction.evaluation.frame_map import PROTOCOLS, frame_map
from alphaction.evaluation.matching import Detections, GroundTruth
from alphaction.evaluation.mistakes import worst_false, worst_misses

NONE = np.zeros(0, np.int64)
LEFT, RIGHT, FAR = [0.0, 0.0, 0.2, 0.5], [0.5, 0.0, 0.7, 0.5], [0.8, 0.8, 0.9, 0.9]


def random_set(seed, *, images=40, classes=6, boxes=4):
    """Boxes near a few places, so that many overlap; distinct scores."""
    rng = np.random.default_rng(seed)

    def draw(count):
        corner = rng.integers(0, 3, (count, 2)) / 3 + rng.uniform(0, 0.05, (count, 2))
        return np.concatenate([corner, corner + 0.25], axis=1)

    image = np.repeat(np.arange(images), boxes)
    num_rows = len(image) * classes
    score = rng.permutation(num_rows) / num_rows
    detections = Detections(
        image,
        draw(len(image)),
        np.repeat(np.arange(len(image)), classes),
        np.tile(np.arange(classes), len(image)),
        score,
    )
    owner = rng.integers(0, images - 5, 60)
    truth = GroundTruth(owner, draw(60), rng.integers(0, classes - 1, 60), np.arange(images - 2))
    return detections, truth


@pytest.mark.parametrize("protocol", ["alphaction", "activitynet"])
@pytest.mark.parametrize("seed", range(3))
def test_curves_have_the_area_that_frame_map_gives(protocol, seed):
    detections, truth = random_set(seed, boxes=12)  # more rows per image than "activitynet" takes
    excluded = np.array([3, 7])
    rules = PROTOCOLS[protocol]
    expected = frame_map(
        detections, ground_truth=truth, num_classes=6, protocol=rules, iou_thresholds=(0.5,), excluded_images=excluded
    )
    judged = judge(detections, truth=truth, num_classes=6, protocol=rules, iou_threshold=0.5, excluded=excluded)
    found = [np.nan if curve is None else curve.area for curve in curves(judged)]
    np.testing.assert_allclose(found, expected.ap[0], atol=1e-12)
    assert expected.num_hits.sum() > 20 and np.isnan(found[-1])
    np.testing.assert_array_equal(np.bincount(judged.label, minlength=6), expected.num_detections)
    np.testing.assert_array_equal(np.bincount(judged.label[judged.hit], minlength=6), expected.num_hits[0])


def test_a_long_curve_is_thinned_and_keeps_its_ends():
    curve = Curve(np.linspace(0.001, 1, 1000), np.linspace(1, 0.5, 1000))
    few = curve.thinned()
    assert len(few.recall) <= 101
    assert (few.recall[0], few.recall[-1], few.precision[-1]) == (0.001, 1, 0.5)


def test_rows_of_a_box_are_one_person():
    truth = GroundTruth(np.array([1, 0, 1, 2]), np.array([LEFT, LEFT, LEFT, RIGHT]), np.array([2, 0, 1, 0]))
    persons = TruePersons.of(truth, num_classes=3, excluded=np.array([2]))
    np.testing.assert_array_equal(persons.image, [0, 1])
    np.testing.assert_array_equal(persons.labels, [[True, False, False], [False, True, True]])


def persons_of(rows, num_classes=3):
    """Rows of (image, box, class)."""
    image, xyxy, label = zip(*rows, strict=True)
    truth = GroundTruth(np.array(image), np.array(xyxy), np.array(label))
    return truth, TruePersons.of(truth, num_classes=num_classes, excluded=NONE)


def test_the_box_of_each_person():
    _, persons = persons_of([(0, LEFT, 0), (0, RIGHT, 0), (1, LEFT, 0), (2, LEFT, 0)])
    image = np.array([1, 0, 0, 0])  # not sorted
    xyxy = np.array([[0.0, 0.0, 0.2, 0.2], LEFT, [0.5, 0.0, 0.7, 0.4], [0.5, 0.0, 0.7, 0.3]])
    np.testing.assert_array_equal(boxes_of(persons, image=image, xyxy=xyxy), [1, 2, -1, -1])


def test_confusion_is_between_what_a_person_does_and_does_not_do():
    _, persons = persons_of([(0, LEFT, 0), (0, LEFT, 1), (1, LEFT, 0), (2, LEFT, 2), (3, LEFT, 2)])
    scores = np.array([[0.2, 0.9, 0.1], [0.3, 0.8, 0.4], [0.5, 0.6, 0.6]])
    found = confusion(persons, box=np.array([0, 1, 2, -1]), scores=scores)
    # Image 0: both actions are right, though one scores much higher. 1: taken for 1. 2: as high is right. 3: no box.
    np.testing.assert_array_equal(found.taken, [[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(found.no_box, [0, 0, 1])
    assert found.pairs() == [(0, 1, 1)]
    assert found.rival[1, 0] == 1
    np.testing.assert_array_equal(np.argwhere(found.is_missed), [[1, 0], [3, 2]])


def test_classes_of_different_groups_do_not_compete():
    _, persons = persons_of([(0, LEFT, 0)])
    scores = np.array([[0.2, 0.1, 0.9]])
    alone = confusion(persons, box=np.array([0]), scores=scores, groups=[np.array([0, 1])])
    assert alone.taken[0].tolist() == [1, 0, 0]
    assert [group.tolist() for group in alone.groups] == [[0, 1], [2]]
    assert confusion(persons, box=np.array([0]), scores=scores).taken[0].tolist() == [0, 0, 1]


@pytest.fixture
def case():
    """Image 0: class 0 there, a higher row of it far off. 1: class 1 scored as 0. 2: not found. 3: nothing true."""
    truth, persons = persons_of([(0, LEFT, 0), (1, LEFT, 1), (2, LEFT, 1)])
    image = np.array([0, 0, 1, 3])
    xyxy = np.array([LEFT, FAR, LEFT, LEFT])
    scores = np.array([[0.6, 0.1, 0.0], [0.9, 0.0, 0.0], [0.7, 0.3, 0.9], [0.5, 0.2, 0.8]])
    box, label = (axis.reshape(-1) for axis in np.mgrid[:4, :3])
    return truth, persons, Detections(image, xyxy, box, label, scores.reshape(-1)), scores


def test_false_positives_are_those_that_cost_ap(case):
    truth, persons, detections, _ = case
    judged = judge(
        detections, truth=truth, num_classes=3, protocol=PROTOCOLS["alphaction"], iou_threshold=0.5, excluded=NONE
    )
    found = worst_false(judged, detections=detections, persons=persons, iou_threshold=0.5, number=9)
    # Not class 2, which is never true; not what scores lower than the right ones (0.6 and 0.3).
    assert [(one.image, one.label, one.score, one.true) for one in found] == [(0, 0, 0.9, ()), (1, 0, 0.7, (1,))]
    assert found[0].found is None and found[1].found.tolist() == LEFT
    assert len(worst_false(judged, detections=detections, persons=persons, iou_threshold=0.5, number=1)) == 1


def test_misses_are_low_scores_and_persons_without_a_box(case):
    _, persons, detections, scores = case
    box = boxes_of(persons, image=detections.image, xyxy=detections.xyxy)
    confused = confusion(persons, box=box, scores=scores)

    def worst(**changes):
        options = {"drawable": np.arange(4), "number": 9} | changes
        return worst_misses(persons, confused, box=box, xyxy=detections.xyxy, **options)

    first, second = worst()
    assert (first.image, first.label, first.score, first.rival, first.rival_score) == (1, 1, 0.3, 2, 0.9)
    assert (second.image, second.label, second.found, second.rival) == (2, 1, None, -1) and np.isnan(second.score)
    assert [one.image for one in worst(drawable=np.array([2]))] == [2]
    assert worst(number=0) == []


def test_nothing_at_all():
    nothing = Detections(NONE, np.zeros((0, 4)), NONE, NONE, np.zeros(0))
    truth = GroundTruth(NONE, np.zeros((0, 4)), NONE)
    persons = TruePersons.of(truth, num_classes=2, excluded=NONE)
    judged = judge(
        nothing, truth=truth, num_classes=2, protocol=PROTOCOLS["activitynet"], iou_threshold=0.5, excluded=NONE
    )
    assert curves(judged) == [None, None]
    box = boxes_of(persons, image=NONE, xyxy=np.zeros((0, 4)))
    confused = confusion(persons, box=box, scores=np.zeros((0, 2)))
    assert confused.pairs() == []
    assert worst_false(judged, detections=nothing, persons=persons, iou_threshold=0.5, number=3) == []
    assert worst_misses(persons, confused, box=box, xyxy=nothing.xyxy, drawable=NONE, number=3) == []
