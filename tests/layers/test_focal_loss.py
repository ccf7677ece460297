import numpy as np
import pytest
import torch
from goldens import load, parity

from alphaction.layers import sigmoid_focal_loss, softmax_focal_loss

META, ARRAYS = load("focal_loss")
CASES = sorted(META["cases"])


def tensor(name):
    return torch.from_numpy(ARRAYS[name])


def value_and_gradient(loss_fn, logits, target, upstream, **constants):
    logits = logits.clone().requires_grad_()
    loss = loss_fn(logits, target, **constants)
    loss.backward(upstream)
    return loss.detach(), logits.grad


@pytest.mark.parametrize("case", CASES)
def test_recorded_loss_and_gradient(case):
    constants = META["cases"][case]
    if case.startswith("sigmoid"):
        loss_fn, target, upstream = sigmoid_focal_loss, tensor("in/targets"), tensor("in/upstream")
    else:
        loss_fn, target, upstream = softmax_focal_loss, tensor("in/labels"), tensor("in/upstream_rows")
    loss, grad = value_and_gradient(loss_fn, tensor("in/logits"), target, upstream, **constants)
    report = parity.Report("focal_loss")
    report.close("loss", loss, ARRAYS[f"{case}/out/loss"])
    report.close("grad", grad, ARRAYS[f"{case}/out/grad"])
    report.finish()


SATURATED = [name.rsplit("gamma", 1)[1] for name in ARRAYS if name.startswith("saturated/out/loss_gamma")]


@pytest.mark.parametrize("gamma", SATURATED)
def test_saturated_rows_equal_the_record_and_are_finite_where_it_is_not(gamma):
    logits, labels = tensor("saturated/in/logits"), tensor("saturated/in/labels")
    loss, grad = value_and_gradient(softmax_focal_loss, logits, labels, torch.ones(len(labels)), gamma=float(gamma))
    recorded = ARRAYS[f"saturated/out/grad_gamma{gamma}"]
    ours = grad.numpy().copy()
    assert np.isfinite(ours).all()
    assert (np.abs(ours[np.isnan(recorded)]) < 1e-20).all()  # p = 1 to the last bit: nothing left to learn
    ours[np.isnan(recorded)] = np.nan
    report = parity.Report("focal_loss")
    report.close("loss", loss, ARRAYS[f"saturated/out/loss_gamma{gamma}"])
    report.close("grad", ours, recorded)
    report.finish()


def test_ignored_rows():
    logits, labels = tensor("saturated/in/logits"), tensor("ignored/in/labels")
    loss, grad = value_and_gradient(softmax_focal_loss, logits, labels, torch.ones(len(labels)))
    report = parity.Report("focal_loss")
    report.close("loss", loss, ARRAYS["ignored/out/loss"])
    report.close("grad", grad, ARRAYS["ignored/out/grad"])
    report.finish()


def test_mean_and_sum():
    report = parity.Report("focal_loss")
    sigmoid = sigmoid_focal_loss(tensor("in/logits"), tensor("in/targets"))
    softmax = softmax_focal_loss(tensor("in/logits"), tensor("in/labels"))
    for name, loss in (("sigmoid", sigmoid), ("softmax", softmax)):
        report.close(name, torch.stack([loss.mean(), loss.sum()]), ARRAYS[f"reduction/out/{name}_mean_sum"])
    report.finish()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.5])
@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.25])
def test_gradient_is_the_derivative_of_the_loss(gamma, alpha):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 4, generator=generator)
    targets = torch.rand(6, 4, generator=generator) > 0.5
    labels = torch.tensor([0, 1, 2, 3, -1, 0])

    def plain(logits, *, independent):
        """The definition, in float64, left to autograd."""
        if independent:
            p = torch.where(targets, logits.sigmoid(), 1 - logits.sigmoid())
            weight = torch.where(targets, alpha, 1 - alpha) if alpha >= 0 else 1.0
        else:
            p = logits.softmax(1)[range(6), labels.clamp(min=0)]
            weight = (torch.where(labels >= 1, alpha, 1 - alpha) if alpha >= 0 else 1.0) * (labels >= 0)
        return -weight * (1 - p) ** gamma * p.log()

    for loss_fn, target, independent in ((sigmoid_focal_loss, targets, True), (softmax_focal_loss, labels, False)):
        loss, grad = value_and_gradient(
            lambda *a, fn=loss_fn, **k: fn(*a, **k).sum(), x, target, None, gamma=gamma, alpha=alpha
        )
        reference = x.double().requires_grad_()
        expected = plain(reference, independent=independent).sum()
        expected.backward()
        torch.testing.assert_close(loss, expected.detach().float())
        torch.testing.assert_close(grad, reference.grad.float(), rtol=1e-4, atol=1e-6)


def test_no_rows():
    empty = torch.zeros(0, 3, requires_grad=True)
    loss = sigmoid_focal_loss(empty, torch.zeros(0, 3)).sum()
    loss = loss + softmax_focal_loss(empty, torch.zeros(0, dtype=torch.long)).sum()
    loss.backward()
    assert loss == 0 and empty.grad.shape == (0, 3)


def test_half_precision_logits_are_computed_in_float32():
    logits = torch.tensor([[8.0, -8.0]], dtype=torch.bfloat16, requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([[1, 0]]))
    loss.sum().backward()
    assert loss.dtype == torch.float32 and (loss > 0).all() and logits.grad.dtype == torch.bfloat16
