"""Contact sheets: boxes are drawn where the loaded clip has them, mirrored or not. How they look was judged by eye."""

import json
import pathlib

import av
import cv2
import numpy as np
import pytest
from videos import read_number, write_video

from alphaction.preparation.look.build import Looker, is_mirrored, letters, matching_rows
from alphaction.preparation.look.script import main
from alphaction.preparation.look.sheet import (
    OBJECT,
    PERSON,
    REGION,
    Boxed,
    Look,
    draw_sheet,
    film_frames,
    spread_around,
)

CONFIG = str(pathlib.Path(__file__).resolve().parents[2] / "config_files" / "tiny.yaml")
NONE = np.zeros((0, 4))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("look")
    write_video(folder / "videos" / "v.mp4", 60)
    rows = [f"v,{time},0.125,0.25,0.375,0.75,{1 + time % 2},1\n" for time in (0, 1, 2)]
    (folder / "a.csv").write_text("".join(rows) + "v,1,0.5,0.25,0.875,0.75,2,2\n")
    boxes = [{"image_id": "v/1", "bbox": [48, 12, 24, 24], "score": 0.91}]
    (folder / "b.json").write_text(json.dumps(boxes))
    (folder / "dataset.yaml").write_text(
        "videos: videos\nclasses: [walk, run]\nsplits:\n  train: {annotations: a.csv}\n"
        "  val: {annotations: a.csv, person_boxes: b.json, object_boxes: b.json}\n"
    )
    return str(folder / "dataset.yaml")


def sheet_of(picture, loaded, **options):
    nothing = Boxed(NONE, NONE, NONE, [])
    tags = {"annotated_names": [], "loaded_names": ["walk"] * len(loaded.persons)}
    frames = np.stack([picture] * 3)
    size = options.pop("size", picture.shape[:2])
    return Look("t", picture, nothing, frames, size, loaded, None, 1, **tags, **options)


@pytest.mark.parametrize("shape", [(48, 64), (400, 128), (1080, 1920), (9, 700)])
def test_sheets_of_any_size(shape):
    loaded = Boxed(np.array([[1.0, 2, 20, 7]]), NONE, NONE, ["1"])
    sheet = draw_sheet(sheet_of(np.zeros((*shape, 3), np.uint8), loaded))
    assert 400 < sheet.shape[1] < 2000 and sheet.shape[0] < 2200
    assert (sheet == PERSON).all(axis=2).any()


def test_every_kind_of_box_has_its_colour_and_place():
    box = np.array([[10.0, 10, 29, 29]])
    loaded = Boxed(box, box + 20, box + [60, 0, 60, 0], ["1"])
    tile = film_frames(sheet_of(np.zeros((100, 120, 3), np.uint8), loaded))[0]
    top = next(y for y in range(len(tile)) if (tile[y, :480] == 0).all(axis=1).sum() > 400)
    picture = tile[top : top + 400]  # four times as large
    assert tuple(picture[100, 40]) == PERSON and tuple(picture[60, 100]) == (0, 0, 0)
    assert tuple(picture[160, 120]) == REGION
    assert tuple(picture[80, 280]) == OBJECT


def test_padding_is_hatched():
    picture = np.full((40, 60, 3), 255, np.uint8)
    tile = film_frames(sheet_of(picture, Boxed(NONE, NONE, NONE, []), size=(40, 30)))[0]
    line = tile[len(tile) // 2]
    assert (line[:230] == 255).all() and (line[250:480] < 120).all()


@pytest.mark.parametrize(
    ("middle", "length", "number", "expected"),
    [(16, 32, 5, [0, 8, 16, 23, 31]), (2, 4, 9, [0, 1, 2, 3]), (3, 8, 1, [3]), (0, 8, 2, [0, 7])],
)
def test_frames_are_spread_around_the_keyframe(middle, length, number, expected):
    assert spread_around(middle, length, number) == expected


def test_letters():
    assert [letters(i) for i in (0, 25, 26, 701, 702)] == ["a", "z", "aa", "zz", "aaa"]


def test_mirrored_pictures_are_told():
    picture = np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8)
    larger = cv2.resize(picture, (100, 60))
    assert is_mirrored(picture, larger[:, ::-1]) and not is_mirrored(picture, larger)


@pytest.mark.parametrize("mirror", [False, True])
def test_a_choice_of_persons_keeps_its_numbers(mirror):
    annotated = np.array([[0.0, 0, 9, 9], [20, 0, 39, 9], [50, 5, 60, 30]])
    loaded = annotated[[0, 2]] + 0.4
    if mirror:
        loaded = np.stack([99 - loaded[:, 2], loaded[:, 1], 99 - loaded[:, 0], loaded[:, 3]], axis=1)
    assert matching_rows(loaded, annotated, 100) == [0, 2]


def test_looks_show_what_the_loader_gives(data):
    looker = Looker(f"{data}:train", config_file=CONFIG, train=True)
    seen = set()
    for epoch in range(12):
        look = looker.look(1, epoch=epoch)
        mirrored = "mirrored" in look.remarks[0]
        seen.add(mirrored)
        boxes = look.loaded.persons / look.size[1]
        left = boxes[0, 0] < 0.4
        assert left != mirrored, "the left person of the video is at the right of a mirrored clip"
    assert seen == {False, True}
    assert look.annotated_names == look.loaded_names == ["run", "run"]
    assert look.annotated.tags == ["1", "2"] and len(look.loaded.regions) == 2
    np.testing.assert_allclose(look.annotated.persons[0], [12, 12, 35, 35])
    assert read_number(look.keyframe) == 25 and look.offsets[look.middle] == 0


def test_detections_and_objects_of_a_test_split(data):
    look = Looker(f"{data}:val").look(0)
    assert look.loaded_names == ["score 0.91"] and look.loaded.tags == ["a"]
    assert look.annotated_names == ["run", "run"]
    assert len(look.loaded.objects) == 1 and len(look.annotated.objects) == 1
    assert look.frames.shape[1:3] != look.size


def test_main_writes_pictures_and_films(data, tmp_path, capsys):
    line = ["--dataset-name", data, "--num-samples", "2", "--output-dir", str(tmp_path), "--video"]
    assert main([*line, "--config-file", CONFIG, "INPUT.MIN_SIZE_TEST", "64"]) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name for name in names if name.startswith("val")] == ["val_test_01_v_1.jpg", "val_test_01_v_1.mp4"]
    assert "3 samples drawn" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "val_test_01_v_1.jpg")).shape[1] > 400
    with av.open(str(tmp_path / "val_test_01_v_1.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 8
    assert main(["--dataset-name", f"{data}:test"]) == 1
    assert "has no split 'test'" in capsys.readouterr().err
    assert main(["--dataset-name", data, "--output-dir", str(tmp_path), "TEST.BOX_THRESH", "2"]) == 1
    assert "error:" in capsys.readouterr().err
