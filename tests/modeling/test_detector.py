import pytest
import torch
from goldens import fill, read_record, record_files
from model_kit import REPOSITORY, clip_batch
from torch import nn

from alphaction.config import load_config
from alphaction.modeling import build_criterion, build_detection_model
from alphaction.modeling.detector import ActionDetector
from alphaction.modeling.head import ActionHead
from alphaction.modeling.pooler import RoiPooler3d
from alphaction.modeling.slowfast import Body, SlowFast
from alphaction.structures import Boxes


@pytest.mark.parametrize("path", sorted((REPOSITORY / "config_files").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_builds_with_the_recorded_names(path):
    cfg = load_config(path)
    if cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES == 0:  # the data set's number, which is not read here
        cfg.MODEL.ROI_ACTION_HEAD.NUM_CLASSES = 3
    with torch.device("meta"):
        model = build_detection_model(cfg)
    build_criterion(cfg)
    records = record_files("keys", "*")
    if path.stem in records:
        record = read_record(records[path.stem])
        state = [(key, [list(value.shape), str(value.dtype)[6:]]) for key, value in model.state_dict().items()]
        assert state == list(record["state_dict"].items())
        # The optimizer's state in a checkpoint goes by position: the order counts too.
        assert [name for name, _ in model.named_parameters()] == record["parameters"]


def small_detector(**backbone):
    backbone = SlowFast(Body(depths=(1, 1, 1, 1), width=8), alpha=2, beta=0.5, **backbone)
    return ActionDetector(
        backbone=backbone,
        pooler=RoiPooler3d(),
        head=ActionHead(sum(backbone.out_channels), dim=16, num_classes=5),
        pixel_mean=(100.0, 110.0, 120.0),
        pixel_std=(50.0, 50.0, 50.0),
    ).eval()


CASE = {"pad_to": 16, "slow_index": [8, 24], "fast_index": [0, 16, 32, 48], "clip_salt": 0}
CLIPS = [{"clip": "a", "height": 48, "width": 60}, {"clip": "b", "height": 64, "width": 40}]


def boxes_of_clips(*counts):
    return [
        Boxes(torch.from_numpy(fill.boxes_xyxy(clip["clip"], count, clip["width"], clip["height"])), size)
        for clip, count in zip(CLIPS, counts, strict=True)
        for size in [(clip["height"], clip["width"])]
    ]


def batch_of(*counts, objects=None):
    persons = boxes_of_clips(*counts)
    return clip_batch(CLIPS, CASE, persons=persons, regions=persons, objects=objects)


@torch.no_grad()
def test_forward_is_extract_then_classify():
    model = small_detector()
    batch = batch_of(2, 1)
    output = model(batch)
    assert output.logits.shape == (3, 5)
    assert list(output.features.person_counts) == [2, 1]
    assert output.features.person.shape == (3, sum(model.backbone.out_channels), 1, 1, 1)
    assert output.features.object is None
    assert torch.equal(model.classify(model.extract(batch)), output.logits)


@torch.no_grad()
def test_object_features_are_pooled_when_the_batch_has_boxes():
    features = small_detector().extract(batch_of(1, 1, objects=boxes_of_clips(0, 3)))
    assert features.object.shape[0] == 3 and list(features.object_counts) == [0, 3]


@torch.no_grad()
def test_the_padding_is_zero_after_normalisation_whatever_its_pixels():
    model = small_detector()
    seen = {}
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.update(slow=inputs[0], fast=inputs[1]))
    batch = batch_of(1, 1)
    model(batch)
    for name in ("slow", "fast"):
        for i, (clip, (height, width)) in enumerate(zip(seen[name], batch.sizes, strict=True)):
            assert clip[..., height:, :].abs().sum() == 0 and clip[..., :, width:].abs().sum() == 0
            pixels = getattr(batch, name)[i, :, :, :height, :width].float()
            expected = (pixels - model.pixel_mean) / model.pixel_std
            torch.testing.assert_close(clip[..., :height, :width], expected)


@torch.no_grad()
def test_persons_do_not_influence_each_other():
    model = small_detector()
    together = model(batch_of(3, 2)).logits
    alone = batch_of(3, 2)
    alone = clip_batch(CLIPS, CASE, persons=alone.persons, regions=[b[1:2] for b in alone.regions])
    torch.testing.assert_close(model(alone).logits, together[[1, 4]])


@pytest.mark.parametrize("counts", [(0, 0), (0, 2)], ids=["no persons at all", "one clip without persons"])
def test_clips_without_persons(counts):
    model = small_detector().train()
    output = model(batch_of(*counts))
    assert output.logits.shape == (sum(counts), 5)
    output.logits.sum().backward()
    assert model.backbone.slow.conv1.weight.grad is not None


@pytest.mark.parametrize("off", ["slow", "fast"])
@torch.no_grad()
def test_one_pathway(off):
    model = small_detector(**{off: False})
    assert model(batch_of(1, 1)).logits.shape == (2, 5)
    without = clip_batch(
        CLIPS, CASE | {f"{off}_index": None}, persons=boxes_of_clips(1, 1), regions=boxes_of_clips(1, 1)
    )
    assert model(without).logits.shape == (2, 5)


def test_the_state_dict_holds_no_pixel_statistics():
    model = small_detector()
    assert not [key for key in model.state_dict() if "pixel" in key]
    assert isinstance(model, nn.Module) and {name.split(".")[0] for name in model.state_dict()} == {
        "backbone",
        "roi_heads",
    }
