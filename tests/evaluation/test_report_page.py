"""`report.html` stands alone, is well formed and says what was found. How it looks was judged by eye."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from alphaction.errors import VideoError
from alphaction.evaluation.findings import Evidence, find
from alphaction.evaluation.matching import Detections, GroundTruth
from alphaction.evaluation.report import EvalResult
from alphaction.evaluation.report_page import write_page

VOID = {"meta", "img", "br", "path", "circle"}


class Tags(HTMLParser):
    """Checks that tags close in order; collects what the page loads, and its text."""

    def __init__(self):
        super().__init__()
        self.open, self.loaded, self.text, self.count = [], [], [], {}

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.loaded += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID and tag != "html":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(folder):
    page = Tags()
    page.feed((folder / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert not [url for url in page.loaded if not url.startswith(("data:image/jpeg;base64,", "pictures/"))]
    return page, " ".join(" ".join(page.text).split())


def made(num_classes, *, groups=None, picture=None, **changes):
    """One keyframe per class, on which the person does it and is taken for the next class."""
    image = np.arange(num_classes)
    xyxy = np.tile([0.1, 0.1, 0.5, 0.9], (num_classes, 1))
    scores = np.full((num_classes, num_classes), 0.1)
    scores[image, image] = 0.4
    scores[image, (image + 1) % num_classes] = np.linspace(0.6, 0.9, num_classes)
    box, label = (axis.reshape(-1) for axis in np.mgrid[:num_classes, :num_classes])
    evidence = Evidence(
        detections=Detections(image, xyxy, box, label, scores.reshape(-1)),
        truth=GroundTruth(image, xyxy, image),
        excluded=np.zeros(0, np.int64),
        scores=scores,
        groups=groups or {},
        keys=[("film <1>", f"{900 + i:04d}") for i in range(num_classes)],
        picture=picture or (lambda i: np.full((48, 64, 3), 90, np.uint8)),
        drawable=image,
    )
    numbers = np.full(num_classes, 1, np.int64)
    result = EvalResult(
        name="toy & co",
        protocol="alphaction",
        iou_threshold=0.5,
        boxes="detected boxes",
        mAP=0.5,
        class_ids=tuple(range(1, num_classes + 1)),
        class_names=tuple(f"class <{i}>" for i in range(num_classes)),
        ap=np.linspace(0, 1, num_classes),
        num_ground_truth=numbers,
        num_detections=numbers * num_classes,
        num_hits=numbers,
        mAP_by_iou={0.5: 0.5, 0.75: 0.25},
    )
    return replace(result, **changes), evidence


def test_page_of_few_classes(tmp_path):
    result, evidence = made(
        3, notes=("a note",), explanation="3  steps", more_text="AR 0.7", num_training=np.array([10, 20, 30])
    )
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "01_film_0900.jpg").write_bytes(b"")
    write_page(result, evidence, find(result, evidence, number=2), tmp_path, weights="runs/model_final.pth")
    page, text = read(tmp_path)
    for part in (
        "Test of toy & co",
        "alphaction",
        "detected boxes",
        "runs/model_final.pth",
        "0.2500",
        "a note",
        "AR 0.7",
    ):
        assert part in text
    assert "class <2> 3 1.0000 30 1 1 3" in text  # class, id, AP, training, true, found, detections
    assert text.index("class <2> 3 1.0000") < text.index("class <1> 2 0.5000") < text.index("class <0> 1 0.0000")
    assert "3 true classes of 3 persons: 0 are told right, 3 taken for another class, 0 have no box." in text
    assert "class <0> class <1> 1 100 % 1" in text
    assert page.count["svg"] == 3
    assert page.count["img"] == 2 + 2 + 1
    assert "class <0> 0.900 ; true: class <2> film <1>, second 902" in text
    assert "missed: class <0> 0.400 , taken for class <1> 0.600" in text
    assert "Groups" not in text and "The detector's share" not in text


def test_large_groups_are_lists_and_small_ones_matrices(tmp_path):
    groups = {"pose": np.arange(14), "object": np.arange(14, 63), "person": np.arange(63, 80)}
    result, evidence = made(80, groups=groups, mAP_by_group={"pose": 0.1, "object": 0.2, "person": float("nan")})
    write_page(result, evidence, find(result, evidence, number=0), tmp_path)
    page, text = read(tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.count("<table class=matrix>") == 2 and page.count["svg"] == 80
    assert "pose 0.1000" in text and "person n/a" in text
    assert "... and 47 more pairs" in text  # the last class of a group has its rival in another one
    assert "img" not in page.count and "False positives" not in text


def test_the_share_of_the_detector(tmp_path):
    result, evidence = made(3, detector_recall=0.875)
    upper = replace(
        result, mAP=0.75, ap=np.array([0.5, np.nan, 0.25]), curves=tuple(find(result, evidence, number=0).curves)
    )
    result = replace(result, upper=upper)
    write_page(result, evidence, find(result, evidence, number=0), tmp_path)
    _, text = read(tmp_path)
    assert "The detected boxes find 87.5 % of the true ones" in text
    assert (
        "reach mAP 0.7500: 0.2500 is lost with the detected ones" in text
        and "0.2500 is left to the action head" in text
    )
    assert "class <1> 2 0.5000 n/a 1 1 3" in text
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("stroke-dasharray") == 3


def test_a_picture_that_cannot_be_read_is_said(tmp_path, caplog):
    def broken(i):
        raise VideoError("film.mp4: broken")

    result, evidence = made(3, picture=broken)
    write_page(result, evidence, find(result, evidence, number=1), tmp_path)
    assert "(the picture cannot be read)" in read(tmp_path)[1]
    assert "film.mp4: broken" in caplog.text


@pytest.mark.parametrize("with_truth", [True, False])
def test_nothing_predicted_or_nothing_true(tmp_path, with_truth):
    result, evidence = made(3, ap=np.full(3, np.nan), mAP=float("nan"))
    nothing = np.zeros(0, np.int64)
    if with_truth:
        empty = Detections(nothing, np.zeros((0, 4)), nothing, nothing, np.zeros(0))
        evidence = replace(evidence, detections=empty, scores=np.zeros((0, 3)))
    else:
        evidence = replace(evidence, truth=GroundTruth(nothing, np.zeros((0, 4)), nothing))
    write_page(result, evidence, find(result, evidence, number=2), tmp_path)
    _, text = read(tmp_path)
    assert re.search(r"Test of toy & co n/a mAP", text)
    assert ("missed: class <0>, no box" in text) == with_truth
    assert ("No class has true boxes." in text) != with_truth
