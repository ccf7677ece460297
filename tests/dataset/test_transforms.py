"""The transform of clips and boxes: recorded numbers with the recorded draws, edges, randomness."""

from __future__ import annotations

import re

import cv2
import goldens
import numpy as np
import pytest
import torch
from clip_kit import transformed
from hypothesis import given, settings
from hypothesis import strategies as st

from alphaction.dataset.sampling import ClipSampling
from alphaction.dataset.transforms import (
    Augmentation,
    AugmentationPolicy,
    ClipTransform,
    draw_augmentation,
    enlarged_regions,
    jittered_regions,
    resized_size,
)
from alphaction.structures.batch import normalize_clips
from alphaction.structures.boxes import Boxes

META, ARRAYS = goldens.load("transforms")
CASES = META["cases"]
ONE_GREY_LEVEL = 1.01 / 57.375 / 2.0  # relative to a largest value of about 2: another OpenCV build may round otherwise


def case_config(case: dict) -> dict:
    """The keys of the case's configuration, flat."""
    flat: dict = {}

    def merge(tree: dict, prefix: str = "") -> None:
        for key, value in tree.items():
            if isinstance(value, dict):
                merge(value, f"{prefix}{key}.")
            else:
                flat[prefix + key] = value

    for name in ("defaults", case["config"]):
        merge(goldens.config_record(name))
    return flat | goldens.parity.options(case["opts"])


def recorded_augmentation(case: dict, config: dict) -> Augmentation:
    """The recorded draws as an Augmentation: [hue, saturation, value], the flip number, [start of the slow pathway]."""
    if case["mode"] != "train":
        return Augmentation()
    policy = case_policy(config)
    draws = list(case["draws"])
    color = None
    if config["INPUT.COLOR_JITTER"]:
        bounds, color = zip(*((draw[2], draw[3]) for draw in draws[:3]), strict=True)
        assert bounds == policy.color_bounds
        draws = draws[3:]
    flip = draws.pop(0)[1] < policy.flip_prob
    shift = draws.pop(0)[3] - (policy.tau - 1) // 2 if config["INPUT.SLOW_JITTER"] else 0
    assert not draws
    return Augmentation(color=color, flip=flip, slow_shift=shift)


def case_policy(config: dict) -> AugmentationPolicy:
    return AugmentationPolicy(
        color_jitter=config["INPUT.COLOR_JITTER"],
        slow_jitter=config["INPUT.SLOW_JITTER"],
        tau=config["INPUT.TAU"],
        hue_jitter=config["INPUT.HUE_JITTER"],
        sat_jitter=config["INPUT.SAT_JITTER"],
        val_jitter=config["INPUT.VAL_JITTER"],
    )


def sliced(array: np.ndarray, text: str, name: str) -> np.ndarray:
    """`slow[:, ::2], fast[:, ::8]` applied to the pathway `name`."""
    steps = re.search(rf"{name}\[([^\]]*)\]", text).group(1).split(",")
    return array[tuple(slice(None, None, int(s.strip().rpartition(":")[2] or 1)) for s in steps)]


@pytest.mark.parametrize("name", CASES)
def test_recorded_transform(name: str) -> None:
    case = CASES[name]
    config = case_config(case)
    clip = case["clip"]
    frames = goldens.fill.clip_u8(clip["name"], clip["frames"], clip["height"], clip["width"], clip["salt"])
    sampling = ClipSampling(
        frame_num=config["INPUT.FRAME_NUM"],
        sample_rate=config["INPUT.FRAME_SAMPLE_RATE"],
        tau=config["INPUT.TAU"],
        alpha=config["INPUT.ALPHA"],
    )
    augmentation = recorded_augmentation(case, config)
    first = (len(frames) - sampling.span) // 2

    def cropped(positions: np.ndarray) -> np.ndarray:
        """The centre of the clip; a clip shorter than the window repeats its ends."""
        return frames[(first + positions).clip(0, len(frames) - 1)]

    size = (clip["height"], clip["width"])
    objects = Boxes(torch.from_numpy(ARRAYS[f"{name}/in/object_boxes"]), size)
    scores = torch.from_numpy(ARRAYS[f"{name}/in/object_scores"])
    rows = objects.top_k(len(ARRAYS[f"{name}/out/object_scores"]), scores)
    kind = "TRAIN" if case["mode"] == "train" else "TEST"
    result = transformed(
        cropped(sampling.slow_window(augmentation.slow_shift)),
        cropped(sampling.fast_window()),
        persons=Boxes(torch.from_numpy(ARRAYS[f"{name}/in/person_boxes"]), size),
        objects=objects[rows],
        transform=ClipTransform(
            min_size=config[f"INPUT.MIN_SIZE_{kind}"],
            max_size=config[f"INPUT.MAX_SIZE_{kind}"],
            to_bgr=config["INPUT.TO_BGR"],
            swap_size=True,
            flip_objects=False,
        ),
        augmentation=augmentation,
    )
    report = goldens.parity.Report("transforms")
    width, height = case["resize_wh"]
    report.equal("size", result.persons.size, (height, width))
    report.close("persons", result.persons.xyxy, ARRAYS[f"{name}/out/person_boxes"])
    report.close("objects", result.objects.xyxy, ARRAYS[f"{name}/out/object_boxes"])
    report.close("object scores", scores[rows], ARRAYS[f"{name}/out/object_scores"])
    mean, std = (torch.tensor(config[f"INPUT.PIXEL_{what}"]) for what in ("MEAN", "STD"))
    for pathway, planes in (("slow", result.slow), ("fast", result.fast)):
        report.equal(f"{pathway} shape", list(planes.shape), case[f"{pathway}_shape"])
        network = normalize_clips(planes[None], [(height, width)], mean, std)[0].numpy()
        want = ARRAYS[f"{name}/out/{pathway}_slice"]
        report.close(pathway, sliced(network, case["slices"], pathway), want, tolerance=ONE_GREY_LEVEL)
        stats = np.stack([network.mean((2, 3), dtype=np.float64), network.std((2, 3), dtype=np.float64)], axis=-1)
        report.close(f"{pathway} statistics", stats, ARRAYS[f"{name}/out/{pathway}_frame_stats"], tolerance=1e-4)
    report.finish()


def some_clip(height: int = 24, width: int = 40, frames: int = 4) -> np.ndarray:
    return goldens.fill.clip_u8("test_transforms", frames, height, width)


def some_boxes(size: tuple[int, int] = (24, 40)) -> Boxes:
    return Boxes(torch.tensor([[3.0, 4.0, 20.0, 22.0], [10.0, 0.0, 39.0, 23.0]]), size)


TRANSFORM = ClipTransform(min_size=12, max_size=40)


def test_correct_behaviour_is_the_default() -> None:
    """A clip that fits already keeps its shape; objects are mirrored with everything else."""
    frames = some_clip()
    result = transformed(
        frames,
        None,
        persons=some_boxes(),
        objects=some_boxes(),
        transform=ClipTransform(min_size=24, max_size=64),
        augmentation=Augmentation(flip=True),
    )
    assert result.fast is None
    assert np.array_equal(result.slow.permute(1, 2, 3, 0).numpy(), frames[:, :, ::-1])
    assert torch.equal(result.persons.xyxy, some_boxes().hflip().xyxy)
    assert torch.equal(result.objects.xyxy, result.persons.xyxy)


def test_pixels_under_a_box_stay_under_it() -> None:
    """A white rectangle and its box, mirrored and resized, still cover each other."""
    frames = np.zeros((1, 48, 80, 3), dtype=np.uint8)
    frames[:, 8:24, 8:32] = 255
    boxes = Boxes(torch.tensor([[8.0, 8.0, 31.0, 23.0]]), (48, 80))
    for flip in (False, True):
        for size in (48, 24):
            result = transformed(
                None,
                frames,
                persons=boxes,
                transform=ClipTransform(min_size=size, max_size=200),
                augmentation=Augmentation(flip=flip),
            )
            ys, xs = np.nonzero(result.fast[0, 0].numpy() > 127)
            found = torch.tensor([xs.min(), ys.min(), xs.max(), ys.max()], dtype=torch.float32)
            assert (found - result.persons.xyxy[0]).abs().max() <= (0 if size == 48 else 1)


def test_blue_first() -> None:
    plain = transformed(some_clip(), None, persons=some_boxes(), transform=TRANSFORM)
    swapped = transformed(
        some_clip(),
        None,
        persons=some_boxes(),
        transform=ClipTransform(min_size=12, max_size=40, to_bgr=True),
    )
    assert torch.equal(plain.slow.flip(0), swapped.slow)


def test_hue_goes_round_and_brightness_stops() -> None:
    red = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    red[..., 0] = 250
    boxes = Boxes(torch.zeros(0, 4), (8, 8))
    transform = ClipTransform(min_size=8, max_size=8)

    def recolored(color: tuple[int, int, int]) -> list[int]:
        augmentation = Augmentation(color=color)
        clip = transformed(red, None, persons=boxes, transform=transform, augmentation=augmentation)
        return clip.slow[:, 0, 0, 0].tolist()

    assert recolored((0, 0, 0)) == [250, 0, 0]
    assert recolored((0, 0, 26)) == [255, 0, 0]
    assert recolored((-60, 0, 0)) == [0, 0, 250]
    assert recolored((120, 26, 0)) == [0, 0, 250]


def test_the_given_frames_are_not_changed() -> None:
    frames = some_clip()
    before = frames.copy()
    augmentation = Augmentation(color=(5, 5, 5), flip=True)
    for size in (12, 24):
        transform = ClipTransform(min_size=size, max_size=40)
        result = transformed(frames, None, persons=some_boxes(), transform=transform, augmentation=augmentation)
        result.slow.zero_()
    assert np.array_equal(frames, before)


@settings(max_examples=200, deadline=None)
@given(st.tuples(st.integers(2, 3000), st.integers(2, 3000)), st.integers(1, 600), st.integers(0, 600))
def test_resized_sizes(size: tuple[int, int], min_size: int, more: int) -> None:
    height, width = resized_size(size, min_size=min_size, max_size=min_size + more)
    assert height >= 1
    assert width >= 1
    assert (height <= width) == (size[0] <= size[1]) or height == width
    assert min(height, width) <= min_size
    if min(size) * 4 > max(size) and min_size >= 16:
        assert max(height, width) <= min_size + more + 2  # the short side is rounded first, then the long side follows
        assert height / width == pytest.approx(size[0] / size[1], rel=0.2)
    assert resized_size(size[::-1], min_size=min_size, max_size=min_size + more) == (width, height)


def policy(**changes: object) -> AugmentationPolicy:
    return AugmentationPolicy(**({"color_jitter": True, "slow_jitter": True, "tau": 16} | changes))


def test_draws_depend_on_the_seed_alone() -> None:
    one, again, other = (
        draw_augmentation(np.random.default_rng([1, 2, seed]), policy(), num_persons=3) for seed in (7, 7, 8)
    )
    assert one.color == again.color
    assert (one.flip, one.slow_shift) == (again.flip, again.slow_shift)
    assert np.array_equal(one.jitter, again.jitter)
    assert not np.array_equal(one.jitter, other.jitter)


def test_switching_one_draw_off_keeps_the_others() -> None:
    full = draw_augmentation(np.random.default_rng(5), policy(), num_persons=2)
    part = draw_augmentation(
        np.random.default_rng(5), policy(color_jitter=False, slow_jitter=False, flip_prob=1.0), num_persons=2
    )
    assert part.color is None
    assert part.slow_shift == 0
    assert part.flip
    assert np.array_equal(full.jitter, part.jitter)
    assert draw_augmentation(np.random.default_rng(5), policy(box_jitter=False), num_persons=2).jitter is None


def test_ranges_of_the_draws() -> None:
    rng = np.random.default_rng(0)
    draws = [draw_augmentation(rng, policy(tau=8)) for _ in range(3000)]
    colors = np.array([draw.color for draw in draws])
    assert colors.min(0).tolist() == [-bound for bound in policy().color_bounds]
    assert colors.max(0).tolist() == list(policy().color_bounds)
    assert {draw.slow_shift for draw in draws} == set(range(-3, 5))
    assert 0.45 < np.mean([draw.flip for draw in draws]) < 0.55


def test_crowded_clips_keep_a_random_choice() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(50):
        drawn = draw_augmentation(rng, policy(max_persons=3), num_persons=6)
        assert len(drawn.person_rows) == len(set(drawn.person_rows.tolist())) == len(drawn.jitter) == 3
        seen |= set(drawn.person_rows.tolist())
    assert seen == set(range(6))
    assert draw_augmentation(rng, policy(max_persons=3), num_persons=3).person_rows is None


def test_regions() -> None:
    persons = some_boxes()
    assert jittered_regions(persons, Augmentation()) is persons
    middle = Augmentation(jitter=np.full((2, 4), 2 / 3, dtype=np.float32))
    moved = jittered_regions(persons, middle).xyxy - persons.xyxy
    assert moved[0, :2].abs().max() < 1e-4  # two thirds of the way from outwards to inwards: no move
    assert (moved[0, 2:] > 0).all()
    assert torch.equal(enlarged_regions(persons, (0.1, 0.05)).xyxy, persons.extend((0.1, 0.05)).xyxy)


def test_resizing_is_the_plain_bilinear_of_opencv() -> None:
    frames = some_clip()
    result = transformed(frames, None, persons=some_boxes(), transform=TRANSFORM)
    expected = np.stack([cv2.resize(frame, (20, 12), interpolation=cv2.INTER_LINEAR) for frame in frames])
    assert np.array_equal(result.slow.permute(1, 2, 3, 0).numpy(), expected)


@pytest.mark.parametrize("color", [(0, 0, 0), (10, 26, -26), (-10, -26, 26), (-3, 255, -255), (90, 1, -1)])
@pytest.mark.parametrize("flip", [False, True])
def test_recolouring_is_the_table_of_every_value(color: tuple[int, int, int], flip: bool) -> None:
    """Hue, saturation and value by a table of 256 entries each, the plain way, give the same bytes."""
    frames = np.concatenate([some_clip(64, 96), np.random.default_rng(0).integers(0, 256, (4, 64, 96, 3), np.uint8)])
    levels = np.arange(256)
    tables = [(levels + color[0]) % 180, (levels + color[1]).clip(0, 255), (levels + color[2]).clip(0, 255)]
    table = np.stack(tables, axis=-1).astype(np.uint8)[None]
    transform = ClipTransform(min_size=64, max_size=96, to_bgr=flip)
    result = transformed(
        None,
        frames,
        persons=Boxes(torch.zeros(0, 4), (64, 96)),
        transform=transform,
        augmentation=Augmentation(color=color, flip=flip),
    )
    for t, frame in enumerate(frames):
        image = cv2.cvtColor(cv2.LUT(cv2.cvtColor(frame, cv2.COLOR_RGB2HSV), table), cv2.COLOR_HSV2RGB)
        image = image[:, ::-1, ::-1] if flip else image
        assert np.array_equal(result.fast[:, t].permute(1, 2, 0).numpy(), image)
