import logging
import os
import re
import resource
import shutil

import goldens
import pytest
import torch
from pretended import Pretended
from torch import nn

from alphaction.checkpoint import Checkpointer, read_checkpoint
from alphaction.errors import CheckpointError
from alphaction.solver import HalfPeriodCosine, WarmupMultiStep


class _Model(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.backbone = nn.Linear(2, 2)
        self.roi_heads = nn.ModuleDict({"action": nn.ModuleDict({"predictor": nn.Linear(2, classes)})})


@pytest.fixture(autouse=True)
def _log(caplog):
    caplog.set_level(logging.INFO)


def _run(folder, *, classes=3, value=None, lr=1.0, scheduler=None, **options):
    model = _Model(classes)
    if value is not None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(value)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    scheduler = WarmupMultiStep(optimizer, milestones=[5]) if scheduler is None else scheduler(optimizer)
    checkpointer = Checkpointer(folder, model, optimizer=optimizer, scheduler=scheduler, **options)
    return checkpointer, model, optimizer, scheduler


def _value(model):
    return model.backbone.weight[0, 0].item()


def test_content_of_a_checkpoint(tmp_path):
    checkpointer, *_ = _run(tmp_path, value=2.0, class_names=["sit", "stand", "fly"], config_text="A: 1\n")
    checkpointer.note_validation({"nest": 0.5, "empty": float("nan")}, iteration=10)
    checkpointer.note_validation({"nest": 0.25}, iteration=20)
    path = checkpointer.save("model_0000030", iteration=30, extra={"memory": {"v": [torch.ones(1)]}})
    assert path == tmp_path / "model_0000030.pth"
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_0000030.pth"]
    content = torch.load(path, weights_only=True)
    assert content["classes"] == {"ids": [1, 2, 3], "names": ["sit", "stand", "fly"]}
    assert content["config"] == "A: 1\n"

    other, model, _, _ = _run(tmp_path)
    state = other.resume_or_load("")
    assert (state.iteration, state.resumed, state.source) == (30, True, path)
    assert state.best == {"nest": {"mAP": 0.5, "iteration": 10}}
    assert state.class_names == ("sit", "stand", "fly")
    assert state.class_ids == (1, 2, 3)
    assert state.config_text == "A: 1\n"
    assert state.version
    assert state.extra["memory"]["v"][0].item() == 1
    assert _value(model) == 2.0
    # The best result goes on into later checkpoints.
    other.note_validation({"nest": 0.4}, iteration=40)
    assert read_checkpoint(other.save("model_0000040", iteration=40))["best"] == {"nest": {"mAP": 0.5, "iteration": 10}}


def test_other_ranks_and_no_folder_write_nothing(tmp_path, monkeypatch):
    recorded = goldens.load("checkpoint")["save"]
    assert not recorded["save_to_disk_false_writes"]
    assert not recorded["empty_save_dir_writes"]
    monkeypatch.chdir(tmp_path)
    _run(tmp_path, processes=Pretended(rank=1, size=2))[0].save("model_0000001", iteration=1)
    assert _run("")[0].save("model_0000001", iteration=1) is None
    assert os.listdir(tmp_path) == []
    # Without a folder no last_checkpoint of the working directory is taken (QUIRKS 96).
    (tmp_path / "last_checkpoint").write_text("nowhere.pth")
    assert _run("")[0].resume_or_load("").iteration == 0


def test_entries_that_could_not_be_read_back_are_refused(tmp_path):
    checkpointer, *_ = _run(tmp_path)
    with pytest.raises(TypeError, match=r"checkpoint\['memory'\]\[0\]: got object, expected tensors, numbers"):
        checkpointer.save("m", iteration=1, extra={"memory": [object()]})
    with pytest.raises(ValueError, match="extra: model are entries of the checkpoint itself"):
        checkpointer.save("m", iteration=1, extra={"model": {}})
    assert os.listdir(tmp_path) == []


def test_full_disk_keeps_the_old_files(tmp_path):
    checkpointer, *_ = _run(tmp_path, value=1.0)
    checkpointer.save("model_0000001", iteration=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        for name in ("model_0000002", "model_0000001"):
            with pytest.raises(CheckpointError) as error:
                checkpointer.save(name, iteration=2)
            assert f"{tmp_path / name}.pth: the checkpoint could not be written (File too large)" in str(error.value)
            assert "are whole" in str(error.value)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert _run(tmp_path)[0].resume_or_load("").iteration == 1


def test_folder_that_is_gone(tmp_path):
    with pytest.raises(CheckpointError, match="could not be written .No such file"):
        _run(tmp_path / "gone")[0].save("model_0000001", iteration=1)


def test_leftovers_of_killed_runs_are_removed_by_the_next_save_only(tmp_path):
    (tmp_path / ".model_0000005.pth.1234abcd.tmp").write_bytes(b"half")
    checkpointer, *_ = _run(tmp_path)
    assert len(os.listdir(tmp_path)) == 1
    checkpointer.save("model_0000001", iteration=1)
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_0000001.pth"]


def test_last_checkpoint_comes_first_and_says_so(tmp_path, caplog):
    _run(tmp_path, value=7.0)[0].save("model_0000003", iteration=3)
    (tmp_path / "w").mkdir()
    weight = str(_run(tmp_path / "w", value=5.0)[0].save("old", iteration=9))
    checkpointer, model, _, _ = _run(tmp_path)
    state = checkpointer.resume_or_load(weight, transfer=True, no_head=True)
    assert (state.iteration, _value(model)) == (3, 7.0)
    assert f"this run CONTINUES from {tmp_path / 'model_0000003.pth'}" in caplog.text
    assert f"Not used, because they only start a run: MODEL.WEIGHT {weight}, --transfer, --no-head." in caplog.text
    assert f"To start afresh delete {tmp_path / 'last_checkpoint'} or choose another OUTPUT_DIR" in caplog.text


def test_a_moved_folder_resumes(tmp_path):
    _run(_made(tmp_path / "a"), value=7.0)[0].save("model_0000003", iteration=3)
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert _run(tmp_path / "b")[0].resume_or_load("").iteration == 3


def _made(path):
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize("form", ["absolute", "relative", "moved", "newline"])
def test_reads_the_original_forms_of_last_checkpoint(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    out = _made(tmp_path / "data" / "out")
    _run(out, value=7.0)[0].save("model_0000003", iteration=3)
    text = {
        "absolute": f"{out}/model_0000003.pth",
        "relative": "data/out/model_0000003.pth",
        "moved": "/other/machine/out/model_0000003.pth",
        "newline": "data/out/model_0000003.pth\n",
    }[form]
    (out / "last_checkpoint").write_text(text)
    assert _run("data/out")[0].resume_or_load("").iteration == 3


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "empty_note", "binary_note"])
def test_damaged_last_checkpoint_falls_back_to_the_newest_whole_one(tmp_path, caplog, damage):
    for iteration in (2, 10, 9):
        _run(tmp_path, value=float(iteration))[0].save(f"model_{iteration:07d}", iteration=iteration)
    newest = _run(tmp_path, value=11.0)[0].save("model_0000011", iteration=11)
    data = newest.read_bytes()
    if damage == "missing":
        newest.unlink()
    elif damage == "truncated":
        newest.write_bytes(data[:-200])
    elif damage == "flipped":
        place = data.index(torch.full((2,), 11.0).numpy().tobytes())
        newest.write_bytes(data[:place] + b"\x01" + data[place + 1 :])
    else:
        newest.unlink()
        (tmp_path / "last_checkpoint").write_bytes(b"" if damage == "empty_note" else b"\xff\xfe\x00")
    checkpointer, model, _, _ = _run(tmp_path)
    assert checkpointer.resume_or_load("").iteration == 10
    assert _value(model) == 10.0
    assert "names a checkpoint that cannot be used" in caplog.text
    assert f"Using the newest whole checkpoint instead: {tmp_path / 'model_0000010.pth'}" in caplog.text


def test_fallback_prefers_the_finished_run(tmp_path):
    _run(tmp_path)[0].save("model_0000002", iteration=2)
    _run(tmp_path)[0].save("model_final", iteration=5)
    (tmp_path / "last_checkpoint").write_text("gone.pth")
    assert _run(tmp_path)[0].resume_or_load("").iteration == 5


def test_no_whole_checkpoint_at_all(tmp_path):
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    (tmp_path / "model_0000002.pth").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(CheckpointError) as error:
        _run(tmp_path)[0].resume_or_load("")
    assert "names a checkpoint that cannot be used" in str(error.value)
    assert f"To start afresh delete {tmp_path / 'last_checkpoint'}" in str(error.value)


def test_resuming_with_other_classes_names_what_to_do(tmp_path):
    path = _run(tmp_path)[0].save("model_0000001", iteration=1)
    with pytest.raises(
        CheckpointError, match="made for 3 classes, this model for 5 .*OUTPUT_DIR belongs to a run with"
    ):
        _run(tmp_path, classes=5)[0].resume_or_load("")
    (tmp_path / "last_checkpoint").unlink()
    with pytest.raises(CheckpointError, match="made for 3 classes, this model for 5 .*--no-head"):
        _run(tmp_path, classes=5)[0].resume_or_load(str(path))
    # The head is left out, but the optimizer still belongs to it.
    checkpointer, model, optimizer, _ = _run(tmp_path)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    path = checkpointer.save("model_0000002", iteration=2)
    (tmp_path / "last_checkpoint").unlink()
    with pytest.raises(CheckpointError, match="momentum_buffer of shape .3, 2. for a parameter of .*add --transfer"):
        _run(tmp_path, classes=5)[0].resume_or_load(str(path), no_head=True)
    assert _run(tmp_path, classes=5)[0].resume_or_load(str(path), no_head=True, transfer=True).iteration == 0


@pytest.mark.parametrize(("saved", "configured"), [("sgd", "adamw"), ("adamw", "sgd")])
def test_optimizer_of_another_kind(tmp_path, saved, configured):
    def run(name):
        model = _Model()
        optimizers = {"sgd": lambda: torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)}
        optimizers["adamw"] = lambda: torch.optim.AdamW(model.parameters(), lr=1.0)
        optimizer = optimizers[name]()
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        return Checkpointer(tmp_path, model, optimizer=optimizer)

    run(saved).save("model_0000001", iteration=1)
    with pytest.raises(CheckpointError, match=f"of SOLVER.OPTIMIZER {saved}, this run's is {configured}.*OUTPUT_DIR"):
        run(configured).resume_or_load("")


def test_changed_betas_are_named(tmp_path, caplog):
    def run(*betas):
        model = _Model()
        return Checkpointer(tmp_path, model, optimizer=torch.optim.AdamW(model.parameters(), betas=betas))

    run(0.9, 0.999).save("model_0000001", iteration=1)
    run(0.8, 0.95).resume_or_load("")
    assert "the configuration's settings are not used: betas (0.8, 0.95) (saved: (0.9, 0.999))" in caplog.text


def test_start_flags_without_weights_are_warned_of(tmp_path, caplog):
    _run(tmp_path)[0].resume_or_load("")
    assert "WARNING" not in caplog.text and "from scratch" in caplog.text
    _run(tmp_path)[0].resume_or_load("", transfer=True, no_head=True)
    assert "MODEL.WEIGHT is empty, so --transfer, --no-head have no effect: training starts from scratch" in caplog.text


def test_a_damaged_checkpoint_is_not_replaced_by_one_of_an_earlier_run(tmp_path):
    earlier = _run(tmp_path)[0]
    earlier.save("model_0000009", iteration=9)
    earlier.save("model_final", iteration=9)
    (tmp_path / "last_checkpoint").unlink()  # started afresh in the same folder
    later = _run(tmp_path)[0]
    later.save("model_0000002", iteration=2)
    later.save("model_0000004", iteration=4).write_bytes(b"")
    assert _run(tmp_path)[0].resume_or_load("").source == tmp_path / "model_0000002.pth"


def test_optimizer_of_another_model(tmp_path):
    checkpointer, model, _, _ = _run(tmp_path)
    model.roi_heads.requires_grad_(False)
    optimizer = torch.optim.SGD(model.backbone.parameters(), lr=1.0)
    checkpointer = Checkpointer(tmp_path, model, optimizer=optimizer)
    checkpointer.save("model_0000001", iteration=1)
    with pytest.raises(CheckpointError, match="2 parameters in the file, 4 to train in this model"):
        _run(tmp_path)[0].resume_or_load("")


def test_another_schedule_needs_adjust_lr(tmp_path, caplog):
    _run(tmp_path)[0].save("model_0000001", iteration=1)
    cosine = lambda optimizer: HalfPeriodCosine(optimizer, max_iter=10)  # noqa: E731
    with pytest.raises(CheckpointError, match="'warmup_multi_step', this one 'half_period_cosine'.*--adjust-lr"):
        _run(tmp_path, scheduler=cosine)[0].resume_or_load("")
    checkpointer, _, optimizer, scheduler = _run(tmp_path, scheduler=cosine)
    assert checkpointer.resume_or_load("", adjust_lr=True).iteration == 1
    assert "this configuration's schedule (--adjust-lr)" in caplog.text


def test_a_finished_cosine_goes_on_longer_with_adjust_lr_alone(tmp_path):
    def cosine(max_iter):
        return lambda optimizer: HalfPeriodCosine(optimizer, max_iter=max_iter)

    run = _run(tmp_path, lr=0.25, scheduler=cosine(10))[0]
    run.resume_or_load("")
    path = run.save("model_final", iteration=10)
    expected = (
        f"{path}: SOLVER.MAX_ITER is 20, but the learning rate of its schedule falls to 0 at iteration 10: the "
        "iterations after that would learn nothing. Add --adjust-lr to go on with the configuration's schedule (rate "
        "0.125 at iteration 10), or set SOLVER.MAX_ITER 10."
    )
    with pytest.raises(CheckpointError, match=f"^{re.escape(expected)}$"):
        _run(tmp_path, lr=0.25, scheduler=cosine(20))[0].resume_or_load("")
    elsewhere = _run(tmp_path / "new", lr=0.25, scheduler=cosine(20))[0]
    with pytest.raises(CheckpointError, match=re.escape(f"{expected} To start a new run from its weights add --tr")):
        elsewhere.resume_or_load(str(path))
    for max_iter in (10, 5):  # not longer: as saved
        checkpointer, _, _, scheduler = _run(tmp_path, lr=0.25, scheduler=cosine(max_iter))
        assert checkpointer.resume_or_load("").iteration == scheduler.max_iter == 10
    checkpointer, _, optimizer, scheduler = _run(tmp_path, lr=0.25, scheduler=cosine(20))
    checkpointer.resume_or_load("", adjust_lr=True)
    assert scheduler.rate(10) == pytest.approx(0.125)
    path = checkpointer.save("model_final", iteration=12)  # once adjusted, the flag is no longer needed
    assert _run(tmp_path, lr=0.25, scheduler=cosine(20))[0].resume_or_load("").iteration == 12


def test_changed_numbers_are_named(tmp_path, caplog):
    _run(tmp_path)[0].save("model_0000001", iteration=1)
    changed = lambda optimizer: WarmupMultiStep(optimizer, milestones=[7, 9])  # noqa: E731
    checkpointer, _, optimizer, scheduler = _run(tmp_path, lr=3.0, scheduler=changed)
    optimizer.param_groups[0]["weight_decay"] = 0.5
    checkpointer.resume_or_load("")
    assert "base_lrs 3.0 (saved: 1.0)" in caplog.text
    assert "milestones [7, 9] (saved: [5])" in caplog.text
    assert "weight_decay 0.5 (saved: 0)" in caplog.text
    assert "Add --adjust-lr" in caplog.text
    assert (scheduler.milestones, optimizer.param_groups[0]["lr"]) == ([5], 1.0)


def test_changed_class_names_are_named(tmp_path, caplog):
    _run(tmp_path, class_names=["a", "b", "c"])[0].save("model_0000001", iteration=1)
    _run(tmp_path, class_names=["a", "x", "c"])[0].resume_or_load("")
    assert "was trained with other classes (there 'b' and now 'x')" in caplog.text


def test_from_scratch(tmp_path, caplog):
    state = _run(tmp_path)[0].resume_or_load("", transfer=True, no_head=True)
    assert (state.iteration, state.source, state.resumed) == (0, None, False)
    assert "training starts from scratch" in caplog.text


def test_weights_to_test(tmp_path, caplog):
    model = _Model()
    out = _made(tmp_path / "out")
    checkpointer = Checkpointer(out, model)
    with pytest.raises(CheckpointError, match="there are no weights to test: MODEL.WEIGHT is empty and .*out holds no"):
        checkpointer.load_for_test(command_line="", config="")
    paths = {}
    for name, value in (("config", 1.0), ("line", 2.0)):
        paths[name] = str(_run(_made(tmp_path / name), value=value)[0].save("w", iteration=1))
    checkpointer.load_for_test(command_line="", config=paths["config"])
    assert _value(model) == 1.0
    _run(out, value=3.0)[0].save("model_0000004", iteration=4)
    assert checkpointer.load_for_test(command_line="", config=paths["config"]).iteration == 4
    assert _value(model) == 3.0
    assert f"Testing {out / 'model_0000004.pth'} (from {out / 'last_checkpoint'})" in caplog.text
    checkpointer.load_for_test(command_line=paths["line"], config=paths["config"])
    assert _value(model) == 2.0
    assert f"Testing {paths['line']} (given on the command line; {out / 'last_checkpoint'} is not used)" in caplog.text


def test_weights_to_test_without_a_head(tmp_path, caplog):
    torch.save({"backbone.weight": torch.ones(2, 2), "backbone.bias": torch.ones(2)}, tmp_path / "b.pth")
    Checkpointer(tmp_path, _Model()).load_for_test(command_line="", config=str(tmp_path / "b.pth"))
    assert "2 tensors of the model are not in" in caplog.text
    assert "results will be poor" in caplog.text


@pytest.mark.parametrize("path", sorted(goldens.FOLDER.glob("reference_checkpoint_*.pth")), ids=lambda path: path.stem)
def test_resumes_a_training_checkpoint_of_the_original(path, tmp_path):
    wanted = goldens.load("reference_checkpoint")
    model = nn.Module()
    for name, value in wanted["model"].items():
        *parts, leaf = name.removeprefix("module.").split(".")
        module = model
        for part in parts:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module._modules[part]
        module.register_parameter(leaf, nn.Parameter(torch.zeros_like(torch.tensor(value))))
    optimizer = torch.optim.SGD([{"params": [p]} for p in model.parameters()], lr=1.0)
    scheduler = WarmupMultiStep(optimizer, milestones=[1])
    state = Checkpointer(tmp_path, model, optimizer=optimizer, scheduler=scheduler).resume_or_load(str(path))
    assert state.iteration == wanted["iteration"]
    assert [value.tolist() for value in model.state_dict().values()] == list(wanted["model"].values())
    assert [group["lr"] for group in optimizer.param_groups] == wanted["lr"]
    assert scheduler.base_lrs == wanted["scheduler"]["base_lrs"]
    assert scheduler.get_lr() == pytest.approx(wanted["lr"], rel=1e-12)
    assert set(state.extra["person_pool"]) == {entry["movie"] for entry in wanted["pool"]}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    scheduler.step()
