import pytest
import torch

from alphaction.modeling.losses import ActionCriterion, balanced_weights
from alphaction.modeling.postprocess import Postprocess
from alphaction.structures.groups import ActionGroup

POSE = ActionGroup(name="pose_action", start=0, size=3, loss="softmax", weight=1.5)
OBJECT = ActionGroup(name="object_interaction", start=3, size=2, loss="sigmoid", weight=4.0)
GROUPS = (POSE, OBJECT)

#      pose        object
LABELS = torch.tensor(
    [
        [0, 1, 0, 1, 0],
        [0, 0, 0, 0, 0],  # no pose, no interaction
        [0, 1, 1, 1, 1],  # two poses: the first counts
    ],
    dtype=torch.bool,
)
LOGITS = torch.tensor([[0.1, 2.0, -1.0, 3.0, -2.0], [0.5, 0.2, 0.1, -1.0, -1.0], [1.0, 0.0, 2.0, 0.3, -0.2]])


def pose_term(row, target):
    p = LOGITS[row, :3].softmax(0)[target]
    return -((1 - p) ** 2) * p.log()


def test_values_by_hand():
    output = ActionCriterion(GROUPS)(LOGITS, LABELS, 4)
    assert set(output.losses) == {"loss_pose_action", "loss_object_interaction"}
    expected = (pose_term(0, 1) + pose_term(2, 1)) / 4
    torch.testing.assert_close(output.losses["loss_pose_action"], expected)
    p = torch.where(LABELS[:, 3:], LOGITS[:, 3:].sigmoid(), 1 - LOGITS[:, 3:].sigmoid())
    expected = (-((1 - p) ** 2) * p.log()).mean(1).sum() / 4
    torch.testing.assert_close(output.losses["loss_object_interaction"], expected)
    total = 1.5 * output.losses["loss_pose_action"] + 4.0 * output.losses["loss_object_interaction"]
    torch.testing.assert_close(output.total, total)
    assert output.metrics["accuracy_pose_action"].item() == pytest.approx(1 / 2)  # of the two persons with a pose
    # Sets: {0} against {0}; {} against {}; {0} against {0, 1}.
    assert output.metrics["accuracy_object_interaction"].item() == pytest.approx((1 + 1 + 0.5) / 4)


def test_unlabelled_persons_teach_nothing_unless_asked_for():
    logits = LOGITS.clone().requires_grad_()
    ActionCriterion([POSE])(logits, LABELS, 3).total.backward()
    assert logits.grad[1].abs().sum() == 0 and logits.grad[0].abs().sum() > 0

    reference = ActionCriterion([POSE], unlabelled_is_first_class=True)(LOGITS, LABELS, 3)
    expected = (pose_term(0, 1) + pose_term(1, 0) + pose_term(2, 1)) / 3
    torch.testing.assert_close(reference.losses["loss_pose_action"], expected)
    assert reference.metrics["accuracy_pose_action"].item() == pytest.approx(2 / 3)


def test_nobody_has_a_pose():
    logits = LOGITS.clone().requires_grad_()
    output = ActionCriterion([POSE])(logits, torch.zeros_like(LABELS), 3)
    output.total.backward()
    assert output.total == 0 and logits.grad.abs().sum() == 0
    assert output.metrics["accuracy_pose_action"] == 0


def test_empty_batch_has_zero_losses_with_a_graph():
    logits = torch.zeros(0, 5, requires_grad=True)
    output = ActionCriterion(GROUPS)(logits, torch.zeros(0, 5, dtype=torch.bool), 0)
    assert output.total == 0 and all(loss == 0 for loss in output.losses.values())
    output.total.backward()
    assert logits.grad.shape == (0, 5)


def test_num_boxes_divides_and_is_at_least_one():
    criterion = ActionCriterion(GROUPS)
    one, none, two = (criterion(LOGITS, LABELS, n).total for n in (1.0, 0.25, 2.0))
    torch.testing.assert_close(one, none)
    torch.testing.assert_close(one, 2 * two)


def test_wrong_number_of_labels():
    with pytest.raises(ValueError, match=r"labels: got shape \(3, 4\), expected \(3, 5\)"):
        ActionCriterion(GROUPS)(LOGITS, LABELS[:, :4], 3)


def test_scores():
    scores = Postprocess(GROUPS)(LOGITS)
    torch.testing.assert_close(scores[:, :3], LOGITS[:, :3].softmax(1))
    torch.testing.assert_close(scores[:, 3:], LOGITS[:, 3:].sigmoid())
    assert Postprocess(GROUPS)(LOGITS.bfloat16()).dtype == torch.float32
    assert Postprocess(GROUPS)(LOGITS[:0]).shape == (0, 5)


def test_class_weights_by_hand():
    weights = [1.0, 3.0, 5.0, 0.5, 2.0]
    output = ActionCriterion(GROUPS, class_weights=weights)(LOGITS, LABELS, 4)
    expected = 3.0 * (pose_term(0, 1) + pose_term(2, 1)) / 4  # both are labelled with the second pose
    torch.testing.assert_close(output.losses["loss_pose_action"], expected)
    p = torch.where(LABELS[:, 3:], LOGITS[:, 3:].sigmoid(), 1 - LOGITS[:, 3:].sigmoid())
    expected = (-((1 - p) ** 2) * p.log() * torch.tensor([0.5, 2.0])).mean(1).sum() / 4
    torch.testing.assert_close(output.losses["loss_object_interaction"], expected)
    assert output.metrics == ActionCriterion(GROUPS)(LOGITS, LABELS, 4).metrics


def test_weights_of_one_change_no_bit():
    plain, weighted = (ActionCriterion(GROUPS, class_weights=w)(LOGITS, LABELS, 3) for w in (None, [1.0] * 5))
    assert torch.equal(plain.total, weighted.total) and plain.losses == weighted.losses


def test_a_class_of_weight_0_teaches_nothing():
    logits = LOGITS.clone().requires_grad_()
    ActionCriterion([OBJECT], class_weights=[1, 1, 1, 0, 1])(logits, LABELS, 3).total.backward()
    assert logits.grad[:, 3].abs().sum() == 0 and (logits.grad[:, 4] != 0).all()


def test_persons_that_a_metric_is_a_mean_over():
    assert {name: n.item() for name, n in ActionCriterion(GROUPS)(LOGITS, LABELS, 3).counted.items()} == {
        "accuracy_pose_action": 2
    }
    assert ActionCriterion(GROUPS, unlabelled_is_first_class=True)(LOGITS, LABELS, 3).counted == {}


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_rare_classes_count_more(power):
    weights = balanced_weights([10, 1000, 0, 4, 1], GROUPS, power=power)
    assert weights[2] == 1.0  # without any person
    assert sum(weights[:2]) == pytest.approx(2) and sum(weights[3:]) == pytest.approx(2)  # mean 1 in each group
    assert weights[0] / weights[1] == pytest.approx(100**power) and weights[4] / weights[3] == pytest.approx(4**power)


def test_balance_without_any_person():
    assert balanced_weights([0] * 5, GROUPS, power=1.0) == [1.0] * 5
    assert balanced_weights([1, 2, 3, 4, 5], GROUPS, power=0.0) == [1.0] * 5
