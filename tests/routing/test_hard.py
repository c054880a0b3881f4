"""Gates and cores of hard choices against the same made by torch's own operations."""

import pytest
import torch

from mixtune.kernels.factored import written_core
from mixtune.routing.gates import straight_through
from mixtune.routing.hard import HardChoice
from mixtune.routing.routers import RouterOutput, TokenOptions, token_route
from tolerances import TOL

EXACT = TOL[torch.float64]


@pytest.mark.parametrize("uses", ["gates", "core", "gates core"])
@pytest.mark.parametrize("count", [1, 2])
def test_gates_and_core_and_their_gradient(count: int, uses: str) -> None:
    probs = torch.rand(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    indices = probs.detach().argsort(-1, descending=True)[..., :count]
    gates = straight_through(probs.gather(-1, indices))
    core = written_core(RouterOutput(indices, indices, gates, probs), 12, 3, torch.float64)
    outcomes = []
    for made in ((gates, core), HardChoice.apply(probs, indices, torch.float64)):
        of = dict(zip(("gates", "core"), made, strict=True))
        loss = sum((of[name] * torch.randn(of[name].shape, dtype=torch.float64,
                    generator=torch.Generator().manual_seed(1))).sum() for name in uses.split())  # fmt: skip
        outcomes.append([*made, torch.autograd.grad(loss, probs)[0]])
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other, **EXACT)


@pytest.mark.parametrize("gate", ["straight-through", "none", "multiply"])
def test_a_router_writes_the_core_of_hard_gates_alone(gate: str) -> None:
    weight = torch.randn(3, 8, requires_grad=True)
    routed = token_route(torch.randn(2, 5, 8), weight, None, TokenOptions(gate=gate), core_dtype=torch.bfloat16)
    assert (routed.core is None) == (gate == "multiply")
    assert routed.gates.requires_grad == (gate != "none")
    if routed.core is not None:
        assert routed.core.dtype == torch.bfloat16 and routed.core.requires_grad == (gate != "none")
        assert torch.equal(routed.core.argmax(-1, keepdim=True), routed.indices_a)
        assert torch.equal(routed.core.sum(-1), torch.ones(2, 5, dtype=torch.bfloat16))
