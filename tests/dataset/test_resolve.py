"""Annotations against videos: pixel boxes, what is dropped and why, recorded conversions."""

import json
from dataclasses import replace

import goldens
import numpy as np
import pytest
from videos import numbered_frames, write_second_files, write_video

from alphaction.dataset.annotations import read_annotations
from alphaction.dataset.box_files import read_boxes
from alphaction.dataset.resolve import resolve, resolve_boxes
from alphaction.dataset.video_index import MovieFiles, VideoIndex
from alphaction.dataset.video_io import VideoInfo
from alphaction.errors import DataError, VideoError

GOLDEN = goldens.load("dataset")


class FakeVideos:
    """Whole videos that only exist here."""

    root = "videos"

    def __init__(self, sizes_wh, duration=10000.0):
        self.sizes, self.duration = sizes_wh, duration

    def find(self, movies):
        def info(movie):
            width, height = self.sizes[movie]
            return VideoInfo(width=width, height=height, fps=25.0, duration=self.duration, frames=1)

        return [MovieFiles(movie, f"videos/{movie}.mp4", info=info(movie)) for movie in movies]


def write(tmp_path, content, name):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read_csv(tmp_path, rows, num_classes=3):
    return read_annotations(write(tmp_path, rows, "train.csv"), None, num_classes)


# --- recorded numbers


def test_csv_gives_the_boxes_that_csv_to_json_to_reading_gives(tmp_path):
    """Up to the rounding to 0.01 pixels of the recorded JSON."""
    case = GOLDEN["csv_to_json"]
    movies = [name.rsplit(".", 1)[0] for name in case["movie_list"].split()]
    per_movie = 10 ** len(str(max(a["image_id"] for a in case["annotations"]) % 10000))
    images = []
    for image_id in sorted({a["image_id"] for a in case["annotations"]}):
        movie = movies[image_id // per_movie]
        width, height = case["image_sizes_wh"][movie]
        second = image_id % per_movie
        images.append({"id": image_id, "movie": movie, "timestamp": second, "width": width, "height": height})
    content = {"images": images, "annotations": case["annotations"], "categories": case["categories"]}
    videos = FakeVideos(case["image_sizes_wh"])
    ours = resolve(read_csv(tmp_path, case["csv"], 80), videos, name="x").annotations
    want = resolve(read_annotations(write(tmp_path, content, "a.json"), None, 80), videos, name="x").annotations
    assert ours.movies == tuple(case["image_order_movies"])
    assert [ours.key(i) for i in range(len(ours))] == [want.key(i) for i in range(len(want))]
    assert ours.boxes.counts().tolist() == want.boxes.counts().tolist()
    assert np.abs(ours.boxes.xyxy - want.boxes.xyxy).max() < 0.0151  # x and width rounded to 0.01 each
    assert (ours.labels == want.labels).all() and (ours.person_id == want.person_id).all()
    assert (ours.size == want.size).all()


# --- boxes


BOXES = [
    ("inside", [10, 5, 20, 30], [10, 5, 29, 34], None),
    ("exactly the picture", [0, 0, 100, 50], [0, 0, 99, 49], None),
    ("partly outside", [-10, -5, 30, 200], [0, 0, 19, 49], "boxes partly outside the picture, clipped"),
    ("left of the picture", [-30, 5, 20, 20], None, "boxes, outside the picture"),
    ("right of the picture", [100, 5, 20, 20], None, "boxes, outside the picture"),
    ("zero width", [10, 5, 0, 30], None, "boxes, zero or negative size"),
    ("negative height", [10, 5, 10, -3], None, "boxes, zero or negative size"),
    ("one pixel", [10, 5, 1, 30], None, "boxes, one pixel wide or high, or less"),
    ("not a number", [10, float("nan"), 10, 30], None, "boxes, not a number"),
    ("infinite", [10, 5, float("inf"), 30], None, "boxes, not a number"),
    ("null", [10, 5, None, 30], None, "boxes, not a number"),
]


@pytest.mark.parametrize("bbox, want, reason", [case[1:] for case in BOXES], ids=[case[0] for case in BOXES])
def test_json_boxes(tmp_path, bbox, want, reason):
    images = [{"id": 0, "movie": "m", "timestamp": 1, "width": 100, "height": 50}]
    good = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 5, 5]}
    content = {"images": images, "annotations": [good, {**good, "id": 2, "bbox": bbox}]}
    raw = read_annotations(write(tmp_path, content, "a.json"))
    annotations, report, _, _ = resolve(raw, FakeVideos({"m": (100, 50)}), name="x")
    assert annotations.boxes.xyxy.tolist() == [[1, 1, 5, 5]] + ([want] if want else [])
    assert len(annotations.labels) == len(annotations.person_id) == len(annotations.boxes.xyxy)
    tallies = report.dropped | report.changed
    assert {name: (t.count, t.examples) for name, t in tallies.items()} == (
        {reason: (1, ["annotation 2, m at 1 s"])} if reason else {}
    )


def test_csv_boxes(tmp_path):
    rows = "m,1,0.1,0.2,0.5,0.6,1\nm,1,0.5,0.2,0.5,0.6,1\nm,1,0.9,0.2,1.1,0.6,1\nm,1,0,0,1,1,1\n"
    annotations, report, _, _ = resolve(read_csv(tmp_path, rows), FakeVideos({"m": (100, 50)}), name="x")
    want = [[10, 10, 49, 29], [90, 10, 99, 29], [0, 0, 99, 49]]
    assert annotations.boxes.xyxy == pytest.approx(np.asarray(want), abs=1e-4)
    assert annotations.size.tolist() == [[50, 100]]
    assert report.num_dropped("boxes, zero or negative size") == 1
    assert report.changed["boxes partly outside the picture, clipped"].examples == ["line 3, m at 1 s"]


def test_keyframe_whose_boxes_are_all_dropped_stays(tmp_path):
    rows = "m,1,0.5,0.2,0.5,0.6,1\nm,2\nm,3,0,0,1,1,1\n"
    annotations, report, _, _ = resolve(read_csv(tmp_path, rows), FakeVideos({"m": (100, 50)}), name="x")
    assert annotations.boxes.counts().tolist() == [0, 0, 1]
    assert (report.keyframes, report.empty_keyframes, report.persons) == (3, 2, 1)


def test_annotated_size_wins_and_another_shape_is_said(tmp_path):
    images = [{"id": i, "movie": "m", "timestamp": i, "width": w, "height": h}
              for i, (w, h) in enumerate([(50, 25), (100, 51), (50, 50)])]  # fmt: skip
    content = {"images": images, "annotations": [{"id": 1, "image_id": 0, "action_ids": [1], "bbox": [1, 1, 5, 5]}]}
    raw = read_annotations(write(tmp_path, content, "a.json"), None, 3)
    annotations, report, _, _ = resolve(raw, FakeVideos({"m": (100, 50)}), name="x")
    assert annotations.size.tolist() == [[25, 50], [51, 100], [50, 50]]
    assert report.notes == [
        "1 keyframes are annotated for a picture of another shape than their video's, for example m at 2 s: "
        "annotated 50 x 50, video 100 x 50"
    ]


# --- keyframes and videos


def test_past_the_end(tmp_path):
    rows = "".join(f"m,{time},0,0,1,1,1\n" for time in (0, 9.99, 10, 10.03, 10.1, 21))
    annotations, report, kept, _ = resolve(read_csv(tmp_path, rows), FakeVideos({"m": (100, 50)}, 10.0), name="x")
    assert annotations.time.tolist() == [0, 9.99, 10, 10.03] and kept.tolist() == [0, 1, 2, 3]
    tally = report.dropped["keyframes past the end of their video"]
    assert (tally.count, tally.examples) == (2, ["m at 10.1 s (10.00 s long)", "m at 21 s (10.00 s long)"])


def test_nothing_left(tmp_path):
    with pytest.raises(
        DataError, match=r"train.csv: no keyframe of data set x can be used. Dropped: keyframes past .*10.00 s long"
    ):
        resolve(read_csv(tmp_path, "m,11,0,0,1,1,1\n"), FakeVideos({"m": (100, 50)}, 10.0), name="x")


@pytest.fixture
def broken(tmp_path):
    """Videos good.mp4, empty.mp4 (0 bytes), garbage.mp4; none.mp4 is missing."""
    root = tmp_path / "videos"
    write_video(root / "good.mp4", 20, 10)
    (root / "empty.mp4").write_bytes(b"")
    (root / "garbage.mp4").write_bytes(b"not a video" * 100)
    movies = ("none", "good", "empty", "garbage")
    raw = read_csv(tmp_path, "".join(f"{m},1,0,0,1,1,{i % 3 + 1}\n" for i, m in enumerate(movies)))
    return raw, VideoIndex(root)


def test_all_broken_videos_are_named_in_one_error(broken):
    with pytest.raises(VideoError) as error:
        resolve(*broken, name="set")
    text = str(error.value)
    assert text.startswith("data set set: 3 of its videos cannot be used (video folder ")
    for part in ("\n  none: not found; expected", "empty.mp4 is empty (0 bytes)", "\n  garbage: ", "good"):
        assert (part in text) == (part != "good")
    assert text.endswith("Mend them, or set DATASETS.ON_ERROR skip to go on without their 3 keyframes.")


def test_broken_videos_can_be_skipped(broken):
    annotations, report, kept, paths = resolve(*broken, name="set", on_error="skip")
    assert annotations.movies == ("good",) and kept.tolist() == [1] and len(paths) == 1
    assert annotations.size.tolist() == [[48, 96]]
    assert np.flatnonzero(annotations.labels[0]).tolist() == [1]
    assert report.num_dropped("videos that cannot be used") == 3
    assert report.num_dropped("keyframes whose video or clip cannot be used") == 3
    assert "none: not found" in report.summary()


def test_a_long_list_of_broken_videos_is_cut(tmp_path):
    (tmp_path / "videos").mkdir()
    raw = read_csv(tmp_path, "".join(f"m{i},1,0,0,1,1,1\n" for i in range(30)))
    with pytest.raises(VideoError, match=r"30 of its videos[^$]*m19: [^$]*\.\.\. and 10 more") as error:
        resolve(raw, VideoIndex(tmp_path / "videos"), name="set")
    assert "m20" not in str(error.value)


def test_unknown_policy(broken):
    with pytest.raises(ValueError, match="on_error: got 'ignore', expected 'raise' or 'skip'"):
        resolve(*broken, name="x", on_error="ignore")


@pytest.fixture
def clips(tmp_path):
    """Clips of the seconds 10, 11, 13 and an empty one of second 16, 17 garbage, 20 good."""
    root = tmp_path / "videos"
    write_second_files(root / "m", {10: 5, 11: 5, 13: 5, 20: 5}, fps=5)
    (root / "m" / "16.mp4").write_bytes(b"")
    (root / "m" / "25.mp4").write_bytes(b"garbage")
    return VideoIndex(root)


def times(*seconds):
    return "".join(f"m,{second},0.1,0.1,0.5,0.5,1\n" for second in seconds)


def test_clips_and_their_size(tmp_path, clips):
    annotations, report, _, paths = resolve(read_csv(tmp_path, times("010", 11.5, 13, 20)), clips, name="x")
    assert annotations.time.tolist() == [10, 11.5, 13, 20] and not report.dropped
    assert annotations.size.tolist() == [[48, 96]] * 4
    assert paths == (str(tmp_path / "videos" / "m"),)


@pytest.mark.parametrize(
    "second, message",
    [
        (12, "m has no clip for second 12"),
        (9, "m has no clip for second 9"),
        (16, "m has empty clips .0 bytes.: 16"),
        (13, None),
        (25, "25.mp4"),
    ],
)
def test_clips_that_cannot_be_used(tmp_path, clips, second, message):
    raw = read_csv(tmp_path, times(10, second, 20))
    if message is None:
        assert len(resolve(raw, clips, name="x").annotations) == 3
        return
    with pytest.raises(VideoError, match=message):
        resolve(raw, clips, name="x")
    annotations, report, _, _ = resolve(raw, clips, name="x", on_error="skip")
    assert annotations.time.tolist() == [10, 20]
    assert report.num_dropped("keyframes whose video or clip cannot be used") == 1


def test_an_empty_clip_next_to_the_keyframe(tmp_path, clips):
    (tmp_path / "videos" / "m" / "14.mp4").write_bytes(b"")
    with pytest.raises(VideoError, match="m has empty clips .0 bytes.: 14, 16"):
        resolve(read_csv(tmp_path, times(13)), clips_anew(tmp_path), name="x")


def clips_anew(tmp_path):
    return VideoIndex(tmp_path / "videos")


def test_past_the_last_clip(tmp_path, clips):
    annotations, report, _, _ = resolve(read_csv(tmp_path, times(10, 26, 40.5)), clips, name="x")
    assert annotations.time.tolist() == [10]
    assert report.dropped["keyframes past the end of their video"].examples[0] == "m at 26 s (last clip 25)"


def test_many_clips_are_not_all_opened(tmp_path, clips, monkeypatch):
    monkeypatch.setattr("alphaction.dataset.keyframe_check.PROBE_ALL", 1)
    annotations = resolve(read_csv(tmp_path, times(10, 25)), clips, name="x").annotations
    assert annotations.time.tolist() == [10, 25] and annotations.size.tolist() == [[48, 96]] * 2


def test_portrait_video(tmp_path):
    write_video(tmp_path / "videos" / "m.mp4", numbered_frames(10, height=96, width=48), 10)
    annotations = resolve(read_csv(tmp_path, times(0)), clips_anew(tmp_path), name="x").annotations
    assert annotations.size.tolist() == [[96, 48]]


# --- detected boxes and the report


def test_detected_boxes(tmp_path):
    raw = read_csv(tmp_path, times(1, 2, 11, 3))
    resolved = resolve(raw, FakeVideos({"m": (100, 50)}, 10.0), name="x")
    entries = [("m/3", [1, 1, 10, 10], 0.9), ("m/1", [-5, 0, 20, 10], 0.8), ("m/1", [120, 0, 20, 10], 0.7),
               ("m/11", [0, 0, 20, 10], 0.6), ("m/77", [0, 0, 20, 10], 0.6), ("m/2", [0, 0, 0, 10], 0.6),
               ("m/2", [0, float("nan"), 5, 10], 0.6)]  # fmt: skip
    content = [{"image_id": i, "bbox": b, "score": s} for i, b, s in entries]
    boxes = read_boxes(write(tmp_path, content, "boxes.json"), raw)
    persons = resolve_boxes(boxes, resolved, what="person", clip=True)
    assert persons.counts().tolist() == [1, 0, 1]
    assert persons.xyxy.tolist() == [[0, 0, 14, 9], [1, 1, 10, 10]]
    assert persons.scores == pytest.approx([0.8, 0.9])
    text = resolved.report.summary()
    assert "detected person boxes, outside the picture: 1: m at 1 s" in text
    assert "detected person boxes of images that are not annotated: 1: m/77" in text
    assert "note: 2 detected person boxes from" in text
    objects = resolve_boxes(boxes, resolved, what="object", clip=False)
    assert objects.counts().tolist() == [2, 1, 1]  # neither limited to the picture nor removed
    assert objects.xyxy[0].tolist() == [-5, 0, 14, 9]


def test_no_detected_boxes(tmp_path):
    raw = read_csv(tmp_path, times(1))
    resolved = resolve(raw, FakeVideos({"m": (100, 50)}), name="x")
    boxes = read_boxes(write(tmp_path, [], "boxes.json"), raw)
    assert resolve_boxes(boxes, resolved, what="person", clip=True).counts().tolist() == [0]


def test_summary(tmp_path):
    rows = times(1, 2) + "m,2,0.1,0.1,0.5,0.5,3\nn,1,0.2,0.2,0.4,0.4,3\nn,2\nn,30\n"
    resolved = resolve(read_csv(tmp_path, rows), FakeVideos({"m": (100, 50), "n": (100, 50)}, 20.0), name="set")
    lines = resolved.report.summary().splitlines()
    assert lines[0] == f"Data set set: {tmp_path / 'train.csv'}"
    assert lines[1] == "  2 videos, 4 keyframes (1 without persons), 3 persons, 4 labels of 3 classes"
    assert lines[2:] == [
        "    1 2, 3 2",
        "    without an example: 2 (1 of 3 classes)",
        "  dropped, keyframes past the end of their video: 1: n at 30 s (20.00 s long)",
    ]


def test_readers_remarks_reach_the_report(tmp_path):
    raw = replace(read_csv(tmp_path, times(1)), notes=("a remark",), dropped={"a reason": (7, ["who"])})
    report = resolve(raw, FakeVideos({"m": (100, 50)}), name="x").report
    assert report.notes == ["a remark"] and report.num_dropped("a reason") == 7


def test_persons_without_action_are_said(tmp_path):
    images = [{"id": 0, "movie": "m", "timestamp": 1, "width": 100, "height": 50}]
    annotations = [{"id": 4, "image_id": 0, "action_ids": [], "bbox": [1, 1, 5, 5]}]
    raw = read_annotations(write(tmp_path, {"images": images, "annotations": annotations}, "a.json"), None, 3)
    report = resolve(raw, FakeVideos({"m": (100, 50)}), name="x").report
    assert report.notes == ["1 persons have no action (annotation 4, m at 1 s)"]
