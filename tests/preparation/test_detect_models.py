"""Torchvision's detectors and their weights, with a small one that knows nothing."""

from __future__ import annotations

import json
import pathlib
import runpy
import sys
from urllib.error import URLError

import pytest
import torch
import videos
from torchvision.models import get_model

from alphaction.errors import ConfigError, DataError
from alphaction.preparation.detect_models import DEFAULT_DETECTOR, load_detector

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = "ssdlite320_mobilenet_v3_large"
URL = "https://download.pytorch.org/models/"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save({"model": get_model(SMALL, weights=None, weights_backbone=None, num_classes=3).state_dict()}, path)
    return str(path)


@pytest.fixture
def offline(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The cache folder of a machine without a network."""

    def fail(*_: object, **__: object) -> None:
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_boxes_are_those_of_the_model(weights: str) -> None:
    detector = load_detector(SMALL, weights=weights, num_classes=3, min_score=0.2, device="cpu")
    assert detector.name.startswith(f"{SMALL} with small.pth (")
    assert detector.objects
    pictures = [torch.from_numpy(videos.numbered_frames(1, height=h)[0]) for h in (48, 64)]
    model = get_model(SMALL, weights=None, weights_backbone=None, num_classes=3).eval()
    model.load_state_dict(torch.load(weights)["model"])
    model.score_thresh = 0.2
    with torch.inference_mode():
        expected = model([picture.permute(2, 0, 1) / 255 for picture in pictures])
    for found, same in zip(detector.run(pictures), expected, strict=True):
        assert len(found.scores) > 0
        assert found.xyxy == pytest.approx(same["boxes"].numpy(), abs=1e-3)
        assert found.scores == pytest.approx(same["scores"].numpy(), abs=1e-5)
        assert found.labels.tolist() == same["labels"].tolist()


def test_the_command(tmp_path: pathlib.Path, weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    videos.write_video(tmp_path / "v" / "a.mp4", 30)
    flags = ["--videos", tmp_path / "v", "--step", 0.6, "--detector", SMALL, "--weights", weights, "--num-classes", 3]
    flags += ["--min-score", 0, "--device", "cpu", "--num-workers", 0, "--output", tmp_path / "boxes.json"]
    monkeypatch.setattr(sys, "argv", ["detect_persons.py", *map(str, flags)])
    runpy.run_path(str(ROOT / "tools/detect_persons.py"), run_name="__main__")
    rows = json.loads((tmp_path / "boxes.json").read_text())
    assert {row["image_id"] for row in rows} == {"a/0", "a/0.6"}
    assert {row["category_id"] for row in rows} == {1}
    x, y, width, height = rows[0]["bbox"]
    assert 0 <= x <= x + width <= 96.01
    assert 0 <= y <= y + height <= 48.01


def test_without_network_the_file_and_its_place_are_named(
    offline: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    videos.write_video(tmp_path / "v" / "a.mp4", 5)
    flags = ["detect_persons.py", "--videos", str(tmp_path / "v"), "--output", str(tmp_path / "boxes.json")]
    monkeypatch.setattr(sys, "argv", flags)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "tools/detect_persons.py"), run_name="__main__")
    assert end.value.code == 1
    name = "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth"
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith(
            f"error: the weights of the detector {DEFAULT_DETECTOR} are not on this machine and cannot be fetched "
            f"(Temporary failure in name resolution). Fetch {URL}{name} elsewhere and put it to "
            f"{offline / 'checkpoints' / name}, or anywhere else and name it with --weights FILE"
        )
    )
    assert not (tmp_path / "boxes.json").exists()


def test_a_file_in_the_cache_folder_is_taken(offline: pathlib.Path) -> None:
    (offline / "checkpoints").mkdir(parents=True)
    file = offline / "checkpoints" / "ssdlite320_mobilenet_v3_large_coco-a79551df.pth"
    torch.save(get_model(SMALL, weights=None, weights_backbone=None).state_dict(), file)
    assert file.name in load_detector(SMALL, device="cpu").name


def test_wrong_weights_are_told(tmp_path: pathlib.Path, weights: str) -> None:
    def refused(content: object = None, *, name: str = SMALL, file: str = "", data: bytes = b"") -> str:
        path = tmp_path / "w.pth"
        if data:
            path.write_bytes(data)
        elif content is not None:
            torch.save(content, path)
        with pytest.raises(DataError) as error:
            load_detector(name, weights=file or str(path), device="cpu")
        return str(error.value)

    assert f"--weights: {tmp_path / 'none.pth'} does not exist. Weights of {SMALL} are published at {URL}" in refused(
        file=str(tmp_path / "none.pth")
    )
    assert "w.pth: cannot be read as weights; was it copied whole?" in refused(
        data=pathlib.Path(weights).read_bytes()[:9999]
    )
    assert "or holds more than numbers; it is not loaded" in refused({"x": pathlib.Path("a")})
    assert "is no file of weights" in refused({"epoch": 3})
    assert "size mismatch" in refused(file=weights)
    text = refused({"other": torch.zeros(1)})
    assert f"is of another detector than {SMALL}: lacks" in text
    assert "has 1 others (other). Name it with --detector" in text


def test_unknown_names() -> None:
    with pytest.raises(
        ConfigError, match=r"--detector: got 'fcos'; there are: .*\(the nearest one is fcos_resnet50_fpn\)"
    ):
        load_detector("fcos")
    with pytest.raises(ConfigError, match="--device: got 'gpu', expected auto, cpu"):
        load_detector(SMALL, device="gpu")
