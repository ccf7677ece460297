"""Why the mAP is 0: for every way to get there the funnel names the first empty stage and its likely cause."""

from dataclasses import replace

import numpy as np
import pytest

from alphaction.evaluation.explain import explain
from alphaction.evaluation.matching import Detections, GroundTruth, best_overlaps, box_iou
from alphaction.structures import ClassList

CLASSES = ClassList((1, 2, 3, 4), ("walk", "run", "wave", "sit"))
IMAGES = 30


def make(num_classes=4):
    """(detections that are as good as can be, their truth): two boxes per image, a class each."""
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(IMAGES), 2)
    left = rng.uniform(0.02, 0.2, (len(image), 2))
    xyxy = np.concatenate([left, left + rng.uniform(0.2, 0.35, left.shape) * [1, 2]], axis=1)
    label = rng.integers(0, 3, len(image))
    box, column = np.divmod(np.arange(len(image) * num_classes), num_classes)
    score = np.where(column == label[box], 0.9, 0.1) + rng.uniform(0, 0.05, len(box))
    return Detections(image, xyxy, box, column, score), GroundTruth(image, xyxy, label)


def run(detections, truth, **options):
    options = {"keys": [("v", f"{i:04d}") for i in range(IMAGES * 2)], "excluded": np.zeros(0, np.int64)} | options
    return explain(
        detections,
        truth=truth,
        classes=CLASSES,
        num_predicted=options.pop("num_predicted", len(detections.xyxy)),
        **options,
    )


def test_good_predictions_have_nothing_to_explain():
    funnel = run(*make())
    assert funnel.broken is None
    assert [stage.count for stage in funnel.stages] == [30, 60, 60, 240, 30, 60, 3, 60]
    assert funnel.remarks[0] == "3 of 4 classes have ground truth."
    assert len(funnel.remarks) == 2 and "Likely cause" not in funnel.text()


def broken(funnel):
    assert funnel.broken is not None, funnel.text()
    assert funnel.text().count("nothing is left") == 1
    return funnel.broken


def test_no_ground_truth():
    detections, truth = make()
    stage = broken(run(detections, truth, excluded=np.arange(IMAGES)))
    assert stage.what == "annotated keyframes" and "exclusion file" in stage.cause


def test_no_evaluated_class():
    detections, _ = make()
    nothing = np.zeros(0, np.int64)
    stage = broken(run(detections, GroundTruth(nothing, np.zeros((0, 4)), nothing, np.arange(IMAGES))))
    assert "of the evaluated classes" in stage.what and "label map" in stage.cause


@pytest.mark.parametrize(("uses_detections", "words"), [(True, "TEST.BOX_THRESH"), (False, "no clip could be read")])
def test_no_predictions(uses_detections, words):
    nothing = np.zeros(0, np.int64)
    stage = broken(
        run(
            Detections(nothing, np.zeros((0, 4)), nothing, nothing, nothing), make()[1], uses_detections=uses_detections
        )
    )
    assert stage.what == "predicted boxes" and words in stage.cause


def test_threshold_above_every_score():
    detections, truth = make()
    nothing = np.zeros(0, np.int64)
    none = replace(detections, box=nothing, label=nothing, score=nothing.astype(float))
    stage = broken(run(none, truth, action_threshold=0.99))
    assert "TEST.ACTION_THRESH 0.99" in stage.what and "lower it" in stage.cause


@pytest.mark.parametrize(
    ("other", "words"), [("v", "the seconds of the keyframes differ"), ("V.mp4", "the videos have other names")]
)
def test_keyframes_of_other_names(other, words):
    detections, truth = make()
    keys = [("v", f"{i:04d}") for i in range(IMAGES)] + [(other, f"{i}.5") for i in range(IMAGES)]
    cause = broken(run(replace(detections, image=detections.image + IMAGES), truth, keys=keys)).cause
    assert words in cause and f"{other}, 0.5" in cause and "v, 0000" in cause


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda x1, y1, x2, y2: (1 - x2, y1, 1 - x1, y2), "mirrored"),
        (lambda x1, y1, x2, y2: (y1, x1, y2, x2), "x and y exchanged"),
        (lambda x1, y1, x2, y2: (x1, y1, x2 - x1, y2 - y1), "x2, y2 read as width and height"),
        (lambda x1, y1, x2, y2: (x1, y1, x2 + x1 * 6, y2 + y1 * 6), "from 0.0"),
        (lambda x1, y1, x2, y2: (x1 / 9, y1 / 9, x2 / 9, y2 / 9), "other units"),
    ],
)
def test_boxes_that_are_somewhere_else(spoil, words):
    detections, truth = make()
    moved = np.stack(spoil(*detections.xyxy.T), axis=1)
    funnel = run(replace(detections, xyxy=moved), truth, iou_threshold=0.97)
    assert words in broken(funnel).cause
    assert "overlaps" in broken(funnel).what


def test_a_step_that_loses_most_is_told():
    detections, truth = make()
    xyxy = detections.xyxy.copy()
    xyxy[2:] = xyxy[2:, [1, 0, 3, 2]] + [0, 0.4, 0, 0.4]
    text = run(replace(detections, xyxy=xyxy), truth, iou_threshold=0.9).text()
    assert "Only 2 of 60 true rows on keyframes with predicted boxes: the predicted boxes are in other units" in text


def test_few_predicted_keyframes_are_not_taken_for_wrong_boxes():
    detections, truth = make()
    few = detections.box < 6
    part = replace(detections, box=detections.box[few], label=detections.label[few], score=detections.score[few])
    text = run(part, truth).text()
    assert "Only 3 of 30 keyframes: the others have no predicted box. Are these the predictions of the whole" in text
    assert "true rows on keyframes" not in text


def test_other_classes():
    detections, truth = make()
    kept = detections.label == 3
    only = Detections(
        detections.image, detections.xyxy, detections.box[kept], detections.label[kept], detections.score[kept]
    )
    stage = broken(run(only, truth))
    assert stage.what == "classes in common" and "predicted class ids (4, ...)" in stage.cause


def test_the_true_class_is_never_scored():
    detections, truth = make()
    kept = detections.score < 0.5
    wrong = Detections(
        detections.image, detections.xyxy, detections.box[kept], detections.label[kept], detections.score[kept]
    )
    assert "no box is scored for its true class" in broken(run(wrong, truth)).cause


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (lambda d, t: np.full(len(d.score), 0.5), "All scores are the same"),
        (lambda d, t: 1 - d.score, "the model has not learnt"),
        (lambda d, t: np.where(d.label == t.label[d.box] + 1, 0.9, 0.05), "one above the true one scores 0.9"),
    ],
)
def test_scores_without_sense(score, words):
    detections, truth = make()
    funnel = run(replace(detections, score=score(detections, truth)), truth)
    assert funnel.broken is None
    assert words in funnel.text()


def test_best_overlaps_is_the_largest_iou_per_image(monkeypatch):
    monkeypatch.setattr("alphaction.evaluation.matching._PAIRS_AT_ONCE", 7)
    rng = np.random.default_rng(0)
    image, other_image = rng.integers(0, 6, 20), np.sort(rng.integers(0, 5, 40))
    xyxy, other = (np.sort(rng.uniform(0, 9, (n, 2, 2)), axis=1).reshape(n, 4) for n in (20, 40))
    best, place = best_overlaps(image, xyxy=xyxy, other_image=other_image, other=other)
    for i in range(20):
        rows = np.flatnonzero(other_image == image[i])
        if not len(rows):
            assert best[i] == 0 and place[i] == -1
            continue
        iou = box_iou(np.repeat(xyxy[i : i + 1], len(rows), axis=0), other[rows])
        assert best[i] == iou.max() and place[i] == rows[iou.argmax()]
