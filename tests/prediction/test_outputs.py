"""Where the results of a video go when no place is given."""

from pathlib import Path

import pytest

from alphaction.prediction.jsonl import DetectionsWriter, Header
from alphaction.prediction.outputs import default_folder


def test_every_video_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = Path("data/output/predict")
    assert default_folder("a/x.mp4") == root / "x"
    _header(root / "x", "a/x.mp4")
    assert default_folder("b/../a/x.mp4") == root / "x" != default_folder("b/x.mp4")
    assert default_folder("b/x.mp4") == default_folder(str(tmp_path / "a" / "x.avi")) == root / "x_2"
    _header(root / "x_2", "b/x.mp4")
    assert [default_folder(f"{name}/x.mp4") for name in "abc"] == [root / "x", root / "x_2", root / "x_3"]
    (root / "y").mkdir()
    (root / "y" / "detections.jsonl").write_text("")  # damaged: of whatever video
    assert default_folder("y.mp4") == root / "y_2"


@pytest.mark.parametrize(
    ("stream", "name"),
    [(2, "camera_2"), ("-", "stream"), ("rtsp://me:secret@cam:554/a/live?key=1", "live_key_1"), ("udp://:5", "_5")],
)
def test_a_stream_has_a_new_folder_every_time(tmp_path, monkeypatch, stream, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "now")
    first = default_folder(stream)
    assert first == Path("data/output/predict") / f"{name.strip('_')}_now"
    _header(first, "-")
    assert default_folder(stream) == first.with_name(f"{first.name}_2")


def _header(folder, video):
    """As a finished run leaves it."""
    with DetectionsWriter(folder / "detections.jsonl", header=Header(video, (48, 64), 25.0, ("walk",))):
        pass
