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

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mixtune.routing.routers import RouterOutput, full_precision

Context = Any  # torch's autograd context: attributes are added to it


class Frozen(NamedTuple):
    """A linear that does not train: weight [O, D] and bias [O] or None."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a path needs beside its differentiable tensors; in_place: base may be written over; low: both banks in
    base's dtype, if they are at hand; frozen: the linear whose result base would be, if it is still to be computed.
    """

    scale: float
    in_place: bool
    low: tuple[Tensor, Tensor] | None = None
    frozen: Frozen | None = None

    def dtype(self, base: Any) -> torch.dtype:
        """Base's."""
        return self.frozen.weight.dtype if base is None and self.frozen is not None else base.dtype

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


def add_up(ctx: Context, base_BTO: Any, x_BTD: Tensor, w_NJ: Tensor, bank_OJ: Tensor) -> Tensor:
    """Add scale · w Bᵀ to base: in place where the plan says that nobody else reads it.

    A base that is still to be computed is added to scale · w Bᵀ instead: the sum is rounded once then, and a small
    contribution is not lost against a base that was rounded before.
    """
    plan, scale = ctx.plan, ctx.plan.scale
    if plan.frozen is not None:
        weight_OD, bias_O = plan.frozen
        y_BTO = w_NJ.new_empty(*x_BTD.shape[:-1], len(weight_OD))  # a view of something could not be written into
        y_NO = y_BTO.view(-1, len(weight_OD))
        beta, start = (0, y_NO) if bias_O is None else (1, bias_O)
        torch.addmm(start, w_NJ, bank_OJ.t(), beta=beta, alpha=scale, out=y_NO)
        y_NO.addmm_(flat(x_BTD), weight_OD.t())
        return y_BTO
    if plan.in_place:
        base_BTO.view(-1, base_BTO.shape[-1]).addmm_(w_NJ, bank_OJ.t(), alpha=scale)
        ctx.mark_dirty(base_BTO)
        return base_BTO
    return torch.addmm(flat(base_BTO), w_NJ, bank_OJ.t(), alpha=scale).view(base_BTO.shape)


def up_grads(ctx: Context, dy_NO: Tensor, w_NJ: Tensor, bank_OJ: Tensor) -> tuple[Tensor, Tensor | None]:
    """Gradients of w and, if asked for, of the B bank, in the bank's own dtype."""
    d_bank, scale = None, ctx.plan.scale
    if ctx.needs_input_grad[3]:
        d_bank = scaled_product(w_NJ.t(), dy_NO, scale).t().to(ctx.dtypes[2], memory_format=torch.contiguous_format)
    return scaled_product(dy_NO, bank_OJ, scale), d_bank


def down_grads(
    ctx: Context, dz_NJ: Tensor, x_BTD: Tensor, bank_JD: Tensor, dy_BTO: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x, through the frozen linear too if that is computed here, and of the A bank; each if asked for and
    in its own dtype.
    """
    d_x = d_bank = None
    if ctx.needs_input_grad[1]:
        # Not a view of a product of matrices: autograd adds other gradients of x into this one in place.
        d_x = torch.matmul(dz_NJ.view(*x_BTD.shape[:-1], dz_NJ.shape[1]), bank_JD)
        if ctx.plan.frozen is not None:
            d_x.view(-1, d_x.shape[-1]).addmm_(flat(dy_BTO), ctx.plan.frozen.weight)
        d_x = d_x.to(ctx.dtypes[0])
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
    def forward(ctx: Context, base: Tensor | None, x: Tensor, bank_a: Tensor, bank_b: Tensor, plan: Plan) -> Tensor:
        """Compute y = base + scale · x Aᵀ Bᵀ."""
        ctx.plan, ctx.dtypes = plan, (x.dtype, bank_a.dtype, bank_b.dtype)
        dtype = plan.dtype(base)
        x, (a_JD, b_OJ) = x.to(dtype), plan.lowered(bank_a, bank_b, dtype)
        w_NJ = torch.mm(flat(x), a_JD.t())
        ctx.save_for_backward(x, w_NJ, a_JD, b_OJ)
        return add_up(ctx, base, x, w_NJ, b_OJ)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of every input; None for what needs none and for the plan."""
        x, w_NJ, a_JD, b_OJ = ctx.saved_tensors
        with full_precision(dy):
            dw_NJ, d_bank_b = up_grads(ctx, flat(dy), w_NJ, b_OJ)
            d_x, d_bank_a = down_grads(ctx, dw_NJ, x, a_JD, dy)
        return dy if ctx.needs_input_grad[0] else None, d_x, d_bank_a, d_bank_b, None


class Paired(Function):
    """The whole bank in one product each way and M_BJJ between them."""

    @staticmethod
    def forward(
        ctx: Context, base: Tensor | None, x: Tensor, bank_a: Tensor, bank_b: Tensor, core_BJJ: Tensor, plan: Plan
    ) -> Tensor:
        """Compute y from the cores of the instances, [B, J, J] as `written_core` makes them."""
        ctx.plan, ctx.dtypes = plan, (x.dtype, bank_a.dtype, bank_b.dtype, core_BJJ.dtype)
        dtype = plan.dtype(base)
        x, (a_JD, b_OJ) = x.to(dtype), plan.lowered(bank_a, bank_b, dtype)
        z_BTJ = torch.mm(flat(x), a_JD.t()).view(*x.shape[:2], len(a_JD))
        core_BJJ = core_BJJ.to(core_dtype(core_BJJ, z_BTJ))
        w_NJ = flat(torch.bmm(z_BTJ.to(core_BJJ.dtype), core_BJJ).to(dtype))
        ctx.save_for_backward(x, z_BTJ, w_NJ, a_JD, b_OJ, core_BJJ)
        return add_up(ctx, base, x, w_NJ, b_OJ)

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
            d_x, d_bank_a = down_grads(ctx, dz_NJ, x, a_JD, dy)
        return dy if ctx.needs_input_grad[0] else None, d_x, d_bank_a, d_bank_b, d_core, None
