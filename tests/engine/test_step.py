"""One iteration of training: in parts, by several processes, in half precision, with batches that are left out."""

import logging
import math

import process_kit
import pytest
import torch
from step_kit import COUNTS, PLAIN, SCENARIOS, WITH_MEMORY, Run, batch_of, spoiled

from alphaction.engine.step import StepOptions, TrainingError

LIMIT = 1e-6  # relative, of figures and of the weights as a whole
# Of how far a single tensor has moved: where rounding takes an input of a ReLU to the other side of zero, the gradients
# below it jump by about 1e-3 (seen in the third iteration of a network this small; 1e-5 before).
LIMIT_TENSOR = 3e-3
ROUNDING = 1e-7  # of the weights themselves: float32 has no smaller steps


@pytest.fixture
def log(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("alphaction"), "propagate", True)
    caplog.set_level(logging.INFO, logger="alphaction")
    return caplog


def check_same(ours, theirs, start):
    """Figures, weights and memory of two runs that began with the weights `start`."""
    assert len(ours["figures"]) == len(theirs["figures"])
    for a, b in zip(ours["figures"], theirs["figures"], strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a == pytest.approx(b, rel=LIMIT), (a, b)
    moved = {name: norm_between(value, start[name]) for name, value in theirs["weights"].items()}
    off = {name: norm_between(value, ours["weights"][name]) for name, value in theirs["weights"].items()}
    norms = {name: value.double().norm().item() for name, value in theirs["weights"].items()}
    assert math.hypot(*off.values()) < LIMIT * math.hypot(*norms.values())
    for name in off:
        # The gradient of what a soft-max does not see (a shift of all keys) is rounding noise.
        if moved[name] > 1e-5 * math.hypot(*moved.values()):
            assert off[name] <= LIMIT_TENSOR * moved[name] + ROUNDING * norms[name], name
    if theirs["memory"] is not None:
        assert list(ours["memory"]) == list(theirs["memory"])
        for key, value in theirs["memory"].items():
            torch.testing.assert_close(ours["memory"][key], value, rtol=1e-5, atol=1e-5)


def norm_between(a, b):
    return (a.double() - b.double()).norm().item()


def changed(before, after):
    return [name for name in before if not torch.equal(before[name], after[name])]


# ------------------------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize("opts", [[], WITH_MEMORY], ids=["plain", "memory"])
@pytest.mark.parametrize("parts", [3, 9])
def test_parts_are_the_whole_batch(opts, parts):
    whole, cut = Run(*opts), Run(*opts, options=StepOptions(parts=parts))
    start = whole.weights
    assert {"loss_pose_action", "loss_object_interaction", "loss_person_interaction"} <= whole(PLAIN).figures[0].keys()
    check_same(cut(PLAIN).result(), whole.result(), start)
    assert len(changed(start, whole.weights)) > 20


def test_a_part_without_persons():
    batch = batch_of(0, (2, 0, 1))
    whole, cut = Run(*WITH_MEMORY), Run(*WITH_MEMORY, options=StepOptions(parts=3))
    start = whole.weights
    check_same(cut([batch]).result(), whole([batch]).result(), start)


def test_accuracy_of_parts_is_over_the_persons_with_a_label():
    pose = PLAIN[0].labels[:, :3].any(dim=1)
    assert 0 < pose.sum() < sum(COUNTS)  # else this would show nothing
    whole, cut = Run()([PLAIN[0]]), Run(options=StepOptions(parts=4))([PLAIN[0]])
    assert cut.figures[0]["accuracy_pose_action"] == pytest.approx(whole.figures[0]["accuracy_pose_action"], rel=1e-9)
    hits = whole.figures[0]["accuracy_pose_action"] * pose.sum().item()
    assert hits == pytest.approx(round(hits), abs=1e-5)


# --------------------------------------------------------------------------------------------------------- processes


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What each of two processes says of every scenario."""
    folder = tmp_path_factory.mktemp("two")
    with process_kit.start(f"import step_kit; step_kit.member({str(folder)!r})", 2, folder) as members:
        for one in members:
            assert one.ends(within=120) == 0, one.text
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", [name for name, scenario in SCENARIOS.items() if scenario[-1] is not None])
def test_two_processes_train_as_one_does(two_processes, name):
    opts, how, *_, batches = SCENARIOS[name]
    alone = Run(*opts, **how)
    start = alone.weights
    alone(batches)
    for result in two_processes:
        check_same(result[name], alone.result(), start)
    ours, theirs = (result[name]["weights"] for result in two_processes)
    assert not changed(ours, theirs)
    assert two_processes[0][name]["figures"] == two_processes[1][name]["figures"]


def test_all_processes_end_with_the_clips_of_the_one_that_fails(two_processes):
    (first, first_told), (second, second_told) = (result["not finite"] for result in two_processes)
    assert first == second and [first_told, second_told] == [False, True]
    assert "the loss is nan in iteration 1 (loss_pose_action nan" in first
    assert "clips of this batch (process 1): park at 6 s, park at 7 s" in first and "park at 5 s" not in first


# -------------------------------------------------------------------------------------------------------- not finite


@pytest.mark.parametrize("parts", [1, 4])
def test_a_batch_that_is_left_out_leaves_nothing(parts, log):
    options = StepOptions(skip_nonfinite=True, parts=parts)
    trainable = ["MODEL.BACKBONE.FROZEN_BN", False]
    run = Run(*WITH_MEMORY, *trainable, options=options, decay=0.9)
    run([PLAIN[0]])
    before, state = run.result(), {k: v.clone() for k, v in run.averaged.state_dict().items()}
    momentum = [value["momentum_buffer"].clone() for value in run.optimizer.state.values()]
    run([spoiled(1, 2)])
    after = run.result()
    assert run.figures[1] == {"skipped_batches": 1.0}
    assert not changed(before["weights"], after["weights"]) and not changed(state, run.averaged.state_dict())
    assert all(map(torch.equal, momentum, [value["momentum_buffer"] for value in run.optimizer.state.values()]))
    assert before["memory"].keys() == after["memory"].keys() and run.memory._loss == run.figures[0]["loss_action"]
    assert "Left out (SOLVER.ON_NONFINITE skip): the loss is nan in iteration 2 (loss_pose" in log.text
    assert "clips of this batch: " + ("park at 6 s\n" if parts == 4 else "park at 4 s, park at 5 s, park") in log.text
    run([PLAIN[2]])
    assert run.figures[2]["skipped_batches"] == 1.0 and run.figures[2]["loss_action"] > 0
    assert changed(after["weights"], run.weights)


def test_too_many_batches_in_a_row_that_are_left_out():
    run = Run(options=StepOptions(skip_nonfinite=True, max_skipped=3))
    run([spoiled(0, 0), spoiled(1, 0), PLAIN[0], spoiled(1, 0), spoiled(0, 0)])
    with pytest.raises(TrainingError, match=r"3 batches in a row had a loss that is not finite \(up to iteration 6\)"):
        run([spoiled(2, 1)])


def test_a_loss_that_is_not_finite_names_the_part():
    run = Run(options=StepOptions(parts=4))
    start = run.weights
    with pytest.raises(TrainingError) as caught:
        run([spoiled(1, 2)])
    assert "clips of this batch: park at 6 s. Lower SOLVER.BASE_LR" in str(caught.value)
    assert not changed(start, run.weights)


@pytest.mark.parametrize("skip", [False, True])
def test_gradients_that_are_not_finite(skip, log):
    run = Run(options=StepOptions(max_grad_norm=1.0, skip_nonfinite=skip))
    start = run.weights
    run.model.roi_heads["action"].predictor.cls_score.weight.register_hook(lambda grad: grad * float("inf"))
    if not skip:
        with pytest.raises(
            TrainingError, match="the gradients are not finite in iteration 1 in clips of this batch: park"
        ):
            run([PLAIN[0]])
    else:
        assert run([PLAIN[0]]).figures == [{"skipped_batches": 1.0}]
        assert "Left out (SOLVER.ON_NONFINITE skip): the gradients are not finite" in log.text
    assert not changed(start, run.weights)


# ----------------------------------------------------------------------------------------------- gradients, precision


def test_long_gradients_are_shortened():
    free, bound = Run(options=StepOptions(max_grad_norm=1e9)), Run(options=StepOptions(max_grad_norm=0.01))
    start = free.weights
    free([PLAIN[0]])
    bound([PLAIN[0]])
    norm = free.figures[0]["grad_norm"]
    assert norm > 0.1 and bound.figures[0]["grad_norm"] == pytest.approx(norm, rel=1e-6)
    name = "roi_heads.action.predictor.cls_score.weight"
    way = [(run.weights[name] - start[name]).norm().item() for run in (free, bound)]
    assert way[1] / way[0] == pytest.approx(0.01 / norm, rel=1e-3)
    assert "grad_norm" not in Run()([PLAIN[0]]).figures[0]


@pytest.mark.parametrize(
    ("structure", "kind"),
    [("dense", "bfloat16"), ("serial", "bfloat16"), ("parallel", "bfloat16"), ("dense", "float16")],
)
def test_half_precision_is_near(structure, kind):
    blocks = [["P", "M"], ["P", "M"]] if structure == "parallel" else ["P", "M", "P", "M"]
    opts = [*WITH_MEMORY, "MODEL.IA_STRUCTURE.STRUCTURE", structure, "MODEL.IA_STRUCTURE.I_BLOCK_LIST", blocks]
    opts += ["MODEL.IA_STRUCTURE.LAYER_NORM", True]
    exact = Run(*opts)(PLAIN[:2])
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0) if kind == "float16" else None
    near = Run(*opts, options=StepOptions(autocast=getattr(torch, kind), max_grad_norm=1e9), scaler=scaler)(PLAIN[:2])
    for ours, theirs in zip(near.figures, exact.figures, strict=True):
        assert ours["loss_action"] == pytest.approx(theirs["loss_action"], rel=0.02)
        assert ours.get("loss_scale", 0) == (16.0 if scaler else 0)
    start = Run(*opts).weights
    name = "roi_heads.action.feature_extractor.fc1.weight"
    moved = exact.weights[name] - start[name]
    assert (near.weights[name] - exact.weights[name]).norm() < 0.1 * moved.norm()
    assert all(value.dtype in (torch.float32, torch.int64) for value in near.model.state_dict().values())
    assert near.memory.store.get(("park", 1.0)).dtype == torch.float32


def test_a_loss_scale_that_is_too_high_falls_and_the_step_is_counted():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    run = Run(options=StepOptions(autocast=torch.float16, max_grad_norm=1.0), scaler=scaler, decay=0.5)
    start = run.weights
    run([PLAIN[0]])
    assert run.figures[0]["skipped_steps"] == 1.0 and run.figures[0]["loss_scale"] == 2.0**126
    assert "grad_norm" not in run.figures[0] and math.isfinite(run.figures[0]["loss_action"])
    assert not changed(start, run.weights) and run.averaged.state_dict()["n_averaged"] == 0
    again = torch.amp.GradScaler("cpu")
    again.load_state_dict(scaler.state_dict())
    assert again.get_scale() == 2.0**126


def test_steps_that_fail_at_any_scale_end_the_run():
    options = StepOptions(autocast=torch.float16, max_skipped=2)
    run = Run(options=options, scaler=torch.amp.GradScaler("cpu"))
    run.model.roi_heads["action"].predictor.cls_score.weight.register_hook(lambda grad: grad * float("nan"))
    with pytest.raises(TrainingError, match="2 batches in a row had gradients that are not finite at any loss scale"):
        run(PLAIN)


def test_the_mean_follows_the_weights():
    run = Run(decay=0.75)
    name = "roi_heads.action.predictor.cls_score.weight"
    mean = None
    for batch in PLAIN:
        run([batch])
        now = run.weights[name]
        mean = now if mean is None else 0.75 * mean + 0.25 * now
        torch.testing.assert_close(run.averaged.model.state_dict()[name], mean)
    assert not torch.equal(mean, run.weights[name])
