"""The annotated video: frames and times, sizes, where boxes and labels are, and that it can be played however it ends.

How it looks was judged by eye.
"""

import logging
import os
import signal
import subprocess
import sys
import textwrap

import av
import numpy as np
import pytest

from alphaction.errors import UserError
from alphaction.prediction.annotated import AnnotatedVideo
from alphaction.prediction.records import Moment, PersonRecord

FPS = 10
SIZE = (360, 640)


def person(track, box, scores=(0.9, 0.1)):
    return PersonRecord(track, tuple(map(float, box)), 1.0, np.array(scores, np.float32))


def grey(size=SIZE):
    return np.full((*size, 3), 128, np.uint8)


def open_video(path, size=SIZE, **options):
    settings = {"fps": FPS, "class_names": ["walk", "sit"], "step": 0.5, "threads": 1}
    return AnnotatedVideo(path, size=size, **(settings | options))


def read(path):
    """Times and frames uint8 [T, h, w, 3]."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [float(f.pts * f.time_base) for f in frames], np.stack([f.to_ndarray(format="rgb24") for f in frames])


def codec_of(path):
    with av.open(str(path)) as container:
        return container.streams.video[0].codec_context.name


def is_marked(picture):
    """bool [h, w]: where something was drawn."""
    return (np.abs(picture.astype(int) - 128) > 40).any(axis=-1)


def test_boxes_move_evenly_between_moments(tmp_path):
    with open_video(tmp_path / "v.mp4", hide_time=True) as video:
        video.add_moment(Moment(0.0, SIZE, [person(0, (100, 200, 160, 300), (0, 0))]))
        video.add_moment(Moment(1.0, SIZE, [person(0, (300, 200, 360, 300), (0, 0))]))
        for i in range(11):
            video.add_frame(grey(), time=i / FPS)
    times, frames = read(tmp_path / "v.mp4")
    np.testing.assert_allclose(times, np.arange(11) / FPS, atol=1e-4)
    for i, frame in enumerate(frames):
        columns = np.flatnonzero(is_marked(frame)[250])
        assert abs(columns.min() - (100 + 20 * i)) <= 3
        assert abs(columns.max() - (160 + 20 * i)) <= 3


def test_frames_wait_for_the_next_moment_and_no_longer(tmp_path):
    with open_video(tmp_path / "v.mp4") as video:
        waiting = []
        for i in range(20):
            video.add_frame(grey(), time=i / FPS)
            if i % 5 == 0:
                video.add_moment(Moment(i / FPS, SIZE, []))
            waiting.append(video.num_waiting)
        assert waiting == [0, 1, 2, 3, 4] * 4
    assert video.num_frames == 20
    assert len(read(tmp_path / "v.mp4")[0]) == 20


def test_frames_without_moments_do_not_pile_up(tmp_path, caplog):
    with open_video(tmp_path / "v.mp4", max_waiting=3 * 3 * 360 * 640) as video, caplog.at_level(logging.WARNING):
        for i in range(20):
            video.add_frame(grey(), time=i / FPS)
            assert video.num_waiting <= 3
    assert caplog.text.count("the next moment is too far away") == 1
    assert len(read(tmp_path / "v.mp4")[0]) == 20


def test_a_person_is_there_up_to_the_middle_between_moments(tmp_path):
    box = (100, 200, 160, 300)
    with open_video(tmp_path / "v.mp4", hide_time=True) as video:
        for time, persons in ((0.0, [person(0, box)]), (1.0, []), (2.0, [person(1, box)])):
            video.add_moment(Moment(time, SIZE, persons))
        for i in range(31):
            video.add_frame(grey(), time=i / FPS)
    seen = [bool(is_marked(frame)[250, 90:170].any()) for frame in read(tmp_path / "v.mp4")[1]]
    assert seen[:5] == [True] * 5
    assert seen[7:14] == [False] * 7
    assert seen[16:22] == [True] * 6
    assert seen[24:] == [False] * 7  # the last moment counts as long as moments usually do, 0.5 s


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((360, 640), (360, 640)),
        ((361, 641), (362, 642)),
        ((64, 48), (640, 480)),
        ((1, 2), (320, 640)),
        ((2160, 3840), (1080, 1920)),
        ((3001, 17), (1920, 12)),
    ],
)
def test_sizes(tmp_path, size, expected):
    with open_video(tmp_path / "v.mp4", size=size) as video:
        video.add_frame(grey(size), time=0.0)
        video.add_moment(Moment(0.0, size, [person(0, (0, 0, size[1] - 1, size[0] - 1))]))
        assert video.size == expected
    assert read(tmp_path / "v.mp4")[1].shape[1:3] == expected


def test_boxes_of_enlarged_frames_are_enlarged(tmp_path):
    with open_video(tmp_path / "v.mp4", size=(180, 320), hide_time=True) as video:
        video.add_frame(grey((180, 320)), time=0.0)
        video.add_moment(Moment(0.0, (180, 320), [person(0, (100, 100, 150, 170), (0, 0))]))
    columns = np.flatnonzero(is_marked(read(tmp_path / "v.mp4")[1][0])[300])
    assert abs(columns.min() - 200) <= 3
    assert abs(columns.max() - 300) <= 3


def test_times_of_a_variable_rate_are_kept_and_one_that_goes_back_is_left_out(tmp_path):
    times = [0.0, 0.033, 0.5, 0.52, 2.0]
    with open_video(tmp_path / "v.mp4") as video:
        for time in [*times[:3], 0.4, *times[3:]]:
            video.add_frame(grey(), time=time)
    np.testing.assert_allclose(read(tmp_path / "v.mp4")[0], times, atol=1e-4)


def test_a_part_of_a_video_begins_at_its_first_frame(tmp_path):
    with open_video(tmp_path / "v.mp4") as video:
        for time in (60.0, 60.1, 60.5):
            video.add_frame(grey(), time=time)
    np.testing.assert_allclose(read(tmp_path / "v.mp4")[0], [0.0, 0.1, 0.5], atol=1e-4)


def test_the_frame_given_is_not_changed(tmp_path):
    frame = grey()
    with open_video(tmp_path / "v.mp4") as video:
        video.add_moment(Moment(0.0, SIZE, [person(0, (1, 1, 300, 300))]))
        video.add_frame(frame, time=0.0)
    assert (frame == 128).all()


def test_time_is_shown_unless_hidden(tmp_path):
    corners = []
    for hide in (False, True):
        with open_video(tmp_path / "v.mp4", hide_time=hide) as video:
            video.add_frame(grey(), time=0.0)
        corners.append(bool(is_marked(read(tmp_path / "v.mp4")[1][0])[-20:, :60].any()))
    assert corners == [True, False]


def test_without_frames_there_is_no_file(tmp_path):
    with open_video(tmp_path / "v.mp4") as video:
        video.add_moment(Moment(0.0, SIZE, []))
    assert os.listdir(tmp_path) == []
    video.close()


def test_an_error_within_the_block_leaves_a_whole_file(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_video(tmp_path / "new" / "v.mp4") as video:
        for i in range(7):
            video.add_frame(grey(), time=i / FPS)
        raise KeyboardInterrupt
    assert len(read(tmp_path / "new" / "v.mp4")[0]) == 7
    assert os.listdir(tmp_path / "new") == ["v.mp4"]


def boxes_of(path):
    """Names of the parts of an mp4 file in their order."""
    data, at, names = path.read_bytes(), 0, []
    while at < len(data):
        names.append(data[at + 4 : at + 8].decode("ascii"))
        at += int.from_bytes(data[at : at + 4], "big")
    return names


def test_a_finished_file_has_one_index_at_its_front(tmp_path):
    with open_video(tmp_path / "v.mp4") as video:
        for i in range(60):
            video.add_frame(grey(), time=i / FPS)
    names = boxes_of(tmp_path / "v.mp4")
    assert "moof" not in names
    assert names.index("moov") < names.index("mdat")


def test_a_killed_process_leaves_a_file_that_can_be_played(tmp_path):
    script = f"""
        import os, numpy as np
        from alphaction.prediction.annotated import AnnotatedVideo
        path = {str(tmp_path / "v.mp4")!r}
        video = AnnotatedVideo(path, fps=10, size=(32, 640), class_names=["a"], step=1.0, max_waiting=1, threads=1)
        for i in range(120):
            video.add_frame(np.full((32, 640, 3), 2 * i, np.uint8), time=i / 10)
        os.kill(os.getpid(), {int(signal.SIGKILL)})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    times, frames = read(tmp_path / "v.mp4")
    assert len(times) >= 40  # of 120: the encoder looks 40 ahead, and a piece has 20
    np.testing.assert_allclose(times, np.arange(len(times)) / 10, atol=1e-4)
    np.testing.assert_allclose(frames[:, 5, 300].mean(axis=-1), 2 * np.arange(len(times)), atol=6)


def test_a_missing_encoder_is_replaced_and_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING), open_video(tmp_path / "v.mp4", encoders=("nothing", "mpeg4")) as video:
        for i in range(5):
            video.add_frame(grey(), time=i / FPS)
    assert video.codec == codec_of(tmp_path / "v.mp4") == "mpeg4"
    assert "the encoder nothing is missing, mpeg4 is used; browsers do not play it" in caplog.text
    np.testing.assert_allclose(read(tmp_path / "v.mp4")[0], np.arange(5) / FPS, atol=1e-4)


def test_an_encoder_that_does_not_start_is_passed_over(tmp_path):
    with open_video(tmp_path / "v.mp4", encoders=("gif", "mpeg4")) as video:  # exists, but not with these pixels
        video.add_frame(grey(), time=0.0)
    assert codec_of(tmp_path / "v.mp4") == "mpeg4"


def test_without_any_encoder_nothing_is_left(tmp_path):
    with pytest.raises(UserError, match="has none of the encoders nothing, none; install another one"):
        open_video(tmp_path / "v.mp4", encoders=("nothing", "none"))
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/v.mp4: cannot be written"):
        open_video(tmp_path / "file" / "v.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UserError, match="folder.mp4: cannot be written \\(Is a directory\\)"):
        open_video(tmp_path / "folder.mp4")


def test_h264_is_used_where_it_is(tmp_path):
    with open_video(tmp_path / "v.mp4") as video:
        video.add_frame(grey(), time=0.0)
    assert codec_of(tmp_path / "v.mp4") == ("h264" if video.codec != "mpeg4" else "mpeg4")


def test_a_frame_of_another_size_is_refused(tmp_path):
    with open_video(tmp_path / "v.mp4") as video, pytest.raises(ValueError, match="expected"):
        video.add_frame(grey((64, 64)), time=0.0)


def test_a_full_disk_is_told(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0).integers(0, 255, (64, 640, 3), dtype=np.uint8)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        with (
            pytest.raises(UserError, match="v.mp4: cannot be written \\(File too large\\)"),
            open_video(tmp_path / "v.mp4", size=(64, 640), max_waiting=1) as video,
        ):
            for i in range(100):
                video.add_frame(np.roll(noise, 37 * i), time=i / FPS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only some systems have a disk that is always full")
def test_a_disk_that_is_full_from_the_start_is_told():
    """FFmpeg crashes when it is told to go on with a file whose beginning it could not write."""
    video = open_video("/dev/full")
    video.add_moment(Moment(9.0, SIZE, []))
    with pytest.raises(UserError, match="/dev/full: cannot be written"):
        for i in range(90):
            video.add_frame(grey(), time=i / FPS)
    video.add_frame(grey(), time=9.0)
    video.close()
