"""The recorded table of start flags and weight files (64 rows) against ours.

Rules by which ours differ on purpose:
- `last_checkpoint` comes first and the run continues: `--transfer` and `--no-head` do not count then (QUIRKS 97).
- a Caffe2 file (.pkl) is recorded with a name table made for this purpose; the names of `pkl_row` are of the real one.
"""

import pickle

import goldens
import pytest
import torch
from torch import nn

from alphaction.checkpoint import Checkpointer
from alphaction.checkpoint.caffe2 import caffe2_name
from alphaction.solver import Warmup, WarmupMultiStep

GOLDEN = goldens.load("checkpoint")
ROWS = GOLDEN["load_flags"]
FLAGS = ("transfer", "no_head", "adjust_lr")


def _row(**wanted):
    return next(row for row in ROWS if all(row[key] == value for key, value in wanted.items()))


PLAIN = dict.fromkeys(FLAGS, False)
NEW = _row(last_checkpoint=False, weight_file="none", **PLAIN)
OLD = _row(last_checkpoint=False, weight_file="full", **PLAIN)
LAST = _row(last_checkpoint=True, weight_file="none", **PLAIN)


class _Model(nn.Module):
    """Parameters by the recorded names, filled with a number."""

    def __init__(self, row, value):
        super().__init__()
        for name in row["weights"]:
            *path, leaf = name.split(".")
            module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module._modules[part]
            module.register_parameter(leaf, nn.Parameter(torch.full((2,), value)))


def _run(row, value):
    """A run with the settings that a row shows: model, optimizer, schedule at its start."""
    model = _Model(row, value)
    settings, schedule = row["optimizer"], row["scheduler"]
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=schedule["base_lr"],
        momentum=settings["momentum"],
        weight_decay=settings["weight_decay"],
    )
    # Of the warm-up only the first rate of the new run is recorded.
    factor = NEW["optimizer"]["lr"] / NEW["scheduler"]["base_lr"]
    scheduler = WarmupMultiStep(
        optimizer,
        milestones=schedule["milestones"],
        gamma=schedule["gamma"],
        warmup=Warmup(factor, schedule["warmup_iters"]),
    )
    return model, optimizer, scheduler


def _write(folder, name, row):
    """A training checkpoint with the content that a row shows."""
    value = next(iter(row["weights"].values()))
    model, optimizer, scheduler = _run(row, value)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(row["iteration"]):
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    pool = {"movie": {900 + i: i for i in range(row["memory_pool_entries"])}} if row["memory_pool_entries"] else {}
    checkpointer = Checkpointer(folder, model, optimizer=optimizer, scheduler=scheduler)
    return checkpointer.save(name, iteration=row["iteration"], extra={"person_pool": pool})


def _pkl_row(row):
    """The row with the last layer's bias under its real name; the third tensor has no Caffe2 name, as recorded."""
    real = {"roi_heads.action.bias": "roi_heads.action.predictor.cls_score.bias"}
    return row | {"weights": {real.get(name, name): value for name, value in row["weights"].items()}}


def _weight_file(folder, kind):
    if kind == "none":
        return ""
    path = _write(folder, "old", _pkl_row(OLD) if kind.startswith("pkl") else OLD)
    content = torch.load(path)
    if kind.startswith("pkl"):
        blobs = {caffe2_name(name) or name: value.numpy() for name, value in content["model"].items()}
        path = folder / "old.pkl"
        path.write_bytes(pickle.dumps({"blobs": blobs} if kind == "pkl_blobs" else blobs, protocol=2))
        return str(path)
    if kind.startswith("module"):
        content["model"] = {f"module.{name}": value for name, value in content["model"].items()}
    if kind == "no_pool":
        del content["person_pool"]
    if kind.endswith("bare"):
        content = content["model"]
    if kind == "weights_key_only":
        content = {"model": content["model"]}
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: "-".join(str(row[key]) for key in ("last_checkpoint", "weight_file", *FLAGS))
)
def test_row(row, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "out").mkdir()
    if row["last_checkpoint"]:
        _write(tmp_path / "out", f"model_{LAST['iteration']:07d}", LAST)
    weight = _weight_file(tmp_path / "weights", row["weight_file"])

    new = NEW
    if row["weight_file"].startswith("pkl") and not row["last_checkpoint"]:
        new, row = _pkl_row(NEW), _pkl_row(row)
    model, optimizer, scheduler = _run(new, next(iter(NEW["weights"].values())))
    checkpointer = Checkpointer(tmp_path / "out", model, optimizer=optimizer, scheduler=scheduler)
    flags = {flag: row[flag] for flag in FLAGS}
    state = checkpointer.resume_or_load(weight, **flags)
    if row["last_checkpoint"] and (row["transfer"] or row["no_head"]):
        key = {"last_checkpoint": True, "weight_file": row["weight_file"], "adjust_lr": row["adjust_lr"]}
        row = _row(**key, transfer=False, no_head=False)

    assert state.iteration == row["iteration"]
    assert {name: value[0].item() for name, value in model.state_dict().items()} == row["weights"]
    pool = state.extra.get("person_pool", {})
    assert sum(map(len, pool.values())) == row["memory_pool_entries"]
    group = optimizer.param_groups[0]
    assert group["lr"] == pytest.approx(row["optimizer"]["lr"], rel=1e-12)
    assert group["weight_decay"] == row["optimizer"]["weight_decay"]
    assert group["momentum"] == row["optimizer"]["momentum"]
    has_buffers = any(entry.get("momentum_buffer") is not None for entry in optimizer.state.values())
    assert has_buffers == row["optimizer"]["has_momentum_buffers"]
    assert scheduler.last_epoch == row["scheduler"]["last_epoch"]
    assert scheduler.base_lrs[0] == row["scheduler"]["base_lr"]
    assert scheduler.milestones == row["scheduler"]["milestones"]
    assert scheduler.gamma == row["scheduler"]["gamma"]
    assert scheduler.warmup.iters == row["scheduler"]["warmup_iters"]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    scheduler.step()
    assert group["lr"] == pytest.approx(row["lr_after_one_more_scheduler_step"], rel=1e-12)


def test_loading_for_a_test(tmp_path):
    path = _write(tmp_path, "old", OLD)
    model = _Model(NEW, 0.0)
    state = Checkpointer("", model).load_for_test(command_line=str(path), config="")
    assert {name: value[0].item() for name, value in model.state_dict().items()} == GOLDEN["test_time_load"]["weights"]
    assert state.iteration == OLD["iteration"]


def test_saved_entries(tmp_path):
    recorded = GOLDEN["save"]
    path = _write(tmp_path, recorded["file"].removesuffix(".pth"), OLD)
    assert path.name == recorded["file"]
    content = torch.load(path)
    assert set(recorded["keys"]) <= set(content)
    assert list(content["model"]) == recorded["model_keys"]
    own_to_torch = {"_get_lr_called_within_step", "_is_initial"}
    assert set(recorded["scheduler_keys"]) - own_to_torch <= set(content["scheduler"])
    # Relative to the folder, so that it may be moved (QUIRKS 105).
    assert (tmp_path / "last_checkpoint").read_text() == recorded["last_checkpoint_text"].replace("<dir>/", "")
