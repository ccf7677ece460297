import goldens
import pytest
import torch
from torch import nn

from alphaction.checkpoint import load_weights
from alphaction.checkpoint.matching import match_names, plan_load
from alphaction.errors import CheckpointError

CASES = goldens.load("checkpoint")["key_matching"]


class _Named(nn.Module):
    """A model with the given names, each a tensor of one number."""

    def __init__(self, names, shape=(1,)):
        super().__init__()
        for name in names:
            *path, leaf = name.split(".")
            module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module._modules[part]
            module.register_parameter(leaf, nn.Parameter(torch.full(shape, -1.0)))


def _file(names):
    return {name: torch.tensor([float(i)]) for i, name in enumerate(names)}


def _bare(names):
    """Names without `module.` in front, where all have it."""
    wrapped = all(name.startswith("module.") for name in names)
    return {name: name[len("module.") :] if wrapped else name for name in names}


def _wanted(case):
    """The recorded matches, changed by rule where ours differ on purpose.

    Ours takes endings that begin after a dot only (QUIRKS 99), and removes `module.` in front only (QUIRKS 101).
    """
    models, files = _bare(case["model_keys"]), _bare(case["file_keys"])
    offered = [name for name in files if not (case["no_head"] and files[name].startswith("roi_heads."))]
    wanted = {}
    for model_name, recorded in case["result"].items():
        name = models[model_name]

        def fits(entry, name=name):
            return name == files[entry] or name.endswith("." + files[entry])

        if recorded is None or not fits(recorded):
            recorded = max((entry for entry in offered if fits(entry)), key=len, default=None)
        wanted[model_name] = recorded
    return wanted


@pytest.mark.parametrize("name", CASES)
def test_recorded_matches(name):
    case = CASES[name]
    model, file = _Named(case["model_keys"]), _file(case["file_keys"])
    if "error" in case:
        with pytest.raises(CheckpointError, match="holds no weights at all"):
            load_weights(model, file, source="f.pth", no_head=case["no_head"])
        return
    wanted = _wanted(case)
    models, files = _bare(case["model_keys"]), _bare(case["file_keys"])
    report = plan_load(model.state_dict(), file, source="f.pth", no_head=case["no_head"])
    assert report.loaded == {models[key]: files[entry] for key, entry in wanted.items() if entry is not None}
    assert list(report.missing) == [models[key] for key, entry in wanted.items() if entry is None]
    dropped = {files[key] for key in files if case["no_head"] and files[key].startswith("roi_heads.")}
    assert set(report.left_out) == dropped
    assert set(report.unexpected) == set(files.values()) - set(report.loaded.values()) - dropped

    if not report.loaded:
        with pytest.raises(CheckpointError, match=r"none of its \d+ tensors fits"):
            load_weights(model, file, source="f.pth", no_head=case["no_head"])
        return
    load_weights(model, file, source="f.pth", no_head=case["no_head"])
    for key, entry in wanted.items():
        assert model.state_dict()[key].item() == (-1.0 if entry is None else file[entry].item())


def test_where_the_rule_differs_from_the_recording():
    """Only for endings without a dot before them, and for `module.` inside a name."""
    for name, case in CASES.items():
        if "error" in case:
            continue
        models, files = _bare(case["model_keys"]), _bare(case["file_keys"])
        for key, recorded in case["result"].items():
            if _wanted(case)[key] == recorded:
                continue
            inside = any("module." in entry for entry in files.values())
            borderless = recorded is not None and not ("." + models[key]).endswith("." + files[recorded])
            assert inside or borderless, name


def test_longest_ending_wins_and_needs_a_dot():
    matched = match_names(["x.res2.conv1.weight", "x.myconv1.weight"], ["weight", "conv1.weight", "res2.conv1.weight"])
    assert matched == {"x.res2.conv1.weight": "res2.conv1.weight", "x.myconv1.weight": "weight"}


def test_many_names_are_matched_quickly():
    names = [
        f"backbone.slow.res_nl{i}.res_{j}.btnk.conv{k}.bn.weight" for i in range(9) for j in range(90) for k in range(9)
    ]
    assert match_names(names, [name.partition(".")[2] for name in names])[names[-1]] == names[-1].partition(".")[2]


def test_refuses_a_file_without_the_backbone():
    model = _Named(["backbone.conv.weight", "roi_heads.fc.weight"])
    with pytest.raises(CheckpointError) as error:
        load_weights(model, _file(["fc.weight", "encoder.weight"]), source="other.pth")
    assert "other.pth: none of its 2 tensors fits the backbone" in str(error.value)
    assert "fc.weight, encoder.weight; the model expects backbone.conv.weight" in str(error.value)
    assert all(value.item() == -1 for value in model.state_dict().values())


def test_class_counts_and_no_head_are_named_when_only_the_last_layer_differs():
    names = ["backbone.w", "roi_heads.action.predictor.cls_score.weight", "roi_heads.action.predictor.cls_score.bias"]
    model, file = _Named(names, shape=(8,)), {name: torch.zeros(80) for name in names}
    file["backbone.w"] = torch.ones(8)
    with pytest.raises(CheckpointError) as error:
        load_weights(model, file, source="ava.pth")
    assert "ava.pth: its last layer is made for 80 classes, this model for 8" in str(error.value)
    assert "--no-head" in str(error.value)
    assert "MODEL.ROI_ACTION_HEAD.NUM_CLASSES" in str(error.value)
    report = load_weights(model, file, source="ava.pth", no_head=True)
    assert list(report.left_out) == names[1:]
    assert model.backbone.w.sum() == 8


@pytest.mark.parametrize(
    ("name", "advice"), [("roi_heads.action.fc1.weight", "--no-head"), ("backbone.w", "configuration that the file")]
)
def test_other_shapes_are_collected_in_one_message(name, advice):
    names = [f"{name}{i}" for i in range(7)] + ["backbone.first"]
    model, file = _Named(names, shape=(2,)), {name: torch.zeros(3) for name in names}
    file["backbone.first"] = torch.zeros(2)
    with pytest.raises(CheckpointError) as error:
        load_weights(model, file, source="f.pth")
    message = str(error.value)
    assert "f.pth: 7 of its tensors have another shape than the model's" in message
    assert f"{name}0 ([3] in the file, [2] in the model)" in message
    assert "and 2 more" in message
    assert advice in message


def test_report_as_text():
    names = ["backbone.a", "backbone.sub.b", *(f"roi_heads.{i}" for i in range(8))]
    file = _file(["backbone.a", "b", "fc.weight", "roi_heads.0"])
    report = load_weights(_Named(names), file, source="data/w.pth", no_head=True)
    assert report.table().splitlines() == [
        "Weights from data/w.pth:",
        "  loaded               2 of the model's 10 tensors (backbone 2 of 2)",
        "  found by ending      1: backbone.sub.b <- b",
        "  kept as initialised  8: roi_heads.0, roi_heads.1, roi_heads.2, roi_heads.3, roi_heads.4, and 3 more",
        "  unused in the file   1: fc.weight",
        "  left out (--no-head) 1: roi_heads.0",
    ]


def test_counters_of_batch_norms_are_no_news():
    with_counters, frozen = (
        nn.Sequential(nn.BatchNorm1d(2)),
        nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)),
    )
    report = load_weights(frozen, with_counters.state_dict(), source="f")
    assert [name for name in report.unexpected if "num_batches" in name] == []
    state = {name: value for name, value in with_counters.state_dict().items() if "num_batches" not in name}
    assert list(load_weights(with_counters, state, source="f").missing) == []
