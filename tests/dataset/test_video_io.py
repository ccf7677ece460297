"""Reading clips: every frame that random access gives is the one that decoding from the start gives."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pathlib
import pickle
from fractions import Fraction

import av
import goldens
import numpy as np
import pytest
import videos
from clip_kit import frames_of, read_one

from alphaction.dataset import video_io
from alphaction.dataset.frame_forms import FrameConverter
from alphaction.dataset.frame_index import FrameIndex
from alphaction.dataset.sampling import ClipSampling, key_position
from alphaction.dataset.video_file import VideoFile
from alphaction.dataset.video_io import SecondFiles, VideoCache, WholeVideo, probe, read_clip, read_frame
from alphaction.errors import VideoError

NTSC = Fraction(30000, 1001)


def decoded(path: pathlib.Path) -> list[np.ndarray]:
    """All frames in order, the plain way."""
    with av.open(str(path)) as container:
        return [frame.to_rgb().to_ndarray() for frame in container.decode(video=0)]


def numbers_of(source: WholeVideo | SecondFiles, key_time: float, positions: list[int], **options: float) -> list[int]:
    arguments = {"span": 8, "frame_rate": 25.0, "cache": VideoCache()} | options
    return videos.read_numbers(read_clip(source, key_time, np.array(positions), **arguments))


KINDS = {
    "key_frames_only": {"gop": 1, "b_frames": 0},
    "no_b_frames": {"gop": 10, "b_frames": 0},
    "b_pyramid": {
        "gop": 24,
        "b_frames": 5,
        "options": {"preset": "medium", "x264-params": "b-pyramid=normal:b-adapt=0"},
    },
    "plain_b_frames": {"gop": 24, "b_frames": 3, "options": {"x264-params": "b-pyramid=none:b-adapt=0"}},
    "open_gop": {"gop": 10, "b_frames": 3, "options": {"x264-params": "open-gop=1:b-adapt=0"}},
    "one_key_frame": {"gop": 500, "b_frames": 3},
    "gradual_refresh": {"gop": 20, "b_frames": 0, "options": {"x264-params": "intra-refresh=1"}},
    "interlaced": {"gop": 12, "b_frames": 2, "options": {"x264-params": "interlaced=1:tff=1"}},
    "mpeg4": {"gop": 12, "b_frames": 0, "codec": "mpeg4"},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_random_access_equals_decoding_from_the_start(tmp_path: pathlib.Path, kind: str, suffix: str) -> None:
    path = videos.write_video(tmp_path / f"video{suffix}", 90, 25, **KINDS[kind])
    expected = decoded(path)
    assert len(expected) == 90
    video = VideoFile(str(path))
    rng = np.random.default_rng(0)
    for _ in range(12):
        first = int(rng.integers(0, 80))
        wanted = rng.permutation(np.arange(first, 90)[: int(rng.integers(1, 40)) : int(rng.integers(1, 4))])
        for number, image in zip(wanted, video.read(wanted), strict=True):
            assert np.array_equal(image, expected[number]), f"{kind}: frame {number}"
    video.close()


@pytest.mark.parametrize("suffix", [".ts", ".avi", ".h264", ".mov", ".flv"])
def test_other_containers(tmp_path: pathlib.Path, suffix: str) -> None:
    """Among them some without usable time stamps (raw H.264; AVI with B-frames)."""
    path = videos.write_video(tmp_path / f"video{suffix}", 60, 25)
    expected = decoded(path)
    assert videos.read_numbers(expected) == list(range(60))
    video = VideoFile(str(path))
    assert np.allclose(video.index.times, np.arange(60) / 25, atol=1e-3)
    for wanted in ([31, 33, 35], [59, 0, 12], [58, 59, 70]):
        images = video.read(np.array(wanted))
        assert all(np.array_equal(image, expected[min(n, 59)]) for n, image in zip(wanted, images, strict=True))
    assert (video.index.pts is None) == (suffix in (".avi", ".h264"))


def test_cut_off_raw_stream_repeats_its_last_frame(tmp_path: pathlib.Path) -> None:
    path = videos.write_video(tmp_path / "v.h264", 60, 25)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    video = VideoFile(str(path))
    shown = videos.read_numbers(video.read(np.array([10, 59, 10])))
    assert shown[0] == shown[2] == 10
    assert 10 < shown[1] < 59


def test_a_video_is_warned_of_once(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    path = videos.write_video(tmp_path / "v.h264", 10, 25)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert len(VideoFile(str(path)).index) == 10
    assert caplog.text.count("v.h264: has no usable time stamps") == 1


@pytest.mark.parametrize("fps", [12, 24, 25, NTSC, 30, 50, Fraction(60000, 1001)])
def test_time_is_what_counts(tmp_path: pathlib.Path, fps: Fraction | int) -> None:
    """Any frame rate: the frame shown nearest to each target time; 25 fps: every frame of the window in its turn."""
    count = int(4 * fps)
    source = WholeVideo(str(videos.write_video(tmp_path / "v.mp4", count, fps)))
    got = numbers_of(source, 2.0, list(range(64)), span=64)
    targets = 2.0 + (np.arange(64) - 32) / 25
    expected = [int(np.argmin(np.abs(np.arange(count) / float(fps) - target).round(6))) for target in targets]
    assert got == expected
    if fps == 25:
        assert got == list(range(50 - 32, 50 + 32))


def test_variable_frame_rate(tmp_path: pathlib.Path) -> None:
    steps = [Fraction(1, 10), Fraction(1, 50), Fraction(1, 25), Fraction(1, 5)] * 15
    times = [sum(steps[:i], Fraction(0)) for i in range(60)]
    source = WholeVideo(str(videos.write_video(tmp_path / "v.mp4", 60, 25, times=times)))
    got = numbers_of(source, 2.0, list(range(64)), span=64)
    shown = np.array([float(t) for t in times])
    for number, target in zip(got, 2.0 + (np.arange(64) - 32) / 25, strict=True):
        assert abs(shown[number] - target) <= np.abs(shown - target).min() + 1e-4


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mkv"])
def test_times_count_from_the_first_frame(tmp_path: pathlib.Path, suffix: str) -> None:
    """A late first time stamp and a sound track that begins before it move nothing."""
    times = [Fraction(37, 10) + Fraction(i, 25) for i in range(50)]
    path = videos.write_video(tmp_path / f"v{suffix}", 50, 25, times=times, audio_seconds=6)
    assert numbers_of(WholeVideo(str(path)), 1.0, list(range(8))) == list(range(21, 29))
    assert numbers_of(WholeVideo(str(path)), 0.0, list(range(8))) == [0, 0, 0, 0, 0, 1, 2, 3]


def test_ends_repeat(tmp_path: pathlib.Path) -> None:
    source = WholeVideo(str(videos.write_video(tmp_path / "v.mp4", 20, 25)))
    for frame_rate in (25.0, 0.0):
        assert numbers_of(source, 0.0, list(range(8)), frame_rate=frame_rate) == [0, 0, 0, 0, 0, 1, 2, 3]
        assert numbers_of(source, 0.76, list(range(8)), frame_rate=frame_rate) == [15, 16, 17, 18] + [19] * 4


def test_one_frame(tmp_path: pathlib.Path) -> None:
    path = videos.write_video(tmp_path / "v.mp4", 1, 25)
    assert numbers_of(WholeVideo(str(path)), 0.0, [0, 4, 7]) == [0, 0, 0]
    info = probe(path)
    assert (info.frames, info.width, info.height) == (1, 96, 48)
    assert info.duration == pytest.approx(0.04, abs=0.01)


def test_whole_file_by_index(tmp_path: pathlib.Path) -> None:
    source = WholeVideo(str(videos.write_video(tmp_path / "v.mp4", 90, NTSC)))
    assert numbers_of(source, 1.0, list(range(8)), frame_rate=0) == list(range(26, 34))
    assert numbers_of(source, 2.0, list(range(8)), frame_rate=0) == list(range(56, 64))


def test_only_used_frames_are_decoded_and_converted(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = videos.write_video(tmp_path / "v.mp4", 250, 25, gop=25, b_frames=3)
    video = VideoFile(str(path))
    converted, decoded_frames = [], []
    to_rgb, frames = FrameConverter.rgb, VideoFile._frames

    def count_converted(self: FrameConverter, frame: av.VideoFrame) -> np.ndarray:
        converted.append(frame.pts)
        return to_rgb(self, frame)

    def count_decoded(self: VideoFile, *args: object, **options: object):
        for frame in frames(self, *args, **options):
            decoded_frames.append(frame.pts)
            yield frame

    monkeypatch.setattr(FrameConverter, "rgb", count_converted)
    monkeypatch.setattr(VideoFile, "_frames", count_decoded)
    images = video.read(np.array([203, 211, 203, 207, 211]))
    assert videos.read_numbers(images) == [203, 211, 203, 207, 211]
    assert len(converted) == 3
    assert len(decoded_frames) <= 9  # from the key frame 200 on, and not those that nothing needs


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".h264"])
def test_a_walk_gives_the_same_frames_as_random_access(tmp_path: pathlib.Path, suffix: str) -> None:
    video = VideoFile(str(videos.write_video(tmp_path / f"v{suffix}", 40, 25)))
    wanted = np.array([13, 14, 20, 39])
    numbers, images = zip(*video.walk(wanted), strict=True)
    assert list(numbers) == wanted.tolist() == videos.read_numbers(images)
    assert all(map(np.array_equal, images, video.read(wanted)))
    video.close()


def test_decoder_threads_change_nothing(tmp_path: pathlib.Path) -> None:
    path = videos.write_video(tmp_path / "v.mp4", 60, 25)
    one = read_clip(WholeVideo(str(path)), 1.2, np.arange(32), span=32, frame_rate=25, threads=1)
    two = read_clip(WholeVideo(str(path)), 1.2, np.arange(32), span=32, frame_rate=25, threads=2)
    assert np.array_equal(one, two)


# -- one-second files --------------------------------------------------------------------------------------------------


def shown_by(
    source: WholeVideo | SecondFiles, key_time: float, sampling: ClipSampling, **options: int
) -> list[list[int] | None]:
    """Numbers of the frames of (slow, fast) as training reads them."""
    clip = read_one(source, key_time, sampling, **options)
    return [None if one is None else videos.read_numbers(frames_of(one)) for one in (clip.slow, clip.fast)]


SELECTIONS = {
    name: case for name, case in goldens.load("frame_selection")["cases"].items() if case["frame_num"] in (64, 33)
}


@pytest.fixture(scope="module")
def second_folders(tmp_path_factory: pytest.TempPathFactory):
    """Folders of one-second files as the recorded cases describe them, made once each."""
    made: dict[str, tuple[SecondFiles, list[tuple[int, int]]]] = {}

    def make(case: dict) -> tuple[SecondFiles, list[tuple[int, int]]]:
        key = repr((case["default_frames_per_second"], case["frames_in_second"]))
        if key not in made:
            default, own = case["default_frames_per_second"], case["frames_in_second"]
            second = case["timestamp"]
            counts = {s: own.get(str(s), default) for s in range(second - 4, second + 4)}
            folder = tmp_path_factory.mktemp("seconds")
            filled = {s: count for s, count in counts.items() if count}
            fps = default if default > 10 else 25
            files = videos.write_second_files(folder, filled, fps=fps)
            for s, count in counts.items():
                if count == 0:
                    files[s] = f"{s}.mp4"
                    (folder / files[s]).write_bytes(b"")
            order = [(s, frame) for s, count in sorted(filled.items()) for frame in range(count)]
            made[key] = SecondFiles(str(folder), files), order
        return made[key]

    return make


@pytest.mark.parametrize("name", [name for name in SELECTIONS if name.startswith(("64x1_tau16", "33x1"))])
def test_recorded_selection_from_real_files(name: str, second_folders) -> None:
    """INPUT.FRAME_RATE 0 on real one-second files, all situations of the kit."""
    case = SELECTIONS[name]
    source, order = second_folders(case)
    sampling = ClipSampling(case["frame_num"], case["sample_rate"], case["tau"], case["alpha"], frame_rate=0)
    empty = [s for s, count in case["frames_in_second"].items() if count == 0]
    if empty:
        with pytest.raises(VideoError, match=rf"{empty[0]}\.mp4: the video is empty \(0 bytes\)"):
            read_one(source, case["timestamp"], sampling)
        return
    slow, fast = shown_by(source, case["timestamp"], sampling)
    shown = [[list(order[n]) for n in numbers] for numbers in (slow, fast)]
    if "error" in case:
        assert [len(frames) for frames in shown] == [len(sampling.slow_window()), len(sampling.fast_window())]
        assert all(frames == sorted(frames) for frames in shown)
    else:
        assert shown == [case["slow"], case["fast"]]


def test_one_second_files_by_time_at_25_fps_are_the_recorded_frames(second_folders) -> None:
    case = next(case for name, case in SELECTIONS.items() if name.endswith("/fps25"))
    source, order = second_folders(case)
    sampling = ClipSampling(case["frame_num"], case["sample_rate"], case["tau"], case["alpha"])
    slow, fast = shown_by(source, case["timestamp"], sampling)
    assert [list(order[n]) for n in slow] == case["slow"]
    assert [list(order[n]) for n in fast] == case["fast"]


def test_one_second_files_and_the_whole_video_give_the_same_times(tmp_path: pathlib.Path) -> None:
    source = SecondFiles(str(tmp_path), videos.write_second_files(tmp_path, dict.fromkeys(range(10, 16), 30), fps=30))
    got = numbers_of(source, 12.5, list(range(64)), span=64)
    targets = 2.5 + (np.arange(64) - 32) / 25
    assert got == [int(np.argmin(np.abs(np.arange(180) / 30 - t).round(6))) for t in targets]


def test_frames_beyond_their_second_belong_to_the_next_file(tmp_path: pathlib.Path) -> None:
    """A second cut with a few frames too many: the next file's own frames are used in their place."""
    source = SecondFiles(str(tmp_path), videos.write_second_files(tmp_path, {4: 28, 5: 25}))
    assert numbers_of(source, 5.0, list(range(8))) == [21, 22, 23, 24, 28, 29, 30, 31]


def test_the_last_second_of_a_movie_may_be_long(tmp_path: pathlib.Path) -> None:
    source = SecondFiles(str(tmp_path), videos.write_second_files(tmp_path, {4: 25, 5: 28}))
    assert numbers_of(source, 5.96, list(range(8))) == [45, 46, 47, 48, 49, 50, 51, 52]


def test_missing_seconds_repeat_the_nearest_frames(tmp_path: pathlib.Path) -> None:
    source = SecondFiles(str(tmp_path), videos.write_second_files(tmp_path, {4: 25, 6: 25}))
    assert numbers_of(source, 4.0, list(range(8))) == [0, 0, 0, 0, 0, 1, 2, 3]
    assert numbers_of(source, 6.0, list(range(8))) == [25, 25, 25, 25, 25, 26, 27, 28]
    with pytest.raises(VideoError, match=r"has no file for second 5, the keyframe at 5 s"):
        numbers_of(source, 5.0, [0])


# -- bad files ---------------------------------------------------------------------------------------------------------


def test_bad_files_are_named(tmp_path: pathlib.Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    text = tmp_path / "text.mp4"
    text.write_text("not a video\n" * 50)
    sound = videos.write_sound(tmp_path / "sound.m4a")
    cut = videos.write_video(tmp_path / "cut.mp4", 30)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])  # its table of contents stood at the end
    for path, message in (
        (tmp_path / "missing.mp4", "missing.mp4: cannot read the video: No such file"),
        (empty, r"empty.mp4: the video is empty \(0 bytes\)"),
        (text, r"text.mp4: not a video that can be read \("),
        (sound, "sound.m4a: has no video track"),
        (cut, "cut.mp4: not a video that can be read"),
        (tmp_path, "got a folder, expected a video file"),
    ):
        for read in (probe, lambda path: numbers_of(WholeVideo(str(path)), 0.0, [0])):
            with pytest.raises(VideoError, match=message):
                read(path)


def truncated(tmp_path: pathlib.Path, share: float) -> pathlib.Path:
    """A video whose last part was never copied, its header complete."""
    path = videos.write_video(tmp_path / "v.mp4", 100, container_options={"movflags": "faststart"}, gop=10)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def test_cut_off_file_gives_what_is_there(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    path = truncated(tmp_path, 0.8)
    video = VideoFile(str(path))
    assert 50 < len(video.index) < 100
    with caplog.at_level(logging.WARNING):
        images = video.read(np.array([20, 40, len(video.index) - 1, 99]))
    shown = videos.read_numbers(images)
    assert shown[:2] == [20, 40]
    assert 50 < shown[2] < 100
    assert shown[3] == shown[2]
    with pytest.raises(VideoError, match=r"v.mp4: got a keyframe at 3.9 s, but the video runs from 0 to [12]\.\d\d s"):
        numbers_of(WholeVideo(str(truncated(tmp_path, 0.6))), 3.9, [0])


def spoil(path: pathlib.Path, first: int, last: int) -> None:
    """Overwrites the packets of frames first..last (in the file's order)."""
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for position, size in places[first : last + 1]:
        data[position : position + size] = b"\xff" * size
    path.write_bytes(bytes(data))


def test_undecodable_frames_in_the_midst(tmp_path: pathlib.Path) -> None:
    path = videos.write_video(tmp_path / "v.mp4", 60, gop=10, b_frames=0)
    expected = decoded(path)
    spoil(path, 20, 29)
    video = VideoFile(str(path))
    assert np.array_equal(video.read(np.array([19]))[0], expected[19])
    assert np.array_equal(video.read(np.array([30]))[0], expected[30])
    with pytest.raises(VideoError, match=r"v.mp4: the frame at (0.8|0.9|1.0|1.1)\d* s cannot be decoded"):
        video.read(np.arange(20, 30))


def test_undecodable_end_repeats_the_last_frame(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    path = videos.write_video(tmp_path / "v.mp4", 60, gop=10, b_frames=0)
    spoil(path, 50, 59)
    with caplog.at_level(logging.WARNING):
        got = numbers_of(WholeVideo(str(path)), 2.0, list(range(8)))
    assert got == [46, 47, 48, 49, 49, 49, 49, 49]
    assert "v.mp4" in caplog.text


def test_undecodable_from_the_first_frame(tmp_path: pathlib.Path) -> None:
    path = videos.write_video(tmp_path / "v.mp4", 10, gop=10, b_frames=0)
    spoil(path, 0, 9)
    with pytest.raises(VideoError, match="v.mp4: its first frame cannot be decoded; the file is damaged"):
        probe(path)
    with pytest.raises(VideoError, match="v.mp4: the frame at 0.000 s cannot be decoded"):
        numbers_of(WholeVideo(str(path)), 0.0, [0])


def test_keyframe_outside_the_video(tmp_path: pathlib.Path) -> None:
    source = WholeVideo(str(videos.write_video(tmp_path / "v.mp4", 50, 25)))
    assert numbers_of(source, 2.5, [4]) == [49]
    with pytest.raises(VideoError, match=r"v.mp4: got a keyframe at 22 s, but the video runs from 0 to 2.00 s"):
        numbers_of(source, 22.0, [4])
    with pytest.raises(VideoError, match="got a keyframe at -3 s"):
        numbers_of(source, -3.0, [4])


def test_one_second_files_of_different_sizes(tmp_path: pathlib.Path) -> None:
    files = videos.write_second_files(tmp_path, {1: 25, 2: 25})
    videos.write_video(tmp_path / files[2], videos.numbered_frames(25, height=64, width=96))
    with pytest.raises(VideoError, match=r"differ in size \(96 x 48, 96 x 64\)"):
        numbers_of(SecondFiles(str(tmp_path), files), 2.0, list(range(8)))


# -- probe -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi", ".h264", ".mov"])
@pytest.mark.parametrize("fps", [25, NTSC])
def test_probe(tmp_path: pathlib.Path, suffix: str, fps: Fraction | int) -> None:
    if suffix == ".h264" and fps != 25:
        pytest.skip("a raw stream holds no frame rate; FFmpeg takes 25")
    path = videos.write_video(tmp_path / f"v{suffix}", 60, fps, audio_seconds=5 if suffix in (".mp4", ".mkv") else 0)
    info = probe(str(path))
    assert (info.width, info.height, info.frames) == (96, 48, 60)
    assert info.fps == pytest.approx(float(fps), rel=1e-3)
    assert info.duration == pytest.approx(60 / float(fps), abs=0.05)


def test_names_that_look_like_something_else(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = videos.write_video(tmp_path / "v.mp4", 10)
    for name in ("a:b.mp4", "http:x.mp4", "100%d.mp4", "ä ö.mp4"):
        os.link(made, tmp_path / name)
        assert probe(tmp_path / name).frames == 10
    monkeypatch.chdir(tmp_path)
    assert probe("a:b.mp4").frames == 10


def test_a_phones_rotation_is_applied(tmp_path: pathlib.Path) -> None:
    upright = videos.numbered_frames(5, height=96, width=64)
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "5"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV cannot write a rotation mark")
        stream.set_display_rotation(90)
        for image in upright:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(image, -1)), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    info = probe(path)
    assert (info.height, info.width) == (96, 64)
    assert videos.read_numbers(VideoFile(str(path)).read(np.arange(5))) == list(range(5))


def test_cover_picture_is_not_a_video(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "music.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 48, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic.value
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), dtype=np.uint8), format="rgb24")
        container.mux(cover.encode(frame))
        container.mux(cover.encode())
        videos._mux_silence(container, sound, 0.5)
    with pytest.raises(VideoError, match=r"music.mp4: has no video track"):
        probe(path)


# -- cache -------------------------------------------------------------------------------------------------------------


def test_cache_is_bounded_and_closes_files(tmp_path: pathlib.Path) -> None:
    paths = [str(videos.write_video(tmp_path / f"{i}.mp4", videos.numbered_frames(5, first=i * 10))) for i in range(5)]
    cache = VideoCache(open_files=2, kept_indices=3)

    def open_here() -> int:
        links = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        return sum(link.startswith(str(tmp_path)) for link in links)

    for _ in range(2):
        for i, path in enumerate(paths):
            assert numbers_of(WholeVideo(path), 0.0, [4], cache=cache) == [i * 10]
            assert len(cache) <= 2
            assert open_here() <= 2
    assert len(cache._indices) <= 3
    cache.close()
    assert len(cache) == open_here() == 0


def test_known_videos_are_not_scanned_again(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(videos.write_video(tmp_path / f"{i}.mp4", 5)) for i in range(3)]
    scans = []
    scan = VideoFile._scan

    def counting(self: VideoFile) -> FrameIndex:
        scans.append(self.path)
        return scan(self)

    monkeypatch.setattr(VideoFile, "_scan", counting)
    cache = VideoCache(open_files=1)
    for path in paths * 3:
        numbers_of(WholeVideo(path), 0.1, [4], cache=cache)
    assert sorted(scans) == sorted(paths)


def test_a_replaced_file_is_read_anew(tmp_path: pathlib.Path) -> None:
    cache = VideoCache()
    path = videos.write_video(tmp_path / "v.mp4", 10)
    assert numbers_of(WholeVideo(str(path)), 0.0, [4], cache=cache) == [0]
    path.unlink()
    videos.write_video(path, videos.numbered_frames(12, first=50))
    assert numbers_of(WholeVideo(str(path)), 0.0, [4], cache=cache) == [50]
    path.unlink()
    with pytest.raises(VideoError, match="No such file"):
        numbers_of(WholeVideo(str(path)), 0.0, [4], cache=cache)


def _read_in_child(cache: VideoCache, path: str, key_time: float, out: multiprocessing.Queue) -> None:
    out.put([numbers_of(WholeVideo(path), key_time, list(range(8)), cache=cache) for _ in range(20)])


def test_forked_workers_do_not_share_open_files(tmp_path: pathlib.Path) -> None:
    path = str(videos.write_video(tmp_path / "v.mp4", 100, 25, gop=10))
    cache = VideoCache()
    numbers_of(WholeVideo(path), 2.0, [4], cache=cache)
    context = multiprocessing.get_context("fork")
    out = context.Queue()
    children = [context.Process(target=_read_in_child, args=(cache, path, 2.0, out)) for _ in range(2)]
    for child in children:
        child.start()
    mine = [numbers_of(WholeVideo(path), 2.0, list(range(8)), cache=cache) for _ in range(20)]
    results = [out.get(timeout=60) for _ in children] + [mine]
    for child in children:
        child.join(timeout=60)
    assert results == [[list(range(46, 54))] * 20] * 3


def test_cache_travels_without_its_files(tmp_path: pathlib.Path) -> None:
    path = str(videos.write_video(tmp_path / "v.mp4", 5))
    cache = VideoCache(open_files=3)
    cache.get(path)
    copy = pickle.loads(pickle.dumps(cache))
    assert len(copy) == 0
    assert numbers_of(WholeVideo(path), 0.0, [4], cache=copy) == [0]


# -- small things ------------------------------------------------------------------------------------------------------


def test_pathways_and_keyframe(tmp_path: pathlib.Path) -> None:
    source = WholeVideo(str(videos.write_video(tmp_path / "v.mp4", 100, 25)))
    cache = VideoCache()
    sampling = ClipSampling(frame_num=64, sample_rate=1, tau=16, alpha=8)
    slow, fast = shown_by(source, 2.0, sampling, slow_shift=8)
    assert slow == [18 + p for p in (15, 31, 47, 63)]
    assert fast == [18 + p for p in range(0, 64, 2)]
    fast_only = ClipSampling(frame_num=64, sample_rate=1, tau=16, alpha=8, slow=False)
    nothing, again = shown_by(source, 2.0, fast_only)
    assert nothing is None
    assert again == fast
    for frame_rate in (25.0, 0.0):
        assert videos.read_number(read_frame(source, 2.0, frame_rate=frame_rate, cache=cache)) == 50
        whole = read_clip(source, 2.0, np.arange(64), span=64, frame_rate=frame_rate, cache=cache)
        assert videos.read_number(whole[key_position(64)]) == 50


def test_keyframe_of_one_second_files(tmp_path: pathlib.Path) -> None:
    source = SecondFiles(str(tmp_path), videos.write_second_files(tmp_path, {3: 25, 4: 25}))
    for frame_rate in (25.0, 0.0):
        assert videos.read_number(read_frame(source, 4.0, frame_rate=frame_rate)) == 25
        assert videos.read_number(read_frame(source, 3.2, frame_rate=frame_rate)) == 5


def test_wrong_arguments(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="positions: got none"):
        read_clip(WholeVideo("x"), 0.0, np.zeros(0), span=8, frame_rate=25)
    with pytest.raises(ValueError, match="expected at least 1"):
        VideoCache(open_files=0)
    assert video_io.shared_cache(1) is video_io.shared_cache(1)
