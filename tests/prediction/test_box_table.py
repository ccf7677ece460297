"""Files of boxes: every form says the same persons, every mistake is named."""

import json

import numpy as np
import pytest

from alphaction.errors import DataError
from alphaction.prediction.boxes.table import FilePersons
from alphaction.prediction.jsonl import DetectionsWriter, Header
from alphaction.prediction.records import Moment, PersonRecord

TABLE = "0,1,2,30,40,0.9,7\n0,50,2,70,40,0.8,3\n1,2,3,31,41,0.7,7\n"


def persons(tmp_path, text, *, name="boxes.csv", video="yard"):
    path = tmp_path / name
    path.write_text(text)
    return FilePersons(str(path), video=video)


def test_a_table(tmp_path):
    file = persons(tmp_path, TABLE)
    assert file.times(0, 2.5, 4) == [0, 1]
    assert file.times(0, 10, 4) == [0, 1, 2]  # nobody at 2 s, nor later
    seen = file.find(0.0)
    np.testing.assert_allclose(seen.boxes, [[1, 2, 30, 40], [50, 2, 70, 40]])
    np.testing.assert_allclose(seen.scores, [0.9, 0.8])
    assert seen.tracks.tolist() == [7, 3]
    assert len(file.find(0.5).boxes) == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "time,x1,y1,x2,y2,score,track\n" + TABLE),
        ("a.csv", "track,x1,y1,x2,y2,score,time\n7,1,2,30,40,0.9,0\n3,50,2,70,40,0.8,0\n7,2,3,31,41,0.7,1\n"),
        (
            "a.csv",
            'Time ,x1,y1,x2,y2,note,score,track\r\n0,1,2,30,40,"a,b",.9,7\r\n0,50,2,70,40,,0.8,3\r\n1,2,3,31,41,,0.7,7',
        ),
        (
            "a.json",
            json.dumps(
                {
                    "yard/0000.jpg": [
                        {"bbox": [1, 2, 30, 39], "score": 0.9},
                        {"bbox": [50, 2, 21, 39], "score": 0.8},
                    ],
                    "yard/0001.jpg": [{"bbox": [2, 3, 30, 39], "score": 0.7}],
                    "park/0001.jpg": [{"bbox": [9, 9, 9, 9], "score": 0.7}],
                }
            ),
        ),
        (
            "a.json",
            json.dumps(
                [
                    {"image_id": "yard/0", "bbox": [1, 2, 30, 39], "score": 0.9},
                    {"image_id": "yard/1.0", "bbox": [2, 3, 30, 39], "score": 0.7},
                    {"image_id": "yard/0", "bbox": [50, 2, 21, 39], "score": 0.8},
                ]
            ),
        ),
    ],
)
def test_every_form_says_the_same(tmp_path, name, text):
    file, table = persons(tmp_path, text, name=name), persons(tmp_path, TABLE)
    for time in (0.0, 1.0):
        np.testing.assert_allclose(file.find(time).boxes, table.find(time).boxes)
        np.testing.assert_allclose(file.find(time).scores, table.find(time).scores)
    assert (file.find(0.0).tracks is None) == (name == "a.json")


def test_earlier_results_can_be_given_again(tmp_path):
    header = Header("yard.mp4", (48, 64), 25.0, ("walk",))
    with DetectionsWriter(tmp_path / "detections.jsonl", header=header) as writer:
        writer.add(Moment(0.25, (48, 64), [PersonRecord(4, (1.0, 2.0, 30.0, 40.0), 0.75, np.zeros(1, np.float32))]))
        writer.add(Moment(0.5, (48, 64), []))
    file = FilePersons(str(tmp_path / "detections.jsonl"), video="yard")
    seen = file.find(0.25)
    assert (seen.boxes.tolist(), seen.scores.tolist(), seen.tracks.tolist()) == ([[1, 2, 30, 40]], [0.75], [4])


def test_moments_are_thinned_and_gaps_are_told(tmp_path):
    frames = [i / 30 for i in range(30)] + [3 + i / 30 for i in range(30)]
    file = persons(tmp_path, "".join(f"{time},0,0,9,9\n" for time in frames))
    times = file.times(0.0, 100.0, 5.0)
    assert np.allclose(times[:5], [0, 0.2, 0.4, 0.6, 0.8]) and times[5:8] == pytest.approx([1.0, 2.0, 2.8])
    assert len(file.find(times[5]).boxes) == 0  # nobody is there any more
    assert len(file.find(times[8]).boxes) == 1
    assert file.times(3.5, 3.6, 5.0) == pytest.approx([3.5])
    assert file.find(0.0).tracks is None and file.find(0.0).scores.tolist() == [1.0]


def test_nobody_is_there_before_the_first_and_after_the_last_moment(tmp_path, caplog):
    file = persons(tmp_path, "".join(f"{4 + i / 4},0,0,9,9\n" for i in range(5)))
    expected = [0, 1, 2, 3, 3.75, 4, 4.25, 4.5, 4.75, 5, 5.25]
    assert file.times(0.0, 10.0, 4.0) == pytest.approx(expected)
    assert file.times(0.0, np.inf, 4.0) == pytest.approx(expected)
    assert file.times(3.6, 5.4, 4.0) == pytest.approx([4, 4.25, 4.5, 4.75, 5])
    assert persons(tmp_path, "4,0,0,9,9\n").times(3.0, 10.0, 4.0) == pytest.approx([3, 3.75, 4, 4.25])
    assert not caplog.text
    assert file.times(0.0, 3.0, 4.0) == []
    assert "its moments, 4 s to 5 s, do not lie within the video's, 0 s to 3 s: nobody is seen" in caplog.text


def test_numbers_of_frames_in_place_of_seconds_are_told(tmp_path, caplog):
    file = persons(tmp_path, "".join(f"{frame},0,0,9,9\n" for frame in range(50)))
    file.tell_late(30.0)
    assert not caplog.text
    file.tell_late(2.0)
    assert "46 of its 50 moments lie behind the video's end, 2.00 s: are they seconds" in caplog.text


def test_tracks_of_some_boxes_are_not_taken(tmp_path, caplog):
    assert persons(tmp_path, "0,1,2,30,40,0.9,7\n1,1,2,30,40,0.9,\n").find(0.0).tracks is None
    assert "some boxes have no track" in caplog.text


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "has no boxes; expected a table time,x1,y1,x2,y2.*VIDEO/SECONDS"),
        ("a.csv", "0,1,2,3\n", r"a.csv, line 1: got '0,1,2,3'; expected a table"),
        ("a.csv", "0,1,2,3,4\n1,a,2,3,4\n", r"a.csv, line 2: got '1,a,2,3,4'"),
        ("a.csv", "time,x1,y1,x2\n", "the table has no column 'y2'"),
        ("a.csv", "0,1,2,3,4\n-1,1,2,3,4\n", "box 2 is -1, 1, 2, 3, 4, 1; expected numbers"),
        ("a.csv", "0,1,2,nan,4\n", "box 1 is 0, 1, 2, nan, 4, 1"),
        ("a.csv", "0,1,2,3,4\n1,9,2,3,4\n", "box 2 is 9, 2, 3, 4; expected corners x1,y1,x2,y2 with x1 <= x2"),
        ("a.csv", "0,0.1,0.2,0.3,0.4\n", "all boxes lie within 0..1, as shares of the picture do; expected pixels"),
        ("a.csv", "0,1,2,3,4,1,-1\n", "got track -1, expected whole numbers from 0"),
        ("a.csv", "0,1,2,3,4,1,0.5\n", "got track 0.5, expected whole numbers from 0"),
        ("a.csv", "0,1,2,3,4,1,5\n1,1,2,3,4,1,5\n1,9,9,9,9,1,5\n", "track 5 has several boxes at 1 s"),
        ("a.json", "[{", "is not valid JSON"),
        ("a.json", '[{"image_id": 3, "bbox": [1, 2, 3, 4]}]', "box 1 belongs to image 3, which tells neither video"),
        ("a.json", '{"yard/1.jpg": [{"box": [1, 2, 3, 4]}]}', "box 1 is .*expected a table"),
        ("a.json", '{"a/1.jpg": [{"bbox": [1, 2, 3, 4]}], "b/1.jpg": [{"bbox": [1, 2, 3, 4]}]}', "none of 'yard'"),
        ("a.jsonl", "{}\n", "schema is None"),
    ],
)
def test_mistakes_are_named(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        persons(tmp_path, text, name=name)
