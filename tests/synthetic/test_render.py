from __future__ import annotations

import numpy as np

from alphaction.synthetic.planner import SceneOptions, plan_scene
from alphaction.synthetic.render import NOISE, Renderer, background, figure_box

OPTIONS = SceneOptions(seconds=3.0)


def test_the_box_holds_the_figure_and_little_else(monkeypatch):
    monkeypatch.setattr("alphaction.synthetic.render.NOISE", 0.0)
    monkeypatch.setattr("alphaction.synthetic.render.FLICKER", 0.0)
    scene = plan_scene(np.random.default_rng(5), SceneOptions(seconds=3.0, figures=(1, 1)))
    renderer = Renderer(scene, rng=np.random.default_rng(0))
    for time in (0.0, 0.8, 1.7, 2.6):
        drawn = np.abs(renderer.frame(time).astype(int) - renderer.ground.round().astype(int)).max(axis=2) > 12
        rows, columns = np.where(drawn)
        box = figure_box(scene.looks[0], scene.pose(0, time), scene.size)
        seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        np.testing.assert_allclose(seen, box, atol=3.0)


def test_frames_are_noisy_pictures_of_the_scenes_size():
    scene = plan_scene(np.random.default_rng(1), OPTIONS)
    frames = list(Renderer(scene, rng=np.random.default_rng(1)).frames(25))
    assert len(frames) == round(scene.duration * 25)
    assert all(frame.shape == (*scene.size, 3) and frame.dtype == np.uint8 for frame in frames)
    difference = frames[0][:10].astype(float) - frames[1][:10]  # where nobody is
    assert 0.5 * NOISE < difference.std() < 4 * NOISE


def test_grounds_differ():
    one, two = (background(np.random.default_rng(seed), (160, 208)) for seed in (0, 1))
    assert np.abs(one - two).mean() > 5
    assert one.std() > 8


def test_figures_move_by_fractions_of_a_pixel(monkeypatch):
    """Otherwise slow walking would be a row of jumps."""
    monkeypatch.setattr("alphaction.synthetic.render.NOISE", 0.0)
    monkeypatch.setattr("alphaction.synthetic.render.FLICKER", 0.0)
    scene = next(
        scene
        for scene in (plan_scene(np.random.default_rng(seed), OPTIONS) for seed in range(50))
        if any(20 <= act.speed <= 30 for act in scene.beats[0].acts)
    )
    renderer = Renderer(scene, rng=np.random.default_rng(0))
    frames = [renderer.frame(0.4 + k / 50).astype(int) for k in range(6)]
    assert all(np.abs(one - two).max() > 0 for one, two in zip(frames, frames[1:], strict=False))
