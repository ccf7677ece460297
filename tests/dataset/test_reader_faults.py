"""Whatever a file holds, reading it ends well or with one of our own errors: no traceback, no warning."""

import copy
import json
import random
import warnings

import pytest

from alphaction.dataset.annotations import read_annotations
from alphaction.dataset.box_files import read_boxes
from alphaction.dataset.resolve import resolve, resolve_boxes
from alphaction.dataset.video_index import MovieFiles
from alphaction.dataset.video_io import VideoInfo
from alphaction.errors import UserError

IMAGES = [{"id": i, "file_name": f"v/{i:04d}.jpg", "width": 64, "height": 48} for i in range(3)]
COCO = {
    "images": IMAGES,
    "annotations": [{"id": i, "image_id": i % 3, "category_id": 1 + i % 2, "bbox": [1, 2, 10, 20]} for i in range(5)],
    "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
}
AVA = {
    "images": [{"id": i, "movie": "m", "timestamp": i, "width": 64, "height": 48} for i in range(3)],
    "annotations": [
        {"id": i, "image_id": i % 3, "category_id": 1, "person_id": 3, "action_ids": [1, 2], "bbox": [1, 2, 10.5, 20]}
        for i in range(5)
    ],
    "categories": [],
}
BOX_LIST = [{"image_id": i % 3, "bbox": [1, 2, 3, 4], "score": 0.9} for i in range(4)]
BOX_DICT = {"v/0001.jpg": [{"bbox": [1, 2, 3, 4], "score": 0.9}]}
ODD = [None, True, -1, 0, 1, 2.5, "", "x", "0902", [], [1], {}, {"a": 1}, 1e400, -1e400, float("nan"), 10**30,
       -(10**30), "nan", "inf", "1e5", "\u0663", [None] * 4, ["1", "2", "3", "4"]]  # fmt: skip
ODD_CELLS = ["", "x", "nan", "inf", "-1", "1e400", "0.5", '"', '"a\n"', "\u0663", "9" * 40]


class AnyVideo:
    root = "videos"

    def find(self, movies):
        return [MovieFiles(movie, "path", info=VideoInfo(64, 48, 25.0, 50.0, 1250)) for movie in movies]


def places(value, path=()):
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def spoil(content, rng):
    content = copy.deepcopy(content)
    for _ in range(rng.choice([1, 1, 2, 3])):
        path = rng.choice(list(places(content)) or [()])
        if not path:
            return content
        target = content
        for key in path[:-1]:
            target = target[key]
        if rng.random() < 0.2:
            del target[path[-1]]
        else:
            target[path[-1]] = copy.deepcopy(rng.choice(ODD))
    return content


def outcome(read):
    """ "ok" or "refused"; anything else, and any warning, fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            read()
        except UserError as error:
            assert str(error)
            return "refused"
        return "ok"


@pytest.mark.parametrize("content", [COCO, AVA], ids=["coco", "ava"])
@pytest.mark.parametrize("seed", range(4))
def test_annotations(tmp_path, content, seed):
    rng, path = random.Random(seed), tmp_path / "a.json"

    def read():
        path.write_text(json.dumps(spoil(content, rng)))
        resolve(read_annotations(path, None, rng.choice([0, 2])), AnyVideo(), name="s").report.summary()

    assert {outcome(read) for _ in range(100)} == {"ok", "refused"}


@pytest.mark.parametrize("content", [BOX_LIST, BOX_DICT], ids=["list", "guide"])
def test_boxes(tmp_path, content):
    rng, path = random.Random(0), tmp_path / "b.json"
    (tmp_path / "a.json").write_text(json.dumps(COCO))
    raw = read_annotations(tmp_path / "a.json")
    resolved = resolve(raw, AnyVideo(), name="s")

    def read():
        path.write_text(json.dumps(spoil(content, rng)))
        resolve_boxes(read_boxes(path, raw, min_score=0.5), resolved, what="person", clip=True)
        resolve_boxes(read_boxes(path, raw), resolved, what="object", clip=False)

    assert {outcome(read) for _ in range(150)} == {"ok", "refused"}


def test_csv(tmp_path):
    rng, path = random.Random(0), tmp_path / "a.csv"

    def read():
        rows = [["m", str(i), "0.1", "0.2", "0.5", "0.6", str(i), "3"] for i in (1, 2)]
        for _ in range(rng.choice([1, 2])):
            row = rng.choice(rows)
            if row and rng.random() < 0.3:
                row.pop(rng.randrange(len(row)))
            elif row:
                row[rng.randrange(len(row))] = rng.choice(ODD_CELLS)
        path.write_text("\n".join(",".join(row) for row in rows), encoding="utf-8")
        resolve(read_annotations(path, None, rng.choice([0, 2])), AnyVideo(), name="s").report.summary()

    assert {outcome(read) for _ in range(300)} == {"ok", "refused"}
