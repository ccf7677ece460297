"""Whole short runs with INPUT.TRANSFORM "device": training, testing, a memory, and what is seen of clips."""

import json

import numpy as np
import pytest
import run_kit
import torch
import yaml

from alphaction.preparation.look.build import Looker

DEVICE = ["INPUT.TRANSFORM", "device"]
SIZES = ["INPUT.MIN_SIZE_TRAIN", 40, "INPUT.MIN_SIZE_TEST", 40]  # not the videos' own: frames are resized


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss_action"] for line in lines if "loss_action" in line]


def test_training_sees_almost_the_same_clips(config, tmp_path):
    """The same order, draws and dropout: the first losses agree closely."""
    run_kit.train(config, tmp_path / "exact", *SIZES, skip_final_test=True)
    run_kit.train(config, tmp_path / "device", *DEVICE, *SIZES, "SOLVER.ACCUMULATION_STEPS", 2, skip_final_test=True)
    exact, device = losses(tmp_path / "exact"), losses(tmp_path / "device")
    assert len(exact) == len(device) == 4
    assert exact != device
    assert device[0] == pytest.approx(exact[0], rel=0.05)


def test_a_trained_model_scores_alike_either_way(config, tmp_path):
    run_kit.train(config, tmp_path, *SIZES, skip_final_test=True)
    scores = []
    for opts in ([], DEVICE):
        run_kit.test(config, tmp_path, *SIZES, *opts)
        [file] = (tmp_path / "inference").glob("*/predictions.pth")
        scores.append(torch.load(file, weights_only=True)["scores"])
    assert not torch.equal(*scores)
    assert torch.allclose(*scores, atol=0.02)


def test_workers_and_a_memory(config, tmp_path):
    ia = "MODEL.IA_STRUCTURE."
    blocks = [ia + "ACTIVE", True, ia + "DIM_IN", 576, ia + "DIM_INNER", 16, ia + "DIM_OUT", 16]
    blocks += [ia + "I_BLOCK_LIST", ["P", "M"], ia + "LENGTH", (1, 1), ia + "MAX_PER_SEC", 2]
    run_kit.train(config, tmp_path, *DEVICE, *blocks, "DATALOADER.NUM_WORKERS", 1)
    assert all(np.isfinite(losses(tmp_path)))


def test_clips_are_drawn_as_the_network_sees_them(config):
    name = yaml.safe_load(config.read_text())["DATASETS"]["TRAIN"]
    name = name.strip('()", ') if isinstance(name, str) else name[0]
    exact, device = (
        Looker(name, config_file=str(config), opts=list(map(str, opts)), train=True).look(0) for opts in ([], DEVICE)
    )
    assert exact.size == device.size
    assert np.abs(exact.frames.astype(int) - device.frames.astype(int)).mean() < 3
