"""Box files from a detector: which pictures it sees, what is written, and how a run ends and goes on."""

from __future__ import annotations

import json
import logging
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import videos

from alphaction.config.paths_catalog import DatasetCatalog
from alphaction.dataset.annotations import read_annotations
from alphaction.dataset.box_files import read_boxes
from alphaction.errors import DataError
from alphaction.preparation.detect import DetectOptions, detect
from alphaction.preparation.detect_frames import dataset_frames, picture_frames, video_frames
from alphaction.preparation.detect_models import Detector, Found

TIMES = (0.5, 1.0, 1.4)
ROWS = [f"{movie},{time},0.0625,0.25,0.5625,0.75,1,{i}" for i, movie in enumerate(("a", "b")) for time in TIMES]


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A data set of two films of 2 s at 30 frames per second, 96 x 48 pixels; one person per keyframe."""
    for movie in ("a", "b"):
        videos.write_video(tmp_path / "videos" / f"{movie}.mp4", 60, 30)
    (tmp_path / "val.csv").write_text("\n".join(ROWS) + "\n")
    (tmp_path / "dataset.yaml").write_text("videos: videos\nclasses: [walk]\nsplits: {val: {annotations: val.csv}}\n")
    return tmp_path


class Fake:
    """Sees a person whose box tells the frame's number, a weak one, and a dog."""

    def __init__(self, stop_after: int = 1000) -> None:
        self.seen: list[int] = []
        self.stop_after = stop_after

    def __call__(self, pictures: Sequence[torch.Tensor]) -> list[Found]:
        if len(self.seen) >= self.stop_after:
            raise KeyboardInterrupt
        found = []
        for picture in pictures:
            self.seen.append(videos.read_number(picture.numpy()))
            height, width = picture.shape[:2]
            boxes = [[0, 0, 4, 4], [width / 16, height / 4, width * 9 / 16, height * 3 / 4], [self.seen[-1], 2, 90, 12]]
            found.append(Found(np.array(boxes, np.float32), np.array([0.04, 0.9, 0.75]), np.array([1, 1, 18])))
        return found

    @property
    def detector(self) -> Detector:
        return Detector("fake", self)


@pytest.fixture
def options(folder: pathlib.Path) -> DetectOptions:
    return DetectOptions(str(folder / "boxes" / "val.json"), batch_size=2)


def name_of(options: DetectOptions) -> str:
    return f"{pathlib.Path(options.output).parents[1] / 'dataset.yaml'}:val"


def run(options: DetectOptions, fake: Fake | None = None) -> str:
    return detect(dataset_frames(name_of(options)), (fake or Fake()).detector, options)


def test_every_keyframe_and_no_other(folder: pathlib.Path, options: DetectOptions) -> None:
    fake = Fake()
    text = run(options, fake)
    assert fake.seen == [15, 30, 42] * 2
    rows = json.loads(pathlib.Path(options.output).read_text())
    assert [row["image_id"] for row in rows] == [f"{movie}/{time}" for movie in "ab" for time in ("0.5", "1", "1.4")]
    assert rows[0] == {"image_id": "a/0.5", "category_id": 1, "bbox": [6.0, 12.0, 48.0, 24.0], "score": 0.9}
    raw = read_annotations(folder / "val.csv")
    boxes = read_boxes(options.output, raw, min_score=0.8)
    assert boxes.keyframe.tolist() == [0, 1, 2, 3, 4, 5]
    assert boxes.xywh.tolist() == [[6, 12, 48, 24]] * 6
    assert "val.json: 6 person boxes with a score of 0.05 or more, 6 of them 0.8 or more, in 6 pictures" in text
    assert "Recall at IoU 0.5 against the annotated persons: 100.0%; 100.0% with boxes of 0.8 or more" in text
    assert (
        f"write into {folder / 'dataset.yaml'}:\nsplits:\n  val:\n    person_boxes: boxes/val.json\nand test with"
        in text
    )
    assert sorted(p.name for p in (folder / "boxes").iterdir()) == ["val.json"]


def test_the_advice_makes_the_data_set_use_them(folder: pathlib.Path, options: DetectOptions) -> None:
    text = run(options)
    head = "videos: videos\nclasses: [walk]\n"
    (folder / "dataset.yaml").write_text(
        head + text[text.index("splits:") : text.index("and test")] + "    annotations: val.csv\n", encoding="utf-8"
    )
    assert "The data set names this file already (person_boxes)" in run(replace(options, force=True))


def test_an_entry_of_the_catalog(folder: pathlib.Path, options: DetectOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"video_root": str(folder / "videos"), "ann_file": str(folder / "val.csv"), "classes": ["walk"]}
    monkeypatch.setitem(DatasetCatalog.DATASETS, "my_set", entry)
    text = detect(dataset_frames("my_set"), Fake().detector, options)
    assert f'name it in the entry my_set of the catalog: "box_file": "{options.output}"' in text


def test_objects_are_all_but_persons(options: DetectOptions) -> None:
    text = run(replace(options, objects=True))
    rows = json.loads(pathlib.Path(options.output).read_text())
    assert [row["bbox"] for row in rows[:3]] == [[15, 2, 75, 10], [30, 2, 60, 10], [42, 2, 48, 10]]
    assert {row["category_id"] for row in rows} == {18}
    assert "6 object boxes with a score of 0.05 or more, in 6 pictures" in text
    assert "object_boxes: boxes/val.json" in text
    assert "Recall" not in text
    with pytest.raises(DataError, match="knows persons only"):
        detect(
            dataset_frames(name_of(options)),
            Detector("x", Fake(), objects=False),
            replace(options, objects=True, force=True),
        )


def test_image_ids_and_pixels_of_the_annotation_file(folder: pathlib.Path, options: DetectOptions) -> None:
    """A file annotated at twice the size of the video."""
    images = [{"id": 70 + i, "movie": "a", "timestamp": t, "width": 192, "height": 96} for i, t in enumerate(TIMES)]
    persons = [{"id": 1, "image_id": 71, "bbox": [12, 24, 96, 48], "action_ids": [1]}]
    (folder / "val.csv").write_text(json.dumps({"images": images, "annotations": persons, "categories": []}))
    text = run(options)
    rows = json.loads(pathlib.Path(options.output).read_text())
    assert [(row["image_id"], row["bbox"]) for row in rows] == [(70 + i, [12, 24, 96, 48]) for i in range(3)]
    assert "Recall at IoU 0.5 against the annotated persons: 100.0%" in text


def test_a_stopped_run_goes_on(options: DetectOptions, caplog: pytest.LogCaptureFixture) -> None:
    side = pathlib.Path(options.output).with_name(".val.json.partial")
    with pytest.raises(KeyboardInterrupt):
        run(options, Fake(stop_after=4))
    with side.open("a") as file:
        file.write('{"picture": "[\\"b/1.4')  # the line that was being written
    fake = Fake()
    with caplog.at_level(logging.WARNING):
        run(options, fake)
    assert fake.seen == [30, 42]
    assert "Going on with 4 pictures of an earlier run" in caplog.text
    whole = pathlib.Path(options.output).read_text()
    run(replace(options, force=True))
    assert pathlib.Path(options.output).read_text() == whole
    assert not side.exists()


def test_other_settings_start_anew(options: DetectOptions, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(options, Fake(stop_after=4))
    fake = Fake()
    with caplog.at_level(logging.WARNING):
        run(replace(options, min_score=0.01), fake)
    assert len(fake.seen) == 6
    assert "Starting anew: an earlier run had other settings (min_score 0.05, now 0.01)" in caplog.text
    assert len(json.loads(pathlib.Path(options.output).read_text())) == 12


def test_what_cannot_be_read_is_named_and_tried_again(
    folder: pathlib.Path, options: DetectOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alphaction.preparation import detect_frames

    (folder / "val.csv").write_text("\n".join([*ROWS, "a,9,0,0,1,1,1,1", "gone,1,0,0,1,1,1,1"]))
    real: Callable = detect_frames.read_frame

    def broken(source: object, time: float, *, frame_rate: float) -> np.ndarray:
        if time == 1.0:
            raise DataError("the frame at 1.000 s cannot be decoded")
        return real(source, time, frame_rate=frame_rate)

    monkeypatch.setattr(detect_frames, "read_frame", broken)
    text = run(options)
    assert "in 4 pictures" in text
    assert "4 could not be looked at:\n  gone: not found" in text
    assert "\n  a: 1 keyframes past the end of the video" in text
    assert "\n  b/1: the frame at 1.000 s cannot be decoded" in text
    monkeypatch.setattr(detect_frames, "read_frame", lambda *_, **__: broken("", 1.0, frame_rate=1))
    with pytest.raises(DataError, match=r"none of the 6 pictures can be read\n  a/0.5: the frame"):
        run(replace(options, force=True))
    assert len(json.loads(pathlib.Path(options.output).read_text())) == 4


def test_nothing_is_overwritten_unasked(options: DetectOptions) -> None:
    run(options)
    fake = Fake()
    with pytest.raises(DataError, match="val.json: exists already. To replace: --force"):
        run(options, fake)
    assert fake.seen == []


def test_weak_detections_are_told(options: DetectOptions) -> None:
    class Weak(Fake):
        def __call__(self, pictures: Sequence[torch.Tensor]) -> list[Found]:
            return [f._replace(scores=np.array([0.0, 0.6, 0.0])) for f in super().__call__(pictures)]

    text = run(options, Weak())
    assert "Recall at IoU 0.5 against the annotated persons: 100.0%; 0.0% with boxes of 0.8 or more" in text
    assert "A lower TEST.BOX_THRESH finds more of them" in text

    class Blind(Fake):
        def __call__(self, pictures: Sequence[torch.Tensor]) -> list[Found]:
            return [Found(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)) for _ in pictures]

    text = run(replace(options, force=True), Blind())
    assert "6 pictures without a box: a/0.5, a/1, a/1.4, b/0.5, b/1, ..." in text
    assert "Persons without a box cannot be recognised in a test" in text
    assert json.loads(pathlib.Path(options.output).read_text()) == []


def test_moments_of_videos(folder: pathlib.Path, options: DetectOptions) -> None:
    videos.write_second_files(folder / "videos" / "c", {3: 25, 4: 25})
    (folder / "videos" / "bad.mp4").touch()
    pictures = video_frames(str(folder / "videos"), step=0.8, end=4)
    fake = Fake()
    text = detect(pictures, fake.detector, replace(options, workers=1))
    images = [row["image_id"] for row in json.loads(pathlib.Path(options.output).read_text())]
    assert images == ["a/0", "a/0.8", "a/1.6", "b/0", "b/0.8", "b/1.6", "c/3"]
    assert fake.seen == [0, 24, 48, 0, 24, 48, 0]
    assert "1 could not be looked at:\n  bad:" in text
    with pytest.raises(DataError, match="expected step > 0"):
        video_frames(str(folder / "videos"), step=0)


def test_pictures_in_the_form_of_the_guide(folder: pathlib.Path, options: DetectOptions) -> None:
    frames = videos.numbered_frames(16)
    for movie, second in (("a", 1), ("b", 1)):
        (folder / "keys" / movie).mkdir(parents=True)
        cv2.imwrite(str(folder / "keys" / movie / f"000{second}.jpg"), frames[15, ..., ::-1])
    (folder / "keys" / "b" / "0002.jpg").write_text("no picture")
    fake = Fake()
    text = detect(picture_frames(str(folder / "keys")), fake.detector, options)
    assert fake.seen == [15, 15]
    content = json.loads(pathlib.Path(options.output).read_text())
    assert list(content) == ["a/0001.jpg", "b/0001.jpg"]
    assert content["a/0001.jpg"] == [{"category_id": 1, "bbox": [6, 12, 48, 24], "score": 0.9}]
    assert "b/0002.jpg: " in text
    boxes = read_boxes(options.output, read_annotations(folder / "val.csv"))
    assert boxes.keyframe.tolist() == [1, 4]


def test_mistakes_are_told(folder: pathlib.Path, options: DetectOptions) -> None:
    (folder / "boxes" / "val").mkdir(parents=True)
    with pytest.raises(DataError, match="--output: .*is a folder, expected a file"):
        run(replace(options, output=str(folder / "boxes" / "val")))
    with pytest.raises(DataError, match="--min-score: got 1"):
        run(replace(options, min_score=1.0))
    with pytest.raises(DataError, match="--batch-size, --num-workers: got 0, 0"):
        run(replace(options, batch_size=0))
    with pytest.raises(DataError, match="--keyframes: .*is not a folder"):
        picture_frames(str(folder / "nowhere"))
    with pytest.raises(DataError, match="there is nothing to look at"):
        detect(picture_frames(str(folder / "videos")), Fake().detector, options)
    with (folder / "dataset.yaml").open("a") as file:
        file.write("name: two\n")
    two = "videos: videos\nsplits: {val: {annotations: val.csv}, test: {annotations: val.csv}}\n"
    (folder / "dataset.yaml").write_text(two)
    with pytest.raises(DataError, match="which split. One at a time: .*dataset.yaml:val, .*dataset.yaml:test"):
        dataset_frames(str(folder / "dataset.yaml"))
    (folder / "val.csv").unlink()
    with pytest.raises(DataError, match="the annotation file does not exist"):
        dataset_frames(f"{folder / 'dataset.yaml'}:val")
