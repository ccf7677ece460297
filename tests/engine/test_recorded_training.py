"""Whole trainings, a few iterations of the engine's own loop with its memory, against the recorded ones."""

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from goldens import available, fill, load, parity
from memory_kit import loss_of, recorded_pool, span_of, store_of
from model_kit import clip_batch, config_of, filled_model, split_boxes, tensor

from alphaction.engine.memory import PersonMemory
from alphaction.engine.milestones import Milestones, Periods
from alphaction.engine.progress import Progress
from alphaction.engine.step import TrainStep
from alphaction.engine.train import TrainOptions, train
from alphaction.modeling import build_criterion
from alphaction.solver import build_optimizer, build_scheduler

LIMIT_FIRST = 1e-4  # first losses and logits
LIMIT_GRADIENT = 2e-3  # per tensor, relative to its norm (ReLU and max pooling switch sides)
LIMIT_PATH = 5e-3  # how far each tensor has moved, relative


@functools.cache
def signs_of(name, size):
    """Those of the kit's probe."""
    return np.sign(fill.probe(name, size)).astype(np.int8)


def probe(name, value):
    return float(value @ signs_of(name, value.size).astype(np.float32)) / math.sqrt(value.size)


def is_zero_gradient(key):
    """A soft-max does not change when all keys are shifted: what is recorded for these is rounding noise."""
    return "ia_structure" in key and key.endswith("key.bias")


def check_gradients(report, gradients, recorded):
    recorded_norm = recorded["out/grad_norm"]
    for i, (key, gradient) in enumerate(gradients.items()):
        if is_zero_gradient(key):
            assert np.abs(gradient).max() < 1e-5, key
            continue
        norm = recorded_norm[i]
        head = recorded["out/grad_head32"][i][: gradient.size]
        compared = (
            ("norm", np.linalg.norm(gradient), norm, norm),
            ("probe", probe(key, gradient), recorded["out/grad_probe"][i], norm),
            ("first values", gradient[: head.size], head, np.abs(gradient).max()),
        )
        for what, got, want, scale in compared:
            difference = np.abs(np.asarray(got) - want).max() / scale
            report.close(f"{what} of the gradient of {key}", difference, 0.0, LIMIT_GRADIENT)


def check_parameters(report, parameters, initial, recorded, step):
    for (key, value), row in zip(parameters.items(), recorded, strict=True):
        if is_zero_gradient(key):
            continue
        value = value.detach().double().flatten().numpy()
        moved = value - initial[key]
        total, absolute, norm, projection = row
        scale = max(norm, 1e-30)
        compared = (
            ("sum", value.sum(), total, absolute),
            ("abs-sum", np.abs(value).sum(), absolute, absolute),
            ("way", np.linalg.norm(moved), norm, scale),
            ("direction", probe(key, moved), projection, scale),
        )
        for what, got, want, scale in compared:
            report.close(f"{what} of {key} after {step}", abs(got - want) / scale, 0.0, LIMIT_PATH)


def batches_of(case, arrays, name):
    persons = objects = first = 0
    for clips in case["iterations"]:
        sizes = [(clip["height"], clip["width"]) for clip in clips]
        counts = {kind: [clip[kind] for clip in clips] for kind in ("persons", "objects")}
        rows = slice(persons, persons + sum(counts["persons"]))
        object_rows = slice(objects, objects + sum(counts["objects"]))
        persons, objects = rows.stop, object_rows.stop
        object_boxes = arrays.get(f"{name}/in/object_boxes")
        if object_boxes is not None:
            object_boxes = split_boxes(object_boxes[object_rows], counts["objects"], sizes)
        batch = clip_batch(
            clips,
            case,
            persons=split_boxes(arrays[f"{name}/in/person_boxes"][rows], counts["persons"], sizes),
            regions=split_boxes(arrays[f"{name}/in/jittered_boxes"][rows], counts["persons"], sizes),
            objects=object_boxes,
            labels=tensor(arrays[f"{name}/in/labels"][rows]).bool(),
        )
        yield replace(batch, indices=range(first, first + len(clips)))
        first += len(clips)


class Watch:
    """Stands around the loop: criterion, checkpointer and writer in one, comparing what passes by."""

    def __init__(self, case, arrays, name, report, cfg):
        self.case, self.report = case, report
        self.recorded = {key[len(f"{name}/") :]: value for key, value in arrays.items() if key.startswith(f"{name}/")}
        self.model = filled_model(cfg, case["weight_salt"]).train()
        self.parameters = dict(self.model.named_parameters())
        assert list(self.parameters) == case["param_names"]
        self.initial = {key: value.detach().flatten().numpy().copy() for key, value in self.parameters.items()}
        self.optimizer = build_optimizer(cfg, self.model)
        self.scheduler = build_scheduler(cfg, self.optimizer)
        self.optimizer.register_step_pre_hook(lambda *_: self.before_update())
        self._criterion = build_criterion(cfg)
        self.step = 0
        self.saved = []

    def criterion(self, logits, labels, num_boxes):
        self.step += 1
        self.logits = logits.detach().clone()
        if self.step == 1:
            self.report.close("logits", self.logits, self.recorded["out/logits_step1"], LIMIT_FIRST)
        result = self._criterion(logits, labels, num_boxes)
        limit = LIMIT_FIRST if self.step == 1 else None
        for what, values, names in (
            ("losses", result.losses, self.case["loss_names"]),
            ("metrics", result.metrics, self.case["metric_names"]),
        ):
            values = torch.stack([values[name].detach() for name in names])
            self.report.close(f"{what} {self.step}", values, self.recorded[f"out/{what}"][self.step - 1], limit)
        total = self.recorded["out/total_loss"][self.step - 1]
        self.report.close(f"total {self.step}", result.total, total, limit)
        return result

    def before_update(self):
        rates = [group["lr"] for group in self.optimizer.param_groups]
        self.report.close(f"rates {self.step}", rates, self.recorded["out/lr"][self.step - 1], 1e-12)
        if self.step == 1:
            gradients = {key: value.grad.double().flatten().numpy() for key, value in self.parameters.items()}
            check_gradients(self.report, gradients, self.recorded)

    def write(self, scalars, iteration):
        if iteration in self.case["snapshot_steps"]:
            recorded = self.recorded[f"out/params_after_{iteration}"]
            check_parameters(self.report, self.parameters, self.initial, recorded, iteration)

    def save(self, name, *, iteration, extra):
        self.saved.append(name)


def memory_of(case, cfg, keys):
    pool = recorded_pool(case["initial_pool"], case["pool_feature"], salt=case["clip_salt"])
    tags = {(movie, second): tag for movie, second, _, tag in case["initial_pool"]}
    return PersonMemory(
        store_of(pool, cfg, channels=cfg.MODEL.IA_STRUCTURE.DIM_IN, tags=tags),
        span_of(cfg),
        key_of=keys.__getitem__,
        device="cpu",
        penalty=cfg.MODEL.IA_STRUCTURE.PENALTY,
        random_choice=True,
    )


@pytest.mark.parametrize("golden", available("train_"))
def test_recorded_training(golden):
    meta, arrays = load(golden)
    for name, case in meta["cases"].items():
        cfg = config_of(case)
        report = parity.Report(golden)
        watch = Watch(case, arrays, name, report, cfg)
        batches = list(batches_of(case, arrays, name))
        keys = [key for batch in batches for key in batch.keys]
        memory = memory_of(case, cfg, keys) if watch.model.needs_memory else None
        device = torch.device("cpu")
        periods = Periods(len(batches), checkpoint=1000, validation=0)
        train(
            watch.model,
            TrainStep(watch.model, watch.criterion, watch.optimizer, device=device, memory=memory),
            batches,
            watch.optimizer,
            watch.scheduler,
            milestones=Milestones(watch.model, watch, None, periods=periods, validated=0, memory=memory),
            progress=Progress(watch, max_iter=len(batches), period=1, device=device),
            options=TrainOptions(max_iter=len(batches)),
            start_iter=0,
        )
        assert watch.saved == [saved for saved, _ in case["checkpointer_calls"]]
        report.close("last logits", watch.logits, arrays[f"{name}/out/logits_last"])
        for i, (movie, second, tag) in enumerate(case.get("pool_after", [])):
            report.close(f"tag of {movie} {second}", np.array(loss_of(memory.store, (movie, second))), np.array(tag))
            stored = memory.store.get((movie, second)).double()
            stats = [stored.sum().item(), len(stored)]
            report.close(f"memory of {movie} {second}", stats, arrays[f"{name}/out/pool_after_feature_stats"][i])
        report.finish()
