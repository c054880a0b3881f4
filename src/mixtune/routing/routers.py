"""Routers: from what a layer sees to which factors or experts it uses, and with which gates.

Shape suffixes: B instances, T tokens, D input width, E factors or experts,
K chosen slots (r for conditional routing). N stands for B or for B, T.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mixtune.routing.cores import ConditionalOptions, ConditionalWeights, conditional_term
from mixtune.routing.gates import HARD_GATES, check_gate, gate
from mixtune.routing.hard import HardChoice


class RouterOutput(NamedTuple):
    """What a router decided: the core of `y = W x + s·B·M·A x`.

    indices_a, indices_b: long [B, K] (one decision an instance) or [B, T, K] (one a token), best first. Slot k of B
    pairs with slot k of A, so order matters. For experts both are the same tensor (the same object) of expert numbers.
    gates: multiplier of each slot, same shape, floating point; exactly 1.0 going forward under "straight-through".
    probs: [B, E] or [B, T, E], the router's (A's) probabilities over everything it could have chosen; probs_b the same
    for B's scores before conditioning, or None. Both carry gradient, for auxiliary losses and statistics.
    core: M of each instance written out, [B, E, E], entry (i, j) the gate of the slot that pairs a_i with b_j; or None.
    Where there is one, it is what a linear may multiply by, and leads its gradient to the router.
    """

    indices_a: Tensor
    indices_b: Tensor
    gates: Tensor
    probs: Tensor
    probs_b: Tensor | None = None
    core: Tensor | None = None

    def spread(self, owners_BT: Tensor) -> RouterOutput:
        """The decisions of G instances [G, K] at each position of the rows they share, [B, T, K]; probs stay as is."""
        indices_a = self.indices_a[owners_BT]
        indices_b = indices_a if self.indices_b is self.indices_a else self.indices_b[owners_BT]
        return RouterOutput(indices_a, indices_b, self.gates[owners_BT], self.probs, self.probs_b)


@dataclass(frozen=True, kw_only=True)
class TokenOptions:
    """How a token router decides: the top_k most probable experts and their gate, or, if dense, every expert.

    dense ignores top_k and gate: each expert is multiplied by its softmax probability (METHODS M1).
    Raises ValueError for an unknown gate or top_k < 1.
    """

    top_k: int = 1
    gate: str = "straight-through"
    dense: bool = False

    def __post_init__(self) -> None:
        check_gate(self.gate)
        if self.top_k < 1:
            raise ValueError(f"top_k: must be at least 1, got {self.top_k}")


def pool_prompt(x_BTD: Tensor, mask_BT: Tensor | None = None) -> Tensor:
    """Mean over the positions where mask is true, [B, D], summed and returned in float32 or wider.

    mask None means every position. An instance with no position (T = 0 or an all-false row) gives zeros. Values at
    masked positions must be finite (they are multiplied by zero). METHODS D6: pass the prompt mask.
    """
    dtype = torch.promote_types(x_BTD.dtype, torch.float32)
    if mask_BT is None:
        return x_BTD.sum(1, dtype=dtype) / max(x_BTD.shape[1], 1)
    return weighted_sum(x_BTD, mean_weights(mask_BT, dtype))


def mean_weights(mask_BT: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """1 / (number of true positions of the row) where mask is true and 0 elsewhere, [B, 1, T]."""
    mask_B1T = mask_BT.to(dtype)[:, None]
    return mask_B1T / mask_B1T.sum(2, keepdim=True).clamp_min(1)


def weighted_sum(x_BTD: Tensor, weights_B1T: Tensor) -> Tensor:
    """Sum over positions of x times weights, [B, D], in the wider of both dtypes (float32 or wider).

    One matrix product per instance: several times faster than masking a copy of x.
    """
    with full_precision(x_BTD):
        dtype = torch.promote_types(x_BTD.dtype, weights_B1T.dtype)
        return torch.bmm(weights_B1T.to(dtype), x_BTD.to(dtype))[:, 0]


def pool_segments(x_BTD: Tensor, owners_BT: Tensor, count: int, mask_BT: Tensor | None = None) -> Tensor:
    """`pool_prompt` where several instances share a row: mean over each one's prompt positions, [G, D].

    owners: number of the instance each position belongs to, long [B, T], 0 to count - 1 = G - 1.
    """
    dtype = torch.promote_types(x_BTD.dtype, torch.float32)
    with full_precision(x_BTD):
        read_N1 = (torch.ones_like(owners_BT) if mask_BT is None else mask_BT).to(dtype).view(-1, 1)
        read_NX = torch.cat([x_BTD.reshape(-1, x_BTD.shape[-1]).to(dtype) * read_N1, read_N1], dim=1)
        sums_GX = read_NX.new_zeros(count, read_NX.shape[1]).index_add_(0, owners_BT.flatten(), read_NX)
        return sums_GX[:, :-1] / sums_GX[:, -1:].clamp_min(1)


def conditional_route(
    h_BD: Tensor,
    bank_a_ED: Tensor,
    routers: ConditionalWeights,
    options: ConditionalOptions,
    kept: tuple[Tensor, Tensor] | None = None,
) -> RouterOutput:
    """Choose r factors a and r factors b for each instance (Conditional MixLoRA, arXiv 2402.15896; METHODS §1).

        iA = top-r(W_A h),  p = softmax(W_B h),  iB = top-r(p + ifs_weight·c)
        published: c = Σ_k softmax_E(a_{iA[k]} · W_AB[k])
        released:  c = softmax(Σ_k softmax_E((Σ_d a_{iA[k],d}) · (Σ_f W_AB[k, f])))          (D2, D3)
        choice:    c = softmax(W_C · mean_k embed[iA[k]])
        none:      iB = top-r(W_B h)

    Both lists are ordered by score, equal scores by lower number.

    A slot's gate is made of softmax(W_A h) at iA[k] and of B's score at iB[k] (p alone under "none"): for
    "straight-through" one gate on their sum, which is value and gradient of the product of one gate on each; otherwise
    the product. `kept` = (indices_a, indices_b), both [B, r], replaces the choosing; gates stay differentiable.

    Unless the gate changes what is computed ("multiply", "renormalise"), h and the bank are read detached: the routing
    gradient then trains routers only, and the gradient of everything else is exactly that of the network with its
    selection held fixed, rather than that plus a term pulling factors and lower layers towards being chosen.

    h: [B, D]; bank_a: [E, D]; indices in the result [B, r], probs and probs_b [B, E], computed in float32 or wider.
    Raises ValueError if r > E or a needed weight is absent.
    """
    if options.gate in HARD_GATES:
        h_BD, bank_a_ED = h_BD.detach(), bank_a_ED.detach()
    with full_precision(h_BD):
        h_BD = h_BD.to(routers.router_a.dtype)
        logits_a_BE = F.linear(h_BD, routers.router_a)
        logits_b_BE = F.linear(h_BD, routers.router_b)
        probs_a_BE, probs_b_BE = logits_a_BE.softmax(-1), logits_b_BE.softmax(-1)
        indices_a_BK = kept[0] if kept is not None else top_k(logits_a_BE, options.r)
        c_BE = conditional_term(indices_a_BK, bank_a_ED, routers, options)
        score_b_BE = probs_b_BE if c_BE is None else torch.add(probs_b_BE, c_BE, alpha=options.ifs_weight)
        indices_b_BK = kept[1] if kept is not None else top_k(logits_b_BE if c_BE is None else score_b_BE, options.r)
        gates_BK = _pair_gate(options.gate, probs_a_BE.gather(-1, indices_a_BK), score_b_BE.gather(-1, indices_b_BK))
    return RouterOutput(indices_a_BK, indices_b_BK, gates_BK, probs_a_BE, probs_b_BE)


def token_route(
    x_BTD: Tensor,
    weight_ED: Tensor,
    bias_E: Tensor | None,
    options: TokenOptions,
    kept: tuple[Tensor, Tensor] | None = None,
    core_dtype: torch.dtype | None = None,
) -> RouterOutput:
    """Choose experts for each token (or, for x of shape [B, D], for each instance): p = softmax(W x + bias).

    The top_k most probable, best first, equal ones by lower number, multiplied by `options.gate` of their p; or, if
    dense, all E in order, multiplied by p. `kept` replaces the choosing as in `conditional_route`, and x is read
    detached under the same rule as h there. Logits and softmax are computed in the weight's dtype (keep it float32).
    A hard gate with a `core_dtype` has its core written out too: the diagonal, [..., E].
    Result: indices and gates [..., K], probs [..., E]; indices_a is indices_b. Raises ValueError if top_k > E.
    LLaVA-MoLE (arXiv 2401.16160, METHODS §2) with its defaults there; M1 and M2 are `dense` and gate "none".
    """
    num_experts = weight_ED.shape[0]
    if not options.dense and options.top_k > num_experts:
        raise ValueError(f"top_k: {options.top_k} experts cannot be chosen out of {num_experts}")
    if not options.dense and options.gate in HARD_GATES:
        x_BTD = x_BTD.detach()
    with full_precision(x_BTD):
        logits_NE, probs_NE = _token_scores(x_BTD.to(weight_ED.dtype), weight_ED, bias_E)
        if options.dense:
            every_NE = torch.arange(num_experts, device=x_BTD.device).expand(probs_NE.shape)
            return RouterOutput(every_NE, every_NE, probs_NE, probs_NE)
        indices_NK = kept[0] if kept is not None else top_k(logits_NE, options.top_k)
        core_NE = None
        if options.gate in HARD_GATES and not torch.compiler.is_compiling():
            read_NE = probs_NE if options.gate == "straight-through" else probs_NE.detach()
            gates_NK, core_NE = HardChoice.apply(read_NE, indices_NK, core_dtype)
        else:
            gates_NK = gate(options.gate, probs_NE.gather(-1, indices_NK))
    return RouterOutput(indices_NK, indices_NK, gates_NK, probs_NE, core=core_NE)


def random_route(
    batch: int, num_factors: int, r: int, generator: torch.Generator, device: torch.device | str = "cpu"
) -> RouterOutput:
    """The control that any claim about routing needs: r distinct factors a and, apart from them, r distinct b for each
    of `batch` instances, every ordered choice equally likely, drawn from `generator` alone (METHODS D12).

    Indices and gates (all 1.0) are [batch, r]; probs and probs_b are 1 / num_factors. Raises ValueError if
    r > num_factors.
    """
    if r > num_factors:
        raise ValueError(f"r: {r} factors cannot be chosen out of {num_factors}")
    draws = torch.rand(2, batch, num_factors, generator=generator, device=generator.device)
    indices_a_BK, indices_b_BK = draws.argsort(-1)[..., :r].to(device).unbind(0)
    uniform_BE = torch.full((batch, num_factors), 1.0 / num_factors, device=device)
    return RouterOutput(indices_a_BK, indices_b_BK, torch.ones(batch, r, device=device), uniform_BE, uniform_BE)


def top_k(scores: Tensor, k: int) -> Tensor:
    """Positions of the k largest along the last dimension, largest first; among equals the lower position first.

    torch.topk promises no order among equals, so two machines could route the same input differently.
    Raises ValueError if there are fewer than k.
    """
    if k > scores.shape[-1]:
        raise ValueError(f"r: {k} factors cannot be chosen out of {scores.shape[-1]}")
    if k == 1:
        return scores.argmax(-1, keepdim=True)
    return scores.detach().sort(dim=-1, descending=True, stable=True).indices[..., :k]


def _token_scores(x_BTD: Tensor, weight_ED: Tensor, bias_E: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits and probabilities, [..., E]. They lie in memory as [E, N], since there are few experts and many tokens:
    the product and the softmax then run along the tokens.
    """
    x_DN = x_BTD.flatten(0, -2).t()
    logits_EN = torch.mm(weight_ED, x_DN) if bias_E is None else torch.addmm(bias_E[:, None], weight_ED, x_DN)
    logits, probs = (each.unflatten(1, x_BTD.shape[:-1]).movedim(0, -1) for each in (logits_EN, logits_EN.softmax(0)))
    return logits, probs


def _pair_gate(name: str, score_a_BK: Tensor, score_b_BK: Tensor) -> Tensor:
    """One gate a slot from the scores of its two factors; see `conditional_route`."""
    if name in HARD_GATES:
        return gate(name, score_a_BK + score_b_BK)
    return gate(name, score_a_BK * score_b_BK)


def full_precision(x: Tensor) -> AbstractContextManager:
    """Inside it autocast does not lower the precision of a routing decision."""
    device = x.device.type
    wanted = torch.compiler.is_compiling() or torch.is_autocast_enabled(device)  # asking would break a compiled graph
    return torch.autocast(device, enabled=False) if wanted else nullcontext()
