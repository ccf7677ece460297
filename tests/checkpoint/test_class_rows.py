import logging

import pytest
import torch
from torch import nn

from alphaction.checkpoint import Checkpointer
from alphaction.checkpoint.class_rows import SWITCH, ClassNames
from alphaction.config import get_cfg
from alphaction.errors import CheckpointError

THEIRS = ["stand", " Sit", "walk", "twice", "Twice"]
OURS = ["SIT", "fly", "walk ", "twice"]


class _Model(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.backbone = nn.Linear(2, 2)
        predictor = nn.ModuleDict({"cls_score": nn.Linear(2, classes)})
        self.roi_heads = nn.ModuleDict({"action": nn.ModuleDict({"predictor": predictor})})

    @property
    def last(self):
        return self.roi_heads["action"]["predictor"]["cls_score"]


@pytest.fixture(autouse=True)
def _log(caplog):
    caplog.set_level(logging.INFO)


def _file(folder, names):
    """Row i of the last layer is filled with i + 1."""
    model = _Model(len(names))
    with torch.no_grad():
        model.last.weight.copy_(torch.arange(1.0, len(names) + 1)[:, None].expand(-1, 2))
        model.last.bias.copy_(torch.arange(1.0, len(names) + 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    return str(Checkpointer(folder, model, optimizer=optimizer, class_names=names).save("old", iteration=5))


def _start(path, names, *, folder="", by_name=True, **flags):
    model = _Model(len(names))
    torch.nn.init.constant_(model.last.weight, -1)
    torch.nn.init.constant_(model.last.bias, -1)
    checkpointer = Checkpointer(folder, model, class_names=names, rows_by_name=by_name)
    return model, checkpointer.resume_or_load(path, **flags)


def test_names_meet_whatever_their_case_and_blanks():
    assert ClassNames(THEIRS, OURS).pairs() == [(0, 1), (2, 2)]


def test_rows_of_the_same_class_are_carried_over(tmp_path, caplog):
    model, state = _start(_file(tmp_path, THEIRS), OURS, transfer=True)
    assert model.last.bias.tolist() == [2, -1, 3, -1]
    assert model.last.weight[:, 0].tolist() == [2, -1, 3, -1]
    assert state.iteration == 0
    assert "classes carried over 2: SIT, walk" in caplog.text
    assert "classes initialised  2: fly, twice" in caplog.text
    assert "classes not used     3: stand, twice, Twice" in caplog.text


def test_another_order_of_the_same_classes(tmp_path, caplog):
    path = _file(tmp_path, ["a", "b", "c"])
    model, _ = _start(path, ["c", "a", "b"], transfer=True)
    assert model.last.bias.tolist() == [3, 1, 2]
    model, _ = _start(path, ["c", "a", "b"], transfer=True, by_name=False)
    assert model.last.bias.tolist() == [1, 2, 3]
    assert f"with other classes (there 'a' and now 'c'). Rows go by position; by name with {SWITCH} True" in caplog.text


def test_without_the_switch_both_counts_and_both_ways_out_are_named(tmp_path):
    path = _file(tmp_path, THEIRS)
    with pytest.raises(CheckpointError) as error:
        _start(path, OURS, transfer=True, by_name=False)
    assert "its last layer is made for 5 classes, this model for 4 (MODEL.ROI_ACTION_HEAD.NUM_CLASSES)" in str(
        error.value
    )
    assert "--no-head" in str(error.value)
    assert f"{SWITCH} True and --transfer" in str(error.value) and "(2 of them)" in str(error.value)


def test_a_resumed_run_keeps_its_rows(tmp_path):
    """The optimizer's state goes by position; only a new run may rearrange them."""
    path = _file(tmp_path, THEIRS)
    with pytest.raises(CheckpointError, match=f"{SWITCH} True and --transfer"):
        _start(path, OURS)
    model, state = _start(path, THEIRS)
    assert (state.iteration, model.last.bias.tolist()) == (5, [1, 2, 3, 4, 5])


def test_no_head_comes_first(tmp_path):
    model, _ = _start(_file(tmp_path, THEIRS), OURS, transfer=True, no_head=True)
    assert model.last.bias.tolist() == [-1] * 4


def test_a_file_without_class_names(tmp_path, caplog):
    path = tmp_path / "bare.pth"
    torch.save(_Model(3).state_dict(), path)
    _start(str(path), ["a", "b", "c"])
    assert f"bare.pth does not name its classes: {SWITCH} has no effect" in caplog.text
    with pytest.raises(CheckpointError) as error:
        _start(str(path), ["a", "b"])
    assert SWITCH not in str(error.value)


def test_no_class_in_common(tmp_path, caplog):
    model, _ = _start(_file(tmp_path, ["a", "b"]), ["x", "y", "z"], transfer=True)
    assert model.last.bias.tolist() == [-1] * 3
    assert "has no class of the same name: the last layer starts as initialised" in caplog.text


def test_a_file_that_names_another_number_of_classes_than_it_has_rows(tmp_path):
    path = tmp_path / "odd.pth"
    torch.save({"model": _Model(3).state_dict(), "classes": {"names": ["a", "b"]}}, path)
    with pytest.raises(CheckpointError, match="odd.pth: names 2 classes, but .*cls_score.weight has 3 rows"):
        _start(str(path), ["a", "c"])


@pytest.mark.parametrize("names", [torch.ones(3), 7, None, {"a": 1}, "abc"])
def test_names_that_are_no_list_are_none(tmp_path, names):
    path = tmp_path / "odd.pth"
    torch.save({"model": _Model(3).state_dict(), "classes": {"names": names, "ids": names}}, path)
    assert _start(str(path), ["a", "b", "c"])[1].class_names == ()


def test_the_switch_is_a_key():
    tree = get_cfg()
    for part in SWITCH.split("."):
        tree = tree[part]
    assert tree is False
