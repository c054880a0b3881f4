"""Cores that depend on what was chosen: what an instance's factors a say about which factors b to pair them with.

Shape suffixes: B instances, D input width, E and J factors, K and R the r slots.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mixtune.routing.gates import check_gate

NEEDED_WEIGHTS = {
    "published": ("conditional",),
    "released": ("conditional",),
    "choice": ("choice_embed", "choice_weight"),
    "none": (),
}
CONDITIONALS = tuple(NEEDED_WEIGHTS)


@dataclass(frozen=True, kw_only=True)
class ConditionalWeights:
    """Parameters of one conditional router.

    router_a, router_b: [E, D]. conditional: [E, r·D], row e laid out as (r D) like the released
    `loraA_param2loraB_selector.weight`; needed by "published" and "released". choice_embed, choice_weight: [E, D];
    needed by "choice".
    """

    router_a: Tensor
    router_b: Tensor
    conditional: Tensor | None = None
    choice_embed: Tensor | None = None
    choice_weight: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class ConditionalOptions:
    """How a conditional router decides (METHODS §1).

    r: slots chosen. conditional: "published" (the paper's CFS), "released" (the released code's, D2 and D3), "choice"
    (the released `input_lora_a_choice`) or "none" (IFS alone, the released `input`). gate: a key of GATES.
    ifs_weight multiplies the conditional term before it is added to B's own probabilities.
    Raises ValueError for an unknown name or r < 1.
    """

    r: int
    conditional: str = "published"
    gate: str = "straight-through"
    ifs_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.conditional not in CONDITIONALS:
            choices = ", ".join(map(repr, CONDITIONALS))
            raise ValueError(f"conditional: {self.conditional!r} is unknown; choose from {choices}")
        check_gate(self.gate)
        if self.r < 1:
            raise ValueError(f"r: must be at least 1, got {self.r}")


def conditional_term(
    indices_a_BK: Tensor, bank_a_ED: Tensor, routers: ConditionalWeights, options: ConditionalOptions
) -> Tensor | None:
    """The term c [B, E] as `routers.conditional_route` defines it, or None without conditioning.

    Raises ValueError if a weight that the kind of conditioning needs is absent.
    """
    needed = _needed_weights(routers, options.conditional)
    if options.conditional == "none":
        return None
    if options.conditional == "choice":
        embed_ED, choice_ED = needed
        return F.linear(F.embedding(indices_a_BK, embed_ED).mean(1), choice_ED).softmax(-1)
    num_factors, width = bank_a_ED.shape
    weight_ERD = needed[0].view(num_factors, options.r, width)
    bank_a_ED = bank_a_ED.to(weight_ERD.dtype)
    if options.conditional == "released":
        logits_BRE = bank_a_ED.sum(1)[indices_a_BK][..., None] * weight_ERD.sum(2).t()
        return logits_BRE.softmax(-1).sum(1).softmax(-1)
    # Every factor against every slot in one product: no copy of the weight, and no more work than r gathered factors
    # for each of B ≥ E / r instances. Row (j, k) of the table is softmax_E(a_j · W_AB[k]); picks sums an instance's.
    logits_JER = F.linear(bank_a_ED, weight_ERD.view(-1, width)).view(num_factors, num_factors, options.r)
    table_JRE = logits_JER.transpose(1, 2).contiguous().softmax(-1)
    rows_BR = torch.add(torch.arange(options.r, device=indices_a_BK.device), indices_a_BK, alpha=options.r)
    picks = table_JRE.new_zeros(len(rows_BR), num_factors * options.r).scatter_(1, rows_BR, 1.0)
    return picks @ table_JRE.view(-1, num_factors)


def _needed_weights(routers: ConditionalWeights, conditional: str) -> list[Tensor]:
    """The weights of NEEDED_WEIGHTS, in its order; see `conditional_term` for the error."""
    weights = []
    for field in NEEDED_WEIGHTS[conditional]:
        weight = getattr(routers, field)
        if weight is None:
            raise ValueError(f"conditional {conditional!r} needs the router weight {field!r}, which is absent")
        weights.append(weight)
    return weights
