"""The obvious version of `mixture_linear`: slow, differentiable by torch itself, what the fast paths must equal.

Shape suffixes: B instances, T tokens, D input width, O output width, E factors or experts, K chosen slots, J rows of a
bank (E times block).
"""

import torch
from torch import Tensor

from mixtune.routing.routers import RouterOutput


def reference_core(routed: RouterOutput, shape: tuple[int, int], num_rows: int, block: int) -> Tensor:
    """M as a full matrix for every token, [B, T, J, J] with z → z M: entry (i, j) adds z_i to output row j.

    Slot k adds gates[k] at the rows of expert indices_a[k] and, pairwise, the columns of expert indices_b[k].
    """
    indices_a, indices_b, gates = routed.indices_a, routed.indices_b, routed.gates
    if indices_a.dim() == 2:
        size = (*shape, indices_a.shape[-1])
        indices_a, indices_b, gates = (each[:, None].expand(size) for each in (indices_a, indices_b, gates))
    core_BTJJ = gates.new_zeros(*shape, num_rows, num_rows)
    b, t = (torch.arange(size, device=gates.device) for size in shape)
    b, t = torch.meshgrid(b, t, indexing="ij")
    for k in range(indices_a.shape[-1]):
        for row in range(block):
            at = (b, t, indices_a[..., k] * block + row, indices_b[..., k] * block + row)
            core_BTJJ = core_BTJJ.index_put(at, gates[..., k], accumulate=True)
    return core_BTJJ


def mixture_linear_reference(
    base_BTO: Tensor,
    x_BTD: Tensor,
    bank_a_JD: Tensor,
    bank_b_OJ: Tensor,
    routed: RouterOutput | None,
    *,
    scale: float,
    block: int,
) -> Tensor:
    """Add scale · B·M·A·x to base, with M written out for every token; contract as `kernels.mixture_linear`."""
    dtype = base_BTO.dtype
    inner_BTJ = x_BTD.to(dtype) @ bank_a_JD.to(dtype).t()
    if routed is not None:
        core_BTJJ = reference_core(routed, (x_BTD.shape[0], x_BTD.shape[1]), bank_a_JD.shape[0], block).to(dtype)
        inner_BTJ = (inner_BTJ[..., None, :] @ core_BTJJ)[..., 0, :]
    return base_BTO + scale * (inner_BTJ @ bank_b_OJ.to(dtype).t())
