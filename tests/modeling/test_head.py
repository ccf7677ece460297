"""Pooler, head, losses and scores together, on the recorded small feature maps."""

import functools

import numpy as np
import pytest
import torch
from goldens import fill, load, parity
from memory_kit import complete, joined, recorded_pool, span_of, store_of
from model_kit import cases_of, config_of, split_boxes, tensor

from alphaction.engine.memory import penalty_factors
from alphaction.modeling import build_criterion, build_postprocess
from alphaction.modeling.build import build_head, build_pooler
from alphaction.structures import RoiFeatures

HEAD_PREFIX = "roi_heads.action."


def head_of(case, cfg):
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


def features_of(maps, pooler, inputs, regions, objects):
    return RoiFeatures(
        person=pooler(maps, regions),
        person_counts=inputs["person_counts"],
        object=pooler(maps, objects),
        object_counts=inputs["object_counts"],
    )


class RecordedChoices:
    """Hands out the recorded permutations, checking that they are asked for in the recorded order."""

    def __init__(self, case, array):
        self.case = case
        sizes = [entry["n"] for entry in case.get("permutations", [])]
        rows = [] if array is None else torch.from_numpy(array.astype(np.int64)).split(sizes)
        self.queues = {}
        for entry, permutation in zip(case.get("permutations", []), rows, strict=True):
            self.queues.setdefault(entry["site"], []).append(permutation)

    def take(self, site, count, slots):
        permutation = self.queues[site].pop(0)
        assert len(permutation) == count
        return permutation[:slots]

    def finished(self):
        return not any(self.queues.values())


def recorded_memory(inputs, case, cfg, choices):
    """The memory of the case, and the recorded choices of the clips' own persons, which the head itself makes.

    The original chooses clip by clip: first among the persons of the other seconds, then among the clip's own.
    """
    pool = recorded_pool(inputs["pool"], inputs["pool_feature"], salt=inputs["salt"], tag=inputs["tag"])
    store = store_of(pool, cfg, channels=case["dim_in"])
    limit = cfg.MODEL.IA_STRUCTURE.MAX_PER_SEC
    windows, own = [], []
    for key, count in zip(keys_of(inputs), inputs["person_counts"], strict=True):
        windows.append(store.window([key], span_of(cfg), choose=lambda n, k: choices.take("sample_mem_feature", n, k)))
        if count > limit:
            own.append(choices.take("sample_mem_feature", count, limit))
    return joined(windows), own


def keys_of(inputs):
    return list(zip(inputs["movies"], inputs["timestamps"], strict=True))


@pytest.mark.parametrize(("golden", "name"), cases_of("head_small"))
@torch.no_grad()
def test_recorded_logits_and_scores(golden, name):
    meta, arrays = load(golden)
    case = meta["cases"][name]
    tag = case["inputs"]
    inputs = meta["inputs"][tag]
    cfg = config_of(case)
    head, pooler = head_of(case, cfg).eval(), build_pooler(cfg)
    maps = feature_maps(inputs)
    persons = boxes_of(arrays[f"{tag}/in/person_boxes"], inputs, "person")
    regions = [boxes.extend(cfg.TEST.EXTEND_SCALE) for boxes in persons]
    objects = boxes_of(arrays[f"{tag}/in/object_boxes"], inputs, "object")
    features = features_of(maps, pooler, inputs, regions, objects)
    report = parity.Report("head_small")
    memory = None
    structure = head.feature_extractor.ia_structure
    if structure is not None:
        choices = RecordedChoices(case, arrays.get(f"{name}/in/permutations"))
        memory, own = recorded_memory(inputs, case, cfg, choices)
        if own or choices.queues:
            # Memory first, then objects and persons: the order in which the structure looks at them.
            structure.choose = lambda n, k: own.pop(0)[:k] if own else choices.take("separate_roi_per_person", n, k)
        if f"{name}/out/memory" in arrays:
            pending = list(own)
            seen = complete(structure, features, memory).flatten(1, 2)
            report.close("memory", seen, arrays[f"{name}/out/memory"])
            own.extend(pending)
        structure.register_forward_hook(
            lambda module, given, refined: report.close("ia_out", refined, arrays[f"{name}/out/ia_out"])
        )
    logits = head(features, memory)
    if structure is not None:
        assert choices.finished() and not own
    if f"{tag}/out/person_pooled" in arrays:
        report.close("person pooled", features.person.flatten(1), arrays[f"{tag}/out/person_pooled"])
        report.close("object pooled", features.object.flatten(1), arrays[f"{tag}/out/object_pooled"])
        report.close("regions", torch.cat([boxes.xyxy for boxes in regions]), arrays[f"{tag}/out/extended_boxes"])
    report.close("logits", logits, arrays[f"{name}/out/logits"])
    report.close("scores", build_postprocess(cfg)(logits), arrays[f"{name}/out/scores"])
    report.finish()


def training_memory(inputs, case, cfg):
    if not cfg.MODEL.IA_STRUCTURE.ACTIVE:
        return None
    pool = recorded_pool(inputs["pool"], inputs["pool_feature"], salt=inputs["salt"], tag=inputs["tag"])
    tags = {(movie, second): loss for movie, second, loss in inputs["loss_tags"]}
    store = store_of(pool, cfg, channels=case["dim_in"], tags=tags)
    weigh = None
    if cfg.MODEL.IA_STRUCTURE.PENALTY:
        # The original's "no iteration before" is a loss of 0.
        weigh = functools.partial(penalty_factors, now=case["cur_loss"] or None)
    return store.window(keys_of(inputs), span_of(cfg), weigh=weigh)


@pytest.mark.parametrize(("golden", "name"), cases_of("head_train_small"))
def test_recorded_losses_and_gradients(golden, name):
    meta, arrays = load(golden)
    case = meta["cases"][name]
    inputs = meta["inputs"][case["inputs"]]
    cfg = config_of(case)
    head, pooler, criterion = head_of(case, cfg).train(), build_pooler(cfg), build_criterion(cfg)
    maps = [features.requires_grad_() for features in feature_maps(inputs)]
    regions = boxes_of(arrays[f"{name}/out/jittered_boxes"], inputs, "person")
    objects = boxes_of(arrays[f"{case['inputs']}/in/object_boxes"], inputs, "object")
    features = features_of(maps, pooler, inputs, regions, objects)
    logits = head(features, training_memory(inputs, case, cfg))
    labels = tensor(arrays[f"{case['inputs']}/in/labels"]).bool()
    output = criterion(logits, labels, num_boxes=len(labels))
    output.total.backward()

    report = parity.Report("head_train_small")
    report.close("person pooled", features.person.detach().flatten(1), arrays[f"{name}/out/person_pooled"])
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
