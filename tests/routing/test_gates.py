"""Gates: their value going forward and their gradient going back."""

import pytest
import torch

from mixtune.routing.gates import GATES, check_gate, gate, renormalise, straight_through


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_straight_through_is_exactly_one_and_passes_the_gradient(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    score = (torch.rand(64, 5, generator=generator) * 10).to(dtype).requires_grad_()
    upstream = torch.randn(64, 5, generator=generator).to(dtype)
    out = straight_through(score)
    assert torch.equal(out, torch.ones_like(out))
    out.backward(upstream)
    assert torch.equal(score.grad, upstream)


def test_none_is_one_without_gradient() -> None:
    score = torch.tensor([0.2, 0.9], requires_grad=True)
    out = gate("none", score)
    assert torch.equal(out, torch.ones(2)) and not out.requires_grad


def test_multiply_is_the_score() -> None:
    score = torch.tensor([0.2, 0.9], requires_grad=True)
    assert gate("multiply", score) is score


def test_renormalise_sums_to_one_and_keeps_zeros() -> None:
    score = torch.tensor([[0.2, 0.6], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    out = renormalise(score)
    torch.testing.assert_close(out.detach(), torch.tensor([[0.25, 0.75], [0.0, 0.0]], dtype=torch.float64))
    (grad,) = torch.autograd.grad(out[0, 0], score)
    torch.testing.assert_close(grad[0], torch.tensor([0.9375, -0.3125], dtype=torch.float64))


@pytest.mark.parametrize("call", [check_gate, lambda name: gate(name, torch.ones(1))])
def test_unknown_name_lists_the_choices(call) -> None:
    with pytest.raises(ValueError, match="gate: 'straight_through' is unknown; choose from 'straight-through', 'none'"):
        call("straight_through")
    assert all(check_gate(name) is None for name in GATES)
