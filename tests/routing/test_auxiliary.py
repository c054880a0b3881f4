"""The tap: a loss handed over without a gradient is paid for by the layers that are run again."""

import pytest
import torch

from mixtune.routing.auxiliary import AuxiliaryLoss
from tolerances import TOL

KEYS = [("default", "layers.0"), ("default", "layers.1")]


def reported(weights):
    return [(weight * weight).sum() for weight in weights]


def test_losses_with_a_gradient_are_summed():
    weights = [torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0], requires_grad=True)]
    auxiliary = AuxiliaryLoss()
    assert auxiliary.total() is None
    for key, loss in zip(KEYS, reported(weights), strict=True):
        auxiliary.add(key, loss)
    total = auxiliary.total()
    total.backward()
    assert total.item() == 14.0 and weights[0].grad.tolist() == [2.0, 4.0]


@pytest.mark.parametrize("share", [1.0, -0.25])
def test_a_cut_loss_reaches_its_router_through_the_layer_run_again(share):
    weights = [torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0], requires_grad=True)]
    x, auxiliary = torch.tensor([0.5], requires_grad=True), AuxiliaryLoss()
    with torch.no_grad():
        for key, loss in zip(KEYS, reported(weights), strict=True):
            auxiliary.add(key, loss)
    y = x * 3.0
    for key, loss in zip(KEYS, reported(weights), strict=True):  # what recomputation does, built before the tap here
        y = auxiliary.settle(key, loss, y)
    total = auxiliary.total()
    (y.sum() * 7.0 + total * share).backward()
    assert total.item() == 14.0 and x.grad.item() == 21.0
    for weight in weights:
        torch.testing.assert_close(weight.grad, 2.0 * weight.detach() * share, **TOL[torch.float32])


def test_a_cut_loss_that_is_not_used_costs_nothing():
    weight, x, auxiliary = torch.tensor([1.0], requires_grad=True), torch.ones(1, requires_grad=True), AuxiliaryLoss()
    with torch.no_grad():
        auxiliary.add(KEYS[0], (weight * 2).sum())
    auxiliary.settle(KEYS[0], (weight * 2).sum(), x).sum().backward()
    assert x.grad.item() == 1.0 and weight.grad is None


def test_a_cut_loss_cannot_be_paid_for_in_a_backward_pass_of_its_own():
    weight, x, auxiliary = torch.tensor([1.0], requires_grad=True), torch.ones(1, requires_grad=True), AuxiliaryLoss()
    with torch.no_grad():
        auxiliary.add(KEYS[0], (weight * 2).sum())
    auxiliary.settle(KEYS[0], (weight * 2).sum(), x).sum().backward()
    with pytest.raises(ValueError, match="go backward once"):
        auxiliary.total().backward()


def test_the_released_loss_is_formed_over_all_layers():
    """Two layers, one sample: c = (0.75, 0.25), p = (0.5, 0.5) pooled; layer by layer it would be 0.525 on average."""
    auxiliary, p = AuxiliaryLoss(), torch.tensor([[0.6, 0.4]], requires_grad=True)
    auxiliary.pool("default", torch.tensor([[1.0, 0.0]]), p)
    auxiliary.pool("default", torch.tensor([[0.5, 0.5]]), torch.tensor([[0.4, 0.6]]))
    total = auxiliary.total()
    total.backward()
    torch.testing.assert_close(total.item(), 0.75 * 0.5 + 0.25 * 0.5, **TOL[torch.float64])
    torch.testing.assert_close(p.grad, torch.tensor([[0.375, 0.125]]))


def test_the_released_loss_is_refused_where_it_was_cut():
    auxiliary = AuxiliaryLoss()
    with torch.no_grad():
        auxiliary.pool("default", torch.ones(1, 2), torch.ones(1, 2))
        assert auxiliary.total().item() == 2.0
    with pytest.raises(ValueError, match="use_reentrant"):
        auxiliary.total()
