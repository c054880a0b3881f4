"""Torch's grouped product in the place of the loop over experts: the same numbers. It runs on a CPU as on CUDA."""

import pytest
import torch
from torch import Tensor

import mixtune.kernels as kernels
from mixtune.kernels import mixture_linear, mixture_linear_reference
from mixtune.kernels.grouped import Stacked, can_stack, group_ends
from mixtune.routing.routers import RouterOutput
from tolerances import TOL

EXPERTS, BLOCK, D_IN, D_OUT = 4, 8, 24, 16  # multiples of 16 bytes, as the product demands


def make(chosen: int, dtype: torch.dtype, only: int | None = None) -> tuple[list[Tensor], RouterOutput]:
    """Tensors and decisions of which expert 2 has no token, or of which `only` has all."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(2, 5, D_OUT), (2, 5, D_IN), (EXPERTS * BLOCK, D_IN), (D_OUT, EXPERTS * BLOCK)]
    dtypes = [dtype, dtype, torch.float32, torch.float32]
    drawn = [torch.randn(size, generator=generator) for size in sizes]
    tensors = [each.to(kind).requires_grad_() for each, kind in zip(drawn, dtypes, strict=True)]
    draws = torch.rand(2, 5, EXPERTS, generator=generator)
    draws[..., 2] = -1.0
    indices = draws.argsort(-1, descending=True)[..., :chosen] if only is None else torch.full((2, 5, 1), only)
    gates = torch.randn(indices.shape, generator=generator).requires_grad_()
    return tensors, RouterOutput(indices, indices, gates, draws)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("chosen, only", [(1, None), (2, None), (1, 0), (1, 3)])
def test_outputs_and_gradients(
    chosen: int, only: int | None, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "MAX_MASKED_ROWS", 0)
    monkeypatch.setattr(kernels, "can_stack", lambda *args: True)
    taken, apply = [], Stacked.apply
    monkeypatch.setattr(Stacked, "apply", lambda *args: taken.append(1) or apply(*args))
    tensors, routed = make(chosen, dtype, only)
    found, expected = (
        function(tensors[0] * 1.0, *tensors[1:], routed, scale=0.7, block=BLOCK)
        for function in (mixture_linear, mixture_linear_reference)
    )
    assert taken == [1]
    dy = torch.randn(found.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    wanted = [*tensors, routed.gates]
    grads = [[y.detach(), *torch.autograd.grad(y, wanted, dy)] for y in (found, expected)]
    for a, b in zip(*grads, strict=True):
        size = b.abs().max().clamp_min(1.0)
        assert a.dtype == b.dtype
        torch.testing.assert_close(a / size, b / size, **TOL[dtype])
    empty = [each for each in range(EXPERTS) if not (routed.indices_a == each).any()]
    assert empty and not grads[0][3].view(EXPERTS, BLOCK, D_IN)[empty].any()


def test_a_cpu_takes_the_loop() -> None:
    base, x = torch.zeros(2, 5, D_OUT, dtype=torch.bfloat16), torch.zeros(2, 5, D_IN, dtype=torch.bfloat16)
    assert not can_stack(base, x, BLOCK)


def test_ends_of_groups_need_no_host() -> None:
    ends = group_ends(torch.tensor([0, 0, 1, 3, 3]), EXPERTS)
    assert ends.dtype == torch.int32 and ends.tolist() == [2, 3, 3, 5]
