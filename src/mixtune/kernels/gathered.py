"""The path of `mixture_linear` that copies each instance's chosen rows.

See `factored.py` for what the paths share and for the shape suffixes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mixtune.kernels.factored import Context, RowsPlan, flat
from mixtune.routing.routers import full_precision


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
        low_a, low_b = plan.low or (bank_a, bank_b)
        a_BCD = low_a[plan.rows_a].to(base.dtype)
        b_BCO = low_b.t()[plan.rows_b].to(base.dtype)
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
