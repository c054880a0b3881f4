"""Cores that depend on what was chosen: what an instance's factors a say about which factors b to pair them with.

Shape suffixes: B instances, D input width, E and J factors, K and R the r slots.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

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
    needed = needed_weights(routers, options.conditional)
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
    return slot_logits(indices_a_BK, bank_a_ED, weight_ERD).softmax(-1).sum(0)


def slot_logits(indices_BK: Tensor, bank_ED: Tensor, weight_ERD: Tensor) -> Tensor:
    """a_{i[k]} · W_AB[k] against every factor, for each instance and slot k: [R, B, E].

    Of B instances, fewer than factors: their own rows, slot by slot. Otherwise every factor against every slot and then
    the chosen ones of those, which is no more work, one product, and its gradient is one product too.
    """
    (batch, r), (size, width) = indices_BK.shape, bank_ED.shape
    if batch < size:
        rows_RBD = bank_ED[indices_BK.t()]
        if torch.compiler.is_compiling():  # a compiler chooses memory layouts itself
            return torch.bmm(rows_RBD, weight_ERD.permute(1, 2, 0))
        return SlotProduct.apply(rows_RBD, weight_ERD)
    table_ERJ = torch.mm(weight_ERD.view(-1, width), bank_ED.t()).view(size, r, size)
    return table_ERJ.gather(2, indices_BK.t().expand(size, r, batch)).permute(1, 2, 0)


class SlotProduct(Function):
    """rows_RBD[k] times W_AB[k]: [R, B, E]. Autograd alone would copy the weight's gradient into the weight's order."""

    @staticmethod
    def forward(ctx: Any, rows_RBD: Tensor, weight_ERD: Tensor) -> Tensor:
        """One product for each slot."""
        ctx.save_for_backward(rows_RBD, weight_ERD)
        return torch.bmm(rows_RBD, weight_ERD.permute(1, 2, 0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_logits_RBE: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of rows and weight, each if asked for."""
        rows_RBD, weight_ERD = ctx.saved_tensors
        d_rows = d_weight = None
        if ctx.needs_input_grad[0]:
            d_rows = torch.bmm(d_logits_RBE, weight_ERD.transpose(0, 1))
        if ctx.needs_input_grad[1]:
            d_weight = torch.empty_like(weight_ERD)
            d_weight.transpose(0, 1).baddbmm_(d_logits_RBE.transpose(1, 2), rows_RBD, beta=0)
        return d_rows, d_weight


def needed_weights(routers: ConditionalWeights, conditional: str) -> list[Tensor]:
    """The weights of NEEDED_WEIGHTS, in its order; see `conditional_term` for the error."""
    weights = []
    for field in NEEDED_WEIGHTS[conditional]:
        weight = getattr(routers, field)
        if weight is None:
            raise ValueError(f"conditional {conditional!r} needs the router weight {field!r}, which is absent")
        weights.append(weight)
    return weights
