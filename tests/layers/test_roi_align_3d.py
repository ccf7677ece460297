import pytest
import torch
from goldens import fill, load, parity

from alphaction.layers import roi_align_3d, roi_pool_3d

META, ARRAYS = load("roi_pool")
CASES = sorted(name for name, case in META["cases"].items() if "kind" in case)


def selection(text):
    """'[:, ::2]' -> the index tuple."""
    parts = [part.strip() for part in text.strip("[]").split(",")]
    return tuple(slice(*(int(v) if v else None for v in part.split(":"))) for part in parts)


def feature_map():
    feature = META["feature"]
    return torch.from_numpy(fill.bell(feature["name"], tuple(feature["shape"]), feature["salt"]))


@pytest.mark.parametrize("case", CASES)
def test_recorded_output_and_gradient(case):
    options = META["cases"][case]
    x = feature_map().requires_grad_()
    rois = torch.from_numpy(ARRAYS["op/in/rois"])
    size = {"output_size": tuple(options["output_size"]), "spatial_scale": META["spatial_scale"]}
    if options["kind"] == "align":
        y = roi_align_3d(x, rois, sampling_ratio=options["sampling_ratio"], **size)
    else:
        y = roi_pool_3d(x, rois, **size)
    y.backward(torch.from_numpy(fill.bell(options["upstream_name"], tuple(y.shape), options["salt"])))
    report = parity.Report("roi_pool")
    report.close("y", y.detach()[selection(options["out_slice"])], ARRAYS[f"{case}/out/y"])
    report.close("grad", x.grad, ARRAYS[f"{case}/out/grad_x"])
    report.finish()


def test_align_equals_bilinear_interpolation_by_hand():
    """One bin with one sample at its centre: the mean of the four cells around it."""
    x = torch.arange(16.0).reshape(1, 1, 1, 4, 4)
    rois = torch.tensor([[0.0, 16.0, 16.0, 32.0, 32.0]])  # cells 1..2: centre (1.5, 1.5)
    y = roi_align_3d(x, rois, output_size=(1, 1), spatial_scale=1 / 16, sampling_ratio=1)
    assert y.item() == pytest.approx((5 + 6 + 9 + 10) / 4)


def test_each_frame_is_pooled_on_its_own():
    x = feature_map()
    rois = torch.from_numpy(ARRAYS["op/in/rois"])
    whole = roi_align_3d(x, rois, output_size=(2, 2), spatial_scale=1 / 16)
    for t in range(x.shape[2]):
        one = roi_align_3d(x[:, :, t : t + 1], rois, output_size=(2, 2), spatial_scale=1 / 16)
        assert torch.equal(whole[:, :, t : t + 1], one)


def test_no_regions():
    x = feature_map().requires_grad_()
    y = roi_align_3d(x, torch.zeros(0, 5), output_size=(7, 7), spatial_scale=1 / 16)
    assert y.shape == (0, *x.shape[1:3], 7, 7)
    y.sum().backward()
    assert x.grad.abs().sum() == 0
    assert roi_pool_3d(x, torch.zeros(0, 5), output_size=(7, 7), spatial_scale=1 / 16).shape == y.shape
