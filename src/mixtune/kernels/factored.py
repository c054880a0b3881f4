"""The fast paths of `mixture_linear`: one autograd function each, none of which forms ΔW.

All compute y = base + scale · B·M·A·x as: z = x Aᵀ, then the core on the small inner dimension (w), then w Bᵀ added,
times scale, into base. Kept for the backward pass: x, z, w, the two banks in base's dtype, the core or gates and
indices.

Plain     M is the identity: w = z.
Paired    an instance's M written out, J by J: w = z M. Three large products whatever the instances chose.
Gathered  only the chosen rows of the banks, copied for each instance: B small products of K·block rows.
Masked    M diagonal: w = z times the token's gate of each expert, zero for experts it did not choose.
Grouped   tokens sorted by expert, one pair of products an expert: work does not grow with the number of experts.
Stacked   the same in torch's one call for all experts, on CUDA.
Crossed   M any pairing, another for each token (instances packed into one row): w = z moved to other rows.

Shape suffixes: B instances, T tokens, N = B·T, D input width, O output width, E factors or experts, K chosen slots,
J rows of a bank (E·block), C chosen rows (K·block), P pairs (token, slot) sorted by expert.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mixtune.routing.routers import RouterOutput, full_precision

Context = Any  # torch's autograd context: attributes are added to it


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a path needs beside its differentiable tensors; in_place: base may be written over; low: both banks in
    base's dtype, if they are at hand.
    """

    scale: float
    in_place: bool
    low: tuple[Tensor, Tensor] | None = None

    def lowered(self, bank_a: Tensor, bank_b: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Both banks in `dtype`, base's."""
        return self.low if self.low is not None else (bank_a.to(dtype), bank_b.to(dtype))


@dataclass(frozen=True, kw_only=True)
class RowsPlan(Plan):
    """For decisions of instances: rows_a, rows_b, long [B, C], the rows of each bank, slot by slot.

    Where instances share a row of the batch the same for each token, [B, T, C].
    """

    rows_a: Tensor
    rows_b: Tensor


@dataclass(frozen=True, kw_only=True)
class ExpertsPlan(Plan):
    """For decisions of tokens. experts: long [N, K]; block: bank rows of one expert."""

    experts: Tensor
    block: int


def flat(x: Tensor) -> Tensor:
    """[B, T, D] as [N, D]."""
    return x.reshape(-1, x.shape[-1])


def core_dtype(gates: Tensor, z: Tensor) -> torch.dtype:
    """The core is computed in the gates' precision or the base's, whichever is wider."""
    return torch.promote_types(gates.dtype, z.dtype)


def scaled_product(left: Tensor, right: Tensor, scale: float) -> Tensor:
    """The product of both, times scale, in one call."""
    return torch.addmm(left.new_empty(()), left, right, beta=0, alpha=scale)


def add_up(ctx: Context, base_BTO: Tensor, w_NJ: Tensor, bank_OJ: Tensor, plan: Plan) -> Tensor:
    """Add scale · w Bᵀ to base: in place where `plan` says that nobody else reads it."""
    if plan.in_place:
        base_BTO.view(-1, base_BTO.shape[-1]).addmm_(w_NJ, bank_OJ.t(), alpha=plan.scale)
        ctx.mark_dirty(base_BTO)
        return base_BTO
    return torch.addmm(flat(base_BTO), w_NJ, bank_OJ.t(), alpha=plan.scale).view(base_BTO.shape)


def up_grads(ctx: Context, dy_NO: Tensor, w_NJ: Tensor, bank_OJ: Tensor) -> tuple[Tensor, Tensor | None]:
    """Gradients of w and, if asked for, of the B bank, in the bank's own dtype."""
    d_bank, scale = None, ctx.plan.scale
    if ctx.needs_input_grad[3]:
        d_bank = scaled_product(w_NJ.t(), dy_NO, scale).t().to(ctx.dtypes[2], memory_format=torch.contiguous_format)
    return scaled_product(dy_NO, bank_OJ, scale), d_bank


def down_grads(ctx: Context, dz_NJ: Tensor, x_BTD: Tensor, bank_JD: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x and of the A bank, each if asked for and in its own dtype."""
    d_x = d_bank = None
    if ctx.needs_input_grad[1]:
        # Not a view of a product of matrices: autograd adds other gradients of x into this one in place.
        d_x = torch.matmul(dz_NJ.view(*x_BTD.shape[:-1], dz_NJ.shape[1]), bank_JD).to(ctx.dtypes[0])
    if ctx.needs_input_grad[2]:
        d_bank = torch.mm(dz_NJ.t(), flat(x_BTD)).to(ctx.dtypes[1])
    return d_x, d_bank


def chosen_rows(routed: RouterOutput, block: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of A, rows of B and the gate of each, [..., C]: of experts, every row of each chosen one."""
    indices_a, indices_b, gates = routed.indices_a, routed.indices_b, routed.gates
    if block > 1:
        rows = torch.arange(block, device=indices_a.device)
        indices_a, indices_b = ((each[..., None] * block + rows).flatten(-2) for each in (indices_a, indices_b))
        gates = gates.repeat_interleave(block, -1)
    return indices_a, indices_b, gates


def written_core(routed: RouterOutput, num_rows: int, block: int, dtype: torch.dtype) -> Tensor:
    """M written out in `dtype`, differentiable in the gates: for `Paired` each instance's [B, J, J], for `Masked` its
    diagonal, one gate for each expert of a token, [B, T, E].
    """
    if routed.indices_a.dim() == 3:
        gates_BTK = routed.gates.to(dtype)
        diagonal_BTE = gates_BTK.new_zeros(*gates_BTK.shape[:2], num_rows // block)
        return diagonal_BTE.scatter_add_(2, routed.indices_a, gates_BTK)
    rows_a, rows_b, gates_BC = chosen_rows(routed, block)
    core_BX = gates_BC.new_zeros(len(gates_BC), num_rows * num_rows, dtype=dtype)
    core_BX.scatter_add_(1, torch.add(rows_b, rows_a, alpha=num_rows), gates_BC.to(dtype))
    return core_BX.unflatten(1, (num_rows, num_rows))


class Plain(Function):
    """The identity core: plain LoRA."""

    @staticmethod
    def forward(ctx: Context, base: Tensor, x: Tensor, bank_a: Tensor, bank_b: Tensor, plan: Plan) -> Tensor:
        """Compute y = base + scale · x Aᵀ Bᵀ."""
        ctx.plan, ctx.dtypes = plan, (x.dtype, bank_a.dtype, bank_b.dtype)
        x, (a_JD, b_OJ) = x.to(base.dtype), plan.lowered(bank_a, bank_b, base.dtype)
        w_NJ = torch.mm(flat(x), a_JD.t())
        ctx.save_for_backward(x, w_NJ, a_JD, b_OJ)
        return add_up(ctx, base, w_NJ, b_OJ, plan)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of every input; None for what needs none and for the plan."""
        x, w_NJ, a_JD, b_OJ = ctx.saved_tensors
        with full_precision(dy):
            dw_NJ, d_bank_b = up_grads(ctx, flat(dy), w_NJ, b_OJ)
            d_x, d_bank_a = down_grads(ctx, dw_NJ, x, a_JD)
        return dy, d_x, d_bank_a, d_bank_b, None


class Paired(Function):
    """The whole bank in one product each way and M_BJJ between them."""

    @staticmethod
    def forward(
        ctx: Context, base: Tensor, x: Tensor, bank_a: Tensor, bank_b: Tensor, core_BJJ: Tensor, plan: Plan
    ) -> Tensor:
        """Compute y from the cores of the instances, [B, J, J] as `written_core` makes them."""
        ctx.plan, ctx.dtypes = plan, (x.dtype, bank_a.dtype, bank_b.dtype, core_BJJ.dtype)
        x, (a_JD, b_OJ) = x.to(base.dtype), plan.lowered(bank_a, bank_b, base.dtype)
        z_BTJ = torch.mm(flat(x), a_JD.t()).view(*x.shape[:2], len(a_JD))
        core_BJJ = core_BJJ.to(core_dtype(core_BJJ, z_BTJ))
        w_NJ = flat(torch.bmm(z_BTJ.to(core_BJJ.dtype), core_BJJ).to(base.dtype))
        ctx.save_for_backward(x, z_BTJ, w_NJ, a_JD, b_OJ, core_BJJ)
        return add_up(ctx, base, w_NJ, b_OJ, plan)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of every input; None for what needs none and for the plan."""
        x, z_BTJ, w_NJ, a_JD, b_OJ, core_BJJ = ctx.saved_tensors
        d_core = None
        with full_precision(dy):
            dw_NJ, d_bank_b = up_grads(ctx, flat(dy), w_NJ, b_OJ)
            dw_BTJ = dw_NJ.view(z_BTJ.shape).to(core_BJJ.dtype)
            if ctx.needs_input_grad[4]:
                d_core = torch.bmm(z_BTJ.to(core_BJJ.dtype).transpose(1, 2), dw_BTJ).to(ctx.dtypes[3])
            dz_NJ = flat(torch.bmm(dw_BTJ, core_BJJ.transpose(1, 2)).to(x.dtype))
            d_x, d_bank_a = down_grads(ctx, dz_NJ, x, a_JD)
        return dy, d_x, d_bank_a, d_bank_b, d_core, None


class Gathered(Function):
    """The chosen rows only: what an instance did not choose costs nothing, which pays for large banks."""

    @staticmethod
    def forward(
        ctx: Context, base: Tensor, x: Tensor, bank_a: Tensor, bank_b: Tensor, gates: Tensor, plan: RowsPlan
    ) -> Tensor:
        """Compute y from gates [B, C], one for each chosen row."""
        ctx.plan, ctx.dtypes = plan, (x.dtype, bank_a.dtype, bank_b.dtype, gates.dtype)
        ctx.shapes = (bank_a.shape, bank_b.shape)
        x, scaled_B1C = x.to(base.dtype), (gates * plan.scale)[:, None]
        a_BCD = bank_a[plan.rows_a].to(base.dtype)
        b_BCO = bank_b.t()[plan.rows_b].to(base.dtype)
        z_BTC = torch.bmm(x, a_BCD.transpose(1, 2))
        w_BTC = (z_BTC * scaled_B1C).to(base.dtype)
        ctx.save_for_backward(x, z_BTC, w_BTC, a_BCD, b_BCO, scaled_B1C)
        if not plan.in_place:
            return torch.baddbmm(base, w_BTC, b_BCO)
        base.baddbmm_(w_BTC, b_BCO)
        ctx.mark_dirty(base)
        return base

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of every input; None for what needs none and for the plan."""
        x, z_BTC, w_BTC, a_BCD, b_BCO, scaled_B1C = ctx.saved_tensors
        plan, needs = ctx.plan, ctx.needs_input_grad
        d_x = d_bank_a = d_bank_b = d_gates = None
        with full_precision(dy):
            dw_BTC = torch.bmm(dy, b_BCO.transpose(1, 2))
            dz_BTC = (dw_BTC * scaled_B1C).to(x.dtype)
            if needs[4]:
                d_gates = (dw_BTC.to(scaled_B1C.dtype) * z_BTC).sum(1).mul_(plan.scale).to(ctx.dtypes[3])
            if needs[3]:
                d_bank_b = scatter_rows(torch.bmm(w_BTC.transpose(1, 2), dy), plan.rows_b, ctx, 1).t().contiguous()
            if needs[2]:
                d_bank_a = scatter_rows(torch.bmm(dz_BTC.transpose(1, 2), x), plan.rows_a, ctx, 0)
            if needs[1]:
                d_x = torch.bmm(dz_BTC, a_BCD).to(ctx.dtypes[0])
        return dy, d_x, d_bank_a, d_bank_b, d_gates, None


def scatter_rows(d_rows_BCX: Tensor, rows_BC: Tensor, ctx: Context, bank: int) -> Tensor:
    """Gradients of gathered rows added up in the bank's dtype, [J, X] for bank 0 (A) and 1 (B, transposed)."""
    dtype = ctx.dtypes[1 + bank]
    d_bank_JX = d_rows_BCX.new_zeros(ctx.shapes[bank][bank], d_rows_BCX.shape[-1], dtype=dtype)
    return d_bank_JX.index_add_(0, rows_BC.flatten(), flat(d_rows_BCX).to(dtype))
