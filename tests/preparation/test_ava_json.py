"""AVA's CSV as the original's JSON, compared with what the original made and with reading the CSV itself."""

from __future__ import annotations

import json
import pathlib
import runpy
import sys
from dataclasses import replace

import cv2
import goldens
import numpy as np
import pytest
import videos

from alphaction.dataset.annotations import read_annotations
from alphaction.dataset.raw import numbered_classes
from alphaction.dataset.resolve import pixel_boxes
from alphaction.errors import DataError
from alphaction.preparation.ava_json import JsonOptions, ava_content, read_movie_list, write_json

ROOT = pathlib.Path(__file__).resolve().parents[2]
CASE = goldens.load("dataset")["csv_to_json"]


@pytest.fixture
def options(tmp_path: pathlib.Path) -> JsonOptions:
    """The recorded case: its CSV, list of movies, and a keyframe of each movie."""
    (tmp_path / "ava.csv").write_text(CASE["csv"])
    (tmp_path / "movies.txt").write_text(CASE["movie_list"])
    for movie, (width, height) in CASE["image_sizes_wh"].items():
        (tmp_path / "keys" / movie).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "keys" / movie / "902.jpg"), np.zeros((height, width, 3), np.uint8))
    return JsonOptions(str(tmp_path / "movies.txt"), str(tmp_path / "ava.csv"), img_root=str(tmp_path / "keys"))


def test_is_what_the_original_made(options: JsonOptions) -> None:
    content = ava_content(options)
    assert content["categories"] == CASE["categories"]
    assert content["annotations"] == CASE["annotations"]
    images = content["images"]
    assert len(images) == CASE["number_of_images"]
    assert images[:2] == CASE["first_images"]
    assert [images[0]["id"], images[-1]["id"]] == CASE["image_ids_first_last"]
    assert list(dict.fromkeys(image["movie"] for image in images)) == CASE["image_order_movies"]


def test_reads_as_the_csv_itself_does(tmp_path: pathlib.Path, options: JsonOptions) -> None:
    path = tmp_path / "ava.json"
    text = write_json(options, min_json_path=str(path))
    assert text == f"2 movies, 1794 images, 12 persons; written to {path}"
    classes = numbered_classes(80)
    of_json, of_csv = read_annotations(path, classes), read_annotations(options.csv_path, classes)

    def persons(raw: object) -> dict:
        boxes = raw.boxes
        if raw.normalised:
            wh = np.array([CASE["image_sizes_wh"][raw.movies[raw.movie[k]]] for k in raw.keyframe])
            boxes = pixel_boxes(boxes, wh[:, ::-1], normalised=True).xyxy
        else:
            boxes = pixel_boxes(boxes, raw.size[raw.keyframe], normalised=False).xyxy
        return {
            (raw.name_keyframe(int(keyframe)), int(person)): (box, labels.tolist())
            for keyframe, person, box, labels in zip(raw.keyframe, raw.person_id, boxes, raw.labels, strict=True)
        }

    ours, theirs = persons(of_json), persons(of_csv)
    assert ours.keys() == theirs.keys()
    assert len(ours) == 12
    for key, (box, labels) in ours.items():
        assert labels == theirs[key][1]
        assert box == pytest.approx(theirs[key][0], abs=0.011)


def test_without_a_csv_every_movie_and_no_person(options: JsonOptions) -> None:
    content = ava_content(replace(options, csv_path="", img_root="", size=(64, 48), first=3, last=4))
    assert content["annotations"] == []
    assert [image["id"] for image in content["images"]] == [3, 4, 10003, 10004, 20003, 20004]
    assert {(image["width"], image["height"]) for image in content["images"]} == {(64, 48)}


def test_sizes_of_videos_and_of_one_second_files(tmp_path: pathlib.Path, options: JsonOptions) -> None:
    videos.write_video(tmp_path / "root" / "mvX.mp4", 5)
    videos.write_second_files(tmp_path / "root" / "mvY", {902: 5})
    sized = replace(options, img_root="", video_root=str(tmp_path / "root"))
    assert {(i["movie"], i["width"], i["height"]) for i in ava_content(sized)["images"]} == {
        ("mvX", 96, 48),
        ("mvY", 96, 48),
    }
    with pytest.raises(DataError, match="1 videos cannot be used:\n  mvZ: not found"):
        ava_content(replace(sized, csv_path=""))


def test_persons_without_or_with_strange_ids(tmp_path: pathlib.Path, options: JsonOptions) -> None:
    rows = ["mvX,902,0.1,0.1,0.5,0.5,1,", "mvX,902,0.2,0.2,0.6,0.6,1,", "mvX,902,0.3,0.3,0.7,0.7,1,4000"]
    (tmp_path / "ava.csv").write_text("\n".join(rows))
    ids = [annotation["id"] for annotation in ava_content(options)["annotations"]]
    assert ids == [20902000, 20902001, 20902002]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("mvX,0899,0.1,0.1,0.5,0.5,1,1", "line 1, mvX at 899 s: expected a whole second from 902 to 1798"),
        ("mvX,902.5,0.1,0.1,0.5,0.5,1,1", "expected a whole second"),
        ("mvQ,902,0.1,0.1,0.5,0.5,1,1", "1 of its movies are not in .*movies.txt: mvQ"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: pathlib.Path, options: JsonOptions, row: str, message: str) -> None:
    (tmp_path / "ava.csv").write_text(row + "\n")
    with pytest.raises(DataError, match=message):
        ava_content(options)


def test_other_mistakes(tmp_path: pathlib.Path, options: JsonOptions) -> None:
    with pytest.raises(DataError, match="no readable picture of this movie"):
        ava_content(replace(options, csv_path=""))
    with pytest.raises(DataError, match="no sizes of pictures"):
        ava_content(replace(options, img_root=""))
    with pytest.raises(DataError, match="no output: give --json_path"):
        write_json(options)
    (tmp_path / "twice.txt").write_text("a.mp4\na.mkv\n")
    with pytest.raises(DataError, match="the movie 'a' is in the list twice"):
        read_movie_list(str(tmp_path / "twice.txt"))
    with pytest.raises(DataError, match="cannot be read"):
        read_movie_list(str(tmp_path / "none.txt"))


def test_command(tmp_path: pathlib.Path, options: JsonOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    long, short = tmp_path / "new" / "ava.json", tmp_path / "new" / "ava_min.json"
    flags = ["--csv_path", options.csv_path, "--movie_list", options.movie_list, "--img_root", options.img_root]
    flags += ["--json_path", str(long), "--min_json_path", str(short)]
    monkeypatch.setattr(sys, "argv", ["csv2COCO.py", *flags])
    runpy.run_path(str(ROOT / "tools/ava/csv2COCO.py"), run_name="__main__")
    assert json.loads(long.read_text()) == json.loads(short.read_text()) == ava_content(options)
    assert long.stat().st_size > short.stat().st_size
