"""detections.jsonl and events.csv: written and read back, valid after a kill, wrong lines named."""

import csv
import json
import logging
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphaction.errors import DataError, UserError
from alphaction.prediction.event_csv import EventWriter
from alphaction.prediction.events import Event
from alphaction.prediction.jsonl import DetectionsWriter, Header, read_detections, read_header
from alphaction.prediction.records import Moment, PersonRecord

HEADER = Header("a.mp4", (240, 320), 29.97, ("walk", "talk to (e.g., self)", "坐"), {"detect_rate": 4})
SIZE = (240, 320)


def someone(track, *, scores=(0.25, 0.5, 0.0)):
    return PersonRecord(track, (1.5, 2.0, 30.25, 40.0), 0.75, np.array(scores, np.float32))


def write(path, moments, header=HEADER):
    with DetectionsWriter(path, header=header) as writer:
        for moment in moments:
            writer.add(moment)
    return path


def plain(moments):
    return [(m.time, m.size, [(p.track, p.box, p.box_score, p.scores.tolist()) for p in m.persons]) for m in moments]


def test_lines_are_as_documented(tmp_path):
    moments = [Moment(0.0, SIZE, []), Moment(0.1 + 0.2, SIZE, [someone(0), someone(3)])]
    lines = [json.loads(line) for line in write(tmp_path / "new" / "d.jsonl", moments).read_text("utf-8").splitlines()]
    assert lines[0] == {
        "schema": "alphaction.detections",
        "version": 1,
        "video": "a.mp4",
        "width": 320,
        "height": 240,
        "fps": 29.97,
        "classes": ["walk", "talk to (e.g., self)", "坐"],
        "details": {"detect_rate": 4},
    }
    assert lines[1] == {"time": 0.0, "track": None, "box": None, "person_score": None, "scores": None}
    assert lines[2]["time"] == 0.3
    assert lines[3] == lines[2] | {"track": 3}
    assert lines[2]["box"] == [1.5, 2.0, 30.25, 40.0]


def test_written_moments_are_read_back(tmp_path):
    moments = [Moment(0.0, SIZE, []), Moment(0.25, SIZE, [someone(0), someone(3)]), Moment(0.5, SIZE, [])]
    header, found = read_detections(write(tmp_path / "d.jsonl", moments))
    assert header == HEADER
    assert plain(found) == plain(moments)
    assert found[1].persons[0].scores.dtype == np.float32


def test_a_video_without_moments_and_unknown_fps(tmp_path):
    for name in ("rtsp://camera", "caf\udce9.mp4"):  # a file name that is no UTF-8, as Python gives it
        header = Header(name, SIZE, None, ("walk",))
        assert read_detections(write(tmp_path / "d.jsonl", [], header)) == (header, [])
        assert read_header(tmp_path / "d.jsonl") == header


number = st.floats(0, 1, width=32)
persons = st.dictionaries(st.integers(0, 9), st.tuples(*[st.floats(-50, 5000)] * 4, number, *[number] * 3), max_size=4)


@settings(max_examples=50, deadline=None)
@given(st.lists(persons, max_size=5))
def test_what_is_read_differs_by_rounding_only(tmp_path_factory, rows):
    moments = [
        Moment(i / 3, SIZE, [PersonRecord(t, v[:4], v[4], np.array(v[5:], np.float32)) for t, v in sorted(row.items())])
        for i, row in enumerate(rows)
    ]
    _, found = read_detections(write(tmp_path_factory.mktemp("d") / "d.jsonl", moments))
    assert len(found) == len(moments)
    for a, b in zip(found, moments, strict=True):
        assert abs(a.time - b.time) <= 1e-6
        assert [p.track for p in a.persons] == [p.track for p in b.persons]
        for p, q in zip(a.persons, b.persons, strict=True):
            np.testing.assert_allclose(p.box, q.box, atol=0.0051)
            np.testing.assert_allclose(p.scores, q.scores, atol=1e-6)
            assert abs(p.box_score - q.box_score) <= 1e-6


def test_what_was_added_is_in_the_file_before_it_is_closed(tmp_path):
    writer = DetectionsWriter(tmp_path / "d.jsonl", header=HEADER)
    writer.add(Moment(0.0, SIZE, [someone(0)]))
    assert plain(read_detections(tmp_path / "d.jsonl")[1]) == plain([Moment(0.0, SIZE, [someone(0)])])
    writer.close()
    writer.close()


def test_a_line_cut_by_a_kill_is_passed_over_and_told(tmp_path, caplog):
    path = write(tmp_path / "d.jsonl", [Moment(0.0, SIZE, [someone(0)]), Moment(1.0, SIZE, [someone(0)])])
    path.write_bytes(path.read_bytes()[:-9])
    with caplog.at_level(logging.WARNING):
        _, moments = read_detections(path)
    assert [m.time for m in moments] == [0.0]
    assert "line, 3, is incomplete" in caplog.text


ROW = {"time": 1.0, "track": 0, "box": [0, 0, 9, 9], "person_score": 0.5, "scores": [0.1, 0.2, 0.3]}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 3: not JSON"),
        ("[1]", "line 3: expected a JSON object"),
        ('{"time": NaN}', "line 3: not JSON (NaN is not a number)"),
        ({"time": 1.0}, "line 3: keys are time; expected time, track, box"),
        (ROW | {"time": 0.25}, "line 3: time is 0.25"),
        (ROW | {"time": True}, "line 3: time is True"),
        (ROW | {"track": -1}, "line 3: track is -1"),
        (ROW | {"track": 1.5}, "line 3: track is 1.5"),
        (ROW | {"box": [1, 2, 3]}, "line 3: box is not a list of 4 numbers"),
        (ROW | {"scores": [0.1, 0.2]}, "line 3: scores is not a list of 3 numbers"),
        (ROW | {"scores": [0.1, 0.2, "x"]}, "line 3: scores is not"),
        (ROW | {"person_score": None}, "line 3: person_score is None"),
        (ROW | {"time": 0.5}, "line 3: track 0 does not fit"),
        (ROW | {"time": 0.5, "track": None}, "line 3: track None does not fit"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, words):
    path = write(tmp_path / "d.jsonl", [Moment(0.5, SIZE, [someone(0)])])
    with open(path, "a", encoding="utf-8") as file:
        file.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
    with pytest.raises(DataError) as caught:
        read_detections(path)
    assert f"{path}, {words}" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": "coco"}, "schema is 'coco', expected 'alphaction.detections'"),
        ({"version": 2}, "version is 2; this software reads version 1"),
        ({"width": 0}, "width is 0"),
        ({"classes": ["a", 1]}, "classes is not a list of names"),
        ({"fps": "25"}, "fps is '25'"),
        ({"video": None}, "expected video, a text"),
    ],
)
def test_a_wrong_header_is_named(tmp_path, change, words):
    path = write(tmp_path / "d.jsonl", [])
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change) + "\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_detections(path)
    assert f"{path}, line 1: {words}" in str(caught.value)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_detections(tmp_path / "missing.jsonl")
    (tmp_path / "empty").touch()
    with pytest.raises(DataError, match="empty, expected a file of"):
        read_detections(tmp_path / "empty")
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 9)
    with pytest.raises(DataError, match="not a text file in UTF-8"):
        read_detections(tmp_path / "binary")


def test_a_moment_of_another_size_or_class_number_is_refused(tmp_path):
    with DetectionsWriter(tmp_path / "d.jsonl", header=HEADER) as writer:
        with pytest.raises(ValueError, match="size"):
            writer.add(Moment(0.0, (320, 240), []))
        with pytest.raises(ValueError, match="scores"):
            writer.add(Moment(0.0, SIZE, [someone(0, scores=(0.5,))]))


def test_events_are_lines_of_a_table(tmp_path):
    with EventWriter(tmp_path / "e.csv", class_names=HEADER.classes) as writer:
        writer.add(Event(0, 1, 0.125, 61.0625, 0.123456))
        before = (tmp_path / "e.csv").read_text("utf-8")
        writer.add(Event(2, 2, 1.0, 2.0, 1.0))
    assert before == 'person,action,start,end,mean_score\n0,"talk to (e.g., self)",0.125,61.062,0.1235\n'
    with open(tmp_path / "e.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {"person": "2", "action": "坐", "start": "1.000", "end": "2.000", "mean_score": "1.0000"}


def test_files_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/e.csv: cannot be written"):
        EventWriter(tmp_path / "file" / "e.csv", class_names=())
    with pytest.raises(UserError, match=f"{tmp_path}: cannot be written \\(Is a directory\\)"):
        DetectionsWriter(tmp_path, header=HEADER)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only some systems have a disk that is always full")
def test_a_full_disk_is_told():
    with pytest.raises(UserError, match="/dev/full: cannot be written \\(No space left on device\\)"):
        EventWriter("/dev/full", class_names=())
