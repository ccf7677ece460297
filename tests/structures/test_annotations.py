import numpy as np
import pytest

from alphaction.structures import Annotations, ClassList, ClipKey, PackedBoxes


def _boxes(counts, scores=False):
    keyframe = np.repeat(np.arange(len(counts)), counts)
    xyxy = np.arange(4 * len(keyframe), dtype=np.float32).reshape(-1, 4)
    return PackedBoxes.pack(keyframe, xyxy, len(counts), np.arange(len(keyframe)) / 10 if scores else None)


def _annotations(counts, classes=("a", "b")):
    boxes = _boxes(counts)
    return Annotations(
        classes=ClassList(tuple(range(1, len(classes) + 1)), tuple(classes)),
        movies=("m", "n"),
        movie=np.arange(len(counts), dtype=np.int32) % 2,
        time=np.arange(len(counts)) + 0.5,
        size=np.full((len(counts), 2), 32, np.int32),
        boxes=boxes,
        labels=np.ones((len(boxes.xyxy), len(classes)), bool),
        person_id=np.arange(len(boxes.xyxy), dtype=np.int32),
    )


@pytest.mark.parametrize("counts", [[], [0], [0, 2, 0, 1], [3]])
def test_pack_and_rows(counts):
    boxes = _boxes(counts, scores=True)
    assert len(boxes) == len(counts)
    assert boxes.counts().tolist() == counts
    assert boxes.xyxy.dtype == np.float32 and boxes.scores.dtype == np.float32
    assert [len(boxes.xyxy[boxes.rows(i)]) for i in range(len(counts))] == counts


@pytest.mark.parametrize("keyframe", [[1, 0], [0, 2], [-1]])
def test_pack_refuses_other_orders(keyframe):
    with pytest.raises(ValueError, match="expected ascending numbers below 2"):
        PackedBoxes.pack(np.asarray(keyframe), np.zeros((len(keyframe), 4)), 2)


def test_concat_boxes():
    joined = PackedBoxes.concat([_boxes([1, 2], True), _boxes([], True), _boxes([0, 1], True)])
    assert joined.counts().tolist() == [1, 2, 0, 1]
    assert joined.xyxy[3].tolist() == [0, 1, 2, 3]
    assert joined.scores.shape == (4,)
    with pytest.raises(ValueError, match="some parts have them"):
        PackedBoxes.concat([_boxes([1], True), _boxes([1])])


def test_concat_annotations():
    joined = Annotations.concat([_annotations([1, 2]), _annotations([0, 1])])
    assert len(joined) == 4 and joined.movies == ("m", "n", "m", "n")
    assert joined.movie.tolist() == [0, 1, 2, 3] and joined.movie.dtype == np.int32
    assert joined.labels.shape == (4, 2)
    assert joined.key(2) == ClipKey("m", 0.5)


def test_concat_refuses_other_classes():
    with pytest.raises(ValueError, match="different classes"):
        Annotations.concat([_annotations([1]), _annotations([1], classes=("a",))])


def test_class_list():
    classes = ClassList((0, "x"), ("a", "b"))
    assert len(classes) == 2 and classes.index() == {0: 0, "x": 1}
    with pytest.raises(ValueError, match="2 ids and 1 names"):
        ClassList((1, 2), ("a",))
    with pytest.raises(ValueError, match="not unique"):
        ClassList((1, 1), ("a", "b"))


def test_clip_key_reads_well():
    assert str(ClipKey("m", 12.0)) == "m at 12 s"
    assert str(ClipKey("m", 0.25)) == "m at 0.25 s"
