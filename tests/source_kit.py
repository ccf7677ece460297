"""The same annotations in every form that prepare_dataset reads, on six very short videos."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from videos import numbered_frames, write_video

from alphaction.preparation.config_writer import Machine
from alphaction.preparation.prepare import Options, prepare
from alphaction.preparation.prepare_collect import DataOptions
from alphaction.preparation.prepare_report import ConfigWishes

WIDTH, HEIGHT, FPS = 64, 48, 25
VIDEOS = ("a1", "b2", "c3", "d4", "e5", "f6")
CLASSES = ("run", "walk", "wave")  # in alphabetical order: the ids of forms that have names only
FRAMES = (10, 20, 30)
LAPTOP = Machine("", 0.0, 0, 2)


class Box(NamedTuple):
    video: str
    frame: int
    xyxy: tuple[int, int, int, int]  # pixels
    actions: tuple[str, ...]
    person: int


def make_videos(folder: pathlib.Path, names: Sequence[str] = VIDEOS, *, frames: int = 50) -> pathlib.Path:
    pictures = numbered_frames(frames, height=HEIGHT, width=WIDTH)
    for name in names:
        write_video(folder / f"{name}.mp4", pictures, FPS)
    return folder


def boxes(names: Sequence[str] = VIDEOS) -> list[Box]:
    """Two persons at each of three moments of each video."""
    found = []
    for i, video in enumerate(names):
        for j, frame in enumerate(FRAMES):
            found.append(Box(video, frame, (4 + 4 * j, 6, 28 + 4 * j, 42), (CLASSES[(i + j) % 3],), 1))
            found.append(Box(video, frame, (36, 3 + i, 56, 33 + i), ("walk", "wave") if j % 2 else ("run",), 2))
    return found


def expected(names: Sequence[str] = VIDEOS) -> set[tuple]:
    """What annotations/*.csv must hold together."""
    rows = set()
    for box in boxes(names):
        x1, y1, x2, y2 = box.xyxy
        corners = tuple(round(value, 9) for value in (x1 / WIDTH, y1 / HEIGHT, x2 / WIDTH, y2 / HEIGHT))
        for action in box.actions:
            rows.add((box.video, box.frame / FPS, *corners, CLASSES.index(action) + 1, box.person))
    return rows


def written(output: pathlib.Path) -> set[tuple]:
    rows = set()
    for file in (output / "annotations").glob("*.csv"):
        for line in file.read_text().splitlines():
            video, time, *corners, action, person = line.split(",")
            rows.add((video, float(time), *map(float, corners), int(action), int(person) if person else -1))
    return rows


def run(tmp_path: pathlib.Path, videos: pathlib.Path, *annotations: pathlib.Path, **options: object) -> str:
    """The report of a run; options of all three kinds by their names."""
    config = {key: options.pop(key) for key in ("from_scratch", "weights", "body", "epochs") if key in options}
    own = {key: options.pop(key) for key in ("output", "name", "force") if key in options}
    data = DataOptions(str(videos), [str(path) for path in annotations], **options)
    made = Options(data, **({"output": str(tmp_path / "out")} | own), config=ConfigWishes(**config))
    return prepare(made, command="prepare_dataset", machine=LAPTOP)


def ava_csv(folder: pathlib.Path, *, first: int = 1) -> pathlib.Path:
    lines = []
    for box in boxes():
        x1, y1, x2, y2 = box.xyxy
        corners = [x1 / WIDTH, y1 / HEIGHT, x2 / WIDTH, y2 / HEIGHT]
        for action in box.actions:
            fields = [box.video, box.frame / FPS, *corners, CLASSES.index(action) + first, box.person]
            lines.append(",".join(map(str, fields)))
    return _write(folder / "ava.csv", "\n".join(lines))


def label_list(folder: pathlib.Path, *, numbered: bool = True) -> pathlib.Path:
    lines = [f"{i}: {name}" if numbered else name for i, name in enumerate(CLASSES, 1)]
    return _write(folder / "labels.txt", "\n".join(lines))


def plain_csv(folder: pathlib.Path) -> pathlib.Path:
    """Seconds, pixels, names of classes and of video files."""
    lines = ["video,time,x1,y1,x2,y2,action,person_id"]
    for box in boxes():
        corners = ",".join(map(str, box.xyxy))
        lines += [f"{box.video}.mp4,{box.frame / FPS},{corners},{action},{box.person}" for action in box.actions]
    return _write(folder / "plain.csv", "\n".join(lines))


def frame_csv(folder: pathlib.Path) -> pathlib.Path:
    """Frame numbers, shares, several actions in a cell, semicolons are not possible then; columns in another order."""
    lines = ["action\tvideo\tframe\tx\ty\tw\th\tperson_id"]
    for box in boxes():
        x1, y1, x2, y2 = box.xyxy
        xywh = [x1 / WIDTH, y1 / HEIGHT, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT]
        fields = [";".join(box.actions), box.video.upper(), box.frame, *xywh, box.person]
        lines.append("\t".join(map(str, fields)))
    return _write(folder / "frames.tsv", "\n".join(lines))


def coco(
    folder: pathlib.Path,
    moment: Callable[[Box], dict] = lambda box: {"video": box.video, "timestamp": box.frame / FPS},
    *,
    ids: Sequence[int | str] = (1, 2, 3),
    corners: bool = False,
    shares: bool = False,
    area: bool = True,
    name: str = "coco.json",
    names: Sequence[str] = VIDEOS,
    **more: object,
) -> pathlib.Path:
    """An annotation per action."""
    keys = list(dict.fromkeys((box.video, box.frame) for box in boxes(names)))
    images, annotations = {}, []
    for box in boxes(names):
        image = keys.index((box.video, box.frame))
        images[image] = {"id": image, "width": WIDTH, "height": HEIGHT} | moment(box)
        x1, y1, x2, y2 = box.xyxy
        numbers = [x1, y1, x2, y2] if corners else [x1, y1, x2 - x1, y2 - y1]
        scale = (WIDTH, HEIGHT, WIDTH, HEIGHT) if shares else (1, 1, 1, 1)
        numbers = [value / factor for value, factor in zip(numbers, scale, strict=True)]
        for action in box.actions:
            entry = {"id": len(annotations), "image_id": image, "bbox": numbers, "track_id": box.person}
            entry["category_id"] = ids[CLASSES.index(action)]
            if area and not shares:
                entry["area"] = (x2 - x1) * (y2 - y1)
            annotations.append(entry)
    categories = [{"id": i, "name": action} for i, action in zip(ids, CLASSES, strict=True)]
    content = {"images": list(images.values()), "annotations": annotations, "categories": categories} | more
    return _write(folder / name, json.dumps(content))


def ava_json(folder: pathlib.Path) -> pathlib.Path:
    content: dict[str, list] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    keys = list(dict.fromkeys((box.video, box.frame) for box in boxes()))
    for i, (video, frame) in enumerate(keys):
        content["images"].append({"id": i, "movie": video, "timestamp": frame / FPS, "width": WIDTH, "height": HEIGHT})
    for i, box in enumerate(boxes()):
        x1, y1, x2, y2 = box.xyxy
        content["annotations"].append(
            {
                "id": i,
                "image_id": keys.index((box.video, box.frame)),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "action_ids": [CLASSES.index(action) + 1 for action in box.actions],
                "person_id": box.person,
            }
        )
    return _write(folder / "ava.json", json.dumps(content))


def cvat(folder: pathlib.Path, video: str, *, every: int = 10, name: str = "") -> pathlib.Path:
    """One task: a track per person with the attributes `action` (text) and, unused, `age` (number)."""
    tracks = ""
    own = [box for box in boxes() if box.video == video]
    for person in (1, 2):
        found = ""
        for frame in range(0, 50, every):
            box = next((box for box in own if box.frame == frame and box.person == person), own[person - 1])
            outside = int(frame not in FRAMES and every == 10)
            edges = " ".join(f'{k}="{v:.2f}"' for k, v in zip(("xtl", "ytl", "xbr", "ybr"), box.xyxy, strict=True))
            found += (
                f'<box frame="{frame}" outside="{outside}" occluded="0" keyframe="1" {edges} z_order="0">'
                f'<attribute name="action">{", ".join(box.actions)}</attribute>'
                '<attribute name="age">40</attribute></box>'
            )
        tracks += f'<track id="{person}" label="person" source="manual">{found}</track>'
    return _write(
        folder / (name or f"{video}.xml"),
        '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><task><id>5</id>'
        f"<name>my task</name><size>50</size><mode>interpolation</mode><labels><label><name>person</name><attributes>"
        "<attribute><name>action</name><mutable>True</mutable><input_type>text</input_type></attribute>"
        "<attribute><name>age</name><mutable>True</mutable><input_type>number</input_type></attribute>"
        f"</attributes></label></labels><original_size><width>{WIDTH}</width><height>{HEIGHT}</height></original_size>"
        f"<source>{video}.mp4</source></task></meta>{tracks}</annotations>",
    )


def _write(path: pathlib.Path, text: str) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
