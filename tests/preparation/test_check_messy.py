"""A data set with one of every fault: the report names each, with its file and its row."""

import json
import shutil

import numpy as np
import pytest
from videos import numbered_frames, write_video

from alphaction.preparation.check import check_dataset
from alphaction.preparation.check_findings import KINDS
from alphaction.preparation.check_script import main
from alphaction.preparation.check_text import report_text

BOX = "0.25,0.25,0.75,0.75"
# (row, the fault that is told of it: code and words of the message)
TRAIN = [
    (f"good,0.52,{BOX},1,1", None),
    (f"good,0.52,{BOX},2,1", None),
    (f"good,0.52,{BOX},1,1", ("duplicate-row", "repeats line 1")),
    (f"good,1,{BOX},7,1", ("unknown-class", "'7'")),
    (f"good,x,{BOX},1,1", ("bad-row", "timestamp 'x'")),
    ("good,1,0.25,left,0.5,0.5,1,1", ("bad-row", "0.25,left")),
    ("good,1,0.25,0.5", ("bad-row", "4 columns")),
    ("good,1.2,0.1,0.1,0.2,0.2,,3", ("no-action", "no action")),
    ("good,1.2,0.9,0.1,0.1,0.5,1,4", ("box-empty", "0.9")),
    ("good,1.2,1.1,0.1,1.3,0.5,1,5", ("box-outside", "1.1")),
    ("good,1.2,-0.2,0.1,0.3,0.5,1,6", ("box-clipped", "-0.2")),
    ("good,1.2,nan,0.1,0.3,0.5,1,7", ("box-nan", "nan")),
    (f"good,1.4,{BOX},1,8", None),
    (f"good,1.4,{BOX},1,9", ("box-duplicate", "line 13")),
    (f"good,9,{BOX},1,1", ("time-outside", "good at 9 s")),
    (f"gud,1,{BOX},1,1", ("video-missing", "the nearest name there is good")),
    (f"broken,1,{BOX},1,1", ("video-unreadable", "broken.mp4")),
    (f"empty,1,{BOX},1,1", ("video-unreadable", "0 bytes")),
    (f"clips,3,{BOX},1,1", None),
    (f"clips,4,{BOX},1,1", ("clip-missing", "no clip for second 4")),
    (f"clips,5,{BOX},1,1", None),
    (f"short,0.2,{BOX},1,1", None),
    (f"cut,0.5,{BOX},1,1", None),
    (f"cut,3.9,{BOX},1,1", ("time-outside", "cut at 3.9 s")),
    (f"hurt,1,{BOX},1,1", None),
    (f"variable,0.5,{BOX},1,1", None),
    (f"twin,0.52,{BOX},1,1", None),
    (f"shared,1,{BOX},1,1", None),
    (f"shared,2,{BOX},1,1", ("keyframes-shared", "shared at 2 s")),
    *[(f"rate,{n / 25:.2f},{BOX},1,1", None) for n in range(1, 40, 3)],
    *[(f"good,{1.5 + n / 100:.2f},{BOX},1,2", None) for n in range(25)],
]
# (file, code, words) of what belongs to no row
OF_FILES = [
    ("short.mp4", "video-short", "lasts 0.40 s"),
    ("cut.mp4", "video-truncated", "its header says 4.00 s"),
    ("hurt.mp4", "video-damaged", ""),
    ("variable.mp4", "variable-rate", "frames last"),
    ("spare.mp4", "video-unannotated", "no annotation"),
    ("twin.mp4", "same-content", "good.mp4"),
    ("train.csv", "rate-mismatch", "times of rate fall on frames of 25 per second, the video has 30"),
    ("train.csv", "class-without-example", "class 3 (wave)"),
    ("train.csv", "class-only-in-train", "class 2 (run)"),
    ("train.csv", "class-few", "class 2 (run)"),
    ("train.csv", "imbalance", "walk has"),
    ("train.csv", "video-in-two-splits", "video shared"),
    ("persons.json", "recall", "50.0% of the annotated persons of val"),
    ("persons.json", "boxes-unknown", "nowhere/0001.jpg"),
    ("objects.json", "file", "none of its 1 boxes belongs to an image"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("messy")
    videos = folder / "videos"
    good = write_video(videos / "good.mp4", 80)
    shutil.copy(good, videos / "twin.mp4")
    write_video(videos / "shared.mp4", 90)
    write_video(videos / "spare.mp4", 5)
    write_video(videos / "short.mp4", 10)
    write_video(videos / "rate.mp4", 90, 30)
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.choice([0.02, 0.08], 90))
    write_video(videos / "variable.mp4", 90, times=times.tolist())
    cut = write_video(videos / "cut.mp4", 100, container_options={"movflags": "faststart"}, gop=5).read_bytes()
    (videos / "cut.mp4").write_bytes(cut[: len(cut) // 2])
    hurt = bytearray(write_video(videos / "hurt.mp4", 100, gop=12).read_bytes())
    for start in range(len(hurt) // 10, len(hurt) // 2, 400):
        hurt[start : start + 40] = rng.bytes(40)
    (videos / "hurt.mp4").write_bytes(hurt)
    (videos / "broken.mp4").write_bytes(b"no video at all" * 100)
    (videos / "empty.mp4").write_bytes(b"")
    for second in (3, 5):
        write_video(videos / "clips" / f"{second}.mp4", numbered_frames(25))
    (folder / "train.csv").write_text("".join(f"{row}\n" for row, _ in TRAIN))
    (folder / "val.csv").write_text(f"shared,2,{BOX},1,1\nshared,3,{BOX},1,1\n")
    boxes = [
        {"image_id": "shared/2", "bbox": [24, 12, 48, 24], "score": 0.9},
        {"image_id": "shared/3", "bbox": [24, 12, 48, 24], "score": 0.3},
        {"image_id": "nowhere/0001.jpg", "bbox": [24, 12, 48, 24], "score": 0.9},
    ]
    (folder / "persons.json").write_text(json.dumps(boxes))
    (folder / "objects.json").write_text(json.dumps(boxes[2:]))
    (folder / "dataset.yaml").write_text(
        "videos: videos\nclasses: [walk, run, wave]\nsplits:\n  train: {annotations: train.csv}\n"
        "  val: {annotations: val.csv, person_boxes: persons.json, object_boxes: objects.json}\n"
    )
    return folder


@pytest.fixture(scope="module")
def report(folder):
    return check_dataset([str(folder / "dataset.yaml")])


def told(report):
    return [(f.code, f.file.rsplit("/", 1)[-1], f.row, f.message) for f in report.findings]


@pytest.mark.parametrize("line", [i for i, (_, fault) in enumerate(TRAIN, 1) if fault])
def test_every_faulty_row_is_named(report, line):
    code, words = TRAIN[line - 1][1]
    found = [m for c, file, row, m in told(report) if (c, file, row) == (code, "train.csv", f"line {line}")]
    assert len(found) == 1, told(report)
    assert words in found[0]


@pytest.mark.parametrize(("file", "code", "words"), OF_FILES)
def test_every_fault_of_a_file_is_named(report, file, code, words):
    assert any((c, f) == (code, file) and words in m for c, f, _, m in told(report)), told(report)


def test_good_rows_are_not_named(report):
    good = {f"line {i}" for i, (_, fault) in enumerate(TRAIN, 1) if fault is None}
    allowed = {"video-truncated", "video-damaged"}
    wrong = [t for t in told(report) if t[1] == "train.csv" and t[2] in good and t[0] not in allowed]
    assert not wrong


def test_tables(report):
    totals = {split["name"]: split for split in report.summary()}
    assert totals["val"]["usable_persons"] == 2
    videos = {row.video: row for row in report.videos() if row.split == "train"}
    assert (videos["good"].fps, videos["good"].width, videos["good"].height) == (25.0, 96, 48)
    assert videos["gud"].state == "missing"
    assert videos["cut"].state == "truncated" and videos["cut"].seconds < 3
    assert [(name, counts[1]) for _, name, counts in report.classes()] == [("walk", 2), ("run", 0), ("wave", 0)]
    assert report.coverage[0].recall == 0.5 and report.coverage[0].recall_all == 1.0


def test_text_has_every_finding_and_the_cures(report):
    text = " ".join(report_text(report, rows=0).split())
    for finding in report.findings:
        assert KINDS[finding.code].cure in text
        assert f"{finding.file} {finding.row}: {finding.message}".replace(" :", ":") in text
    assert "training will fail or be wrong" in text


def test_html_is_one_file_with_pictures(folder, tmp_path, capsys):
    page = tmp_path / "sub" / "report.html"
    facts = tmp_path / "report.json"
    status = main([str(folder / "dataset.yaml"), "--html", str(page), "--json", str(facts), "--no-decode"])
    assert status == 1
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,") >= 8
    assert "http" not in text and 'src="data:' in text
    assert "line 10" in text and "outside the picture" in text
    content = json.loads(facts.read_text(encoding="utf-8"))
    assert content["counts"]["error"] > 5
    assert {"code", "level", "file", "row", "message"} <= content["findings"][0].keys()
    assert "unknown-class" in capsys.readouterr().out
