"""Routers against METHODS §1 and §2 written out in loops, and the properties that training them relies on."""

import math

import pytest
import torch
from torch import Tensor

from mixtune.kernels import mixture_linear
from mixtune.routing.cores import ConditionalOptions, ConditionalWeights
from mixtune.routing.routers import (
    RouterOutput,
    TokenOptions,
    conditional_route,
    pool_prompt,
    random_route,
    token_route,
    top_k,
)
from tolerances import TOL

B, D, E, R = 5, 6, 8, 3
EXACT = TOL[torch.float64]
CONDITIONALS = ["published", "released", "choice", "none"]


def make_weights(seed: int = 0) -> ConditionalWeights:
    generator = torch.Generator().manual_seed(seed)
    sizes = {"router_a": D, "router_b": D, "conditional": R * D, "choice_embed": D, "choice_weight": D}
    return ConditionalWeights(
        **{
            name: torch.randn(E, size, dtype=torch.float64, generator=generator).requires_grad_()
            for name, size in sizes.items()
        }
    )


def make_inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    draw = [torch.randn(rows, D, dtype=torch.float64, generator=generator) for rows in (B, E)]
    return draw[0].requires_grad_(), draw[1].requires_grad_()


def conditioned_by_hand(kind: str, h: Tensor, bank: Tensor, chosen: list[int], weights: ConditionalWeights) -> Tensor:
    """B's score of one instance, [E], straight from the formulas."""
    if kind == "none":
        return (weights.router_b @ h).softmax(-1)
    if kind == "choice":
        mean = sum(weights.choice_embed[i] for i in chosen) / len(chosen)
        return (weights.router_b @ h).softmax(-1) + (weights.choice_weight @ mean).softmax(-1)
    w_RDE = torch.stack([weights.conditional[:, k * D : (k + 1) * D].t() for k in range(R)])
    c = torch.zeros(E, dtype=torch.float64)
    for k, i in enumerate(chosen):
        logits = bank[i] @ w_RDE[k] if kind == "published" else bank[i].sum() * w_RDE[k].sum(0)
        c = c + logits.softmax(-1)
    return (weights.router_b @ h).softmax(-1) + (c if kind == "published" else c.softmax(-1))


@pytest.mark.parametrize("kind", CONDITIONALS)
def test_conditional_selection_and_multiplied_gate_by_hand(kind: str) -> None:
    (h, bank), weights = make_inputs(), make_weights()
    routed = conditional_route(h, bank, weights, ConditionalOptions(r=R, conditional=kind, gate="multiply"))
    for b in range(B):
        p_a = (weights.router_a @ h[b]).softmax(-1)
        chosen_a = sorted(range(E), key=lambda i, p=p_a: -p[i].item())[:R]
        score = conditioned_by_hand(kind, h[b], bank, chosen_a, weights)
        chosen_b = sorted(range(E), key=lambda i, s=score: -s[i].item())[:R]
        assert routed.indices_a[b].tolist() == chosen_a and routed.indices_b[b].tolist() == chosen_b
        torch.testing.assert_close(routed.gates[b], p_a[chosen_a] * score[chosen_b], **EXACT)
        torch.testing.assert_close(routed.probs[b], p_a, **EXACT)
        torch.testing.assert_close(routed.probs_b[b], (weights.router_b @ h[b]).softmax(-1), **EXACT)


def test_the_slot_of_an_a_matters() -> None:
    """W_AB has one matrix a slot: the same factors a in another order give another score of the factors b."""
    (h, bank), weights = make_inputs(), make_weights()
    options = ConditionalOptions(r=R, gate="multiply")
    routed = conditional_route(h, bank, weights, options)
    turned = conditional_route(h, bank, weights, options, (routed.indices_a.flip(-1), routed.indices_b))
    assert not torch.allclose(routed.gates, turned.gates.flip(-1))


def test_ifs_weight_multiplies_the_conditional_term() -> None:
    (h, bank), weights = make_inputs(), make_weights()
    alone, none = (
        conditional_route(h, bank, weights, ConditionalOptions(r=R, conditional=kind, gate="multiply", ifs_weight=0.0))
        for kind in ("published", "none")
    )
    assert torch.equal(alone.indices_b, none.indices_b)
    torch.testing.assert_close(alone.gates, none.gates, **EXACT)


@pytest.mark.parametrize("kind", CONDITIONALS)
def test_straight_through_gates_are_one_and_train_every_router(kind: str) -> None:
    (h, bank), weights = make_inputs(), make_weights()
    routed = conditional_route(h, bank, weights, ConditionalOptions(r=R, conditional=kind))
    assert torch.equal(routed.gates, torch.ones_like(routed.gates))
    routed.gates.backward(torch.arange(1.0, B * R + 1, dtype=torch.float64).view(B, R))
    used = {
        "published": ["conditional"],
        "released": ["conditional"],
        "choice": ["choice_embed", "choice_weight"],
        "none": [],
    }
    for name in ["router_a", "router_b", *used[kind]]:
        assert getattr(weights, name).grad.abs().max() > 0, name
    assert h.grad is None and bank.grad is None


def test_straight_through_gradient_is_that_of_one_gate_on_each_slot_multiplied() -> None:
    (h, bank), weights = make_inputs(), make_weights()
    routed = conditional_route(h, bank, weights, ConditionalOptions(r=R))
    multiplied = conditional_route(h.detach(), bank.detach(), weights, ConditionalOptions(r=R, gate="multiply"))
    h, bank, chosen = h.detach(), bank.detach(), routed.indices_a.tolist()
    score = torch.stack([conditioned_by_hand("published", h[i], bank, chosen[i], weights) for i in range(B)])
    a, b = multiplied.probs.gather(1, routed.indices_a), score.gather(1, routed.indices_b)
    expected = (1 + a - a.detach()) * (1 + b - b.detach())
    upstream = torch.randn(B, R, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    leaves = (weights.router_a, weights.router_b, weights.conditional)
    found = torch.autograd.grad(routed.gates, leaves, upstream)
    torch.testing.assert_close(found, torch.autograd.grad(expected, leaves, upstream), **EXACT)


def test_multiplied_gate_has_the_true_gradient_everywhere() -> None:
    (h, bank), weights = make_inputs(), make_weights()
    options = ConditionalOptions(r=R, gate="multiply")
    assert torch.autograd.gradcheck(lambda h, bank: conditional_route(h, bank, weights, options).gates, (h, bank))


def test_factor_and_input_gradients_are_those_of_the_selection_held_fixed() -> None:
    """With a hard gate the routing gradient reaches routers only, so finite differences of the network agree."""
    (_, bank), weights = make_inputs(), make_weights()
    generator = torch.Generator().manual_seed(1)
    x, base, bank_b = (
        torch.randn(size, dtype=torch.float64, generator=generator).requires_grad_()
        for size in ((B, 4, D), (B, 4, 5), (5, E))
    )

    def network(x: Tensor, bank_a: Tensor, bank_b: Tensor) -> Tensor:
        routed = conditional_route(pool_prompt(x), bank_a, weights, ConditionalOptions(r=R))
        return mixture_linear(base * 1.0, x, bank_a, bank_b, routed, scale=0.5, block=1)

    assert torch.autograd.gradcheck(network, (x, bank, bank_b))


@pytest.mark.parametrize("name", ["straight-through", "multiply"])
def test_kept_selection_replaces_choosing_but_not_the_gradient(name: str) -> None:
    (h, bank), weights = make_inputs(), make_weights()
    options = ConditionalOptions(r=R, gate=name)
    free = conditional_route(h, bank, weights, options)
    again = conditional_route(h, bank, weights, options, (free.indices_a, free.indices_b))
    torch.testing.assert_close(again.gates, free.gates, **EXACT)
    other = (free.indices_a.roll(1, 0), free.indices_b.roll(1, 0))
    held = conditional_route(h, bank, weights, options, other)
    assert torch.equal(held.indices_a, other[0]) and torch.equal(held.indices_b, other[1])
    assert torch.autograd.grad(held.gates.sum(), weights.router_a)[0].abs().max() > 0


def test_equal_scores_go_to_the_lower_number() -> None:
    scores = torch.zeros(3, 50)
    scores[1, 20] = scores[1, 7] = 1.0
    assert top_k(scores, 3).tolist() == [[0, 1, 2], [7, 20, 0], [0, 1, 2]]
    assert top_k(scores, 1).tolist() == [[0], [7], [0]]
    zeros = ConditionalWeights(
        router_a=torch.zeros(E, D), router_b=torch.zeros(E, D), conditional=torch.zeros(E, R * D)
    )
    routed = conditional_route(torch.ones(2, D), torch.ones(E, D), zeros, ConditionalOptions(r=R))
    assert routed.indices_a.tolist() == routed.indices_b.tolist() == [[0, 1, 2]] * 2


def test_instances_do_not_influence_each_other() -> None:
    (h, bank), weights = make_inputs(), make_weights()
    options = ConditionalOptions(r=R, gate="multiply")
    together = conditional_route(h, bank, weights, options)
    for b in range(B):
        alone = conditional_route(h[b : b + 1], bank, weights, options)
        assert torch.equal(alone.indices_a[0], together.indices_a[b])
        assert torch.equal(alone.indices_b[0], together.indices_b[b])
        torch.testing.assert_close(alone.gates[0], together.gates[b], **EXACT)


@pytest.mark.parametrize("autocast", [False, True])
def test_routing_is_float32_whatever_the_activations(autocast: bool) -> None:
    (_, bank), weights = make_inputs(), make_weights()
    weights = ConditionalWeights(**{name: getattr(weights, name).detach().float() for name in vars(weights)})
    x, options = torch.randn(B, 4, D).bfloat16(), ConditionalOptions(r=R, gate="multiply")
    expected = conditional_route(pool_prompt(x), bank.float(), weights, options)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        routed = conditional_route(pool_prompt(x), bank.float(), weights, options)
        token = token_route(x, weights.router_a, None, TokenOptions())
    assert routed.gates.dtype == token.probs.dtype == torch.float32
    assert torch.equal(routed.gates, expected.gates)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_pooling_is_the_masked_mean(dtype: torch.dtype) -> None:
    x = torch.randn(3, 7, D, generator=torch.Generator().manual_seed(0)).to(dtype)
    mask = torch.tensor([[1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1], [0] * 7], dtype=torch.bool)
    wide = torch.promote_types(dtype, torch.float32)
    expected = torch.stack([x[0, :2].to(wide).mean(0), x[1, 3:].to(wide).mean(0), torch.zeros(D, dtype=wide)])
    torch.testing.assert_close(pool_prompt(x, mask), expected, **TOL[wide])
    torch.testing.assert_close(pool_prompt(x), x.to(wide).mean(1), **TOL[wide])
    changed = torch.where(mask[..., None], x, 1e4)
    assert torch.equal(pool_prompt(changed, mask), pool_prompt(x, mask))
    assert torch.equal(pool_prompt(x[:, :0]), torch.zeros(3, D, dtype=wide))


@pytest.mark.parametrize("kept", [False, True])
def test_token_routes(kept: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, D, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(E, D, dtype=torch.float64, generator=generator).requires_grad_()
    bias = torch.randn(E, dtype=torch.float64, generator=generator).requires_grad_()
    probs = (x @ weight.t() + bias).softmax(-1)
    chosen = probs.argsort(-1, descending=True)[..., :2]
    chosen = chosen.roll(1, 1) if kept else chosen
    held = (chosen, chosen) if kept else None
    for name, expected in {
        "straight-through": torch.ones(2, 4, 2, dtype=torch.float64),
        "none": torch.ones(2, 4, 2, dtype=torch.float64),
        "multiply": probs.gather(-1, chosen),
        "renormalise": probs.gather(-1, chosen) / probs.gather(-1, chosen).sum(-1, keepdim=True),
    }.items():
        routed = token_route(x, weight, bias, TokenOptions(top_k=2, gate=name), held)
        assert torch.equal(routed.indices_a, chosen) and routed.indices_b is routed.indices_a
        torch.testing.assert_close(routed.gates, expected, **EXACT)
        torch.testing.assert_close(routed.probs, probs, **EXACT)
        assert routed.gates.requires_grad == (name != "none")
    (through,) = torch.autograd.grad(
        token_route(x, weight, bias, TokenOptions(top_k=2), held).gates.sum(), weight, retain_graph=True
    )
    torch.testing.assert_close(through, torch.autograd.grad(probs.gather(-1, chosen).sum(), weight)[0], **EXACT)


@pytest.mark.parametrize("name", ["straight-through", "multiply", "dense"])
def test_token_router_reads_x_detached_only_under_a_hard_gate(name: str) -> None:
    x, weight = torch.randn(2, 3, D).requires_grad_(), torch.randn(E, D).requires_grad_()
    dense = name == "dense"
    options = TokenOptions(top_k=2, gate="straight-through" if dense else name, dense=dense)
    gates = token_route(x, weight, None, options).gates
    found = torch.autograd.grad(gates[..., 0].sum(), (x, weight), allow_unused=True)
    assert (found[0] is None) == (name == "straight-through") and found[1].abs().max() > 0


def test_dense_token_route_uses_every_expert() -> None:
    x, weight = torch.randn(2, 3, D, dtype=torch.float64), torch.randn(E, D, dtype=torch.float64)
    routed = token_route(x, weight, None, TokenOptions(dense=True))
    assert torch.equal(routed.indices_a, torch.arange(E).expand(2, 3, E))
    torch.testing.assert_close(routed.gates, (x @ weight.t()).softmax(-1), **EXACT)
    instance = token_route(x[:, 0], weight, None, TokenOptions(top_k=2))
    assert instance.indices_a.shape == (2, 2)


def test_random_route_is_distinct_uniform_and_reproducible() -> None:
    routed = random_route(4000, E, R, torch.Generator().manual_seed(0))
    again = random_route(4000, E, R, torch.Generator().manual_seed(0))
    for found, same in ((routed.indices_a, again.indices_a), (routed.indices_b, again.indices_b)):
        assert torch.equal(found, same)
        assert all(len(set(row)) == R for row in found.tolist())
        share = torch.bincount(found.flatten(), minlength=E) / found.numel()
        error = 5 * math.sqrt(1 / E / found.numel())
        torch.testing.assert_close(share, torch.full((E,), 1 / E), atol=error, rtol=0)
    assert not torch.equal(routed.indices_a, routed.indices_b)
    assert torch.equal(routed.gates, torch.ones(4000, R)) and torch.equal(routed.probs, torch.full((4000, E), 1 / E))


def test_mistakes_are_named() -> None:
    (h, bank), weights = make_inputs(), make_weights()
    with pytest.raises(ValueError, match="conditional: 'publsihed' is unknown; choose from 'published'"):
        ConditionalOptions(r=R, conditional="publsihed")
    with pytest.raises(ValueError, match="r: must be at least 1, got 0"):
        ConditionalOptions(r=0)
    with pytest.raises(ValueError, match="top_k: must be at least 1, got 0"):
        TokenOptions(top_k=0)
    bare = ConditionalWeights(router_a=weights.router_a, router_b=weights.router_b)
    with pytest.raises(ValueError, match="conditional 'published' needs the router weight 'conditional'"):
        conditional_route(h, bank, bare, ConditionalOptions(r=R))
    with pytest.raises(ValueError, match="r: 9 factors cannot be chosen out of 8"):
        conditional_route(h, bank, bare, ConditionalOptions(r=9, conditional="none"))
    with pytest.raises(ValueError, match="top_k: 9 experts cannot be chosen out of 8"):
        token_route(h, weights.router_a, None, TokenOptions(top_k=9))
    with pytest.raises(ValueError, match="r: 9 factors cannot be chosen out of 8"):
        random_route(2, E, 9, torch.Generator())


def test_output_is_frozen() -> None:
    routed = random_route(1, E, R, torch.Generator())
    assert isinstance(routed, RouterOutput)
    with pytest.raises(AttributeError):
        routed.gates = torch.zeros(1)
