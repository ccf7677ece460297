"""Clips cut from a stream of frames are those that testing reads."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from clip_kit import read_one
from videos import numbered_frames, read_numbers, write_video

from alphaction.dataset.sampling import ClipSampling
from alphaction.dataset.transforms import ClipTransform
from alphaction.dataset.video_io import WholeVideo
from alphaction.prediction.frames.source import FileSource, Frame, tick_times
from alphaction.prediction.frames.windows import FrameWindow

IRREGULAR = [Fraction(i, 25) + Fraction(i % 3, 60) + (2 if i > 40 else 0) for i in range(60)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    frames = numbered_frames(60, height=48, width=96)
    return {
        "even": write_video(folder / "even.mp4", frames),
        "irregular": write_video(folder / "irregular.mp4", frames, times=IRREGULAR),
        "late": write_video(folder / "late.mkv", frames, times=[1 + Fraction(i, 30) for i in range(60)]),
        "one frame": write_video(folder / "one.mp4", frames[:1]),
    }


@pytest.mark.parametrize("frame_rate", [25.0, 10.0, 0.0])
@pytest.mark.parametrize("video", ["even", "irregular", "late", "one frame"])
def test_a_clip_is_what_testing_reads(videos, video, frame_rate):
    sampling = ClipSampling(frame_num=8, sample_rate=2, tau=4, alpha=4, frame_rate=frame_rate)
    transform = ClipTransform(min_size=32, max_size=50, to_bgr=frame_rate == 10.0)
    source = FileSource(str(videos[video]))
    window = FrameWindow(sampling, transform, size=source.size, fps=source.fps)
    times = list(tick_times(0.0, source.end, 7.0))
    first, last = window.reach(times[0])[0], window.reach(times[-1])[1]
    frames = source.frames(first, last, counted=window.counted)
    longest = 0
    for time in times:
        while not window.covers(time) and (frame := next(frames, None)) is not None:
            window.add(frame)
        window.forget(time)
        longest = max(longest, len(window))
        expected = read_one(WholeVideo(str(videos[video])), time, sampling, transform=transform)
        ours = window.clip(time)
        assert torch.equal(ours[0], expected.slow) and torch.equal(ours[1], expected.fast), time
    assert longest <= 60 if video == "irregular" else longest <= 16 * 30 / (frame_rate or 25) + 3
    source.close()


def test_a_file_that_cannot_be_sought_is_read_all_the_same(tmp_path):
    video = write_video(tmp_path / "v.ts", numbered_frames(60, height=48, width=96))
    for start, first in ((0.0, 0), (1.6, 40)):
        source = FileSource(str(video), start=start)
        frames = list(source.playback())
        assert [frame.number for frame in frames] == list(range(first, 60))
        assert read_numbers([frame.image for frame in frames]) == list(range(first, 60))
        source.close()


def test_a_part_of_a_file_has_the_frames_around_it(videos):
    source = FileSource(str(videos["even"]), start=1.0, duration=0.5)
    assert (source.start, source.end, source.num_frames) == (1.0, 1.5, 14)
    numbers = [frame.number for frame in source.frames(0.8, 1.7, counted=False)]
    assert numbers == list(range(20, 44))  # 1.7 s lies behind frame 42 by less than a rounding
    assert [frame.number for frame in source.playback()] == list(range(25, 39))
    source.close()


def test_frames_of_another_size_are_resized(caplog):
    sampling = ClipSampling(frame_num=2, sample_rate=1, tau=1, alpha=1)
    window = FrameWindow(sampling, ClipTransform(min_size=16, max_size=64), size=(32, 48), fps=25)
    for number, size in enumerate([(32, 48), (48, 32), (64, 96)]):
        window.add(Frame(number, number / 25, np.zeros((*size, 3), np.uint8)))
    assert window.clip(0.04)[0].shape == (3, 2, 16, 24)


def test_ticks():
    assert list(tick_times(0.5, 1.5, 4.0)) == [0.5, 0.75, 1.0, 1.25, 1.5]
    assert list(tick_times(0.0, 0.0, 4.0)) == [0.0]
    endless = tick_times(0.0, float("inf"), 2.0)
    assert [next(endless) for _ in range(3)] == [0.0, 0.5, 1.0]
