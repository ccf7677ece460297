"""Five training steps of the whole model, against the recorded ones."""

import numpy as np
import pytest
import torch
from goldens import available, fill, load, parity
from memory_kit import memory_window, penalised, recorded_pool
from model_kit import clip_batch, config_of, split_boxes, tensor

from alphaction.modeling import build_criterion
from alphaction.modeling.build import build_network
from alphaction.solver import build_optimizer, build_scheduler

LIMIT_FIRST = 1e-4  # first losses and logits
LIMIT_GRADIENT = 2e-3  # per tensor, relative to its norm (ReLU and max pooling switch sides)
LIMIT_PATH = 5e-3  # how far each tensor has moved, relative


def probe(name, value):
    return float(value @ fill.probe(name, value.size))


def is_zero_gradient(key):
    """A soft-max does not change when all keys are shifted: what is recorded for these is rounding noise."""
    return "ia_structure" in key and key.endswith("key.bias")


def check_gradients(report, gradients, arrays, name):
    recorded_norm = arrays[f"{name}/out/grad_norm"]
    for i, (key, gradient) in enumerate(gradients.items()):
        if is_zero_gradient(key):
            assert np.abs(gradient).max() < 1e-5, key
            continue
        norm = recorded_norm[i]
        head = arrays[f"{name}/out/grad_head32"][i][: gradient.size]
        compared = (
            ("norm", np.linalg.norm(gradient), norm, norm),
            ("probe", probe(key, gradient), arrays[f"{name}/out/grad_probe"][i], norm),
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


class Memory:
    """The original's memory in training: features of the last visit, scaled by how the loss has changed since."""

    def __init__(self, case, cfg):
        self.cfg = cfg
        self.active = cfg.MODEL.IA_STRUCTURE.ACTIVE
        self.pool = recorded_pool(case["initial_pool"], case["pool_feature"], salt=case["clip_salt"])
        self.tags = {(movie, second): tag for movie, second, _, tag in case["initial_pool"]}
        self.loss = 0.0  # of the iteration before; the first one has none, and so no memory

    def around(self, batch):
        if not self.active:
            return None
        pool = penalised(self.pool, self.tags, self.loss) if self.cfg.MODEL.IA_STRUCTURE.PENALTY else self.pool
        return memory_window(pool, batch.keys, self.cfg, channels=self.cfg.MODEL.IA_STRUCTURE.DIM_IN)

    def store(self, batch, features, loss):
        persons = features.person.detach().flatten(1).split(features.person_counts)
        self.pool.update(zip(batch.keys, persons, strict=True))
        self.tags.update(dict.fromkeys(batch.keys, loss))
        self.loss = loss


def batches_of(case, arrays, name):
    persons = objects = 0
    for clips in case["iterations"]:
        sizes = [(clip["height"], clip["width"]) for clip in clips]
        counts = {kind: [clip[kind] for clip in clips] for kind in ("persons", "objects")}
        rows = slice(persons, persons + sum(counts["persons"]))
        object_rows = slice(objects, objects + sum(counts["objects"]))
        persons, objects = rows.stop, object_rows.stop
        object_boxes = arrays.get(f"{name}/in/object_boxes")
        if object_boxes is not None:
            object_boxes = split_boxes(object_boxes[object_rows], counts["objects"], sizes)
        yield clip_batch(
            clips,
            case,
            persons=split_boxes(arrays[f"{name}/in/person_boxes"][rows], counts["persons"], sizes),
            regions=split_boxes(arrays[f"{name}/in/jittered_boxes"][rows], counts["persons"], sizes),
            objects=object_boxes,
            labels=tensor(arrays[f"{name}/in/labels"][rows]).bool(),
        )


@pytest.mark.parametrize("golden", available("train_"))
def test_recorded_training(golden):
    meta, arrays = load(golden)
    for name, case in meta["cases"].items():
        cfg = config_of(case)
        model, criterion = build_network(cfg), build_criterion(cfg)
        fill.fill_module(model, case["weight_salt"]).train()
        optimizer = build_optimizer(cfg, model)
        scheduler = build_scheduler(cfg, optimizer)
        parameters = dict(model.named_parameters())
        assert list(parameters) == case["param_names"]
        initial = {key: value.detach().double().flatten().numpy().copy() for key, value in parameters.items()}

        report = parity.Report(golden)
        memory = Memory(case, cfg)
        for step, batch in enumerate(batches_of(case, arrays, name), start=1):
            rates = [group["lr"] for group in optimizer.param_groups]
            report.close(f"rates {step}", rates, arrays[f"{name}/out/lr"][step - 1], 1e-12)

            output = model(batch, memory.around(batch))
            loss = criterion(output.logits, batch.labels, num_boxes=batch.num_persons)
            optimizer.zero_grad()
            loss.total.backward()
            if step == 1:
                report.close("logits", output.logits, arrays[f"{name}/out/logits_step1"], LIMIT_FIRST)
                gradients = {key: value.grad.double().flatten().numpy() for key, value in parameters.items()}
                check_gradients(report, gradients, arrays, name)
            limit = LIMIT_FIRST if step == 1 else None
            losses = torch.stack([loss.losses[key].detach() for key in case["loss_names"]])
            metrics = torch.stack([loss.metrics[key] for key in case["metric_names"]])
            report.close(f"losses {step}", losses, arrays[f"{name}/out/losses"][step - 1], limit)
            report.close(f"metrics {step}", metrics, arrays[f"{name}/out/metrics"][step - 1], limit)
            report.close(f"total {step}", loss.total, arrays[f"{name}/out/total_loss"][step - 1], limit)
            optimizer.step()
            scheduler.step()
            memory.store(batch, output.features, loss.total.item())
            if step in case["snapshot_steps"]:
                check_parameters(report, parameters, initial, arrays[f"{name}/out/params_after_{step}"], step)
        report.close("last logits", output.logits, arrays[f"{name}/out/logits_last"])
        for i, (movie, second, tag) in enumerate(case.get("pool_after", [])):
            report.close(f"tag of {movie} {second}", memory.tags[movie, second], tag)
            stored = memory.pool[movie, second].double()
            stats = [stored.sum().item(), len(stored)]
            report.close(f"memory of {movie} {second}", stats, arrays[f"{name}/out/pool_after_feature_stats"][i])
        report.finish()
