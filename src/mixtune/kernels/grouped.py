"""Paths of `mixture_linear` that sort tokens by expert: work does not grow with the number of experts.

See `factored.py` for what the paths share and for the shape suffixes.
"""

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mixtune.kernels.factored import Context, ExpertsPlan, core_dtype, flat
from mixtune.routing.routers import full_precision


class Grouped(Function):
    """Tokens sorted by expert: each expert's tokens meet that expert's rows only.

    One expert after another, so that copies of x, of dy and of the results are never larger than one expert's tokens.
    """

    @staticmethod
    def forward(
        ctx: Context, base: Tensor, x: Tensor, bank_a: Tensor, bank_b: Tensor, gates: Tensor, plan: ExpertsPlan
    ) -> Tensor:
        """Compute y from gates [B, T, K]."""
        ctx.plan, ctx.dtypes = plan, (x.dtype, bank_a.dtype, bank_b.dtype, gates.dtype)
        x, (a_JD, b_OJ) = x.to(base.dtype), plan.lowered(bank_a, bank_b, base.dtype)
        order_P, token_P, ctx.groups = sort_by_expert(plan.experts, a_JD.shape[0] // plan.block, plan.block)
        scaled_P1 = (flat(gates).to(core_dtype(gates, x)) * plan.scale).flatten()[order_P, None]
        y = base if plan.in_place else base.clone(memory_format=torch.contiguous_format)
        x_ND, y_NO, z_PR = flat(x), y.view(-1, y.shape[-1]), x.new_empty(len(order_P), plan.block)
        w_PR = torch.empty_like(z_PR)
        x_of, u_of = Room(x_ND, ctx.groups), Room(y_NO, ctx.groups)
        for at, rows in ctx.groups:
            torch.mm(x_of.take(token_P[at]), a_JD[rows].t(), out=z_PR[at])
            w_PR[at] = z_PR[at] * scaled_P1[at]
            y_NO.index_add_(0, token_P[at], torch.mm(w_PR[at], b_OJ[:, rows].t(), out=u_of.part(at)))
        ctx.save_for_backward(x, z_PR, w_PR, a_JD, b_OJ, scaled_P1, order_P, token_P)
        if plan.in_place:
            ctx.mark_dirty(base)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of every input; None for what needs none and for the plan."""
        x, z_PR, w_PR, a_JD, b_OJ, scaled_P1, order_P, token_P = ctx.saved_tensors
        x_ND, once = flat(x), ctx.plan.experts.shape[1] == 1
        d_x_ND = torch.empty_like(x_ND) if once else torch.zeros_like(x_ND)
        d_a_JD, d_b_OJ, dw_PR = torch.zeros_like(a_JD), torch.zeros_like(b_OJ), torch.empty_like(z_PR)
        x_of, dx_of, dy_of = (Room(each, ctx.groups) for each in (x_ND, x_ND, flat(dy)))
        with full_precision(dy):
            for at, rows in ctx.groups:
                tokens, dy_PO = token_P[at], dy_of.take(token_P[at])
                torch.mm(dy_PO, b_OJ[:, rows], out=dw_PR[at])
                d_b_OJ[:, rows] = torch.mm(w_PR[at].t(), dy_PO).t()
                dz_PR = (dw_PR[at] * scaled_P1[at]).to(x.dtype)
                torch.mm(dz_PR.t(), x_of.take(tokens), out=d_a_JD[rows])
                dx_PD = torch.mm(dz_PR, a_JD[rows], out=dx_of.part(at))
                d_x_ND.index_copy_(0, tokens, dx_PD) if once else d_x_ND.index_add_(0, tokens, dx_PD)
        d_scaled_P = (dw_PR.to(scaled_P1.dtype) * z_PR).sum(-1) * ctx.plan.scale
        d_gates = torch.empty_like(d_scaled_P).index_copy_(0, order_P, d_scaled_P).to(ctx.dtypes[3])
        d_x, d_banks = d_x_ND.view(x.shape).to(ctx.dtypes[0]), (d_a_JD.to(ctx.dtypes[1]), d_b_OJ.to(ctx.dtypes[2]))
        return dy, d_x, *d_banks, d_gates.view(*x.shape[:2], ctx.plan.experts.shape[1]), None


class Room:
    """Space for the rows of `like_NX` that belong to one group, used for one group after another."""

    def __init__(self, like_NX: Tensor, groups: list[tuple[slice, slice]]) -> None:
        self.like = like_NX
        self.space = like_NX.new_empty(max((at.stop - at.start for at, _ in groups), default=0), like_NX.shape[1])

    def part(self, at: slice) -> Tensor:
        """As much of it as the group at `at` needs."""
        return self.space[: at.stop - at.start]

    def take(self, rows_P: Tensor) -> Tensor:
        """A copy of these rows."""
        return torch.index_select(self.like, 0, rows_P, out=self.space[: len(rows_P)])


def sort_by_expert(
    experts_NK: Tensor, num_experts: int, block: int
) -> tuple[Tensor, Tensor, list[tuple[slice, slice]]]:
    """Sort the (token, slot) pairs by expert: their order, their tokens, and for each expert that has any the slice of
    pairs and the slice of bank rows. Counting needs one transfer to the host.
    """
    order_P = experts_NK.flatten().argsort(stable=True)
    counts = torch.bincount(experts_NK.flatten(), minlength=num_experts).tolist()
    groups, start = [], 0
    for expert, count in enumerate(counts):
        if count:
            groups.append((slice(start, start + count), slice(expert * block, (expert + 1) * block)))
        start += count
    return order_P, order_P // experts_NK.shape[1], groups


class Stacked(Function):
    """`Grouped` with all experts in one call of torch's grouped product, and nothing that the host has to know."""

    @staticmethod
    def forward(
        ctx: Context, base: Tensor, x: Tensor, bank_a: Tensor, bank_b: Tensor, gates: Tensor, plan: ExpertsPlan
    ) -> Tensor:
        """Compute y from gates [B, T, K]."""
        ctx.plan, ctx.dtypes = plan, (x.dtype, bank_a.dtype, bank_b.dtype, gates.dtype)
        x, block = x.to(base.dtype), plan.block
        a_JD, b_OJ = plan.lowered(bank_a, bank_b, base.dtype)
        a_ERD, b_ERO = a_JD.view(-1, block, x.shape[-1]), b_OJ.t().unflatten(0, (-1, block))
        order_P = plan.experts.flatten().argsort(stable=True)
        token_P, ends_E = order_P // plan.experts.shape[1], group_ends(plan.experts.flatten()[order_P], len(a_ERD))
        scaled_P1 = (flat(gates).to(core_dtype(gates, x)) * plan.scale).flatten()[order_P, None]
        z_PR = torch._grouped_mm(flat(x)[token_P], a_ERD.transpose(1, 2), offs=ends_E)
        w_PR = (z_PR * scaled_P1).to(base.dtype)
        ctx.save_for_backward(x, z_PR, w_PR, a_ERD, b_ERO, scaled_P1, order_P, token_P, ends_E)
        y = base if plan.in_place else base.clone(memory_format=torch.contiguous_format)
        y.view(-1, y.shape[-1]).index_add_(0, token_P, torch._grouped_mm(w_PR, b_ERO, offs=ends_E))
        if plan.in_place:
            ctx.mark_dirty(base)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of every input; None for what needs none and for the plan."""
        x, z_PR, w_PR, a_ERD, b_ERO, scaled_P1, order_P, token_P, ends_E = ctx.saved_tensors
        x_PD, dy_PO = flat(x)[token_P], flat(dy)[token_P]
        with full_precision(dy):
            dw_PR = torch._grouped_mm(dy_PO, b_ERO.transpose(1, 2), offs=ends_E)
            dz_PR = (dw_PR * scaled_P1).to(x.dtype)
            dx_PD = torch._grouped_mm(dz_PR, a_ERD, offs=ends_E)
            d_b_ERO = torch._grouped_mm(w_PR.t(), dy_PO, offs=ends_E)
            d_a_ERD = torch._grouped_mm(dz_PR.t(), x_PD, offs=ends_E)
        empty_E11 = (ends_E == torch.nn.functional.pad(ends_E[:-1], (1, 0)))[:, None, None]
        d_a, d_b = (each.masked_fill(empty_E11, 0.0).flatten(0, 1) for each in (d_a_ERD, d_b_ERO))
        d_scaled_P = (dw_PR.to(scaled_P1.dtype) * z_PR).sum(-1) * ctx.plan.scale
        d_gates = torch.empty_like(d_scaled_P).index_copy_(0, order_P, d_scaled_P).to(ctx.dtypes[3])
        d_x = torch.zeros_like(flat(x)).index_add_(0, token_P, dx_PD).view(x.shape).to(ctx.dtypes[0])
        d_banks = d_a.to(ctx.dtypes[1]), d_b.t().to(ctx.dtypes[2], memory_format=torch.contiguous_format)
        return dy, d_x, *d_banks, d_gates.view(*x.shape[:2], ctx.plan.experts.shape[1]), None


def can_stack(base: Tensor, x: Tensor, block: int) -> bool:
    """Whether torch's grouped product takes these: bfloat16 on CUDA from compute capability 8.0, all widths multiples
    of 16 bytes, at least one token.
    """
    if base.device.type != "cuda" or base.dtype != torch.bfloat16 or not hasattr(torch, "_grouped_mm"):
        return False
    aligned = all(size % 8 == 0 for size in (block, base.shape[-1], x.shape[-1]))
    return aligned and base.numel() > 0 and torch.cuda.get_device_capability(base.device) >= (8, 0)


def group_ends(sorted_P: Tensor, num_experts: int) -> Tensor:
    """Position after the last pair of each expert, int32 [E]; counted on the device."""
    experts_E = torch.arange(num_experts, device=sorted_P.device)
    return torch.searchsorted(sorted_P, experts_E, right=True, out_int32=True)
