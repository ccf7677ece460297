"""COCO's metrics: a case made by hand, and what is left out."""

import numpy as np
import pytest

from alphaction.evaluation import Detections, GroundTruth, coco_metrics
from alphaction.structures import ClassList

CLASSES = ClassList((1, 2, 3), ("stand", "sit", "fly"))


def arrays(truth, found):
    """Rows (image, x1, y1, x2, y2, class[, score])."""
    truth, found = np.array(truth, float).reshape(-1, 6), np.array(found, float).reshape(-1, 7)
    return (
        GroundTruth(truth[:, 0].astype(int), truth[:, 1:5], truth[:, 5].astype(int)),
        Detections(found[:, 0].astype(int), found[:, 1:5], np.arange(len(found)), found[:, 5].astype(int), found[:, 6]),
    )


def metrics(truth, found, **options):
    truth, found = arrays(truth, found)
    return coco_metrics.coco_metrics(found, ground_truth=truth, classes=CLASSES, **{"num_images": 3, **options})


def test_by_hand(capsys):
    result = metrics(
        # class 0: two true boxes; one found with overlap 0.8 (so at 7 of 10 thresholds: 0.5 .. 0.8), one missed
        [(0, 0, 0, 1, 1, 0), (1, 0, 0, 1, 1, 0), (0, 0, 0, 1, 1, 1)],
        [(0, 0, 0, 0.8, 1, 0, 0.9), (0, 0, 0, 1, 1, 1, 0.9), (2, 0, 0, 1, 1, 2, 0.9)],
    )
    assert capsys.readouterr().out == ""
    half = 51 / 101  # precision 1 at recalls 0 .. 0.5, 0 above
    np.testing.assert_allclose(
        result.values, [[0.7 * half, half, half, 0.7 * 0.5], [1, 1, 1, 1], [np.nan] * 4], atol=1e-12
    )
    assert result.means == pytest.approx(
        {"AP": (0.7 * half + 1) / 2, "AP50": (half + 1) / 2, "AP75": (half + 1) / 2, "AR": 0.675}
    )
    plain = result.as_dict()
    assert plain["AP50"] == pytest.approx((half + 1) / 2)
    assert plain["classes"][2] == {"id": 3, "name": "fly", "AP": None, "AP50": None, "AP75": None, "AR": None}
    assert result.text().splitlines()[-1].split() == ["mean", "0.6767", "0.7525", "0.7525", "0.6750"]
    assert "fly" not in result.text()


def test_false_boxes_count_on_every_image_but_the_excluded():
    truth, found = [(0, 0, 0, 1, 1, 0)], [(2, 0, 0, 1, 1, 0, 0.9), (0, 0, 0, 1, 1, 0, 0.8)]
    assert metrics(truth, found).values[0, 0] == pytest.approx(0.5)
    assert metrics(truth, found, excluded_images=np.array([2])).values[0, 0] == pytest.approx(1)
    assert np.isnan(metrics(truth, found, excluded_images=np.array([0])).values).all()


def test_nothing_detected_or_too_much(monkeypatch):
    assert metrics([(0, 0, 0, 1, 1, 0)], []).means == {"AP": 0, "AP50": 0, "AP75": 0, "AR": 0}
    assert np.isnan(metrics([], [(0, 0, 0, 1, 1, 0, 1)]).means["AP"])
    monkeypatch.setattr(coco_metrics, "MOST_ROWS", 1)
    result = metrics([(0, 0, 0, 1, 1, 0)], [(0, 0, 0, 1, 1, 0, 1)] * 2)
    assert "left out, pycocotools keeps a record of each of the 2 rows, more than 1 are too many" in result.text()
    assert "2 rows" in result.as_dict()["not computed"]
