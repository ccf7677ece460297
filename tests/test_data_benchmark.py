"""What benchmarks/data.py compares: the plain form gives the same numbers as ours, decoding alone every frame."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import pytest
import run_kit
import torch
from videos import numbered_frames, write_second_files, write_video

from alphaction.config import load_config
from alphaction.dataset.build import build_datasets, clip_sampling
from alphaction.dataset.collate import collate
from alphaction.dataset.sampling import ClipSampling
from alphaction.dataset.transforms import Augmentation
from alphaction.dataset.video_index import VideoIndex
from alphaction.structures.batch import normalize_clips

BENCHMARKS = pathlib.Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in ("data", "data_stages", "plain_data", "footage"):
        sys.modules.pop(name, None)


@pytest.fixture
def clips(tmp_path):
    """(configuration, training set, test set) of one video in one-second files of 25 frames."""
    write_second_files(tmp_path / "videos" / "park", dict.fromkeys(range(5), 25))
    run_kit.write_csv(tmp_path / "park.csv", [run_kit.Row("park", 2.0, (4, 6, 24, 36), (1,))])
    (tmp_path / "dataset.yaml").write_text(
        "name: park\nvideos: videos\nclasses: [walk, run, wave]\nsplits: {all: {annotations: park.csv}}\n"
    )
    name = f"('{tmp_path / 'dataset.yaml'}:all',)"
    opts = ["DATASETS.TRAIN", name, "DATASETS.TEST", name, "TEST.BOXES", "ground_truth", "INPUT.FRAME_NUM", 64]
    cfg = load_config(run_kit.write_config(tmp_path / "config.yaml"), [*opts, "INPUT.TAU", 16, "INPUT.ALPHA", 8])
    return cfg, build_datasets(cfg, "train")[0], build_datasets(cfg, "test")[0]


@pytest.mark.parametrize("flip, color", [(False, None), (True, (5, 10, -12)), (False, (-7, -20, 25))])
def test_the_original_form_gives_our_numbers(clips, monkeypatch, flip, color):
    from plain_data import PlainPipeline

    cfg, train, test = clips
    dataset = test if color is None else train
    clip = cfg.INPUT
    plain = PlainPipeline(
        64, 1, 16, 8, clip.MIN_SIZE_TEST, clip.MAX_SIZE_TEST, tuple(clip.PIXEL_MEAN), tuple(clip.PIXEL_STD), 16
    )
    files = {s: f"{test.spec['video_root']}/park/{s}.mp4" for s in range(5)}
    drawn = Augmentation() if color is None else Augmentation(color=color, flip=flip)
    monkeypatch.setattr(type(dataset), "_draw", lambda *args, **keys: drawn)
    ours = collate([dataset[0]], size_divisibility=16)
    theirs = plain.collate([plain.sample(files, 2, color=color, flip=flip)])
    mean, std = torch.tensor(clip.PIXEL_MEAN), torch.tensor(clip.PIXEL_STD)
    for name, their in zip(("slow", "fast"), theirs, strict=True):
        assert torch.allclose(normalize_clips(getattr(ours, name), ours.sizes, mean, std), their, atol=1e-5)


def test_decoding_alone_decodes_every_wanted_frame(tmp_path):
    from data_stages import DecodeOnly

    write_second_files(tmp_path / "clips", dict.fromkeys(range(5), 25))
    write_video(tmp_path / "whole.mp4", numbered_frames(125))
    sampling = ClipSampling(frame_num=64, sample_rate=1, tau=16, alpha=8)
    frames = len(np.unique(np.concatenate([sampling.slow_window(), sampling.fast_window()])))
    for files in VideoIndex(tmp_path).find(["clips", "whole"]):
        floor = DecodeOnly(files, sampling)
        assert [floor.decode(2.0), floor.decode(3.0), floor.decode(2.0)] == [frames] * 3


def test_stages_are_timed_and_put_back(clips):
    import cv2
    from data_stages import timed_stages

    cfg, train, _ = clips
    before = cv2.resize
    ticks = iter(range(10**6))
    with timed_stages(lambda: float(next(ticks))) as seconds:
        train[0]
    assert cv2.resize is before
    count = len(np.unique(np.concatenate([clip_sampling(cfg).slow_window(3), clip_sampling(cfg).fast_window()])))
    assert seconds["RGB"] >= count - 4 and seconds["resize"] >= count - 4 and seconds["jitter"] > 0


def test_footage_is_made_once(tmp_path, monkeypatch):
    import footage

    monkeypatch.setattr(footage, "HEIGHT", 72)
    monkeypatch.setattr(footage, "WIDTH", 128)
    dataset = footage.make_footage(tmp_path, movies=1, seconds=5)
    changed = dataset.stat().st_mtime_ns
    assert footage.make_footage(tmp_path, movies=1, seconds=5) == dataset
    assert dataset.stat().st_mtime_ns == changed
    found = VideoIndex(dataset.parent / "movies").find(["m0"])[0]
    assert (found.info.frames, found.info.fps) == (125, 25.0)
    assert sorted(VideoIndex(dataset.parent / "clips").find(["m0"])[0].clips) == list(range(5))
