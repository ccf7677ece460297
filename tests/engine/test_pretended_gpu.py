"""Whole runs with MODEL.DEVICE cuda on a pretended GPU (`gpu_kit`): they compute what they do on the processor."""

import json
from dataclasses import replace

import numpy as np
import pytest
import run_kit
import torch
from gpu_kit import GPU, REAL, OnGpu, can_pretend, pretended_gpu, waits
from prediction_kit import MEMORY, save_network
from step_kit import CHANNELS, OPTS, WITH_MEMORY, batch_of

from alphaction import Predictor
from alphaction.config import load_config
from alphaction.modeling import build_criterion, build_detection_model, build_postprocess, detector
from alphaction.prediction.boxes.persons import Seen
from alphaction.structures import FeatureMemory, MemorySpan, render

pretended = pytest.mark.skipif(REAL, reason="of the pretended GPU only")
pytestmark = pytest.mark.skipif(not can_pretend(), reason="this PyTorch lets no GPU be pretended")

IA, PERSONS = "MODEL.IA_STRUCTURE.", "MODEL.ROI_PERSON_HEAD."
INTERACTION = [
    *[IA + "ACTIVE", True, IA + "DIM_IN", 576, IA + "DIM_INNER", 16, IA + "DIM_OUT", 16, IA + "MAX_OBJECT", 2],
    *[IA + "MAX_PERSON", 3, IA + "MAX_PER_SEC", 2, IA + "LENGTH", (2, 2), IA + "MEMORY_STEP", 0.5],
    *[IA + "USE_ZERO_INIT_CONV", False, IA + "STRUCTURE", "dense", IA + "I_BLOCK_LIST", ["P", "O", "M", "P", "M"]],
    *[IA + "ALLOW_NO_OBJECTS", True],
]
HEAD = [PERSONS + "ACTIVE", True, PERSONS + "CHANNELS", 8, PERSONS + "MLP_HEAD_DIM", 16, PERSONS + "MAX_PERSONS", 5]
FROZEN = ["MODEL.BACKBONE.FROZEN_BN", True]
SHORT = ["SOLVER.MAX_ITER", 3, "SOLVER.EVAL_PERIOD", 2, "SOLVER.CHECKPOINT_PERIOD", 2]
RUNS = {
    "exact": [*INTERACTION, "SOLVER.MAX_GRAD_NORM", 1.0],
    "float16": [
        *[*HEAD, "TEST.BOX_THRESH", 0, "TEST.BOXES", "both", "INPUT.TRANSFORM", "device", "INPUT.MIN_SIZE_TRAIN", 40],
        *[*FROZEN, "SOLVER.PRECISION", "float16", "SOLVER.EMA_DECAY", 0.5, "SOLVER.ACCUMULATION_STEPS", 2],
        *["MODEL.BACKBONE.ACTIVATION_CHECKPOINTING", True, "SOLVER.ON_NONFINITE", "skip"],
    ],
}


@pytest.fixture
def gpu(monkeypatch):
    with pretended_gpu(monkeypatch) as device:
        yield device


def figures(folder, name):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_learns_as_on_the_processor(name, config, tmp_path, monkeypatch):
    opts = [*RUNS[name], *SHORT]
    with pretended_gpu(monkeypatch):
        half = ["TEST.PRECISION", "float16"] if name == "float16" else []
        run_kit.train(config, tmp_path / "gpu", *opts, *half, "MODEL.DEVICE", "cuda")
    run_kit.train(config, tmp_path / "cpu", *opts, skip_final_test=True)
    ours, theirs = (figures(tmp_path / device, "loss_action") for device in ("gpu", "cpu"))
    assert len(ours) == 3 and np.isfinite(ours).all()
    if not REAL:  # which draws other numbers for dropout, and rounds to TF32
        assert ours == pytest.approx(theirs, rel=2e-3 if name == "float16" else 1e-5)
    assert figures(tmp_path / "gpu", "gpu_memory_mib")
    if name == "float16":
        scales = [figures(tmp_path / device, "loss_scale") for device in ("gpu", "cpu")]
        assert len(scales[0]) == 3 and (REAL or scales[0] == scales[1])
    assert (tmp_path / "gpu" / "inference" / "tiny_val").is_dir()
    # What was saved belongs to no device, and a run on the processor goes on from it.
    weights = run_kit.weights(tmp_path / "gpu" / "model_final.pth")
    assert {value.device.type for value in weights.values()} == {"cpu"}
    run_kit.train(config, tmp_path / "gpu", *opts, "SOLVER.MAX_ITER", 4, skip_final_test=True)
    assert len(figures(tmp_path / "gpu", "loss_action")) == 4


def test_prediction_gives_the_same_scores(config, tmp_path, monkeypatch):
    checkpoint = save_network(tmp_path, config, *MEMORY)
    rows = np.array([[4, 6, 28, 42], [36, 3, 56, 33]], np.float32)
    scores = []
    for device in ("cuda", "cpu"):
        with pretended_gpu(monkeypatch) if device == "cuda" else monkeypatch.context():
            predictor = Predictor.from_checkpoint(checkpoint, device=device)
            video = config.parent / "videos" / "yard.mp4"
            with predictor(video, boxes=lambda time, image: Seen(rows, np.ones(2, np.float32)), detect_rate=2.0) as run:
                scores.append(np.stack([person.scores for moment in run for person in moment.persons]))
    assert np.ptp(scores[1], axis=0).min() > 1e-3
    np.testing.assert_allclose(*scores, atol=5e-2 if REAL else 2e-6)


@pretended
def test_nothing_waits_for_the_gpu_within_a_pass(gpu):
    """From the batch to the scores of a network with memory and objects; else the GPU would stand still each time."""
    cfg = load_config("", list(map(str, [*OPTS, *WITH_MEMORY, IA + "I_BLOCK_LIST", ["P", "O", "M", "P"]])))
    model = build_detection_model(cfg).to(gpu)
    store = FeatureMemory(CHANNELS)
    store.put([("park", 1.0), ("park", 5.0)], torch.rand(5, CHANNELS), [3, 2])
    window = store.window([("park", float(i)) for i in range(4)], MemorySpan(5, 5, 1, 4), device=gpu)
    batch = batch_of(0)
    batch = replace(batch, objects=batch.persons[::-1]).to(gpu)
    for training in (False, True):
        waits.clear()
        output = model.train(training)(batch, window)
        build_postprocess(cfg)(output.logits)
        build_criterion(cfg)(output.logits, batch.labels, num_boxes=8.0)
        assert waits == []
    output.logits.tolist()
    output.logits.sum().item()
    assert waits == ["aten._local_scalar_dense.default"]


@pretended
def test_old_gpus_are_told_of_before_the_run(capsys, config, tmp_path, monkeypatch):
    with pretended_gpu(monkeypatch, major=7):
        for key in ("SOLVER.PRECISION", "TEST.PRECISION"):
            opts = [key, "bfloat16", "MODEL.DEVICE", "cuda"]
            message = run_kit.fail_train(capsys, config, tmp_path, *opts)
            assert f"{key}: got bfloat16, which pretended cannot do; expected float16 or float32" in message


def test_a_tensor_that_was_left_on_the_processor_is_noticed(config, tmp_path, monkeypatch):
    """The check itself: what a GPU refuses is refused."""
    mean = torch.zeros(3, 1, 1, 1)
    monkeypatch.setattr(detector, "network_clips", lambda batch, _, std: render.network_clips(batch, mean, std))
    with pretended_gpu(monkeypatch), pytest.raises(RuntimeError, match="(?i)expected all tensors"):
        run_kit.train(config, tmp_path, "MODEL.DEVICE", "cuda")


@pretended
def test_the_pretended_gpu_is_one(gpu):
    x = torch.arange(6.0).view(2, 3).to(gpu).requires_grad_()
    assert isinstance(x, OnGpu) and x.device == GPU
    with torch.autocast("cuda", dtype=torch.float16):
        product = x @ x.t()
    assert product.dtype is torch.float16
    product.float().sum().backward()
    assert x.grad.device == GPU and torch.equal(x.grad.cpu(), 2 * x.detach().cpu().sum(0).expand(2, 3))
    for wrong in (lambda: x + torch.ones(3), lambda: torch.zeros(2)[torch.tensor([0], device=gpu)], x.detach().numpy):
        with pytest.raises((RuntimeError, TypeError)):
            wrong()
