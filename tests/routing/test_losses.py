"""Auxiliary loss and usage numbers against values worked out by hand."""

import math

import pytest
import torch

from mixtune.routing.losses import balance_loss, dead_share, entropy, sample_usage
from tolerances import TOL

EXACT = TOL[torch.float64]


def test_even_router_scores_one_and_collapsed_router_scores_e() -> None:
    even = torch.full((2, 6, 3), 1 / 3, dtype=torch.float64)
    spread = torch.arange(12).reshape(2, 6, 1) % 3
    torch.testing.assert_close(balance_loss(even, spread, None, 3).item(), 1.0, **EXACT)
    certain = torch.zeros(2, 6, 3, dtype=torch.float64)
    certain[..., 1] = 1.0
    torch.testing.assert_close(balance_loss(certain, torch.ones_like(spread), None, 3).item(), 3.0, **EXACT)


def test_switch_formula_with_several_slots() -> None:
    probs = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], dtype=torch.float64)
    indices = torch.tensor([[0, 1], [2, 1]])
    shares, means = [1 / 4, 2 / 4, 1 / 4], [0.3, 0.25, 0.45]
    expected = 3 * sum(c * p for c, p in zip(shares, means, strict=True))
    torch.testing.assert_close(balance_loss(probs, indices, None, 3).item(), expected, **EXACT)


def test_masked_positions_change_neither_value_nor_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    probs = torch.rand(2, 5, 4, dtype=torch.float64, generator=generator).softmax(-1).requires_grad_()
    indices = torch.randint(0, 4, (2, 5, 2), generator=generator)
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]], dtype=torch.bool)
    masked = balance_loss(probs, indices, mask, 4)
    picked = balance_loss(probs[mask], indices[mask], None, 4)
    torch.testing.assert_close(masked, picked, **EXACT)
    (grad,) = torch.autograd.grad(masked, probs)
    (expected,) = torch.autograd.grad(picked, probs)
    torch.testing.assert_close(grad, expected, **EXACT)
    assert not grad[~mask].any() and grad[mask].abs().min() >= 0 and grad[mask].any()


def test_gradient_pushes_down_the_crowded_expert() -> None:
    logits = torch.zeros(8, 4, dtype=torch.float64, requires_grad=True)
    indices = torch.tensor([[0], [0], [0], [0], [0], [1], [2], [3]])
    (grad,) = torch.autograd.grad(balance_loss(logits.softmax(-1), indices, None, 4), logits)
    assert (grad[:, 0] > 0).all() and (grad[:, 1:] < 0).all()


def test_usage_of_each_sample_apart() -> None:
    """Samples of three and two positions share a row; the last position is padding."""
    generator = torch.Generator().manual_seed(0)
    probs = torch.rand(1, 6, 4, dtype=torch.float64, generator=generator).softmax(-1)
    indices = torch.tensor([[[0], [0], [2], [1], [3], [3]]])
    mask, owners = torch.tensor([[1, 1, 1, 1, 1, 0]]), torch.tensor([[0, 0, 0, 1, 1, 1]])
    shares, means = sample_usage(probs, indices, mask, owners, 2)
    expected = torch.tensor([[2 / 3, 0, 1 / 3, 0], [0, 0.5, 0, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(shares, expected, **EXACT)
    torch.testing.assert_close(means, torch.stack([probs[0, :3].mean(0), probs[0, 3:5].mean(0)]), **EXACT)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)])
def test_nothing_routed_is_zero(shape: tuple[int, ...]) -> None:
    probs = torch.zeros(shape, requires_grad=True)
    indices = torch.zeros(*shape[:-1], 1, dtype=torch.long)
    loss = balance_loss(probs, indices, None, 3)
    loss.backward()
    assert loss.item() == 0.0
    all_masked = balance_loss(torch.ones(1, 2, 3), torch.zeros(1, 2, 1, dtype=torch.long), torch.zeros(1, 2), 3)
    assert all_masked.item() == 0.0


def test_wrong_number_of_experts_is_an_error() -> None:
    with pytest.raises(ValueError, match="num_experts: 4, but the router gives 3"):
        balance_loss(torch.ones(2, 3), torch.zeros(2, 1, dtype=torch.long), None, 4)


def test_entropy() -> None:
    probs = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([0.0, math.log(4), math.log(2)], dtype=torch.float64)
    torch.testing.assert_close(entropy(probs), expected, **EXACT)


def test_dead_share() -> None:
    assert dead_share(torch.tensor([[0, 1], [1, 0]]), 8) == 0.75
    assert dead_share(torch.arange(8).view(2, 2, 2), 8) == 0.0
    assert dead_share(torch.zeros(0, 2, dtype=torch.long), 8) == 1.0
