"""How evenly a router uses what it has: the auxiliary loss that trains it to, and two numbers that say whether it does.

Shape suffixes: B instances, T tokens, E factors or experts, K chosen slots. N stands for B or for B, T.
"""

import torch
from torch import Tensor


def balance_loss(probs_NE: Tensor, indices_NK: Tensor, mask_N: Tensor | None, num_experts: int) -> Tensor:
    """E · Σ_j c_j p_j, a scalar: 1 for a router that spreads evenly, up to E for one that sends all to one expert.

    c_j: share of the chosen slots that went to j (no gradient); p_j: mean probability of j. Both over the positions
    where the mask is true (all, if None), over one layer and one batch together (METHODS M3). No position gives 0.
    The switch loss of Fedus et al., arXiv 2101.03961, eq. 4, for any K; arXiv 2401.16160 uses it without the factor E.
    Raises ValueError if num_experts is not the last dimension of probs.
    """
    if probs_NE.shape[-1] != num_experts:
        raise ValueError(f"num_experts: {num_experts}, but the router gives {probs_NE.shape[-1]} probabilities")
    if mask_N is None:
        weight_N1 = probs_NE.new_ones(*probs_NE.shape[:-1], 1)
    else:
        weight_N1 = mask_N.to(probs_NE.dtype)[..., None]
    count = weight_N1.sum().clamp_min(1)
    mean_prob_E = (probs_NE * weight_N1).flatten(0, -2).sum(0) / count
    share_E = _shares(indices_NK, weight_N1, num_experts)
    return num_experts * (share_E * mean_prob_E).sum()


def entropy(probs_NE: Tensor) -> Tensor:
    """−Σ_j p_j log p_j of each distribution in nats, [N]: 0 when certain, log E when every choice is equally likely."""
    return torch.special.entr(probs_NE).sum(-1)


def dead_share(indices_NK: Tensor, num_experts: int) -> float:
    """Share of the experts or factors that no position chose, 0 to 1. Nothing routed counts as all dead."""
    return 1.0 - indices_NK.unique().numel() / num_experts


def _shares(indices_NK: Tensor, weight_N1: Tensor, num_experts: int) -> Tensor:
    """The c of `balance_loss`, [E]: each expert's share of the chosen slots, positions weighted by `weight_N1`."""
    weights = weight_N1.expand(indices_NK.shape).flatten()
    counts_E = weight_N1.new_zeros(num_experts).index_add_(0, indices_NK.flatten(), weights)
    return counts_E / counts_E.sum().clamp_min(1)
