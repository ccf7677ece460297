"""The labels of a planned scene follow from what is seen in motion, and from nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest

from alphaction.synthetic.planner import (
    ACTIONS,
    APPROACH,
    AWAY,
    BODY,
    CLOSER,
    COMPANY,
    RUN,
    SHRINK,
    SIDEWAYS,
    STAND,
    TOUCH,
    WAVE,
    SceneOptions,
    distance,
    plan_scene,
)

SCENES = [plan_scene(np.random.default_rng([7, number]), SceneOptions()) for number in range(12)]
WINDOW = 0.64  # seconds on each side of a keyframe that a clip of 32 frames shows


def _acts():
    for scene in SCENES:
        for beat in scene.beats:
            for figure, act in enumerate(beat.acts):
                yield scene, beat, figure, act


def test_every_clip_around_a_keyframe_shows_one_act():
    for scene in SCENES:
        for before, beat in zip(scene.beats, scene.beats[1:], strict=False):
            assert before.end == beat.start
        for beat in scene.beats:
            assert beat.start <= beat.keyframe - WINDOW and beat.keyframe + WINDOW <= beat.end


def test_every_class_occurs_and_none_is_the_rule():
    acts = [act for _, _, _, act in _acts()]
    for action in ACTIONS:
        share = sum(action in act.actions for act in acts) / len(acts)
        assert 0.04 < share < 0.55, action
    assert sum(len(act.actions) > 1 for act in acts) > len(acts) / 3


def test_directions_and_speeds_are_what_the_figure_does():
    for _, _, _, act in _acts():
        vx, vy = act.velocity
        directions = act.actions & {STAND, AWAY, CLOSER, SIDEWAYS}
        assert len(directions) == 1
        if act.speed == 0:
            assert directions == {STAND} and not act.actions & {RUN, APPROACH}
        else:
            assert min(abs(vx), abs(vy)) <= math.tan(math.radians(26)) * max(abs(vx), abs(vy))
            expected = SIDEWAYS if abs(vx) > abs(vy) else CLOSER if vy > 0 else AWAY
            assert directions == {expected}
            assert (RUN in act.actions) == (act.speed > 36)
        assert (WAVE in act.actions) == any(arm.rate > 0 for arm in act.arms)


def test_approach_is_what_the_distances_say():
    """The approached figure stands and is nearly touched; nobody else comes as near to anybody during the beat."""
    approaches = 0
    for _scene, beat, figure, act in _acts():
        length = beat.end - beat.start
        reached = []
        for other, other_act in enumerate(beat.acts):
            if other == figure or not act.speed:
                continue
            apart = [distance(act.place(length * k / 20), other_act.place(length * k / 20)) for k in range(21)]
            if TOUCH[0] - 1 <= apart[-1] <= TOUCH[1] + 1 and apart[-1] < SHRINK * apart[0] and other_act.speed == 0:
                reached.append(other)
            elif other_act.speed == 0 or APPROACH not in other_act.actions:
                assert min(apart) > min(COMPANY, SHRINK * apart[0]) - 2
            assert min(apart) > min(BODY, apart[0]) - 2
        assert bool(reached) == (APPROACH in act.actions)
        approaches += bool(reached)
    assert approaches > 20


def test_figures_stay_in_the_picture_and_move_without_jumps():
    for scene in SCENES:
        height, width = scene.size
        for figure in range(len(scene.looks)):
            poses = [scene.pose(figure, frame / 25) for frame in range(round(scene.duration * 25))]
            for pose in poses:
                assert 0 < pose.place[0] < width and 0 < pose.place[1] < height
            for one, two in zip(poses, poses[1:], strict=False):
                assert math.dist(one.place, two.place) < 3
                assert all(abs(a - b) < 1.6 for a, b in zip(one.arms, two.arms, strict=True))


def test_no_single_pose_tells_waving_from_holding_still():
    """Arms that wave and arms that are held, standing and walking legs, have the same spread of angles at keyframes."""
    angles = {True: [], False: []}
    legs = {True: [], False: []}
    for scene, beat, figure, act in _acts():
        pose = scene.pose(figure, beat.keyframe)
        for arm, angle in zip(act.arms, pose.arms, strict=True):
            angles[arm.rate > 0].append(angle)
        legs[act.speed > 0].append(pose.legs)
    for waving, still in ((angles[True], angles[False]), (legs[True], legs[False])):
        quantiles = [np.quantile(values, (0.1, 0.5, 0.9)) for values in (waving, still)]
        assert np.ptp(waving) > 1.3
        np.testing.assert_allclose(*quantiles, atol=0.45)


def test_a_scene_is_a_function_of_the_generator():
    one, two, other = (plan_scene(np.random.default_rng(seed), SceneOptions()) for seed in (3, 3, 4))
    assert one == two and one != other


@pytest.mark.parametrize("count", [1, 3])
def test_number_of_figures(count):
    scene = plan_scene(np.random.default_rng(0), SceneOptions(figures=(count, count), seconds=2))
    assert len(scene.looks) == count and all(len(beat.acts) == count for beat in scene.beats)
    assert scene.duration >= 2


def test_a_scene_without_room():
    with pytest.raises(ValueError, match="no room for 9 figures"):
        plan_scene(np.random.default_rng(0), SceneOptions(height=64, width=80, figures=(9, 9)))
