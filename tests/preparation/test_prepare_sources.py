"""Every form of annotations leads to the same data set; what is not evident is asked for."""

from __future__ import annotations

import json
import pathlib
import zipfile

import pytest
from source_kit import (
    CLASSES,
    FPS,
    VIDEOS,
    ava_csv,
    ava_json,
    coco,
    cvat,
    expected,
    frame_csv,
    label_list,
    make_videos,
    plain_csv,
    run,
    written,
)
from videos import numbered_frames, write_video

from alphaction.errors import DataError
from alphaction.preparation import prepare_videos
from alphaction.preparation.prepare_gather import Reading


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"))


def _cvat_tasks(folder):
    for video in VIDEOS[:3]:
        cvat(folder / "cvat", video)
    for video in VIDEOS[3:]:
        archive = folder / "cvat" / f"{video}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.write(cvat(folder, video), "annotations.xml")
    return folder / "cvat"


def _folder(folder):
    label_list(folder)
    return ava_csv(folder).parent


FORMS = {
    "ava csv": lambda folder: (ava_csv(folder), {"classes": str(label_list(folder))}),
    "ava csv from 0": lambda folder: (ava_csv(folder, first=0), {"classes": str(label_list(folder, numbered=False))}),
    "ava csv in a folder with its labels": lambda folder: (_folder(folder / "set"), {}),
    "csv, seconds, pixels": lambda folder: (plain_csv(folder), {}),
    "csv, frames, shares": lambda folder: (frame_csv(folder), {}),
    "coco, timestamp": lambda folder: (coco(folder), {}),
    "coco, frame_idx, ids from 0": lambda folder: (
        coco(folder, lambda box: {"video_name": box.video, "frame_idx": box.frame}, ids=(0, 1, 2)),
        {},
    ),
    "coco, file_name of seconds, texts as ids": lambda folder: (
        coco(folder, lambda box: {"file_name": f"frames/{box.video}/{box.frame / FPS}.jpg"}, ids=CLASSES),
        {},
    ),
    "coco, file_name of frames, corners by the flag": lambda folder: (
        coco(folder, lambda box: {"file_name": f"{box.video}_frame_{box.frame:06d}.png"}, corners=True, area=False),
        {"reading": Reading(box_format="xyxy")},
    ),
    "coco, list of videos, corners by the areas": lambda folder: (
        coco(
            folder,
            lambda box: {"video_id": VIDEOS.index(box.video) + 1, "frame_id": box.frame},
            corners=True,
            videos=[{"id": i, "name": video} for i, video in enumerate(VIDEOS, 1)],
        ),
        {},
    ),
    "coco, shares": lambda folder: (coco(folder, shares=True), {}),
    "ava json": lambda folder: (ava_json(folder), {"classes": str(label_list(folder))}),
    "cvat": lambda folder: (_cvat_tasks(folder), {}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_annotations(form, videos, tmp_path):
    path, options = FORMS[form](tmp_path)
    report = run(tmp_path, videos, path, **options)
    assert written(tmp_path / "out") == expected()
    assert (tmp_path / "out" / "classes.txt").read_text() == "1: run\n2: walk\n3: wave\n"
    assert "Assumed:" in report and "5 videos to train on, 1 to validate on" in report
    record = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert {entry["what"] for entry in record["assumed"]} == {"boxes", "times", "classes", "split"}
    assert record["left_out"] == []


def _refused(tmp_path, videos, *paths, **options) -> str:
    with pytest.raises(DataError) as error:
        run(tmp_path, videos, *paths, **options)
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.partial").exists()
    return str(error.value)


def test_evidence_that_conflicts_asks_for_the_flag(videos, tmp_path):
    frames = coco(tmp_path, lambda box: {"video": box.video, "timestamp": box.frame})
    told = _refused(tmp_path, videos, frames)
    assert "key 'timestamp' of the images should be seconds, but fits only as frames" in told
    assert "30 in one of 2.0 s" in told and "would be 1.2 s" in told and "--time-base" in told
    run(tmp_path, videos, frames, reading=Reading(time_base="frames"))
    assert written(tmp_path / "out") == expected()


def test_numbers_that_fit_seconds_and_frames_are_asked_for_where_a_word_says_frame(videos, tmp_path):
    text = "video,frame_id,x1,y1,x2,y2,action\na1,1,0,0,9,9,run\nb2,0,0,0,9,9,run\nc3,2,1,1,20,20,walk\n"
    path = tmp_path / "a.csv"
    path.write_text(text)
    told = _refused(tmp_path, videos, path)
    assert "speaks of frames, but the numbers fit both readings" in told and "--time-base seconds or frames" in told
    run(tmp_path, videos, path, reading=Reading(time_base="seconds"))
    assert {row[1] for row in written(tmp_path / "out")} == {0.0, 1.0, 2.0}


def test_frame_numbers_at_another_rate(videos, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "video,frame,x1,y1,x2,y2,action\n" + "".join(f"{v},{f},0,0,9,9,run\n" for v in VIDEOS for f in (90, 60))
    )
    assert "say --fps RATE" in _refused(tmp_path, videos, path)
    run(tmp_path, videos, path, reading=Reading(fps=50.0))
    assert {row[1] for row in written(tmp_path / "out")} == {1.2, 1.8}


def test_boxes_that_may_be_either(videos, tmp_path):
    corners = coco(tmp_path, corners=True, area=False)
    told = json.loads(corners.read_text())
    for entry in told["annotations"]:
        entry["bbox"] = [1, 1, 9, 9] if entry["id"] % 2 else [20, 20, 60, 40]
    corners.write_text(json.dumps(told))
    run(tmp_path, videos, corners)  # half of them would leave the picture as x, y, width, height
    record = json.loads((tmp_path / "out" / "prepared.json").read_text())
    boxes = next(entry for entry in record["assumed"] if entry["what"] == "boxes")
    assert boxes["value"] == "corners x1, y1, x2, y2 in pixels"
    assert "would reach out of the picture as x, y, width, height" in boxes["evidence"]
    for entry in told["annotations"]:
        entry["bbox"] = [9, 9, 5, 5] if entry["id"] % 2 else [20, 20, 60, 40]
    corners.write_text(json.dumps(told))
    told = _refused(tmp_path / "second", videos, corners)
    assert "what are the four numbers of a box?" in told and "--box-format xyxy or --box-format xywh" in told


def test_pixels_and_shares_mixed(videos, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("video,time,x1,y1,x2,y2,action\na1,1,0.1,0.1,0.5,0.5,run\nb2,1,1,1,30,30,run\n")
    told = _refused(tmp_path, videos, path)
    assert "1 of 2 boxes within 0..1, the others not (numbers up to 30)" in told and "--box-format" in told


def test_class_numbers(videos, tmp_path):
    moved = coco(tmp_path, ids=(1, 2, 3))
    content = json.loads(moved.read_text())
    for entry in content["annotations"]:
        entry["category_id"] -= 1
    moved.write_text(json.dumps(content))
    told = _refused(tmp_path, videos, moved)
    assert "the ids in use are 0 to 2, those of the list 1 to 3" in told and "--class-base 0" in told
    run(tmp_path, videos, moved, class_base=0)
    assert written(tmp_path / "out") == expected()
    no_names = run(tmp_path, videos, ava_csv(tmp_path), force=True)
    assert "names are not known (--classes FILE)" in no_names
    content["annotations"][4]["category_id"] = 9
    moved.write_text(json.dumps(content))
    told = _refused(tmp_path / "third", videos, moved, class_base=0)
    assert "action that is not in the class list (run, walk, wave): 1" in told


def test_unmatched_videos_are_listed_with_their_nearest(videos, tmp_path):
    path = plain_csv(tmp_path)
    path.write_text(path.read_text().replace("a1.mp4", "a_1.avi").replace("b2.mp4", "zzzzz"))
    told = _refused(tmp_path, videos, path)
    assert "2 of 6 video names of the annotations cannot be used with the videos in" in told
    assert "a_1.avi  7 rows, first in" in told and "plain.csv, line 2: no such video; nearest: a1.mp4" in told
    assert "Tried: the path below" in told and "--skip-bad" in told
    report = run(tmp_path, videos, path, skip_bad=True)
    assert "a_1.avi" in report and {row[0] for row in written(tmp_path / "out")} == set(VIDEOS[2:])


def test_faulty_rows_are_named_with_file_and_row(videos, tmp_path):
    path = plain_csv(tmp_path)
    bad = [
        "a1,9.5,1,1,20,20,run",
        "a1,1,5,5,5,20,run",
        "a1,1,70,1,90,20,run",
        "a1,1,x,1,2,3,run",
        "a1,1,1,1,20,20,",
        "a1",
    ]
    path.write_text(path.read_text() + "\n" + "\n".join(bad) + "\n")
    told = _refused(tmp_path, videos, path)
    last = len(path.read_text().splitlines())
    assert f"6 of {last - 1} rows cannot be used" in told
    assert f"moment outside its video: 1 ({path}, line {last - 5}: 9.5, the video is 2.00 s long)" in told
    assert f"box without a size (x2 <= x1 or y2 <= y1): 1 ({path}, line {last - 4}: [5.0, 5.0, 5.0, 20.0])" in told
    for kind in (
        "box outside the picture: 1",
        "box that is not four numbers below 1e+15: 1",
        "box without an action: 1",
    ):
        assert kind in told
    assert "no video or no time: 1" in told and told.endswith("leave them out with --skip-bad.")
    report = run(tmp_path, videos, path, skip_bad=True)
    assert written(tmp_path / "out") == expected()
    assert "Left out (--skip-bad):" in report and "box outside the picture: 1" in report


def test_tracks_of_every_frame_are_thinned(videos, tmp_path):
    path, second = cvat(tmp_path, "a1", every=1), cvat(tmp_path, "b2", every=1)
    report = run(tmp_path, videos, path, second, force=True)
    rows = written(tmp_path / "out")
    times = {(row[0], row[1]) for row in rows}
    # Besides 0 and 1 the moment of the actions that are seen at frame 20 only.
    assert times == {(video, time) for video in ("a1", "b2") for time in (0.0, 0.8, 1.0)}
    assert {row[7] for row in rows} == {1, 2}  # the tracks' numbers
    assert "one per 1 s is kept, 6 of 100" in report
    assert report.count("actions are the attributes action of CVAT's boxes") == 1
    run(tmp_path, videos, path, second, keyframe_step=0.5, force=True)
    assert {0.0, 0.48, 0.96, 1.44, 1.92} <= {row[1] for row in written(tmp_path / "out")}
    run(tmp_path, videos, path, second, keyframe_step=0.0, force=True)
    assert len({(row[0], row[1]) for row in written(tmp_path / "out")}) == 100


def test_cvat_labels_and_attributes(videos, tmp_path):
    path = cvat(tmp_path, "a1")
    cvat(tmp_path, "b2")
    run(tmp_path, videos, path, tmp_path / "b2.xml", actions_from="label")
    assert (tmp_path / "out" / "classes.txt").read_text() == "1: person\n"
    other = (
        '<track id="9" label="ball"><box frame="10" outside="0" xtl="1" ytl="1" xbr="9" ybr="9"/></track></annotations>'
    )
    path.write_text(path.read_text().replace("</annotations>", other))
    told = _refused(tmp_path / "second", videos, path, tmp_path / "b2.xml")
    assert "The labels person have attributes, ball have none" in told and "--actions-from attributes" in told
    boxes = '<track id="3" label="person"><box frame="10" outside="0" xtl="1" ytl="1" xbr="9" ybr="9">'
    boxes += (
        '<attribute name="sits">true</attribute><attribute name="talks">false</attribute></box></track></annotations>'
    )
    path = cvat(tmp_path / "on", "a1")
    path.write_text(path.read_text().replace("</annotations>", boxes))
    run(tmp_path, videos, path, tmp_path / "b2.xml", force=True, attributes=["sits", "talks"], val_share=0.0)
    assert (tmp_path / "out" / "classes.txt").read_text() == "1: sits\n"


def test_other_files_in_the_folder_are_told(videos, tmp_path):
    folder = coco(tmp_path / "set").parent
    (folder / "boxes.json").write_text(json.dumps([{"image_id": 0, "bbox": [1, 2, 3, 4], "score": 0.5}]))
    (folder / "excluded.csv").write_text("a1,1\nb2,2\n")
    report = run(tmp_path, videos, folder)
    assert "boxes.json is not used: it holds a list of boxes with scores: a detector's, for --person-boxes" in report
    assert "excluded.csv is not used: a list of moments without any box" in report
    assert "boxes.json: it holds a list" in _refused(tmp_path / "second", videos, folder / "boxes.json")


def test_frame_numbers_of_a_video_whose_rate_changes(tmp_path, monkeypatch):
    times = [i / 25 for i in range(20)] + [0.8 + i / 10 for i in range(20)]
    for name in ("a1", "b2"):
        write_video(tmp_path / "videos" / f"{name}.mp4", numbered_frames(40, height=48, width=64), times=times)
    path = tmp_path / "a.csv"
    path.write_text("video,frame,x1,y1,x2,y2,action\n" + "".join(f"{v},30,0,0,9,9,run\n" for v in ("a1", "b2")))
    read = []
    index = prepare_videos.VideoFile
    monkeypatch.setattr(prepare_videos, "VideoFile", lambda file: read.append(file) or index(file))
    for bad in ("a1,99,0,0,9,9,run\n", ""):  # the first try fails, the second one does not read the files again
        path.write_text(path.read_text().replace("a1,99,0,0,9,9,run\n", "") + bad)
        if bad:
            assert "moment outside its video: 1" in _refused(tmp_path, tmp_path / "videos", path)
    run(tmp_path, tmp_path / "videos", path)
    assert {row[1] for row in written(tmp_path / "out")} == {1.8} and len(read) == 2


def test_files_that_are_broken(videos, tmp_path):
    def write(name: str, content: str) -> pathlib.Path:
        (tmp_path / name).write_text(content)
        return tmp_path / name

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("other.xml", "<a/>")
    nothing = {"images": [None], "annotations": []}
    for path, words in {
        tmp_path / "a.zip": "an archive without annotations.xml (it holds other.xml)",
        write("a.xml", "<html></html>"): "XML that begins with <html>",
        write("b.xml", '<?xml version="1.0" encoding="utf78"?><annotations/>'): "is not valid XML (unknown encoding",
        write("c.xml", "<annotations><track>"): "is not valid XML",
        write("d.xml", "<annotations></annotations>"): "has no boxes",
        write("a.json", "{"): "is not valid JSON",
        write("b.json", json.dumps(nothing)): "an entry of 'images' is None, expected an object",
        write("c.json", '{"annotations": []}'): "has no list 'images'",
        write("d.json", '{"annotations": [], "images": []}'): "its list 'images' is empty",
        write("b.zip", "PK cut off"): "is not a whole zip file",
        write("a.csv", ""): "is empty",
        write("b.csv", "video,time\n"): "its columns are video, time",
        write("c.csv", "video,time,x1,y1,x2,action\na1,1,1,1,1,run\n"): "the header lacks y2 (it has video, time,",
        write("d.csv", "a1,1,2,3\n"): "the first row has 4 columns",
        tmp_path / "none.csv": "there is no such file or folder",
    }.items():
        assert words in _refused(tmp_path, videos, path), path


def test_entries_that_are_odd(videos, tmp_path):
    path = coco(tmp_path)
    content = json.loads(path.read_text())
    for i, (key, value) in enumerate(
        {"category_id": float("nan"), "bbox": [1, 2, None, 4], "image_id": 99, "action": True}.items()
    ):
        content["annotations"][i][key] = value
        if key == "action":
            del content["annotations"][i]["category_id"]
    path.write_text(json.dumps(content))
    told = _refused(tmp_path, videos, path)
    assert "4 of" in told and "action that is neither a whole number nor a text: 2" in told
    assert "box that is not four numbers below 1e+15: 1" in told
    assert "image that is not listed or says no moment: 1" in told


def test_cvat_for_images_and_projects(videos, tmp_path):
    box = '<box label="{}" xtl="1" ytl="2" xbr="20" ybr="30"></box>'
    pictures = "".join(
        f'<image id="{i}" name="{video}/frame_{frame:06d}.png" width="64" height="48">{box.format(label)}</image>'
        for i, (video, frame, label) in enumerate([("a1", 10, "run"), ("b2", 40, "walk")])
    )
    path = tmp_path / "images.xml"
    path.write_text(f"<annotations><version>1.1</version><meta/>{pictures}</annotations>")
    run(tmp_path, videos, path)
    assert {row[:2] for row in written(tmp_path / "out")} == {("a1", 0.4), ("b2", 1.6)}
    tasks = "".join(f"<task><id>{i}</id><name>{video}</name></task>" for i, video in enumerate(("a1", "b2")))
    tracks = "".join(
        f'<track id="{i}" label="run" task_id="{i}"><box frame="{25 * i}" xtl="1" ytl="2" xbr="20" ybr="30"/></track>'
        for i in (0, 1)
    )
    meta = f"<meta><project><tasks>{tasks}</tasks></project></meta>"
    path.write_text(f"<annotations><version>1.1</version>{meta}{tracks}</annotations>")
    run(tmp_path, videos, path, force=True)
    assert {row[:2] for row in written(tmp_path / "out")} == {("a1", 0.0), ("b2", 1.0)}


def test_names_that_differ_in_case_only(videos, tmp_path):
    path = plain_csv(tmp_path)
    path.write_text(path.read_text().replace("walk", "Walk", 1))
    assert "the actions 'Walk' and 'walk' differ in upper and lower case only" in _refused(tmp_path, videos, path)
    run(tmp_path, videos, path, classes=str(label_list(tmp_path)))
    assert written(tmp_path / "out") == expected()
