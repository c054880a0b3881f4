"""One token a row and no gradient, as in decoding: calls cost more than numbers there, so there are few of them.

Shape suffixes: B rows, D input width, O output width, E factors or experts, K chosen slots, R bank rows of one factor
or expert, J = E·R rows of a bank.
"""

import torch
from torch import Tensor

from mixtune.routing.routers import RouterOutput

MAX_ROWS = 256  # as far as it was measured to be the faster way


def is_decoding(x_B1D: Tensor) -> bool:
    """Whether each row has one token and nothing is learnt; a decision for a row is one for its token then."""
    return not torch.is_grad_enabled() and x_B1D.shape[1] == 1 and x_B1D.shape[0] <= MAX_ROWS


def one_token(x_B1D: Tensor, bank_a_JD: Tensor, routed: RouterOutput | None, block: int, dtype: torch.dtype) -> Tensor:
    """M·A·x of each row's token, [B, J] in `dtype`."""
    z_BJ = torch.mm(x_B1D[:, 0].to(dtype), bank_a_JD.to(dtype).t())
    if routed is None:
        return z_BJ
    shape = (z_BJ.shape[0], routed.indices_a.shape[-1], 1)
    from_BKR, to_BKR = (each.reshape(shape).expand(-1, -1, block) for each in routed[:2])
    z_BER = z_BJ.view(shape[0], z_BJ.shape[1] // block, block)
    chosen_BKR = z_BER.gather(1, from_BKR) * routed.gates.reshape(shape)
    return chosen_BKR.new_zeros(z_BER.shape).scatter_add_(1, to_BKR, chosen_BKR).to(dtype).view(z_BJ.shape)


def add_one(base_B1O: Tensor, w_BJ: Tensor, bank_b_OJ: Tensor, scale: float, in_place: bool) -> Tensor:
    """Add scale · w Bᵀ to base, over it where `in_place`."""
    b_JO, base_BO = bank_b_OJ.to(base_B1O.dtype).t(), base_B1O[:, 0]
    if in_place:
        base_BO.addmm_(w_BJ, b_JO, alpha=scale)
        return base_B1O
    return torch.addmm(base_BO, w_BJ, b_JO, alpha=scale)[:, None]
