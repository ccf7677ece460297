"""predict.py: what it writes, and how it ends on bad input: one message, status 1, no traceback."""

import importlib.util
import json
import os
import signal
import sys
from fractions import Fraction

import av
import numpy as np
import process_kit
import pytest
import run_kit
from prediction_kit import save_network
from run_kit import ROOT
from videos import numbered_frames, write_sound, write_video

from alphaction import Predictor
from alphaction.engine.script import run_script
from alphaction.errors import ConfigError, UserError, VideoError
from alphaction.prediction.jsonl import read_detections

BOXES = "".join(f"{i / 10:.1f},4,6,27,41,0.9\n{i / 10:.1f},36,3,55,32,0.8\n" for i in range(100))


def _script(name):
    spec = importlib.util.spec_from_file_location(name.replace("/", "_").removesuffix(".py"), ROOT / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A checkpoint, a file of boxes and a good video."""
    folder = tmp_path_factory.mktemp("predict")
    config = run_kit.write_config(folder / "tiny.yaml")
    save_network(folder, config)
    (folder / "boxes.csv").write_text(BOXES)
    write_video(folder / "good.mp4", numbered_frames(40, height=48, width=64))
    return folder


def predict(place, video, *flags, boxes="boxes.csv", output=None, script="predict.py"):
    """Runs the script in this process; the folder of the results."""
    output = place / "out" if output is None else output
    arguments = ["--weights", place / "model_final.pth", "--video", video, "--output", output, "--boxes", place / boxes]
    return _run(script, [*arguments, *flags])


def _run(name, arguments):
    script = _script(name)
    before = sys.argv
    sys.argv = [name, *map(str, arguments)]
    try:
        args = script.parse_args()
    finally:
        sys.argv = before
    with run_kit.own_state():
        (script.predict if name == "predict.py" else script.demo)(args)


def refused(capsys, *args, **kwargs):
    """The one message that the script ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run_script(lambda: predict(*args, **kwargs))
    assert end.value.code == 1
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in err, err
    return lines[0].removeprefix("error: ")


def frames_of(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_results(place, tmp_path, capsys):
    predict(
        place, place / "good.mp4", "--detect-rate", "5", "--event-high", "0.2", "--event-low", "0.1", output=tmp_path
    )
    header, moments = read_detections(tmp_path / "detections.jsonl")
    assert (header.size, header.fps, header.classes) == ((48, 64), 25.0, ("walk", "run", "wave"))
    assert header.details["boxes"] == str(place / "boxes.csv")
    assert [moment.time for moment in moments] == pytest.approx(np.arange(8) / 5)
    assert [len(moment.persons) for moment in moments] == [2] * 8
    assert {person.track for moment in moments for person in moment.persons} == {0, 1}
    assert (tmp_path / "events.csv").read_text().startswith("person,action,start,end,mean_score\n")
    assert len(frames_of(tmp_path / "annotated.mp4")) == 40
    told = capsys.readouterr().out
    assert "64 x 48, 25 frames per second" in told and "2 persons in 16 boxes" in told
    for stage in ("decode", "persons", "network", "draw and encode"):
        assert stage in told


def test_flags_change_what_is_written(place, tmp_path, capsys):
    flags = ["--start", "0.4", "--duration", "0.6", "--fps", "5", "--hide-time", "--device", "cpu", "--batch-size", "1"]
    predict(place, place / "good.mp4", *flags, output=tmp_path)
    _, moments = read_detections(tmp_path / "detections.jsonl")
    assert (moments[0].time, moments[-1].time) == (0.4, pytest.approx(1.0, abs=0.11))
    assert 3 <= len(frames_of(tmp_path / "annotated.mp4")) <= 4
    predict(place, place / "good.mp4", "--no-video", "--box-threshold", "0.85", output=tmp_path / "b")
    assert sorted(os.listdir(tmp_path / "b")) == ["detections.jsonl", "events.csv"]
    _, moments = read_detections(tmp_path / "b" / "detections.jsonl")
    assert all(len(moment.persons) == 1 for moment in moments)


def test_earlier_results_are_replaced_and_told(place, tmp_path, capsys):
    flags = ["--no-video", "--duration", "0.3"]
    predict(place, place / "good.mp4", *flags, output=tmp_path)
    assert "earlier results" not in capsys.readouterr().out
    predict(place, place / "good.mp4", *flags, output=tmp_path)
    line = f"{tmp_path}: earlier results are replaced (detections.jsonl, events.csv)\n"
    assert line in capsys.readouterr().out
    before = (tmp_path / "detections.jsonl").read_bytes()
    own = ["--boxes", tmp_path / "detections.jsonl"]
    assert "detections.jsonl: is the file of boxes itself" in refused(
        capsys, place, place / "good.mp4", *flags, *own, output=tmp_path
    )
    assert (tmp_path / "detections.jsonl").read_bytes() == before
    assert "--fps: got nan" in refused(capsys, place, place / "good.mp4", "--fps", "nan", output=tmp_path)
    (place / "also.mp4").write_bytes((place / "good.mp4").read_bytes())
    predict(place, place / "also.mp4", *flags, output=tmp_path)
    assert f"they were those of {place / 'good.mp4'}\n" in capsys.readouterr().out


def test_earlier_results_stay_when_a_run_fails_at_once(place, tmp_path, capsys, monkeypatch):
    names = ("annotated.mp4", "detections.jsonl", "events.csv")
    for name in names:
        (tmp_path / name).write_text("earlier")
    (tmp_path / "no.ttf").write_text("no font")
    for font in ("no.ttf", "missing.ttf"):
        text = refused(capsys, place, place / "good.mp4", "--font", tmp_path / font, output=tmp_path)
        assert text.startswith(f"{tmp_path / font}: not a font that can be read")
    monkeypatch.setattr("alphaction.prediction.run.extract", _fail)
    assert refused(capsys, place, place / "good.mp4", output=tmp_path) == "the network fails"
    (tmp_path / "folder" / "events.csv").mkdir(parents=True)
    text = refused(capsys, place, place / "good.mp4", output=tmp_path / "folder")
    assert text.startswith(f"{tmp_path / 'folder' / 'events.csv'}: is a folder") and len(os.listdir(tmp_path)) == 5
    assert [(tmp_path / name).read_text() for name in names] == ["earlier"] * 3
    refused(capsys, place, place / "good.mp4", output=tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()


def _fail(*args, **kwargs):
    raise UserError("the network fails")


def test_nobody_in_sight(place, tmp_path, capsys):
    predict(place, place / "good.mp4", "--box-threshold", "0.95", output=tmp_path)
    assert "no person >= 0.95 in 40 frames (6 moments): the files are written" in capsys.readouterr().out
    header, moments = read_detections(tmp_path / "detections.jsonl")
    assert len(moments) > 1 and not any(moment.persons for moment in moments)
    assert (tmp_path / "events.csv").read_text() == "person,action,start,end,mean_score\n"
    assert len(frames_of(tmp_path / "annotated.mp4")) == 40


def test_videos_of_any_kind_go_through(place, tmp_path):
    frames = numbered_frames(30, height=48, width=64)
    irregular = [Fraction(i, 25) + (1 if i > 15 else 0) for i in range(30)]
    videos = {
        "one": write_video(tmp_path / "one.mp4", frames[:1]),
        "irregular": write_video(tmp_path / "irregular.mp4", frames, times=irregular),
        "odd": write_video(tmp_path / "odd.mkv", frames[:, :47, :63], codec="ffv1", pix_fmt="bgr0"),
        "slow": write_video(tmp_path / "slow.mp4", frames[:5], fps=1),
        "quick": write_video(tmp_path / "quick.mp4", frames, fps=240),
    }
    for name, video in videos.items():
        predict(place, video, output=tmp_path / name)
        _, moments = read_detections(tmp_path / name / "detections.jsonl")
        assert moments and moments[0].time == 0, name
        assert len(frames_of(tmp_path / name / "annotated.mp4")) == {"one": 1, "slow": 5}.get(name, 30), name


def test_a_huge_frame_is_resized_as_it_comes(place, tmp_path):
    huge = np.zeros((2, 4320, 7680, 3), np.uint8)
    options = {"preset": "ultrafast", "crf": "40"}
    video = write_video(tmp_path / "huge.mp4", huge, options=options, b_frames=0)
    (tmp_path / "boxes.csv").write_text("0,100,100,3000,4000\n")
    predict(place, video, "--no-video", boxes=tmp_path / "boxes.csv", output=tmp_path)
    header, [moment] = read_detections(tmp_path / "detections.jsonl")
    assert header.size == (4320, 7680)
    assert moment.persons[0].box == (100, 100, 3000, 4000)


def test_a_turned_video_is_seen_as_it_is_shown(place, tmp_path):
    plain = write_video(tmp_path / "plain.mp4", numbered_frames(10, height=48, width=96))
    turned = tmp_path / "turned.mp4"
    _turn(plain, turned)
    (tmp_path / "boxes.csv").write_text("0,0,60,47,95\n")
    predict(place, turned, boxes=tmp_path / "boxes.csv", output=tmp_path)
    header, [moment] = read_detections(tmp_path / "detections.jsonl")
    assert header.size == (96, 48)
    assert moment.persons[0].box == (0, 60, 47, 95)
    height, width = frames_of(tmp_path / "annotated.mp4")[0].shape[:2]
    assert height == 2 * width


def _turn(source, target):
    """A copy of an mp4 whose display matrix says a quarter turn, as phones write it."""
    data = bytearray(source.read_bytes())
    start = data.index(b"tkhd") + 4
    matrix = start + (40 if data[start] == 0 else 52)
    one = (1 << 16).to_bytes(4, "big")
    minus = (-(1 << 16)).to_bytes(4, "big", signed=True)
    zero = bytes(4)
    data[matrix : matrix + 36] = zero + one + zero + minus + zero + zero + zero + zero + (1 << 30).to_bytes(4, "big")
    target.write_bytes(data)


def test_bad_videos_are_named(place, tmp_path, capsys):
    cut = tmp_path / "cut.mp4"
    good = (place / "good.mp4").read_bytes()
    cut.write_bytes(good[: len(good) // 3])  # its index stands at the end
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no video at all")
    cases = {
        write_sound(tmp_path / "sound.m4a"): "has no video track",
        cut: "not a video that can be read",
        tmp_path / "empty.mp4": "the video is empty",
        tmp_path / "text.mp4": "not a video that can be read",
        tmp_path / "missing.mp4": "cannot read the video",
        tmp_path: "got a folder, expected a video file",
        _without_frames(tmp_path / "none.mkv"): "",
    }
    for video, words in cases.items():
        message = refused(capsys, place, video, output=tmp_path / "out")
        assert message.startswith(f"{video}: ") and words in message


def test_a_missing_video_is_told_before_a_detector_is_fetched(place, tmp_path, monkeypatch):
    monkeypatch.setattr(Predictor, "_load_detector", lambda self: pytest.fail("the detector was loaded first"))
    predictor = Predictor.from_checkpoint(str(place / "model_final.pth"), device="cpu")
    with pytest.raises(VideoError, match="cannot read the video"):
        predictor(tmp_path / "missing.mp4", boxes="detector")


def _without_frames(path):
    """A video track and nothing in it."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        container.start_encoding()
    return path


def test_the_end_of_a_cut_off_video_is_missing_and_nothing_else(place, tmp_path):
    whole = write_video(tmp_path / "whole.ts", numbered_frames(40, height=48, width=64))
    cut = tmp_path / "cut.ts"
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 2 // 3])
    predict(place, cut, output=tmp_path / "out")
    _, moments = read_detections(tmp_path / "out" / "detections.jsonl")
    assert 3 <= len(moments) < 7
    assert 15 <= len(frames_of(tmp_path / "out" / "annotated.mp4")) < 40


def test_places_that_cannot_be_written_are_told_first(place, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    message = refused(capsys, place, place / "good.mp4", output=tmp_path / "file" / "out")
    assert message.startswith(f"{tmp_path / 'file' / 'out'}: cannot be written to")
    own = tmp_path / "annotated.mp4"
    own.write_bytes((place / "good.mp4").read_bytes())
    assert "is the video itself" in refused(capsys, place, own, output=tmp_path)
    assert "--visual-threshold: got 2" in refused(capsys, place, place / "good.mp4", "--visual-threshold", "2")
    assert "low is 0.9, above high" in refused(capsys, place, place / "good.mp4", "--event-low", "0.9")


def test_a_pipe_is_read_as_it_comes(place, tmp_path):
    video = write_video(tmp_path / "v.mkv", numbered_frames(40, height=48, width=64))
    arguments = ["--weights", place / "model_final.pth", "--video", "-", "--output", tmp_path / "out"]
    command = ("predict.py", *arguments, "--boxes", place / "boxes.csv", "--detect-rate", "5")
    with process_kit.script(*command, folder=tmp_path, stdin=video) as script:
        done = script.ends()
    assert done.returncode == 0, done.stderr
    _, moments = read_detections(tmp_path / "out" / "detections.jsonl")
    assert len(moments) == 8
    assert len(frames_of(tmp_path / "out" / "annotated.mp4")) == 40


def test_interrupted_files_are_whole(place, tmp_path):
    video = write_video(
        tmp_path / "long.mp4", numbered_frames(3000, height=48, width=64), options={"preset": "ultrafast"}
    )
    (tmp_path / "boxes.csv").write_text("".join(f"{i / 10:.1f},4,6,27,41,0.9\n" for i in range(1200)))
    arguments = ["--weights", place / "model_final.pth", "--video", video, "--output", tmp_path / "out"]
    command = ("predict.py", *arguments, "--boxes", tmp_path / "boxes.csv", "--detect-rate", "10")
    lines = tmp_path / "out" / "detections.jsonl"
    with process_kit.script(*command, folder=tmp_path) as script:
        script.member.until(lambda: lines.exists() and lines.read_text().count("\n") > 20)
        script.member.kill(signal.SIGINT)
        ended = script.ends()
    assert ended.returncode == 130 and "Traceback" not in ended.stderr, ended.stderr
    assert "stopped; what is written so far is whole" in ended.stdout
    _, moments = read_detections(lines)
    assert 20 <= len(moments) < 1200
    last = frames_of(tmp_path / "out" / "annotated.mp4")
    assert len(last) >= 20
    assert json.loads(lines.read_text().splitlines()[-1])["time"] == moments[-1].time


def test_the_demo_has_the_flags_of_the_original(place, tmp_path):
    output = tmp_path / "seen.mp4"
    arguments = ["--video-path", place / "good.mp4", "--output-path", output, "--cpu", "--weight-path"]
    arguments += [place / "model_final.pth", "--boxes", place / "boxes.csv", "--start", "400", "--duration", "500"]
    _run("demo/demo.py", [*arguments, "--detect-rate", "5", "--visual-threshold", "0.1", "--hide-time"])
    assert sorted(os.listdir(tmp_path)) == ["seen.mp4", "seen_detections.jsonl", "seen_events.csv"]
    with pytest.raises(ConfigError, match="seen.avi: the annotated video is an MP4 file; expected a name"):
        _run("demo/demo.py", ["--video-path", place / "good.mp4", "--output-path", tmp_path / "seen.avi"])
    _, moments = read_detections(tmp_path / "seen_detections.jsonl")
    assert [moment.time for moment in moments] == pytest.approx([0.4, 0.6, 0.8])
