"""Routers that decide together against `conditional_route`, the obvious version: decisions, cores, every gradient."""

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mixtune.kernels.factored import written_core
from mixtune.routing.cores import ConditionalOptions, ConditionalWeights
from mixtune.routing.routers import RouterOutput, conditional_route
from mixtune.routing.together import can_decide_together, conditional_routes, router_scores
from tolerances import TOL

E, D, R, MEMBERS = 6, 8, 3, 3
EXACT = TOL[torch.float64]
KINDS = ["published", "none"]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(batch: int, kind: str) -> tuple[Tensor, list[Tensor], list[ConditionalWeights]]:
    """h, and of each member a bank and weights that are leaves."""
    weights = []
    for n in range(MEMBERS):
        a, b, ab = (drawn(E, width, seed=10 * n + k).requires_grad_() for k, width in enumerate((D, D, R * D)))
        weights.append(ConditionalWeights(router_a=a, router_b=b, conditional=ab if kind == "published" else None))
    return drawn(batch, D, seed=1), [drawn(E, D, seed=100 + n) for n in range(MEMBERS)], weights


def leaves(weights: ConditionalWeights) -> list[Tensor]:
    return [value for value in dataclasses.astuple(weights) if value is not None]


def alone(h, banks, weights, options, kept=None) -> list[RouterOutput]:
    """Each by itself, its core written out."""
    found = []
    for n, (bank, own) in enumerate(zip(banks, weights, strict=True)):
        routed = conditional_route(h, bank, own, options, None if kept is None else kept[n])
        found.append(routed._replace(core=written_core(routed, E, 1, h.dtype)))
    return found


def gradients(routes: list[RouterOutput], weights: list[ConditionalWeights], uses: str) -> list[Tensor | None]:
    """Of a sum over what is used: the gates, the cores, the probabilities."""
    parts: list[Tensor] = []
    for n, routed in enumerate(routes):
        of = {"g": routed.gates, "c": routed.core, "p": routed.probs, "q": routed.probs_b}
        parts += [(of[letter] * drawn(*of[letter].shape, seed=7 + n)).sum() for letter in uses.split()[n].strip("-")]
    wanted = [leaf for own in weights for leaf in leaves(own)]
    return list(torch.autograd.grad(torch.stack(parts).sum(), wanted, allow_unused=True))


@pytest.mark.parametrize("gate", ["straight-through", "none"])
@pytest.mark.parametrize("batch", [1, 4, 9], ids=["one", "fewer than factors", "more"])
@pytest.mark.parametrize("kind", KINDS)
def test_decisions_are_those_of_each_alone(kind: str, batch: int, gate: str) -> None:
    options = ConditionalOptions(r=R, conditional=kind, gate=gate, ifs_weight=0.7)
    h, banks, weights = make(batch, kind)
    free = conditional_routes(h, banks, weights, options, core_dtype=h.dtype)
    kept = [(each.indices_b, each.indices_a) for each in free]
    for before, found in ((None, free), (kept, conditional_routes(h, banks, weights, options, kept, h.dtype))):
        for routed, own in zip(found, alone(h, banks, weights, options, before), strict=True):
            assert torch.equal(routed.indices_a, own.indices_a) and torch.equal(routed.indices_b, own.indices_b)
            for one, other in zip(routed[2:], own[2:], strict=True):
                torch.testing.assert_close(one, other, **EXACT)
            assert routed.gates.requires_grad == (gate != "none") and routed.probs.requires_grad


@pytest.mark.parametrize("uses", ["c c c", "gc gc gc", "gp - q", "c cpq -", "p q pq", "cgpq g c"])
@pytest.mark.parametrize("batch", [4, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_each_alone(kind: str, batch: int, uses: str) -> None:
    """Also where only some members, or some of what they decided, reach the loss: None stays None."""
    options = ConditionalOptions(r=R, conditional=kind, ifs_weight=0.7)
    h, banks, weights = make(batch, kind)
    found = gradients(conditional_routes(h, banks, weights, options, core_dtype=h.dtype), weights, uses)
    expected = gradients(alone(h, banks, weights, options), weights, uses)
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if other is not None:
            torch.testing.assert_close(one, other, **EXACT)


def test_h_and_bank_get_no_gradient_and_no_core_is_written_unasked() -> None:
    h, banks, weights = make(4, "published")
    h.requires_grad_()
    banks[0].requires_grad_()
    routes = conditional_routes(h, banks, weights, ConditionalOptions(r=R))
    assert all(each.core is None for each in routes)
    loss = sum((each.gates * each.probs[:, :R]).sum() for each in routes)
    assert torch.autograd.grad(loss, (h, banks[0]), allow_unused=True) == (None, None)


def test_scores_are_the_same_in_one_call_and_in_many() -> None:
    h, weights = drawn(4, D, seed=1), [drawn(E, D, seed=n) for n in range(4)]
    expected = torch.stack([h @ weight.t() for weight in weights])
    for one_call in (True, False):
        torch.testing.assert_close(router_scores(h.expand(4, *h.shape), weights, one_call=one_call), expected, **EXACT)


class Calls(TorchDispatchMode):
    """Counts what would be launched on a device."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += not function.is_view
        return function(*args, **(kwargs or {}))


def test_three_together_take_half_the_calls_of_three_alone() -> None:
    options = ConditionalOptions(r=R)
    h, banks, weights = make(9, "published")
    counts = []
    for decide in (conditional_routes, alone):
        with Calls() as calls:
            routes = decide(h, banks, weights, options)
            torch.autograd.backward([each.gates for each in routes], [each.gates.detach() for each in routes])
        counts.append(calls.count)
    assert counts[0] < counts[1] / 2


@pytest.mark.parametrize(
    ("changes", "known"),
    [({}, True), ({"gate": "multiply"}, False), ({"conditional": "released"}, False), ({"gate": "none"}, True)],
)
def test_which_options_are_known(changes: dict, known: bool) -> None:
    assert can_decide_together(ConditionalOptions(r=R, **changes)) == known
