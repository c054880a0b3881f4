"""Conditional MixLoRA computed as its released code computes it (METHODS D2, D3, D5, D6, D10), written by us from that
description, to measure what the released way costs.

Shape suffixes: B instances, T tokens, D input width, O output width, E factors, K chosen slots.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DenseMixLora(nn.Module):
    """y = W x + s·ΔW x with ΔW = Σ_k b_{iB[k]} ⊗ a_{iA[k]} formed for every instance, in the base's dtype.

        iA = top-r(W_A h̄);  iB = top-r(softmax(W_B h̄) + softmax(c)),  h̄ the mean over all positions
        c = Σ_k softmax_E((Σ_d a_{iA[k],d}) · (Σ_f W_AB[k, f]))

    Each factor is a parameter of its own, joined with the others at every forward. Routers get no gradient, since only
    positions come out of them. router_ab: [E, r·D] with rows laid out as (r D).
    """

    def __init__(self, base: nn.Linear, num_factors: int, r: int, scale: float) -> None:
        super().__init__()
        self.base, self.r, self.scale = base, r, scale
        made = {"dtype": base.weight.dtype, "device": base.weight.device}
        width, out = base.in_features, base.out_features
        self.factors_a = nn.ParameterList(torch.randn(1, width, **made) / width**0.5 for _ in range(num_factors))
        self.factors_b = nn.ParameterList(torch.zeros(1, out, **made) for _ in range(num_factors))
        self.router_a = nn.Linear(width, num_factors, bias=False, **made)
        self.router_b = nn.Linear(width, num_factors, bias=False, **made)
        self.router_ab = nn.Linear(r * width, num_factors, bias=False, **made)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Result [B, T, O]."""
        a_ED, b_EO = torch.cat(list(self.factors_a)), torch.cat(list(self.factors_b))
        indices_a_BK, indices_b_BK = self.choose(x_BTD.mean(1), a_ED)
        delta_BOD = torch.einsum("bko,bkd->bod", b_EO[indices_b_BK], a_ED[indices_a_BK])
        return self.base(x_BTD) + self.scale * torch.bmm(x_BTD, delta_BOD.transpose(1, 2))

    def choose(self, h_BD: Tensor, a_ED: Tensor) -> tuple[Tensor, Tensor]:
        """Positions of the chosen factors a and b, both [B, K], best first."""
        indices_a_BK = self.router_a(h_BD).topk(self.r).indices
        weight_KE = self.router_ab.weight.unflatten(1, (self.r, -1)).sum(2).t()
        c_BE = (a_ED.sum(1)[indices_a_BK][..., None] * weight_KE).softmax(-1).sum(1)
        scores_BE = self.router_b(h_BD).softmax(-1) + c_BE.softmax(-1)
        return indices_a_BK, scores_BE.topk(self.r).indices
