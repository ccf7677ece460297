"""Five training steps of the whole model, against the recorded ones."""

import numpy as np
import pytest
import torch
from goldens import available, fill, load, parity
from model_kit import clip_batch, config_of, split_boxes, tensor

from alphaction.modeling import build_criterion, build_detection_model
from alphaction.solver import build_optimizer, build_scheduler

LIMIT_FIRST = 1e-4  # first losses and logits
LIMIT_GRADIENT = 2e-3  # per tensor, relative to its norm (ReLU and max pooling switch sides)
LIMIT_PATH = 5e-3  # how far each tensor has moved, relative


def probe(name, value):
    return float(value @ fill.probe(name, value.size))


def check_gradients(report, gradients, arrays, name):
    recorded_norm = arrays[f"{name}/out/grad_norm"]
    for i, (key, gradient) in enumerate(gradients.items()):
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


@pytest.mark.parametrize("golden", available("train_"))
def test_recorded_training(golden):
    meta, arrays = load(golden)
    for name, case in meta["cases"].items():
        cfg = config_of(case)
        if cfg.MODEL.IA_STRUCTURE.ACTIVE:
            pytest.skip("interaction structure: issue 3")
        model, criterion = build_detection_model(cfg), build_criterion(cfg)
        fill.fill_module(model, case["weight_salt"]).train()
        optimizer = build_optimizer(cfg, model)
        scheduler = build_scheduler(cfg, optimizer)
        parameters = dict(model.named_parameters())
        assert list(parameters) == case["param_names"]
        initial = {key: value.detach().double().flatten().numpy().copy() for key, value in parameters.items()}

        report = parity.Report(golden)
        first = 0
        for step, clips in enumerate(case["iterations"], start=1):
            rows = slice(first, first + sum(clip["persons"] for clip in clips))
            first = rows.stop
            counts, sizes = (
                [clip["persons"] for clip in clips],
                [(clip["height"], clip["width"]) for clip in clips],
            )
            batch = clip_batch(
                clips,
                case,
                persons=split_boxes(arrays[f"{name}/in/person_boxes"][rows], counts, sizes),
                regions=split_boxes(arrays[f"{name}/in/jittered_boxes"][rows], counts, sizes),
                labels=tensor(arrays[f"{name}/in/labels"][rows]).bool(),
            )
            rates = [group["lr"] for group in optimizer.param_groups]
            report.close(f"rates {step}", rates, arrays[f"{name}/out/lr"][step - 1], 1e-12)

            output = model(batch)
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
            if step in case["snapshot_steps"]:
                check_parameters(report, parameters, initial, arrays[f"{name}/out/params_after_{step}"], step)
        report.close("last logits", output.logits, arrays[f"{name}/out/logits_last"])
        report.finish()
