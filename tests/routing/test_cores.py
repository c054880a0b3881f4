"""The product of chosen factors with their slots' weights, whichever way its shapes make it go."""

import pytest
import torch
from torch import Tensor

from mixtune.routing import cores
from mixtune.routing.cores import SlotProduct, slot_logits
from tolerances import TOL

SIZE, R, WIDTH = 5, 3, 4
FEW_AND_MANY = [0, 1, SIZE - 1, SIZE, SIZE + 4]


def inputs(batch: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch)
    indices = torch.randint(SIZE, (batch, R), generator=generator)
    bank = torch.randn(SIZE, WIDTH, dtype=torch.float64, generator=generator)
    weight = torch.randn(SIZE, R * WIDTH, dtype=torch.float64, generator=generator)
    return indices, bank.requires_grad_(), weight.requires_grad_()


def in_loops(indices: Tensor, bank: Tensor, weight: Tensor) -> Tensor:
    """[R, B, E], each number by itself."""
    rows = [[weight[e, k * WIDTH : (k + 1) * WIDTH] for e in range(SIZE)] for k in range(R)]
    logits = [[[bank[i[k]] @ rows[k][e] for e in range(SIZE)] for i in indices.tolist()] for k in range(R)]
    return torch.stack([each for slot in logits for row in slot for each in row]).view(R, len(indices), SIZE)


@pytest.mark.parametrize("batch", FEW_AND_MANY[1:])
def test_logits_and_gradients_by_hand(batch: int) -> None:
    indices, bank, weight = inputs(batch)
    found = slot_logits(indices, bank, weight.view(SIZE, R, WIDTH))
    expected = in_loops(indices, bank, weight)
    torch.testing.assert_close(found, expected, **TOL[torch.float64])
    upstream = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    gradients = [torch.autograd.grad(each, (bank, weight), upstream) for each in (found, expected)]
    torch.testing.assert_close(*gradients, **TOL[torch.float64])


@pytest.mark.parametrize("batch", FEW_AND_MANY)
def test_few_instances_never_meet_the_whole_bank(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule by which shapes decide: a table of all factors by all slots only where instances are as many."""
    ways: list[str] = []

    class Noted(SlotProduct):
        @classmethod
        def apply(cls, *args):
            ways.append("rows")
            return SlotProduct.apply(*args)

    monkeypatch.setattr(cores, "SlotProduct", Noted)
    indices, bank, weight = inputs(batch)
    slot_logits(indices, bank, weight.view(SIZE, R, WIDTH)).sum().backward()
    assert ways == ["rows"] * (batch < SIZE)
    assert weight.grad.is_contiguous() and torch.isfinite(weight.grad).all()
    assert bool(weight.grad.any()) == (batch > 0)


def test_the_product_asks_only_for_wanted_gradients() -> None:
    _, bank, weight = inputs(2)
    product = SlotProduct.apply(bank.detach().expand(R, SIZE, WIDTH), weight.view(SIZE, R, WIDTH))
    product.sum().backward()
    assert bank.grad is None and weight.grad is not None
    assert torch.autograd.gradcheck(
        SlotProduct.apply, (torch.randn(R, 2, WIDTH).double().requires_grad_(), weight.detach().view(SIZE, R, WIDTH))
    )


@pytest.mark.parametrize("batch", [2, SIZE])
def test_compiled_it_is_one_graph_with_the_same_numbers(batch: int) -> None:
    indices, bank, weight = inputs(batch)

    def total(weight: Tensor) -> Tensor:
        return slot_logits(indices, bank, weight.view(SIZE, R, WIDTH)).softmax(-1).square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(total, backend="aot_eager", fullgraph=True)
    gradients = [torch.autograd.grad(each(weight), weight)[0] for each in (total, compiled)]
    torch.testing.assert_close(*gradients, **TOL[torch.float64])
    torch._dynamo.reset()
