"""Paths of `mixture_linear` for decisions that differ from token to token.

See `factored.py` for what the paths share, for the names Masked and Crossed, and for the shape suffixes.
"""

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mixtune.kernels.factored import Context, ExpertsPlan, RowsPlan, add_up, core_dtype, down_grads, flat, up_grads
from mixtune.routing.routers import full_precision


class Masked(Function):
    """Every token meets the whole bank; a diagonal core of gates, mostly zeros, picks its experts' rows."""

    @staticmethod
    def forward(
        ctx: Context, base: Tensor, x: Tensor, bank_a: Tensor, bank_b: Tensor, gates: Tensor, plan: ExpertsPlan
    ) -> Tensor:
        """Compute y from gates [B, T, K]."""
        ctx.plan, ctx.dtypes = plan, (x.dtype, bank_a.dtype, bank_b.dtype, gates.dtype)
        x, a_JD, b_OJ = x.to(base.dtype), bank_a.to(base.dtype), bank_b.to(base.dtype)
        z_NJ = torch.mm(flat(x), a_JD.t())
        gates_NK = flat(gates).to(core_dtype(gates, z_NJ)) * plan.scale
        diagonal_NE = gates_NK.new_zeros(z_NJ.shape[0], z_NJ.shape[1] // plan.block)
        diagonal_NE.scatter_add_(1, plan.experts, gates_NK)
        w_NJ = (z_NJ.view(*diagonal_NE.shape, plan.block) * diagonal_NE[..., None]).to(base.dtype).view(z_NJ.shape)
        ctx.save_for_backward(x, z_NJ, w_NJ, a_JD, b_OJ, diagonal_NE)
        return add_up(ctx, base, w_NJ, b_OJ, plan)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of every input; None for what needs none and for the plan."""
        x, z_NJ, w_NJ, a_JD, b_OJ, diagonal_NE = ctx.saved_tensors
        plan, d_gates = ctx.plan, None
        with full_precision(dy):
            dw_NJ, d_bank_b = up_grads(ctx, flat(dy), w_NJ, b_OJ)
            blocks = (*diagonal_NE.shape, plan.block)
            if ctx.needs_input_grad[4]:
                d_diagonal = (dw_NJ.to(diagonal_NE.dtype) * z_NJ).view(blocks).sum(-1)
                d_gates_NK = d_diagonal.gather(1, plan.experts) * plan.scale
                d_gates = d_gates_NK.view(*x.shape[:2], plan.experts.shape[1]).to(ctx.dtypes[3])
            dz_NJ = (dw_NJ.view(blocks) * diagonal_NE[..., None]).to(x.dtype).view(z_NJ.shape)
            d_x, d_bank_a = down_grads(ctx, dz_NJ, x, a_JD)
        return dy, d_x, d_bank_a, d_bank_b, d_gates, None


class Crossed(Function):
    """Every token meets the whole bank; of each chosen row of A its value goes, times a gate, to a row of B."""

    @staticmethod
    def forward(
        ctx: Context, base: Tensor, x: Tensor, bank_a: Tensor, bank_b: Tensor, gates: Tensor, plan: RowsPlan
    ) -> Tensor:
        """Compute y from gates [B, T, C], one for each chosen row."""
        ctx.plan, ctx.dtypes = plan, (x.dtype, bank_a.dtype, bank_b.dtype, gates.dtype)
        x, a_JD, b_OJ = x.to(base.dtype), bank_a.to(base.dtype), bank_b.to(base.dtype)
        rows_a_NC, rows_b_NC = flat(plan.rows_a), flat(plan.rows_b)
        z_NJ = torch.mm(flat(x), a_JD.t())
        z_NC, scaled_NC = z_NJ.gather(1, rows_a_NC), flat(gates).to(core_dtype(gates, z_NJ)) * plan.scale
        w_NJ = scaled_NC.new_zeros(z_NJ.shape).scatter_add_(1, rows_b_NC, z_NC * scaled_NC).to(base.dtype)
        ctx.save_for_backward(x, z_NC, w_NJ, a_JD, b_OJ, scaled_NC, rows_a_NC, rows_b_NC)
        return add_up(ctx, base, w_NJ, b_OJ, plan)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of every input; None for what needs none and for the plan."""
        x, z_NC, w_NJ, a_JD, b_OJ, scaled_NC, rows_a_NC, rows_b_NC = ctx.saved_tensors
        d_gates = None
        with full_precision(dy):
            dw_NJ, d_bank_b = up_grads(ctx, flat(dy), w_NJ, b_OJ)
            dw_NC = dw_NJ.gather(1, rows_b_NC).to(scaled_NC.dtype)
            if ctx.needs_input_grad[4]:
                d_gates_NC = dw_NC * z_NC * ctx.plan.scale
                d_gates = d_gates_NC.view(*x.shape[:2], d_gates_NC.shape[1]).to(ctx.dtypes[3])
            dz_NJ = scaled_NC.new_zeros(dw_NJ.shape).scatter_add_(1, rows_a_NC, dw_NC * scaled_NC).to(x.dtype)
            d_x, d_bank_a = down_grads(ctx, dz_NJ, x, a_JD)
        return dy, d_x, d_bank_a, d_bank_b, d_gates, None
