"""Conditional routers of linears that are given one input: they decide together, in one autograd function.

A router is small, so what it costs is its number of calls. Here each score, softmax, sort and gate is one call for all
routers, and only the large weight W_AB is multiplied router by router, where it lies.

Shape suffixes: G routers, B instances, D input width, E and J factors, K and R the r slots; S = 2·G, routers of A and
then those of B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mixtune.routing.cores import ConditionalOptions, ConditionalWeights, needed_weights
from mixtune.routing.gates import HARD_GATES
from mixtune.routing.routers import RouterOutput, full_precision, top_k

Chosen = tuple[Tensor, Tensor]
softmax_backward = torch.ops.aten._softmax_backward_data.default


def can_decide_together(options: ConditionalOptions) -> bool:
    """Whether `conditional_routes` knows these options: gates of 1, so that h and banks get no gradient."""
    known = options.gate in HARD_GATES and options.conditional in ("published", "none")
    return known and not torch.compiler.is_compiling()  # a compiler joins calls itself


def conditional_routes(
    h: Tensor,
    banks_a: Sequence[Tensor],
    routers: Sequence[ConditionalWeights],
    options: ConditionalOptions,
    kept: Sequence[Chosen] | None = None,
    core_dtype: torch.dtype | None = None,
) -> list[RouterOutput]:
    """`conditional_route` of each of G routers; see `can_decide_together`.

    h: what all of them read, [B, D], or what each reads, [G, B, D]. banks_a: each one's bank [E, D]. kept: for each,
    what replaces the choosing. With a `core_dtype` each result has its core written out too. A weight to which nothing
    leads back gets None for a gradient, not zeros.
    """
    weights = [each.router_a for each in routers] + [each.router_b for each in routers]
    weights += [weight for each in routers for weight in needed_weights(each, options.conditional)]
    task = Task(tuple(bank.detach().to(weights[0].dtype) for bank in banks_a), options, kept, core_dtype)
    indices_a_GBK, indices_b_GBK, *rest = Together.apply(h.detach(), task, *weights)
    each_field = [rest[start : start + len(routers)] for start in range(0, len(rest), len(routers))]
    return [RouterOutput(*each) for each in zip(indices_a_GBK, indices_b_GBK, *each_field, strict=True)]


@dataclass(frozen=True)
class Task:
    """What `Together` needs beside its differentiable tensors; see `conditional_routes`."""

    banks: tuple[Tensor, ...]
    options: ConditionalOptions
    kept: Sequence[Chosen] | None
    core_dtype: torch.dtype | None

    def choose(self, side: int, scores_GBE: Tensor) -> Tensor:
        """The r best of each, or those that were kept of that side (0: A, 1: B), [G, B, K]."""
        if self.kept is None:
            return top_k(scores_GBE, self.options.r)
        return torch.stack([each[side] for each in self.kept])


class Together(Function):
    """indices of A and of B, [G, B, K]; then of each router gates [B, K], of each p [B, E], of each p of B, of each the
    core [B, E, E] if it is asked for.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, task: Task, *weights: Tensor) -> tuple[Tensor, ...]:
        """Decide. weights: W_A of each router, W_B of each, and W_AB of each if there is conditioning."""
        count, size, options = len(task.banks), len(task.banks[0]), task.options
        with full_precision(h):
            h = h.to(weights[0].dtype)
            scores_SBE = router_scores(both_sides(h, count), weights[: 2 * count], one_call=h.device.type != "cpu")
            probs_SBE = scores_SBE.softmax(-1)
            indices_a_GBK = task.choose(0, scores_SBE[:count])
            score_b_GBE, saved = scores_SBE[count:], list[Tensor]()
            if options.conditional == "published":
                c_GBE, *saved = conditional_terms(indices_a_GBK, task.banks, weights[2 * count :])
                score_b_GBE = torch.add(probs_SBE[count:], c_GBE, alpha=options.ifs_weight)
            indices_b_GBK = task.choose(1, score_b_GBE)
            cells_GBK = torch.add(indices_b_GBK, indices_a_GBK, alpha=size)
            outputs = [scores_SBE.new_ones(indices_a_GBK.shape), probs_SBE[:count], probs_SBE[count:]]
            if task.core_dtype is not None:
                core_GBX = scores_SBE.new_zeros(*cells_GBK.shape[:2], size * size, dtype=task.core_dtype)
                outputs.append(core_GBX.scatter_(2, cells_GBK, 1.0).unflatten(2, (size, size)))
        ctx.task, results = task, [one for each in outputs for one in each.unbind(0)]
        ctx.save_for_backward(h, probs_SBE, indices_a_GBK, indices_b_GBK, cells_GBK, *saved)
        ctx.set_materialize_grads(False)
        fixed = results[:count] + results[3 * count :] if options.gate == "none" else []
        ctx.mark_non_differentiable(indices_a_GBK, indices_b_GBK, *fixed)
        return indices_a_GBK, indices_b_GBK, *results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _a: None, _b: None, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of the weights; None for h, which is read detached, and for a weight that nothing leads to."""
        h, probs_SBE, indices_a_GBK, indices_b_GBK, cells_GBK, *saved = ctx.saved_tensors
        count, options = len(cells_GBK), ctx.task.options
        d_gates, d_probs, d_core = grads[:count], grads[count : 3 * count], grads[3 * count :]
        with full_precision(h):
            d_score_SBE, d_terms = torch.zeros_like(probs_SBE), list[Tensor]()
            d_gates_GBK = gate_grads(d_gates, d_core, cells_GBK, probs_SBE.dtype)
            if d_gates_GBK is not None:
                d_score_SBE[:count].scatter_(2, indices_a_GBK, d_gates_GBK)
                d_c_GBE = d_score_SBE[count:].scatter_(2, indices_b_GBK, d_gates_GBK)
                if saved:
                    d_c_GBE = d_c_GBE if options.ifs_weight == 1 else d_c_GBE * options.ifs_weight
                    d_terms = term_grads(d_c_GBE, indices_a_GBK, *saved)
            for d_score_BE, more_BE in zip(d_score_SBE, d_probs, strict=True):
                if more_BE is not None:
                    d_score_BE += more_BE
            d_logits_SBE = softmax_backward(d_score_SBE, probs_SBE, -1, probs_SBE.dtype)
            d_router_SED = torch.bmm(d_logits_SBE.transpose(1, 2), both_sides(h, count))
        reached = [any(each is not None for each in (*d_gates[n::count], *d_core[n::count])) for n in range(count)]
        wanted = [hit or more is not None for hit, more in zip(reached * 2, d_probs, strict=True)] + reached
        found: list[Tensor | None] = [*d_router_SED, *d_terms]
        found += [None] * (len(ctx.needs_input_grad) - 2 - len(found))
        return None, None, *(d if want else None for d, want in zip(found, wanted, strict=False))


def both_sides(h: Tensor, count: int) -> Tensor:
    """What each of the routers of A and of B reads, [S, B, D], of what all read, [B, D], or each of the G = `count`."""
    return h.expand(2 * count, *h.shape) if h.dim() == 2 else torch.cat([h, h])


def router_scores(h_SBD: Tensor, weights: Sequence[Tensor], *, one_call: bool) -> Tensor:
    """What each of S weights [E, D] makes of its h: h W^T, [S, B, E].

    one_call: as one product, for which the weights are copied side by side. A device launches one call sooner than
    many; a processor would wait for the copy.
    """
    if one_call:
        weight_SED = torch.cat(tuple(weights)).view(len(weights), -1, h_SBD.shape[2])
        return torch.bmm(h_SBD, weight_SED.transpose(1, 2))
    scores_SBE = h_SBD.new_empty(*h_SBD.shape[:2], len(weights[0]))
    for scores_BE, h_BD, weight_ED in zip(scores_SBE, h_SBD, weights, strict=True):
        torch.mm(h_BD, weight_ED.t(), out=scores_BE)
    return scores_SBE


def conditional_terms(indices_GBK: Tensor, banks: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The published term c of each router, [G, B, E]; what it is the sum of; what W_AB was multiplied by.

    Of B instances, fewer than factors, their own rows; otherwise every factor, and then the chosen ones of those.
    """
    (count, batch, r), (size, width) = indices_GBK.shape, banks[0].shape
    if batch < size:
        rows = [bank_ED[indices_BK.t()] for bank_ED, indices_BK in zip(banks, indices_GBK, strict=True)]
        logits_GRBE = rows[0].new_empty(count, r, batch, size)
        for logits_RBE, rows_RBD, weight in zip(logits_GRBE, rows, weights, strict=True):
            torch.bmm(rows_RBD, weight.view(size, r, width).permute(1, 2, 0), out=logits_RBE)
        terms_GRBE = logits_GRBE.softmax(3)
        return terms_GRBE.sum(1), terms_GRBE, *rows
    table_GJX = banks[0].new_empty(count, size, size * r)
    for table_JX, bank_JD, weight in zip(table_GJX, banks, weights, strict=True):
        torch.mm(bank_JD, weight.view(-1, width).t(), out=table_JX)
    at_GBER = indices_GBK[:, :, None].expand(-1, -1, size, -1)
    terms_GBER = table_GJX.unflatten(2, (size, r)).gather(1, at_GBER).softmax(2)
    return terms_GBER.sum(3), terms_GBER, *banks


def term_grads(d_c_GBE: Tensor, indices_GBK: Tensor, terms: Tensor, *factors: Tensor) -> list[Tensor]:
    """Gradient of each W_AB [E, r·D], from what `conditional_terms` returned."""
    size, r, found = d_c_GBE.shape[2], indices_GBK.shape[2], []
    if factors[0].dim() == 3:
        d_logits_GRBE = softmax_backward(d_c_GBE[:, None].expand_as(terms), terms, 3, terms.dtype)
        for d_logits_RBE, rows_RBD in zip(d_logits_GRBE, factors, strict=True):
            d_weight_ERD = rows_RBD.new_empty(size, r, rows_RBD.shape[2])
            d_weight_ERD.transpose(0, 1).baddbmm_(d_logits_RBE.transpose(1, 2), rows_RBD, beta=0)
            found.append(d_weight_ERD.flatten(1))
        return found
    d_logits_GBER = softmax_backward(d_c_GBE[..., None].expand_as(terms), terms, 2, terms.dtype)
    d_table_GJER = d_logits_GBER.new_zeros(len(factors), size, size, r)
    d_table_GJER.scatter_add_(1, indices_GBK[:, :, None].expand_as(d_logits_GBER), d_logits_GBER)
    for d_table_JER, bank_JD in zip(d_table_GJER, factors, strict=True):
        found.append(torch.mm(d_table_JER.flatten(1).t(), bank_JD).view(size, -1))
    return found


def gate_grads(
    d_gates: Sequence[Tensor | None], d_core: Sequence[Tensor | None], cells_GBK: Tensor, dtype: torch.dtype
) -> Tensor | None:
    """What reaches the gates, [G, B, K], by themselves and through the cores; None if nothing does."""
    found = None
    for grads, by_core in ((d_gates, False), (d_core, True)):
        like = next((each for each in grads if each is not None), None)
        if like is not None:
            parts = [torch.zeros_like(like) if each is None else each for each in grads]
            whole = torch.stack(parts) if len(parts) > 1 else like[None]
            part_GBK = (whole.flatten(2).gather(2, cells_GBK) if by_core else whole).to(dtype)
            found = part_GBK if found is None else found + part_GBK
    return found
