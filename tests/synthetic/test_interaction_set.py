"""Classes of the interaction set follow from their own kind of context, and nothing else tells them."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pytest

from alphaction.config import load_config, validate
from alphaction.config.paths_catalog import DatasetCatalog
from alphaction.structures import FeatureMemory
from alphaction.synthetic.interaction import (
    CLASSES,
    KINDS,
    MOTIONS,
    Options,
    generate,
    labels,
    object_boxes,
    plan,
)
from alphaction.synthetic.render import Renderer

OPTIONS = Options()
SCENES = [plan(np.random.default_rng([3, number]), OPTIONS) for number in range(80)]
CLIP = range(-16, 16)  # frames around a keyframe that the benchmark's network sees
SMALL = Options(train=2, val=1, beats=2)


def _persons():
    for scene in SCENES:
        for number, beat in enumerate(scene.beats):
            for figure in range(len(beat.acts)):
                yield scene, number, figure


def _seen_motion(scene, number, figure):
    """What the figure's places over a beat say."""
    beat = scene.beats[number]
    places = np.array([beat.acts[figure].place(t) for t in np.linspace(0, beat.end - beat.start, 40)])
    across, down = np.ptp(places, axis=0)
    assert min(across, down) < 1e-6 and (max(across, down) < 1e-6 or max(across, down) > 7)
    return "stand" if max(across, down) < 1 else "sway" if across > down else "hop"


def test_labels_are_what_the_scene_shows():
    for scene, number, figure in _persons():
        names = {_seen_motion(scene, number, figure)}
        other = _seen_motion(scene, number, 1 - figure)
        before = [_seen_motion(scene, number - 1, k) for k in (0, 1)] if number else []
        for motion, word in (("sway", "swaying"), ("hop", "hopping")):
            names |= {f"with a {word} person"} if other == motion else set()
            names |= {f"after {word}"} if motion in before else set()
        names |= {f"with a {thing.kind}" for thing in scene.beats[number].things}
        assert labels(scene, number, figure) == names


def test_no_context_tells_the_classes_of_another():
    """Given the own motion, or the labels of other kinds, a class is as frequent as ever: there is nothing to guess."""
    persons = list(_persons())
    held = np.array([[name in labels(*person) for name in CLASSES] for person in persons])
    later = np.array([number > 0 for _, number, _ in persons])  # the first beat has no beat before
    share = dict(zip(CLASSES, held.mean(axis=0), strict=True))
    assert all(0.25 < share[name] < 0.6 for name in CLASSES)
    kind_of = {name: kind for kind, names in KINDS.items() for name in names}
    for i, one in enumerate(CLASSES):
        for j, two in enumerate(CLASSES):
            if kind_of[one] != kind_of[two]:
                given = held[later & held[:, j], i].mean()
                assert given == pytest.approx(held[later, i].mean(), abs=0.07), (one, two)


def test_a_persons_surroundings_show_neither_the_other_person_nor_the_things():
    """A cell of Slowfast-Tiny's map sees 53 pixels to each side; boxes are pooled from cells up to 16 pixels away."""
    for scene in SCENES[:20]:
        for beat in scene.beats:
            (left, *_), (right, *_) = (act.start for act in beat.acts)
            assert right - left > 190
            for thing in beat.things:
                assert min(thing.box[0] - left, right - thing.box[2]) > 53 + 16


def test_pixels_near_a_person_do_not_change_with_its_context():
    scene = SCENES[0]
    stands = dataclasses.replace(scene.beats[4].acts[1], swing=(0.0, 0.0), swing_rate=0.0)
    hops = dataclasses.replace(stands, swing=(0.0, 8.0), swing_rate=1.0)
    clips = []
    for other, things in ((stands, ()), (hops, SCENES[1].beats[0].things or SCENES[2].beats[0].things)):
        beat = dataclasses.replace(scene.beats[4], acts=(scene.beats[4].acts[0], other), things=things)
        changed = dataclasses.replace(scene, beats=(*scene.beats[:4], beat, *scene.beats[5:]))
        clips.append(_clip(changed, beat.keyframe))
    assert np.array_equal(clips[0][:, :, :100], clips[1][:, :, :100])
    assert not np.array_equal(clips[0], clips[1])


def test_no_clip_shows_the_beat_before():
    one = SCENES[0]
    two = next(scene for scene in SCENES if _past(scene) != _past(one))
    pairs = zip(two.beats[0].acts, one.beats[0].acts, strict=True)
    acts = tuple(dataclasses.replace(act, arms=own.arms) for act, own in pairs)
    past = dataclasses.replace(two.beats[0], acts=acts)
    other_past = dataclasses.replace(one, beats=(past, *one.beats[1:]))
    assert labels(one, 1, 0) != labels(other_past, 1, 0)
    keyframe = one.beats[1].keyframe
    assert np.array_equal(_clip(one, keyframe), _clip(other_past, keyframe))
    for scene in SCENES[:5]:
        for beat in scene.beats:
            assert beat.start <= beat.keyframe + CLIP[0] / OPTIONS.fps
            assert beat.keyframe + CLIP[-1] / OPTIONS.fps < beat.end


def _past(scene):
    """Labels that the first beat gives at the second."""
    return {name for name in labels(scene, 1, 0) if name in KINDS["memory"]}


def _clip(scene, keyframe):
    """uint8 [frames, H, W, 3]."""
    renderer = Renderer(scene, rng=np.random.default_rng(0))
    return np.stack([renderer.frame(keyframe + frame / OPTIONS.fps) for frame in CLIP])


def test_figures_move_without_jumps():
    for scene in SCENES[:5]:
        for figure in (0, 1):
            places = np.array([scene.pose(figure, frame / OPTIONS.fps).place for frame in range(OPTIONS.frames * 10)])
            assert np.abs(np.diff(places, axis=0)).max() < 6
            assert (places > [9, 14]).all() and (places < [OPTIONS.width - 9, OPTIONS.height - 14]).all()


def test_the_configurations_memory_holds_beat_after_beat():
    cfg = load_config("config_files/interaction_tiny.yaml", [])
    validate(cfg)
    node = cfg.MODEL.IA_STRUCTURE
    assert OPTIONS.frames / OPTIONS.fps == node.MEMORY_STEP and node.LENGTH[0] >= 1
    assert len(CLIP) == cfg.INPUT.FRAME_NUM * cfg.INPUT.FRAME_SAMPLE_RATE
    memory = FeatureMemory(1, step=node.MEMORY_STEP)
    slots = [memory.slot(round(beat.keyframe, 2)) for beat in SCENES[0].beats]
    assert slots == list(range(OPTIONS.beats))


def test_the_set_is_read_as_any_other(tmp_path):
    file = generate(tmp_path / "set", options=SMALL)
    for split, videos in (("train", 2), ("val", 1)):
        entry = DatasetCatalog.get(f"{file}:{split}")
        with open(entry["ann_file"], encoding="utf-8") as text:
            rows = list(csv.reader(text))
        assert len({row[0] for row in rows}) == videos
        assert {(row[0], row[1], row[7]) for row in rows if int(row[6]) <= len(MOTIONS)} == {
            (row[0], row[1], row[7]) for row in rows
        }
        with open(entry["object_file"], encoding="utf-8") as text:
            boxes = json.load(text)
        images = {f"{row[0]}/{row[1]}.jpg" for row in rows}
        assert boxes and {box["image_id"] for box in boxes} <= images
        for box in boxes:
            x, y, w, h = box["bbox"]
            assert 100 < x < x + w < 140 and 0 <= y < y + h <= SMALL.height and w == h
    assert len(list((tmp_path / "set" / "videos").iterdir())) == 3


def test_the_same_options_give_the_same_set(tmp_path):
    one, two = (generate(tmp_path / name, options=SMALL).parent for name in ("one", "two"))
    files = [path.relative_to(one) for path in one.rglob("*") if path.is_file()]
    assert len(files) == 3 + 7  # videos; tables, boxes, classes, dataset.yaml, stamp
    assert all((one / path).read_bytes() == (two / path).read_bytes() for path in files)


def test_a_thing_is_drawn_where_its_box_is():
    scene = next(scene for scene in SCENES if len(scene.beats[0].things) == 2)
    bare = dataclasses.replace(scene, beats=(dataclasses.replace(scene.beats[0], things=()), *scene.beats[1:]))
    with_things, without = (Renderer(s, rng=np.random.default_rng(0)).frame(0.5).astype(int) for s in (scene, bare))
    changed = np.abs(with_things - without).max(axis=2) > 20
    for thing, row in zip(scene.beats[0].things, object_boxes("v", scene), strict=False):
        x1, y1, x2, y2 = (round(value) for value in thing.box)
        assert row["bbox"] == pytest.approx([thing.box[0], thing.box[1], 2 * thing.radius, 2 * thing.radius], abs=0.1)
        assert changed[y1 + 2 : y2 - 1, x1 + 2 : x2 - 1].mean() > 0.7
        changed[max(0, y1 - 2) : y2 + 3, x1 - 2 : x2 + 3] = False
    assert not changed.any()
