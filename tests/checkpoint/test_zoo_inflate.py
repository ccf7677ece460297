"""torchvision's networks for images in the slow pathway."""

import pytest
import torch
import zoo_kit
from torchvision.models import resnet50
from torchvision.models.feature_extraction import create_feature_extractor

from alphaction.checkpoint import load_weights, read_checkpoint
from alphaction.checkpoint.zoo import ImageWeights, inflated, is_image_network
from alphaction.checkpoint.zoo.inflate import image_name
from alphaction.errors import CheckpointError
from alphaction.modeling.build import build_backbone

FRAMES = 13  # three-frame kernels of nine blocks see up to nine frames to each side; the middle one sees no edge


class _Slow(torch.nn.Module):
    def __init__(self, opts=(), *, name="slow_r50_8x8_imagenet", device="cpu"):
        super().__init__()
        with torch.device(device):
            self.backbone = build_backbone(zoo_kit.config(name, opts))


@pytest.fixture(scope="module")
def images():
    torch.manual_seed(0)
    network = resnet50(weights=None).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return network


@pytest.fixture(scope="module")
def file(images, tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "resnet50.pth"
    torch.save(images.state_dict(), path)
    return path


def test_a_clip_that_stands_still_has_the_images_features(images, file):
    weights = read_checkpoint(file)["model"]
    assert isinstance(weights, ImageWeights)
    model = _Slow(zoo_kit.WHOLE_CLIPS).eval()
    report = load_weights(model, weights, source="resnet50.pth")
    assert not report.missing and sorted(report.unexpected) == ["fc.bias", "fc.weight"]
    image = torch.rand(1, 3, 64, 64)
    frames = 2 * FRAMES - 1
    with torch.no_grad():
        maps = model.backbone(image[:, :, None].expand(-1, -1, frames, -1, -1).contiguous(), None).slow
        expected = create_feature_extractor(images, {"layer4": "y"})(image)["y"]
    torch.testing.assert_close(maps[:, :, FRAMES - 1], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert not torch.allclose(maps[:, :, 0], expected, rtol=1e-2), "at the ends temporal kernels see beyond the clip"


def test_lateral_channels_begin_at_zero(images):
    expected = _Slow(name="slowfast_r50_8x8_pyslowfast", device="meta").state_dict()
    weights = inflated(images.state_dict(), expected)
    first = "backbone.slow.res_nl1.res_0.btnk.conv1.conv.weight"
    assert weights[first].shape == expected[first].shape == (64, 80, 1, 1, 1)
    assert weights[first][:, 64:].count_nonzero() == 0 and weights[first][:, :64].count_nonzero() > 0
    temporal = "backbone.slow.res_nl4.res_0.btnk.conv1.conv.weight"
    kernel = images.state_dict()["layer4.0.conv1.weight"]
    torch.testing.assert_close(weights[temporal][:, :1024].sum(2), kernel)
    assert not any(name.startswith("backbone.fast.") for name in weights)


def test_every_tensor_of_the_slow_pathway_has_a_name(images):
    names = {name for name in _Slow(device="meta").state_dict() if "num_batches" not in name}
    assert {image_name(name) for name in names} == {
        name for name in images.state_dict() if not name.startswith("fc.") and "num_batches" not in name
    }
    assert is_image_network(images.state_dict()) and not is_image_network({"conv1.weight": torch.ones(64, 3, 7, 7)})


def test_a_network_without_slow_pathway(images):
    model = torch.nn.ModuleDict({"backbone": torch.nn.ModuleDict({"fast": torch.nn.Linear(1, 1)})})
    with pytest.raises(CheckpointError, match="none of its .* tensors fits the backbone"):
        load_weights(model, ImageWeights(images.state_dict()), source="resnet50.pth")


@pytest.mark.parametrize(("blocks", "there"), [(7, 6), (5, 6)])
def test_another_depth_is_refused(images, blocks, there):
    weights = ImageWeights({n: t for n, t in images.state_dict().items() if not n.startswith(f"layer3.{blocks}.")})
    if blocks > there:
        weights |= {n.replace("layer3.5.", "layer3.6."): t for n, t in weights.items() if n.startswith("layer3.5.")}
    with pytest.raises(
        CheckpointError, match=r"a network of another depth \(slow\.res_nl3: \d blocks in the file, 6 in"
    ):
        load_weights(_Slow(), ImageWeights(weights), source="resnet.pth")
