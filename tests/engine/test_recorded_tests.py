"""Whole tests, from clips and boxes to scores, against the recorded ones: one pass, or two with the memory."""

from dataclasses import replace

import pytest
import torch
from goldens import available, load, parity
from memory_kit import recorded_pool, span_of, store_of
from model_kit import clip_batch, config_of, filled_model, split_boxes
from pairs import computed

from alphaction.engine.memory import PersonMemory
from alphaction.engine.predict import predict, predict_with_memory
from alphaction.modeling import build_postprocess
from alphaction.structures import ClipKey


class Spy:
    """A model and the scores made of its logits; what passed by is kept."""

    def __init__(self, case, cfg):
        model = filled_model(cfg, case["weight_salt"])
        self.model = model.train()  # the test must switch to evaluation itself
        self._scores_of = build_postprocess(cfg)
        pooled = model._pooled
        model._pooled = lambda maps, batch: self._keep(self.features, pooled(maps, batch))
        if model.needs_memory:
            structure = model.roi_heads["action"].feature_extractor.ia_structure
            structure.register_forward_hook(lambda module, given, output: self._keep(self.refined, output))
        self.clear()

    def clear(self):
        self.features, self.refined, self.logits = [], [], []

    def postprocess(self, logits):
        return self._scores_of(self._keep(self.logits, logits))

    def _keep(self, into, value):
        into.append(value)
        return value


def batches_of(case, arrays, name, cfg):
    """The case's batches as the loader makes them: persons as they are, regions enlarged, objects if there are any."""
    clips = [clip for batch in case["batches"] for clip in batch]
    sizes = [(clip["height"], clip["width"]) for clip in clips]
    persons = split_boxes(arrays[f"{name}/in/person_boxes"], [clip["persons"] for clip in clips], sizes)
    objects = None
    if f"{name}/in/object_boxes" in arrays:
        objects = split_boxes(arrays[f"{name}/in/object_boxes"], [clip["objects"] for clip in clips], sizes)
    first = 0
    for clips in case["batches"]:
        rows = slice(first, first + len(clips))
        first = rows.stop
        regions = [boxes.extend(cfg.TEST.EXTEND_SCALE) for boxes in persons[rows]]
        batch = clip_batch(
            clips, case, persons=persons[rows], regions=regions, objects=None if objects is None else objects[rows]
        )
        yield replace(batch, indices=range(rows.start, rows.stop))


def run(spy, batches, case, cfg, *, pool=None, at_once=64):
    """The test as the engine does it, with `pool` in the memory beforehand."""
    spy.clear()
    if not spy.model.needs_memory:
        return predict(spy.model, batches, spy.postprocess, "cpu", progress=False)
    keys = [ClipKey(clip["movie"], clip["timestamp"]) for batch in case["batches"] for clip in batch]
    memory = PersonMemory(
        store_of(pool or {}, cfg, channels=cfg.MODEL.IA_STRUCTURE.DIM_IN),
        span_of(cfg),
        key_of=keys.__getitem__,
        device="cpu",
        penalty=False,
        random_choice=False,
    )
    return predict_with_memory(
        spy.model, batches, spy.postprocess, "cpu", memory=memory, clips_at_once=at_once, progress=False
    )


def check(golden):
    meta, arrays = load(golden)
    report = parity.Report(golden)
    for name, case in meta["cases"].items():
        if "same_as" in case:
            continue  # the same clips with more in the memory, below
        cfg = config_of(case)
        spy = Spy(case, cfg)
        batches = list(batches_of(case, arrays, name, cfg))
        predictions = run(spy, batches, case, cfg)
        report.close("boxes", predictions.boxes, arrays[f"{name}/out/boxes"])
        for kind in ("person", "object"):
            if f"{name}/out/{kind}_pooled" in arrays:
                pooled = torch.cat([getattr(features, kind).flatten(1) for features in spy.features])
                report.close(f"{kind} pooled", pooled, arrays[f"{name}/out/{kind}_pooled"])
        report.close("logits", torch.cat(spy.logits), arrays[f"{name}/out/logits"])
        report.close("scores", predictions.scores, arrays[f"{name}/out/scores"])
        assert all(module.training for module in (spy.model, spy.model.roi_heads))

        for again, other in meta["cases"].items():
            if other.get("same_as") == name:
                pool = recorded_pool(other["extra_pool"], other["pool_feature"], salt=case["clip_salt"])
                predictions = run(spy, batches, case, cfg, pool=pool, at_once=1)
                report.close(f"{again} ia_out", torch.cat(spy.refined), arrays[f"{again}/out/ia_out"])
                report.close(f"{again} logits", torch.cat(spy.logits), arrays[f"{again}/out/logits"])
                report.close(f"{again} scores", predictions.scores, arrays[f"{again}/out/scores"])
    report.finish()


@pytest.fixture(scope="module")
def checked(request):
    with computed(check, request, "test_recorded_test") as result:
        yield result


@pytest.mark.parametrize("golden", available("e2e_"))
def test_recorded_test(golden, checked):
    checked(golden)
