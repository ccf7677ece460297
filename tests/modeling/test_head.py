"""Pooler, head, losses and scores together, on the recorded small feature maps."""

import numpy as np
import pytest
import torch
from goldens import fill, load, parity
from model_kit import cases_of, config_of, split_boxes, tensor

from alphaction.modeling import build_criterion, build_postprocess
from alphaction.modeling.build import build_head, build_pooler
from alphaction.structures import RoiFeatures

HEAD_PREFIX = "roi_heads.action."


def head_of(case, cfg):
    if cfg.MODEL.IA_STRUCTURE.ACTIVE:
        pytest.skip("interaction structure: issue 3")
    head = build_head(cfg, dim_in=case["dim_in"])
    names = {f"{HEAD_PREFIX}{key}": list(value.shape) for key, value in head.state_dict().items()}
    assert names == case["keys"]
    return fill.fill_module(head, case["weight_salt"], HEAD_PREFIX)


def feature_maps(inputs):
    maps = []
    for path in ("slow", "fast"):
        values = fill.bell(inputs[path]["name"], tuple(inputs[path]["shape"]), inputs["salt"])
        maps.append(torch.from_numpy(np.abs(values)))
    return maps


def boxes_of(array, inputs, kind):
    width, height = inputs["image_size_wh"]
    counts = inputs[f"{kind}_counts"]
    return split_boxes(array, counts, [(height, width)] * len(counts))


def features_of(person, counts):
    return RoiFeatures(person=person, person_counts=counts)


@pytest.mark.parametrize(("golden", "name"), cases_of("head_small"))
@torch.no_grad()
def test_recorded_logits_and_scores(golden, name):
    meta, arrays = load(golden)
    case = meta["cases"][name]
    inputs = meta["inputs"][case["inputs"]]
    cfg = config_of(case)
    head, pooler = head_of(case, cfg).eval(), build_pooler(cfg)
    maps = feature_maps(inputs)
    persons = boxes_of(arrays[f"{case['inputs']}/in/person_boxes"], inputs, "person")
    regions = [boxes.extend(cfg.TEST.EXTEND_SCALE) for boxes in persons]
    pooled = pooler(maps, regions)
    logits = head(features_of(pooled, inputs["person_counts"]))
    report = parity.Report("head_small")
    if f"{case['inputs']}/out/person_pooled" in arrays:
        report.close("person pooled", pooled.flatten(1), arrays[f"{case['inputs']}/out/person_pooled"])
        objects = boxes_of(arrays[f"{case['inputs']}/in/object_boxes"], inputs, "object")
        report.close("object pooled", pooler(maps, objects).flatten(1), arrays[f"{case['inputs']}/out/object_pooled"])
        enlarged = torch.cat([boxes.xyxy for boxes in regions])
        report.close("regions", enlarged, arrays[f"{case['inputs']}/out/extended_boxes"])
    report.close("logits", logits, arrays[f"{name}/out/logits"])
    report.close("scores", build_postprocess(cfg)(logits), arrays[f"{name}/out/scores"])
    report.finish()


@pytest.mark.parametrize(("golden", "name"), cases_of("head_train_small"))
def test_recorded_losses_and_gradients(golden, name):
    meta, arrays = load(golden)
    case = meta["cases"][name]
    inputs = meta["inputs"][case["inputs"]]
    cfg = config_of(case)
    head, pooler, criterion = head_of(case, cfg).train(), build_pooler(cfg), build_criterion(cfg)
    maps = [features.requires_grad_() for features in feature_maps(inputs)]
    regions = boxes_of(arrays[f"{name}/out/jittered_boxes"], inputs, "person")
    pooled = pooler(maps, regions)
    logits = head(features_of(pooled, inputs["person_counts"]))
    labels = tensor(arrays[f"{case['inputs']}/in/labels"]).bool()
    output = criterion(logits, labels, num_boxes=len(labels))
    output.total.backward()

    report = parity.Report("head_train_small")
    report.close("person pooled", pooled.detach().flatten(1), arrays[f"{name}/out/person_pooled"])
    report.close("logits", logits, arrays[f"{name}/out/logits"])
    compared = (
        ("losses", output.losses, case["loss_names"]),
        ("metrics", output.metrics, case["metric_names"]),
    )
    for kind, values, names in compared:
        assert set(values) == set(names)
        report.close(kind, torch.stack([values[key].detach() for key in names]), arrays[f"{name}/out/{kind}"])
    weights = {f"loss_{group.name}": group.weight for group in criterion.groups}
    assert weights == case["loss_weights"]
    report.close("total", output.total, arrays[f"{name}/out/total_loss"])
    for path, features in zip(("slow", "fast"), maps, strict=True):
        recorded = arrays[f"{name}/out/grad_{path}"]  # every so many channels
        step = features.shape[1] // recorded.shape[1]
        report.close(f"{path} gradient", features.grad[:, ::step], recorded)
    parameters = {f"{HEAD_PREFIX}{key}": value for key, value in head.named_parameters()}
    assert list(parameters) == case["param_names"]
    sums = []
    for key, value in parameters.items():
        gradient = value.grad.double().flatten()
        sums.append([gradient.norm().item(), gradient @ torch.from_numpy(fill.probe(key, gradient.numel()))])
    report.close("parameter gradients", np.array(sums), arrays[f"{name}/out/param_grad_norm_probe"])
    report.finish()
