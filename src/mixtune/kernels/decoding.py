"""One token a row and no gradient, as in decoding: calls cost more than numbers there, so there are few of them.

The banks are read in their own dtype (float32): turning a token into float32 is cheaper than turning banks into
bfloat16 at every step.

Shape suffixes: B rows, D input width, O output width, E factors or experts, K chosen slots, J rows of a bank (E times
block), C chosen rows of it (K times block).
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mixtune.routing.routers import RouterOutput

MAX_ROWS = 256  # as far as it was measured to be the faster way
MAX_CORE_ROWS = 64  # up to here M is one matrix, beyond it a thin one that picks and a thin one that places


class Core(NamedTuple):
    """M for `one_token`.

    matrices: what x Aᵀ of each row is multiplied by, one after another: [B, 1, J] by elements, else as a matrix.
    rows: those of the only expert of the only row, instead of the whole banks; gate: its gate.
    chosen: instead of the banks, each row's own: [B, C, D] of A and, times gates, [B, C, O] of B.
    made_of: of a core that is kept, the `made_of` under which it holds.
    """

    matrices: tuple[Tensor, ...] = ()
    rows: slice | None = None
    gate: float = 1.0
    chosen: tuple[Tensor, Tensor] | None = None
    made_of: tuple[Any, ...] | None = None


IDENTITY = Core()


def is_decoding(x_B1D: Tensor) -> bool:
    """Whether each row has one token and nothing is learnt; a decision for a row is one for its token then."""
    return not torch.is_grad_enabled() and x_B1D.shape[1] == 1 and x_B1D.shape[0] <= MAX_ROWS


def wide_dtype(base: Tensor, bank: Tensor) -> torch.dtype:
    """What `one_token` computes in: the banks' dtype or base's, whichever is wider."""
    return torch.promote_types(base.dtype, bank.dtype)


def made_of(banks: tuple[Tensor, Tensor], dtype: torch.dtype) -> tuple[Any, ...]:
    """What a core takes from banks and dtype: equal as long as neither was changed, replaced or moved."""
    bank_a, bank_b = banks
    counts = not (bank_a.is_inference() or bank_b.is_inference())  # such tensors do not count their changes
    return dtype, bank_a.data_ptr(), bank_b.data_ptr(), counts and (bank_a._version, bank_b._version)


def decoding_core(
    routed: RouterOutput, dtype: torch.dtype, banks: tuple[Tensor, Tensor], block: int, *, keep: bool = False
) -> Core:
    """M for `one_token` with `banks` (A's [J, D], B's [O, J]), computed in `dtype`.

    Whoever keeps a selection can keep it, as long as `made_of` stays the same. If it is to be kept, the chosen rows are
    copied where these are fewer than the banks': what a step takes is the time to read them.
    """
    bank_JD, bank_OJ = banks
    if routed.indices_a.numel() == 1 and routed.indices_a is routed.indices_b and _on_host(bank_JD):
        first = int(routed.indices_a) * block
        return Core(rows=slice(first, first + block), gate=float(routed.gates))
    indices_a, indices_b, gates_BC = _rows(routed, block, dtype)
    (batch, count), num_rows = indices_a.shape, len(bank_JD)
    if keep and batch * count < num_rows:
        return Core(chosen=(bank_JD[indices_a].to(dtype), bank_OJ.t()[indices_b].to(dtype) * gates_BC[..., None]))
    if routed.indices_a is routed.indices_b:
        return Core((gates_BC.new_zeros(batch, num_rows).scatter_add_(1, indices_a, gates_BC)[:, None],))
    if num_rows <= MAX_CORE_ROWS:
        cells_BC = torch.add(indices_b, indices_a, alpha=num_rows)
        core_BX = gates_BC.new_zeros(batch, num_rows * num_rows).scatter_add_(1, cells_BC, gates_BC)
        return Core((core_BX.view(batch, num_rows, num_rows),))
    picks_BJC = gates_BC.new_zeros(batch, num_rows, count).scatter_(1, indices_a[:, None], 1.0)
    places_BCJ = gates_BC.new_zeros(batch, count, num_rows).scatter_(2, indices_b[..., None], gates_BC[..., None])
    return Core((picks_BJC, places_BCJ))


def one_token(
    base_B1O: Tensor, x_B1D: Tensor, bank_a_JD: Tensor, bank_b_OJ: Tensor, core: Core = IDENTITY, *, scale: float
) -> Tensor:
    """Add scale · B·M·A·x to base; over base where nobody else reads it. Computed in `wide_dtype`, as `core` is."""
    if core.rows is not None:
        bank_a_JD, bank_b_OJ, scale = bank_a_JD[core.rows], bank_b_OJ[:, core.rows], scale * core.gate
    if x_B1D.dtype != base_B1O.dtype or bank_a_JD.dtype != base_B1O.dtype:
        dtype = wide_dtype(base_B1O, bank_a_JD)
        x_B1D, bank_a_JD, bank_b_OJ = x_B1D.to(dtype), bank_a_JD.to(dtype), bank_b_OJ.to(dtype)
    if core.chosen is not None:
        a_BCD, b_BCO = core.chosen
        more_B1O = torch.bmm(torch.bmm(x_B1D, a_BCD.transpose(1, 2)), b_BCO)
    else:
        z_B1J = F.linear(x_B1D, bank_a_JD)
        for each in core.matrices:
            z_B1J = z_B1J * each if each.shape[1] == 1 else torch.bmm(z_B1J, each)
        more_B1O = F.linear(z_B1J, bank_b_OJ)
    if not torch.compiler.is_compiling() and is_fresh(base_B1O):
        return base_B1O.add_(more_B1O, alpha=scale)
    return torch.add(base_B1O, more_B1O, alpha=scale).to(base_B1O.dtype)


def is_fresh(base: Tensor) -> bool:
    """Whether nobody else can read `base`. A compiler decides for itself, and tensors it traces do not know."""
    return base.is_contiguous() and not base._is_view() and not (base.is_leaf and base.requires_grad)


def _on_host(bank: Tensor) -> bool:
    """Whether a number can be read without waiting for a device or breaking a compiled graph."""
    return bank.device.type == "cpu" and not torch.compiler.is_compiling()


def _rows(routed: RouterOutput, block: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Chosen rows of both banks and their gates in `dtype`, [B, C] each; of decisions [B, K] or [B, 1, K]."""
    indices_a, indices_b, gates = (each.flatten(1) for each in routed[:3])
    gates = gates.to(dtype)
    if block > 1:
        rows = torch.arange(block, device=gates.device)
        indices_a, indices_b = ((each[..., None] * block + rows).flatten(1) for each in (indices_a, indices_b))
        gates = gates.repeat_interleave(block, 1)
    return indices_a, indices_b, gates
