"""tools/evaluate.py: recorded numbers through files, what is counted and said, and how it ends."""

import json
import pathlib
import runpy
import sys

import goldens
import numpy as np
import pytest

from alphaction.errors import DataError
from alphaction.evaluation.from_files import evaluate_files

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = goldens.load("ava_eval")
RECORDED = {"alphaction": "stable", "activitynet": "official_activitynet_capacity_50"}
TRUTH = "a,1,0.1,0.1,0.5,0.9,1,7\na,1,0.1,0.1,0.5,0.9,2,7\na,2,0.2,0.3,0.4,0.9,1,8\n"
FOUND = "a,1,0.1,0.1,0.5,0.9,1,0.9\na,1,0.1,0.1,0.5,0.9,2,0.8\na,2,0.2,0.3,0.4,0.9,1,0.7\n"
LABELS = 'item {\n  name: "stand"\n  id: 1\n}\nitem {\n  name: "sit"\n  id: 2\n}\n'


def command(monkeypatch, capsys, *flags):
    """(exit status, stdout, stderr) of tools/evaluate.py."""
    monkeypatch.setattr(sys, "argv", ["tools/evaluate.py", *map(str, flags)])
    status = 0
    try:
        runpy.run_path(str(ROOT / "tools/evaluate.py"), run_name="__main__")
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture
def write(tmp_path):
    def write(**texts):
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
        return [tmp_path / name for name in texts]

    return write


def evaluated(write, found, truth=TRUTH, labels=None, **options):
    truth_path, found_path = write(truth=truth, found=found)
    if labels:
        options["labelmap"] = write(labels=labels)[0]
    return evaluate_files(truth_path, found_path, **options)


@pytest.mark.parametrize("protocol", RECORDED)
@pytest.mark.parametrize("name", GOLDEN["cases"])
def test_recorded_numbers_through_the_command(name, protocol, tmp_path, monkeypatch, capsys):
    case = GOLDEN["cases"][name]
    want = case[RECORDED[protocol]]
    if protocol == "activitynet" and case["stable"] != case["default"]:
        pytest.skip("equal scores decide, in the order of numpy's default sort on the recording machine")
    for file in ("groundtruth_csv", "detections_csv", "exclusions_csv", "labelmap"):
        (tmp_path / file).write_text(case[file])
    status, out, _ = command(
        monkeypatch, capsys, "--ground-truth", tmp_path / "groundtruth_csv", "--detections",
        tmp_path / "detections_csv", "--labelmap", tmp_path / "labelmap", "--exclusions", tmp_path / "exclusions_csv",
        "--protocol", protocol, "--output", tmp_path / "out",
    )  # fmt: skip
    assert status == 0
    got = json.loads((tmp_path / "out/metrics.json").read_text())
    assert got["protocol"] == protocol
    assert got["mAP"] == pytest.approx(want["mAP"], abs=1e-9)
    assert got["per_class"] == {k: v if v is None else pytest.approx(v, abs=1e-9) for k, v in want["per_class"].items()}
    assert out.rstrip("\n") == (tmp_path / "out/result.log").read_text().rstrip("\n")


def test_without_a_label_map_the_classes_are_those_of_the_ground_truth(write):
    result = evaluated(write, FOUND + "a,2,0.2,0.3,0.4,0.9,11,0.7\n", truth=TRUTH.replace(",2,7", ",10,7"))
    assert result.class_ids == (1, 10)
    assert result.counts["rows with a class id that is not evaluated"] == 2
    assert (
        "found: 2 rows do not count, their class ids are not in the ground truth: 2 (1 rows), 11 (1 rows)"
        in (result.notes[0])
    )
    np.testing.assert_array_equal(result.ap, [1, 0])


def test_class_ids_may_be_texts_and_columns_named(write):
    header = "action,video,time,x1,y1,x2,y2,score\n"
    result = evaluated(write, header + "run,a,1,0,0,1,1,0.5\n", truth=header + "walk,a,2,0,0,1,1,\nrun,a,1,0,0,1,1,\n")
    assert result.per_class == {"run": 1, "walk": 0}


def test_counts_and_notes(write):
    found = FOUND + "b,1,0,0,1,1,1,0.5\nc,1,0,0,1,1,1,0.5\nc,1,0,0,1,1,9,0.5\nc,2,0,0,0,1,1,0.5\n"
    result = evaluated(write, found, truth=TRUTH + "a,3,0,0,1,1,1,1\na,4\na,1,0,0,1,1,5,1\n", labels=LABELS)
    counts = {what: number for what, number in result.counts.items() if number}
    assert counts == {
        "keyframes with ground truth": 4,
        "keyframes with true boxes but no detection": 1,
        "keyframes with detections": 5,
        "keyframes with detections but no ground truth": 3,
        "true rows": 4,
        "true rows with a class id that is not evaluated": 1,
        "rows": 6,
        "rows with a class id that is not evaluated": 1,
        "rows of videos without ground truth": 3,
        "videos without ground truth": 2,
        "rows ignored: box without width or height": 1,
    }
    notes = "\n".join(result.notes)
    for said in (
        "truth: 1 rows do not count, their class ids are not in",
        "found: 3 rows are of 2 videos that the ground truth does not have; they count as false",
        "1 of 4 keyframes with ground truth have no detection; their boxes are missed",
        "1 rows do not count: box without width or height",
    ):
        assert said in notes
    notes = evaluated(write, found, protocol="activitynet").notes
    assert "found: 3 rows are of 2 videos that the ground truth does not have; they do not count" in "\n".join(notes)


def test_missing_scores_and_no_detections_are_said(write):
    result = evaluated(write, FOUND.replace(",0.9\n", "\n") + "a,9,0,0,1,1,1\n")
    assert "found: 2 of 4 rows have no score" in result.notes[0]
    result = evaluated(write, "a,1,0.1,0.1,0.5,0.9,1\n")
    assert "found: 1 of 1 rows have no score (an eighth column); they count with score 1" in result.notes[0]
    result = evaluated(write, "")
    assert result.mAP == 0
    assert "found: there is no detection of the evaluated classes; every true box is missed" in result.notes[0]


@pytest.mark.parametrize(
    ("order", "told"),
    [
        (lambda a, b, c, d: (b, a, d, c), "they match with x and y exchanged (100% of the true boxes are found so"),
        (lambda a, b, c, d: (a, b, c - a, d - b), "they are x, y, width, height"),
        (lambda a, b, c, d: (1 - c, b, 1 - a, d), "they match when mirrored"),
    ],
)
def test_another_order_of_the_corners_is_told(write, order, told):
    rng = np.random.default_rng(0)
    truth, found = [], []
    for second in range(30):
        x1, y1 = rng.uniform(0, 0.4, 2)
        box = x1, y1, x1 + rng.uniform(0.1, 0.3), y1 + rng.uniform(0.3, 0.6)
        truth.append(f"a,{second},{','.join(map(str, box))},1,1")
        found.append(f"a,{second},{','.join(map(str, order(*box)))},1,0.5")
    result = evaluated(write, "\n".join(found), truth="\n".join(truth))
    assert any("the boxes are not where those of" in note and told in note for note in result.notes)
    assert not any("match" in note for note in evaluated(write, "\n".join(truth), truth="\n".join(truth)).notes)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"found": FOUND + "a,1,0.1,0.1\n"}, "found, line 4: 4 columns, expected 7 or 8"),
        ({"found": FOUND + "a,1,0.1,0.1,wide,0.9,1,0.9\n"}, "found, line 4: x2 is 'wide', expected a number"),
        ({"found": FOUND + "a,1,0.1,0.1,0.5,0.9,1,\n"}, "found, line 4: score is '', expected a number"),
        ({"found": FOUND + "a,1,0.1,0.1,0.5,0.9,1,NaN\n"}, "found, line 4: score is NaN, expected a finite number"),
        ({"found": FOUND + "a,1,10,10,50,90,1,0.9\n"}, "found, line 4: coordinates up to 90, expected 0..1"),
        ({"truth": TRUTH + "a,1,0.5,0.1,0.2,0.9,1\n"}, "truth, line 4: box 0.5, 0.1, 0.2, 0.9 has x2 < x1"),
        ({"truth": ""}, "truth: nothing to compare with, it has no box"),
        ({"truth": "a,1\n"}, "truth: nothing to compare with, it has no box"),
        ({"labels": LABELS.replace(": 1", ": 7").replace(": 2", ": 8")}, "none of its class ids (1, 2, ...) is in"),
        ({"exclusions": "a,1\na,2,3\n"}, "exclusions, line 2: 3 columns, expected 2 (video, second)"),
    ],
)
def test_errors_name_file_and_line(write, texts, message):
    paths = dict(zip(texts, write(**texts), strict=True))
    with pytest.raises(DataError) as error:
        evaluate_files(
            paths.get("truth") or write(truth=TRUTH)[0],
            paths.get("found") or write(found=FOUND)[0],
            labelmap=paths.get("labels"),
            exclusions=paths.get("exclusions"),
        )
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_command_ends_with_0_1_or_2(write, tmp_path, monkeypatch, capsys):
    truth, found = write(truth=TRUTH, found=FOUND)
    files = ["--ground-truth", truth, "--detections", found]
    status, out, _ = command(monkeypatch, capsys, *files, "--iou", "0.5", "coco", "--coco-metrics")
    assert status == 0
    assert "mAP@0.5:0.95 = 1.0000   (mean of these 10 lines)" in out
    assert "COCO metrics" in out
    assert set(tmp_path.iterdir()) == {truth, found}  # nothing is written without --output
    status, _, err = command(monkeypatch, capsys, *files[:3], tmp_path / "gone.csv")
    assert status == 1
    assert "gone.csv: cannot be read (No such file or directory)" in err
    assert "Traceback" not in err
    status, _, err = command(monkeypatch, capsys, *files, "--output", found)
    assert status == 1
    assert "cannot be written" in err
    for flags in ((), (*files, "--iou", "1.5"), (*files, "--iou", "half"), (*files, "--protocol", "coco")):
        assert command(monkeypatch, capsys, *flags)[0] == 2


def test_several_thresholds(write):
    shifted = FOUND.replace("a,2,0.2,0.3,0.4,0.9", "a,2,0.2,0.3,0.4,0.75")  # overlap 0.75
    result = evaluated(write, shifted, iou_thresholds=(0.5, 0.9))
    assert result.mAP == 1
    assert result.mAP_by_iou == {0.5: 1.0, 0.9: pytest.approx(0.75)}
    metrics = result.as_dict()
    assert metrics["mAP_by_iou"] == {"0.5": 1.0, "0.9": pytest.approx(0.75)}
    assert metrics["mAP_mean_over_iou"] == pytest.approx(0.875)
    assert "mAP@0.5:0.9 = 0.8750   (mean of these 2 lines)" in result.table()
