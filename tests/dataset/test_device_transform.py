"""INPUT.TRANSFORM "device": the planes as they were decoded, rendered by PyTorch, show the picture of the exact way."""

from __future__ import annotations

import pathlib

import av
import cv2
import numpy as np
import pytest
import torch
import videos

from alphaction.dataset.clip_canvas import PlaneCanvas, RgbCanvas
from alphaction.dataset.collate import collate
from alphaction.dataset.frame_forms import FrameConverter
from alphaction.dataset.transforms import ClipTransform
from alphaction.dataset.video_io import ClipRequest, VideoCache, WholeVideo, visit_clips
from alphaction.structures import Boxes, ClipKey, ClipSample
from alphaction.structures.planes import ClipPlanes
from alphaction.structures.render import network_clips, with_pixels

COLORS = [None, (0, 0, 0), (10, 26, -26), (-10, -26, 26)]
MEAN, STD = torch.tensor([122.0, 116.0, 103.0]), torch.tensor([57.0, 58.0, 59.0])


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 [h, w, 3], coloured blobs of all sizes: a picture as a camera gives it, not noise."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 110.0)
    for scale, strength in ((64, 70), (16, 45), (5, 25)):
        cells = rng.normal(0, strength, (height // scale + 2, width // scale + 2, 3)).astype(np.float32)
        image += cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    return image.clip(0, 255).astype(np.uint8)


def frame_of(image: np.ndarray, pix_fmt: str = "yuv420p", matrix: int | None = None) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    return frame.reformat(format=pix_fmt, **({} if matrix is None else {"dst_colorspace": matrix}))


def sample_of(planes: ClipPlanes | None = None, slow: torch.Tensor | None = None) -> ClipSample:
    size = planes.layouts[0].size if planes is not None else tuple(slow.shape[2:])
    boxes = Boxes(torch.tensor([[1.0, 2.0, 9.0, 8.0]]), size)
    labels = torch.ones(1, 3, dtype=torch.bool)
    return ClipSample(slow, None, boxes, boxes, labels, None, None, ClipKey("m", 1.0), 0, planes=planes)


def both_ways(
    frames: list[av.VideoFrame],
    transform: ClipTransform,
    *,
    color: tuple[int, int, int] | None = None,
    flip: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """[3, P, h, w] by the exact way and by the device's, int."""
    converter = FrameConverter()
    options = {"resized": transform.resized, "color": color, "flip": flip, "to_bgr": transform.to_bgr}
    exact = RgbCanvas(len(frames), converter=converter, **options)
    device = PlaneCanvas(len(frames), 0, converter=converter, **options)
    for place, frame in enumerate(frames):
        for canvas in (exact, device):
            canvas.receive(np.array([place]), frame)
    return exact.clip().numpy().astype(int), with_pixels(sample_of(device.clip())).slow.numpy().astype(int)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("color", COLORS)
def test_the_mean_difference_from_the_exact_way_is_small(color, flip):
    """Grey levels of 255: below 0.5 without changed colours, below 1.5 with (the exact way rounds hue to 2 degrees)."""
    frames = [frame_of(photo(180, 320, seed)) for seed in range(3)]
    exact, device = both_ways(frames, ClipTransform(min_size=128, max_size=464), color=color, flip=flip)
    assert exact.shape == device.shape == (3, 3, 128, 227)
    difference = np.abs(exact - device)
    assert difference.mean() < (0.5 if color is None else 1.5)
    assert np.percentile(difference, 99) <= (3 if color is None else 8)
    assert abs((exact - device).mean()) < 0.5


@pytest.mark.parametrize("color", COLORS)
def test_grey_pictures(color):
    """An infrared camera's: grey has no hue of its own, and the exact way takes it for red."""
    grey = np.repeat(photo(180, 320).mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    exact, device = both_ways([frame_of(grey)], ClipTransform(min_size=128, max_size=464), color=color)
    assert np.abs(exact - device).mean() < 0.8


@pytest.mark.parametrize(("size", "bound"), [((60, 87), 0.6), ((61, 88), 1.0), ((87, 61), 1.5), ((64, 64), 0.6)])
@pytest.mark.parametrize("min_size", [32, 61, 96])
def test_odd_sizes_and_enlarging(size, bound, min_size):
    transform = ClipTransform(min_size=min_size, max_size=2 * min_size, to_bgr=True)
    exact, device = both_ways([frame_of(photo(*size))], transform)
    assert exact.shape == device.shape
    assert np.abs(exact - device).mean() < bound


@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("color_range", [1, 2])
def test_colour_matrix_and_range_are_those_of_the_frame(matrix, color_range):
    frame = frame_of(photo(96, 128))
    frame.colorspace, frame.color_range = matrix, color_range
    exact, device = both_ways([frame], ClipTransform(min_size=64, max_size=100))
    assert np.abs(exact - device).mean() < 0.6


@pytest.mark.parametrize(
    ("pix_fmt", "bound"),
    [("yuvj420p", 0.6), ("yuv420p10le", 2), ("yuv422p", 3), ("yuv444p", 3), ("rgb24", 4), ("gbrp", 4), ("gray", 1.5)],
)
def test_other_pixel_formats_become_yuv420p(pix_fmt, bound):
    """Sources with more colour than 4:2:0 lose some of it: the pictures here have more of it than a camera's."""
    exact, device = both_ways([frame_of(photo(96, 128), pix_fmt)], ClipTransform(min_size=64, max_size=100))
    difference = np.abs(exact - device)
    assert difference.mean() < bound
    assert abs((exact - device).mean()) < 1.2


def test_large_frames_are_reduced_before_they_leave_the_reader():
    frames = [frame_of(photo(480, 640, seed)) for seed in range(2)]
    converter, transform = FrameConverter(), ClipTransform(min_size=64, max_size=100)
    canvas = PlaneCanvas(2, 0, resized=transform.resized, converter=converter)
    for place, frame in enumerate(frames):
        canvas.receive(np.array([place]), frame)
    assert canvas.clip().layouts[0].source == (64, 85)
    assert len(canvas.clip().data) == 2 * 3 * 64 * 85
    exact, device = both_ways(frames, transform)
    assert np.abs(exact - device).mean() < 2.5  # every frame has details that the clip cannot show


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_phones_rotation(turns, monkeypatch):
    """As displayed: rotated by whichever mark, then mirrored."""
    from alphaction.dataset import frame_forms

    monkeypatch.setattr(frame_forms, "quarter_turns", lambda frame: turns)
    exact, device = both_ways([frame_of(photo(60, 96))], ClipTransform(min_size=40, max_size=90), flip=True)
    assert exact.shape == device.shape
    assert exact.shape[2:] == ((64, 40) if turns % 2 else (40, 64))
    assert np.abs(exact - device).mean() < 0.6


def planes_of(image: np.ndarray, min_size: int, *, slow: int = 1, fast: int = 2, **options) -> ClipPlanes:
    transform = ClipTransform(min_size=min_size, max_size=4 * min_size)
    canvas = PlaneCanvas(slow, fast, resized=transform.resized, converter=FrameConverter(), **options)
    for place in range(slow + fast):
        canvas.receive(np.array([place]), frame_of(np.roll(image, 3 * place, axis=1)))
    return canvas.clip()


def mixed_batch():
    images = [photo(60, 96), photo(60, 96, 1), photo(96, 60, 2), photo(60, 96, 3)]
    options = [{"color": (5, 5, 5)}, {"flip": True}, {"to_bgr": True}, {"color": (-5, 0, 9), "flip": True}]
    samples = [sample_of(planes_of(i, 40, **o)) for i, o in zip(images, options, strict=True)]
    return samples, collate(samples, 16)


def test_a_batch_of_different_clips_is_each_of_them_padded_with_zeros():
    samples, batch = mixed_batch()
    assert batch.slow is batch.fast is None
    assert batch.sizes == [(40, 64), (40, 64), (64, 40), (40, 64)]
    assert batch.planes.padded == (64, 64)
    assert batch.frame_bytes == sum(len(sample.planes.data) for sample in samples)
    slow, fast = network_clips(batch, MEAN, STD)
    assert slow.shape == (4, 3, 1, 64, 64)
    assert fast.shape == (4, 3, 2, 64, 64)
    for i, (sample, (height, width)) in enumerate(zip(samples, batch.sizes, strict=True)):
        pixels = with_pixels(sample)
        for clips, alone in ((slow, pixels.slow), (fast, pixels.fast)):
            back = clips[i] * STD.view(3, 1, 1, 1) + MEAN.view(3, 1, 1, 1)
            assert (back[:, :, :height, :width] - alone).abs().max() <= 0.5 + 1e-3
            assert (clips[i, :, :, height:] == 0).all()
            assert (clips[i, :, :, :, width:] == 0).all()


def test_parts_of_a_batch_are_rendered_as_in_the_whole():
    _, batch = mixed_batch()
    whole = network_clips(batch, MEAN, STD)
    parts = [network_clips(part, MEAN, STD) for part in batch.to("cpu").split(2)]
    for i in range(2):
        assert torch.allclose(torch.cat([part[i] for part in parts]), whole[i], atol=1e-5)
    for some, same in ((slice(None), slice(0, 4)), (slice(1), slice(0, 1)), (slice(-1, None), slice(3, 4))):
        assert torch.equal(batch.planes[some].data, batch.planes[same].data)
    assert batch.without_frames().planes is None
    assert batch.without_frames().frame_bytes == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_pixels_are_the_same_within_autocast(dtype):
    """SOLVER.PRECISION: the network's arithmetic, not that of the colours."""
    _, batch = mixed_batch()
    with torch.autocast("cpu", dtype):
        within = network_clips(batch, MEAN, STD)
    for clip, expected in zip(within, network_clips(batch, MEAN, STD), strict=True):
        assert torch.equal(clip, expected)


def test_one_pathway():
    batch = collate([sample_of(planes_of(photo(60, 96), 40, slow=0))])
    slow, fast = network_clips(batch, MEAN, STD)
    assert slow is None
    assert fast.shape == (1, 3, 2, 40, 64)


def test_a_clip_from_a_file(tmp_path: pathlib.Path):
    """The same frames in the same places, repeats at the ends of the video among them."""
    path = videos.write_video(tmp_path / "v.mp4", 30)
    cache, positions = VideoCache(), np.arange(0, 16, 2)
    transform = ClipTransform(min_size=48, max_size=96)
    clips = []
    for canvas in (
        RgbCanvas(8, resized=transform.resized, converter=cache.converter),
        PlaneCanvas(8, 0, resized=transform.resized, converter=cache.converter),
    ):
        request = ClipRequest(WholeVideo(str(path)), 0.1, positions, 16, 25.0, canvas.receive)
        [size] = visit_clips([request], cache=cache)
        assert size == (48, 96)
        clips.append(canvas.clip())
    exact, device = clips[0], with_pixels(sample_of(clips[1])).slow
    numbers = [videos.read_numbers(clip.permute(1, 2, 3, 0).numpy()) for clip in (exact, device)]
    assert numbers == [[0, 0, 0, 0, 2, 4, 6, 8]] * 2 or numbers[0] == numbers[1]
    assert (exact.int() - device.int()).abs().float().mean() < 1


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match=r"data: got torch.uint8 \(3,\), expected uint8 \(\d+,\)"):
        ClipPlanes(torch.zeros(3, dtype=torch.uint8), planes_of(photo(60, 96), 40).layouts, (40, 64))
    with pytest.raises(ValueError, match="clip: no frame was received"):
        PlaneCanvas(1, 1, resized=lambda size: size, converter=FrameConverter()).clip()
