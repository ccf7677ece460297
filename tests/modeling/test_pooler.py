import numpy as np
import pytest
import torch
from goldens import fill, load, parity
from model_kit import config_of, split_boxes

from alphaction.modeling.build import build_pooler
from alphaction.modeling.pooler import RoiPooler3d
from alphaction.structures import Boxes

META, ARRAYS = load("roi_pool")
CASES = sorted(name for name in META["cases"] if name.startswith("head_"))


def feature_maps():
    maps = []
    for path in ("slow", "fast"):
        feature = META["head_features"][path]
        maps.append(torch.from_numpy(np.abs(fill.bell(feature["name"], tuple(feature["shape"]), feature["salt"]))))
    return maps


def clip_size(maps):
    return tuple(round(side / META["spatial_scale"]) for side in maps[0].shape[-2:])


def boxes_named(name, size):
    counts = ARRAYS[f"head/in/{name}_counts"]
    return split_boxes(ARRAYS[f"head/in/{name}_boxes"], counts, [size] * len(counts))


@pytest.mark.parametrize("case", CASES)
def test_recorded_features(case):
    pooler = build_pooler(config_of(META["cases"][case]))
    slow, fast = maps = feature_maps()
    size = clip_size(maps)
    report = parity.Report("roi_pool")
    compared = {"slow_only_pooled", "fast_only_pooled"}
    for name in ("person", "objects", "no_objects"):
        boxes = boxes_named(name, size)
        report.close(name, pooler(maps, boxes), ARRAYS[f"{case}/out/{name}_pooled"])
        compared.add(f"{name}_pooled")
        if f"{case}/out/{name}_7x7" in ARRAYS:
            report.close(f"{name} bins", pooler.bins(maps, boxes), ARRAYS[f"{case}/out/{name}_7x7"])
            compared.add(f"{name}_7x7")
    persons = boxes_named("person", size)
    report.close("slow only", pooler((slow, None), persons), ARRAYS[f"{case}/out/slow_only_pooled"])
    report.close("fast only", pooler((None, fast), persons), ARRAYS[f"{case}/out/fast_only_pooled"])
    assert compared == {key.removeprefix(f"{case}/out/") for key in ARRAYS if key.startswith(f"{case}/out/")}
    report.finish()


@pytest.mark.parametrize("kind", ["align3d", "pooling3d"])
@pytest.mark.parametrize("mean_before", [True, False])
def test_no_boxes_at_all(kind, mean_before):
    pooler = RoiPooler3d(kind=kind, mean_before_pooler=mean_before)
    maps = [features.requires_grad_() for features in feature_maps()]
    nobody = [Boxes(torch.zeros(0, 4), clip_size(maps))] * len(maps[0])
    pooled = pooler(maps, nobody)
    assert pooled.shape == (0, sum(features.shape[1] for features in maps), 1, 1, 1)
    pooled.sum().backward()
    assert all(features.grad.abs().sum() == 0 for features in maps)


def test_half_precision_maps_do_not_move_the_boxes():
    size = (256, 464)
    exact = torch.rand(1, 2, 1, 16, 29).bfloat16()
    boxes = [Boxes(torch.tensor([[301.3, 77.7, 353.9, 171.1]]), size)]
    pooled = RoiPooler3d()([exact], boxes)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, RoiPooler3d()([exact.float()], boxes))


def test_unknown_kind():
    with pytest.raises(ValueError, match="got kind 'crop', expected 'align3d' or 'pooling3d'"):
        RoiPooler3d(kind="crop")
