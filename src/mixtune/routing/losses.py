"""How evenly a router uses what it has: the auxiliary loss that trains it to, and two numbers that say whether it does.

Shape suffixes: B instances, T tokens, P positions of all, S samples, E factors or experts, K chosen slots. N stands for
B or for B, T.
"""

import torch
from torch import Tensor

from mixtune.routing.routers import full_precision


def balance_loss(probs_NE: Tensor, indices_NK: Tensor, mask_N: Tensor | None, num_experts: int) -> Tensor:
    """E · Σ_j c_j p_j, a scalar: 1 for a router that spreads evenly, up to E for one that sends all to one expert.

    c_j: share of the chosen slots that went to j (no gradient); p_j: mean probability of j. Both over the positions
    where the mask is true (all, if None), over one layer and one batch together (METHODS M3). No position gives 0.
    The switch loss of Fedus et al., arXiv 2101.03961, eq. 4, for any K; arXiv 2401.16160 uses it without the factor E.
    Raises ValueError if num_experts is not the last dimension of probs.
    """
    if probs_NE.shape[-1] != num_experts:
        raise ValueError(f"num_experts: {num_experts}, but the router gives {probs_NE.shape[-1]} probabilities")
    probs_PE, slots_PK = probs_NE.flatten(0, -2), indices_NK.flatten(0, -2)
    if mask_N is None:
        weight_P = probs_PE.new_full((len(probs_PE),), 1.0 / max(len(probs_PE), 1))
    else:
        counted_P = mask_N.flatten().to(probs_PE.dtype)
        weight_P = counted_P / counted_P.sum().clamp_min(1)
    share_E = probs_PE.new_zeros(num_experts)  # times K
    share_E.index_add_(0, slots_PK.flatten(), weight_P[:, None].expand(slots_PK.shape).flatten())
    with full_precision(probs_PE):
        return num_experts / slots_PK.shape[1] * torch.dot(share_E, weight_P @ probs_PE)


def sample_usage(
    probs_NE: Tensor, indices_NK: Tensor, mask_N: Tensor | None, owners_N: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """The c and p of `balance_loss` for each sample apart, both [S, E], S = count; zeros for one without a position.

    owners: number of the sample that a position belongs to, long, 0 to S - 1.
    """
    num_experts, owners_N = probs_NE.shape[-1], owners_N.flatten()
    weight_N1 = probs_NE.new_ones(len(owners_N), 1) if mask_N is None else mask_N.to(probs_NE.dtype).view(-1, 1)
    size_S1 = probs_NE.new_zeros(count, 1).index_add_(0, owners_N, weight_N1)
    flat_NE = probs_NE.flatten(0, -2) * weight_N1
    mean_SE = probs_NE.new_zeros(count, num_experts).index_add_(0, owners_N, flat_NE) / size_S1.clamp_min(1)
    slots_NK = indices_NK.flatten(0, -2)
    cells_NK = owners_N[:, None] * num_experts + slots_NK
    counts_SE = probs_NE.new_zeros(count * num_experts)
    counts_SE.index_add_(0, cells_NK.flatten(), weight_N1.expand(slots_NK.shape).flatten())
    counts_SE = counts_SE.view(count, num_experts)
    return counts_SE / counts_SE.sum(1, keepdim=True).clamp_min(1), mean_SE


def entropy(probs_NE: Tensor) -> Tensor:
    """−Σ_j p_j log p_j of each distribution in nats, [N]: 0 when certain, log E when every choice is equally likely."""
    return torch.special.entr(probs_NE).sum(-1)


def dead_share(indices_NK: Tensor, num_experts: int) -> float:
    """Share of the experts or factors that no position chose, 0 to 1. Nothing routed counts as all dead."""
    return 1.0 - indices_NK.unique().numel() / num_experts
