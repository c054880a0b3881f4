"""Paths of `mixture_linear` for decisions that differ from token to token.

See `factored.py` for what the paths share, for the names Masked and Crossed, and for the shape suffixes.
"""

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mixtune.kernels.factored import Context, Plan, RowsPlan, add_up, core_dtype, down_grads, flat, up_grads
from mixtune.routing.routers import full_precision


class Masked(Function):
    """Every token meets the whole bank; a diagonal core of gates, mostly zeros, picks its experts' rows."""

    @staticmethod
    def forward(
        ctx: Context, base: Tensor | None, x: Tensor, bank_a: Tensor, bank_b: Tensor, core_BTE: Tensor, plan: Plan
    ) -> Tensor:
        """Compute y from the diagonals of the tokens' cores, [B, T, E] as `written_core` makes them."""
        ctx.plan, ctx.dtypes = plan, (x.dtype, bank_a.dtype, bank_b.dtype, core_BTE.dtype)
        dtype = plan.dtype(base)
        x, (a_JD, b_OJ) = x.to(dtype), plan.lowered(bank_a, bank_b, dtype)
        z_NJ, experts = torch.mm(flat(x), a_JD.t()), core_BTE.shape[-1]
        z_NER = z_NJ.unflatten(1, (experts, len(a_JD) // experts))
        core_NE1 = flat(core_BTE).to(core_dtype(core_BTE, z_NJ))[..., None]
        w_NJ = (z_NER * core_NE1).to(dtype).flatten(1)
        ctx.save_for_backward(x, z_NER, w_NJ, a_JD, b_OJ, core_NE1)
        return add_up(ctx, base, x, w_NJ, b_OJ)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of every input; None for what needs none and for the plan."""
        x, z_NER, w_NJ, a_JD, b_OJ, core_NE1 = ctx.saved_tensors
        d_core = None
        with full_precision(dy):
            dw_NJ, d_bank_b = up_grads(ctx, flat(dy), w_NJ, b_OJ)
            dw_NER = dw_NJ.view(z_NER.shape)
            if ctx.needs_input_grad[4]:
                d_core = (
                    (dw_NER.to(core_NE1.dtype) * z_NER).sum(-1).to(ctx.dtypes[3]).view(*x.shape[:2], core_NE1.shape[1])
                )
            dz_NJ = (dw_NER * core_NE1).to(x.dtype).flatten(1)
            d_x, d_bank_a = down_grads(ctx, dz_NJ, x, a_JD, dy)
        return dy if ctx.needs_input_grad[0] else None, d_x, d_bank_a, d_bank_b, d_core, None


class Crossed(Function):
    """Every token meets the whole bank; of each chosen row of A its value goes, times a gate, to a row of B."""

    @staticmethod
    def forward(
        ctx: Context, base: Tensor | None, x: Tensor, bank_a: Tensor, bank_b: Tensor, gates: Tensor, plan: RowsPlan
    ) -> Tensor:
        """Compute y from gates [B, T, C], one for each chosen row."""
        ctx.plan, ctx.dtypes = plan, (x.dtype, bank_a.dtype, bank_b.dtype, gates.dtype)
        dtype = plan.dtype(base)
        x, (a_JD, b_OJ) = x.to(dtype), plan.lowered(bank_a, bank_b, dtype)
        rows_a_NC, rows_b_NC = flat(plan.rows_a), flat(plan.rows_b)
        z_NJ = torch.mm(flat(x), a_JD.t())
        z_NC, gates_NC = z_NJ.gather(1, rows_a_NC), flat(gates).to(core_dtype(gates, z_NJ))
        w_NJ = gates_NC.new_zeros(z_NJ.shape).scatter_add_(1, rows_b_NC, z_NC * gates_NC).to(dtype)
        ctx.save_for_backward(x, z_NC, w_NJ, a_JD, b_OJ, gates_NC, rows_a_NC, rows_b_NC)
        return add_up(ctx, base, x, w_NJ, b_OJ)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of every input; None for what needs none and for the plan."""
        x, z_NC, w_NJ, a_JD, b_OJ, gates_NC, rows_a_NC, rows_b_NC = ctx.saved_tensors
        d_gates = None
        with full_precision(dy):
            dw_NJ, d_bank_b = up_grads(ctx, flat(dy), w_NJ, b_OJ)
            dw_NC = dw_NJ.gather(1, rows_b_NC).to(gates_NC.dtype)
            if ctx.needs_input_grad[4]:
                d_gates_NC = dw_NC * z_NC
                d_gates = d_gates_NC.view(*x.shape[:2], d_gates_NC.shape[1]).to(ctx.dtypes[3])
            dz_NJ = gates_NC.new_zeros(dw_NJ.shape).scatter_add_(1, rows_a_NC, dw_NC * gates_NC).to(x.dtype)
            d_x, d_bank_a = down_grads(ctx, dz_NJ, x, a_JD, dy)
        return dy if ctx.needs_input_grad[0] else None, d_x, d_bank_a, d_bank_b, d_gates, None
