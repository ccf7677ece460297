"""Sources without an end: nothing lags, nothing grows, and what is not live loses nothing."""

import os
import threading
import time

import numpy as np
import pytest
from prediction_kit import one_person, stand_in
from videos import numbered_frames, read_numbers, write_video

from alphaction import Predictor
from alphaction.errors import VideoError
from alphaction.prediction.frames import stream as streams
from alphaction.prediction.frames.stream import LONGEST_SIDE, Opened, StreamSource, open_camera, open_url
from alphaction.structures import MemorySpan

FPS = 100.0


class FakeCamera:
    """Delivers numbered frames at once until `pause`, then only as many as it is told."""

    def __init__(self, count, *, live=True, size=(48, 96), fail=None):
        self.go = threading.Semaphore(0)
        self.closed = False
        self.released = self.delivered = 0
        self.count = count
        frames = numbered_frames(count, height=size[0], width=size[1])

        def images():
            for number, image in enumerate(frames):
                self.go.acquire()
                self.delivered = number + 1
                yield number / FPS, image
            if fail:
                raise OSError(5, fail)

        self.opened = Opened(images(), fps=FPS, live=live, close=self.close)

    def close(self):
        self.closed = True

    def release(self, count):
        self.released += count
        for _ in range(count):
            self.go.release()

    def deliver(self, count):
        """Waits until so many more, as far as there are any, have been taken."""
        self.release(count)
        until = time.monotonic() + 60
        while self.delivered < min(self.released, self.count):
            assert time.monotonic() < until, self.delivered
            time.sleep(0.001)


def test_a_live_source_keeps_the_newest_frames():
    camera = FakeCamera(60)
    camera.release(60)
    source = StreamSource(camera.opened, name="camera", keep=0.1)
    source._thread.join()
    assert source.size == (48, 96) and source.num_dropped == 50
    frames = list(source.frames(0, np.inf, counted=False))
    assert read_numbers([frame.image for frame in frames]) == list(range(50, 60))
    assert [frame.number for frame in frames] == list(range(50, 60))
    assert frames[0].time == pytest.approx(0.5)
    assert camera.closed
    source.close()


def test_a_pipe_waits_and_loses_nothing():
    camera = FakeCamera(60, live=False)
    camera.release(60)
    source = StreamSource(camera.opened, name="pipe", keep=0.1)
    time.sleep(0.05)
    assert camera.delivered <= 12  # ten wait, one is in the thread's hand
    assert read_numbers([frame.image for frame in source.frames(0, np.inf, counted=False)]) == list(range(60))
    source.close()


def test_a_busy_network_leaves_moments_out_and_takes_the_newest():
    camera = FakeCamera(300)
    camera.release(1)
    source = StreamSource(camera.opened, name="camera", keep=0.5)
    network = stand_in(rate=FPS)
    extract = network.model.extract

    def slow(batch):  # while it computes, 100 frames come: one second
        camera.deliver(100)
        return extract(batch)

    network.model.extract = slow
    camera.release(10)
    with Predictor(network)(source, boxes=one_person(), detect_rate=20.0, keep_frames=True) as run:
        times, shown = [], []
        for moment in run:
            times.append(moment.time)
            shown.append([frame.number for frame in run.frames(moment.time)])
            assert len(run._undrawn) <= 60
    assert len(times) < 12 and run.num_late > 20
    steps = np.diff(times)
    assert steps.max() >= 0.5  # it leapt
    assert sorted(sum(shown, [])) == sum(shown, [])
    assert source.num_dropped > 0


def test_streams_look_at_the_past_only(tmp_path):
    span = MemorySpan(before=2, after=2, rate=1, persons=5)
    seen = []
    for live in (False, True):
        network = stand_in(memory=span, rate=10.0)
        camera = FakeCamera(400, live=False)
        camera.release(400)
        video = StreamSource(camera.opened, name="s", keep=1.0) if live else _file(tmp_path)
        with Predictor(network)(video, boxes=one_person(), detect_rate=1.0) as run:
            moments = [(moment.time, run._classifier._memory._newest) for moment in run]
        seen.append(moments)
    complete, causal = seen
    assert [time for time, _ in causal] == pytest.approx([time for time, _ in complete])
    assert all(newest == time for time, newest in causal)  # nothing later was known
    assert complete[0][1] >= 3.0  # the first moment waited for those after it


def _file(folder):
    return write_video(folder / "v.mp4", numbered_frames(400), fps=100)


def test_what_ends_badly_is_told(caplog):
    with pytest.raises(VideoError, match="camera: cannot be watched .it ended before its first frame"):
        StreamSource(FakeCamera(0).opened, name="camera", keep=1.0)
    with pytest.raises(VideoError, match="camera: cannot be watched .no frame came"):
        StreamSource(FakeCamera(5).opened, name="camera", keep=1.0, patience=0.05)
    camera = FakeCamera(3, fail="the cable is out")
    camera.release(3)
    source = StreamSource(camera.opened, name="camera", keep=1.0)
    assert len(list(source.frames(0, np.inf, counted=False))) == 3
    assert "camera: ends with an error (the cable is out)" in caplog.text
    camera = FakeCamera(3)
    camera.release(1)
    source = StreamSource(camera.opened, name="camera", keep=1.0)
    source._patience = 0.05  # not for the first frame: its thread has to start
    assert len(list(source.frames(0, np.inf, counted=False))) == 1
    assert "no frame for 0.05 s: given up" in caplog.text
    camera.release(9)
    source.close()


def test_cameras_that_are_not_there_are_told(capfd):
    with pytest.raises(VideoError, match="camera -1: expected a number from 0 on"):  # OpenCV 5 crashes
        open_camera(-1)
    with pytest.raises(VideoError, match="camera 977: cannot be opened; is it there"):
        open_camera(977)
    assert capfd.readouterr().err == ""


def test_a_silent_stream_can_be_stopped(caplog):
    camera = FakeCamera(3)
    camera.release(1)
    asked = []

    def should_stop():
        if camera.delivered:  # the first frame may take its time
            asked.append(1)
        return len(asked) > 2

    source = StreamSource(camera.opened, name="camera", keep=1.0, should_stop=should_stop)
    assert len(list(source.frames(0, np.inf, counted=False))) == 1  # not after 15 seconds
    assert len(asked) == 3 and not caplog.text
    camera.release(9)
    source.close()


def test_a_pipe_into_which_nobody_writes_can_be_stopped(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    asked = []
    try:
        with pytest.raises(VideoError, match="pipe: cannot be watched .stopped before anything came"):
            Predictor(stand_in())(pipe, boxes=one_person(), should_stop=lambda: asked.append(1) or len(asked) > 1)
    finally:  # ends the thread that waits in the system
        os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))
    assert len(asked) == 2


def test_time_stamps_that_make_no_sense_are_mended():
    clock = streams._Clock(10.0)
    times = [clock.seconds(stamp, live=True) for stamp in (100.0, 100.1, 50.0, 50.1, 900.0)]
    assert times == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    clock = streams._Clock(10.0)
    assert [clock.seconds(None, live=False) for _ in range(3)] == pytest.approx([0.0, 0.1, 0.2])


def test_a_url_is_read_as_a_stream(tmp_path):
    large = np.zeros((8, 1000, 2000, 3), np.uint8)
    path = write_video(tmp_path / "large.mkv", large, options={"preset": "ultrafast"})
    opened = open_url(str(path))
    assert not opened.live
    source = StreamSource(opened, name="pipe", keep=1.0)
    assert source.size == (640, LONGEST_SIDE)
    assert len(list(source.frames(0, np.inf, counted=False))) == 8
    source.close()
    with pytest.raises(VideoError, match="tcp://127.0.0.1:1: the stream cannot be opened"):
        open_url("tcp://127.0.0.1:1")


def test_passwords_of_addresses_are_not_shown():
    assert streams.without_password("rtsp://me:p@ss:w@camera:554/a@b:c") == "rtsp://me@camera:554/a@b:c"
    for address in ("rtsp://camera:554/x", "rtsp://me@camera/x", "-", "a:b@c.mp4", "https://host/a:b@c"):
        assert streams.without_password(address) == address
    with pytest.raises(VideoError, match="^tcp://me@127.0.0.1:1: the stream"):
        open_url("tcp://me:secret@127.0.0.1:1")
