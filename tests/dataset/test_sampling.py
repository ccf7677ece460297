"""Which frames make a clip: all recorded cases, and times of any frame rate."""

from __future__ import annotations

import goldens
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphaction.dataset.sampling import (
    ClipSampling,
    fast_positions,
    frame_times,
    index_frames,
    key_position,
    nearest_frames,
    second_file_frames,
    slow_positions,
    slow_shift_range,
    window_indices,
)

CASES = goldens.load("frame_selection")["cases"]


def sampling_of(case: dict, frame_rate: float = 0.0) -> ClipSampling:
    return ClipSampling(
        frame_num=case["frame_num"],
        sample_rate=case["sample_rate"],
        tau=case["tau"],
        alpha=case["alpha"],
        frame_rate=frame_rate,
    )


def frames_in_second(case: dict):
    return lambda second: case["frames_in_second"].get(str(second), case["default_frames_per_second"])


@pytest.mark.parametrize("name", CASES)
def test_recorded_selection_by_index(name: str) -> None:
    case = CASES[name]
    sampling = sampling_of(case)
    count = frames_in_second(case)

    def select(positions: np.ndarray) -> list[list[int]]:
        key = case["timestamp"]
        return second_file_frames(key, positions, span=sampling.span, num_frames=count).tolist()

    sampled = window_indices(sampling.frame_num, sampling.sample_rate)
    if "error" not in case:
        assert select(sampled) == case["sampled"]
        assert select(sampling.slow_window()) == case["slow"]
        assert select(sampling.fast_window()) == case["fast"]
    elif count(case["timestamp"]) == 0:  # an empty keyframe file; `read_clip` names it (test_video_io)
        with pytest.raises(ValueError, match=f"second {case['timestamp']}: got 0 frames"):
            select(sampled)
    else:  # the original stopped at a missing neighbour; ours repeats the outermost frame
        chosen = select(np.arange(sampling.span))
        assert len(chosen) == sampling.span
        assert chosen == sorted(chosen)
        assert chosen[key_position(sampling.span)] == [case["timestamp"], 0]
        missing = {int(second) for second, frames in case["frames_in_second"].items() if frames is None}
        assert missing.isdisjoint(second for second, _ in chosen)
        assert chosen[0] == chosen[1] or chosen[-1] == chosen[-2]


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("/fps25")])
def test_25_frames_per_second_by_time_are_the_recorded_ones(name: str) -> None:
    """By time, a 25 fps video (or 25 fps one-second files) gives exactly the frames the original read by index."""
    case = CASES[name]
    sampling = sampling_of(case, frame_rate=25.0)
    key = case["timestamp"]
    times = np.arange(2 * key * 25) / 25
    for positions, expected in ((sampling.slow_window(), case["slow"]), (sampling.fast_window(), case["fast"])):
        targets = frame_times(key, positions, span=sampling.span, frame_rate=sampling.frame_rate)
        chosen = nearest_frames(times, targets)
        assert [list(divmod(int(frame), 25)) for frame in chosen] == expected


@pytest.mark.parametrize("fps", [10, 23.976, 24, 25, 29.97, 30, 50, 59.94, 120])
def test_any_frame_rate_covers_the_same_time(fps: float) -> None:
    sampling = ClipSampling(frame_num=64, sample_rate=1, tau=16, alpha=8)
    times = np.arange(int(60 * fps)) / fps
    targets = frame_times(30.0, np.arange(64), span=64, frame_rate=25.0)
    chosen = times[nearest_frames(times, targets)]
    assert np.abs(chosen - targets).max() <= 0.5 / fps + 1e-6
    assert abs(chosen[key_position(sampling.span)] - 30.0) <= 0.5 / fps + 1e-6


def test_nearest_frame_ties_and_ends() -> None:
    times = np.array([0.0, 0.04, 0.08, 0.12])
    targets = np.array([-5.0, 0.0, 0.0199, 0.02, 0.0201, 0.1, 0.12, 99.0])
    assert nearest_frames(times, targets).tolist() == [0, 0, 0, 0, 1, 2, 3, 3]
    assert nearest_frames(np.array([3.0]), targets).tolist() == [0] * len(targets)
    assert nearest_frames(np.array([0.0, 1.0, 1.0, 2.0]), np.array([0.9, 1.1])).tolist() == [1, 1]
    with pytest.raises(ValueError, match="at least one frame"):
        nearest_frames(np.zeros(0), targets)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.001, 0.5), min_size=1, max_size=40), st.lists(st.floats(-3, 25), min_size=1, max_size=20))
def test_nearest_frame_of_variable_frame_rate(steps: list[float], targets: list[float]) -> None:
    times = np.cumsum(steps)
    chosen = nearest_frames(times, np.array(targets))
    for target, frame in zip(targets, chosen, strict=True):
        assert abs(times[frame] - target) <= np.abs(times - target).min() + 1e-6


def test_whole_file_by_index() -> None:
    positions = np.arange(8)
    assert index_frames(2.0, positions, span=8, fps=30.0, num_frames=600).tolist() == list(range(56, 64))
    assert index_frames(0.0, positions, span=8, fps=30.0, num_frames=600).tolist() == [0, 0, 0, 0, 0, 1, 2, 3]
    assert index_frames(2.0, positions, span=8, fps=30.0, num_frames=60).tolist() == [56, 57, 58, 59, 59, 59, 59, 59]
    assert index_frames(1.0, positions, span=8, fps=29.97, num_frames=1).tolist() == [0] * 8


def test_fraction_of_a_second_in_one_second_files() -> None:
    chosen = second_file_frames(10.5, np.arange(4), span=4, num_frames=lambda second: 10)
    assert chosen.tolist() == [[10, 3], [10, 4], [10, 5], [10, 6]]


def test_only_the_seconds_that_are_needed_are_asked_for() -> None:
    asked = []

    def count(second: int) -> int:
        asked.append(second)
        return 25

    second_file_frames(900, np.arange(64), span=64, num_frames=count)
    assert sorted(set(asked)) == [898, 899, 900, 901]


def test_one_lone_second() -> None:
    chosen = second_file_frames(5, np.arange(6), span=6, num_frames=lambda second: 2 if second == 5 else None)
    assert chosen.tolist() == [[5, 0], [5, 0], [5, 0], [5, 0], [5, 1], [5, 1]]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 80), st.sampled_from([1, 2, 4, 8, 16]), st.data())
def test_slow_frames_keep_their_number_when_shifted(frame_num: int, tau: int, data: st.DataObject) -> None:
    low, high = slow_shift_range(tau)
    shift = data.draw(st.integers(low, high))
    still, moved = slow_positions(frame_num, tau), slow_positions(frame_num, tau, shift)
    assert len(still) == len(moved)
    assert ((moved >= 0) & (moved < frame_num)).all()
    if frame_num % tau == 0:
        assert np.array_equal(moved, still + shift)
        assert moved[0] == (tau - 1) // 2 + shift


def test_slow_shift_reaches_every_first_frame() -> None:
    low, high = slow_shift_range(16)
    assert [int(slow_positions(64, 16, shift)[0]) for shift in range(low, high + 1)] == list(range(16))


def test_single_pathways_read_only_their_frames() -> None:
    slow_only = ClipSampling(frame_num=64, sample_rate=1, tau=16, alpha=8, fast=False)
    assert len(slow_only.fast_window()) == 0
    assert len(slow_only.slow_window()) == 4
    assert len(ClipSampling(frame_num=64, sample_rate=1, tau=16, alpha=3, fast=False).slow_window()) == 4
    fast_only = ClipSampling(frame_num=64, sample_rate=1, tau=16, alpha=8, slow=False)
    assert len(fast_only.slow_window()) == 0
    assert len(fast_only.fast_window()) == 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame_num": 0}, "frame_num: got 0, expected at least 1"),
        ({"alpha": 3}, "alpha: got 3, expected a divisor of tau = 16"),
        ({"frame_num": 4}, "tau: got 16, no slow frame among frame_num = 4 sampled frames"),
        ({"frame_rate": -1.0}, "frame_rate: got -1.0, expected a number >= 0"),
        ({"frame_rate": float("nan")}, "frame_rate: got nan"),
        ({"slow": False, "fast": False}, "both pathways are off"),
    ],
)
def test_impossible_samplings_are_refused(change: dict, message: str) -> None:
    arguments = {"frame_num": 64, "sample_rate": 1, "tau": 16, "alpha": 8} | change
    with pytest.raises(ValueError, match=message):
        ClipSampling(**arguments)


def test_stride_and_rate_errors() -> None:
    with pytest.raises(ValueError, match="expected a divisor of tau = 4"):
        fast_positions(32, 4, 8)
    with pytest.raises(ValueError, match="frame_rate: got 0"):
        frame_times(1.0, np.arange(3), span=3, frame_rate=0)
    with pytest.raises(ValueError, match="num_frames: got 0"):
        index_frames(1.0, np.arange(3), span=3, fps=25, num_frames=0)


def test_slow_frames_of_other_projects():
    assert slow_positions(32, 4, which="middle").tolist() == [1, 5, 9, 13, 17, 21, 25, 29]
    assert slow_positions(32, 4, which="first").tolist() == [0, 4, 8, 12, 16, 20, 24, 28]
    assert slow_positions(32, 4, which="spread").tolist() == [0, 4, 8, 13, 17, 22, 26, 31]
    assert slow_positions(32, 8, which="spread").tolist() == [0, 10, 20, 31]
    sampling = ClipSampling(frame_num=32, sample_rate=2, tau=8, alpha=8, slow_frames="spread")
    assert sampling.slow_window().tolist() == [0, 20, 40, 62]
