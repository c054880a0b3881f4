"""The gradient of each sample's loss on each bank, from what went into the linear and what came back.

    w = scale · M(A x),  y = W x + B w:     ∇B = Σ_t dy_t w_tᵀ,     ∇A = Σ_t (scale · Mᵀ Bᵀ dy_t) x_tᵀ

with the sum over one sample's positions. Rule 3 of routing (nobody else matters) makes the gradient of the sum of a
batch's losses, at one row, that of this row's own loss; so one backward pass gives the gradients of all samples.

Shape suffixes: B samples, T positions, D input width, O output width, J rows of a bank, C chosen rows of a bank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mixtune.adapters.hooks import ModelHooks
from mixtune.analyse.interference.banks import AdaptedLinear
from mixtune.analyse.subject import model_inputs
from mixtune.routing.cache import Key
from mixtune.routing.routers import RouterOutput
from mixtune.routing.scope import RoutingScope
from mixtune.training.logits import supervised_loss


@dataclass(eq=False)
class Captured:
    """One forward: input x [B, T, D] and output y [B, T, O] of each chosen linear, and the selections by router."""

    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    routed: dict[Key, RouterOutput] = field(default_factory=dict)

    def add(self, scope: RoutingScope) -> None:
        """Take over the selections of a forward (the model's hooks call this)."""
        self.routed = dict(scope.recorded)


@contextmanager
def captured(model: Any, linears: Sequence[AdaptedLinear]) -> Iterator[Captured]:
    """Note what the chosen linears read and give. No parameter trains: a graph starts at the first of them."""
    seen = Captured()

    def note(name: str) -> Any:
        def hook(_module: Any, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
            y = y if y.requires_grad or not torch.is_grad_enabled() else y.detach().requires_grad_()
            seen.inputs[name], seen.outputs[name] = args[0].detach(), y
            return y

        return hook

    handles = [each.module.register_forward_hook(note(each.name)) for each in linears]
    hooks = ModelHooks.find(model) if any(each.plan for each in linears) else None
    if hooks:
        hooks.recorders.append(seen)
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        if hooks:
            hooks.recorders.remove(seen)


def sample_losses(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Each sample's loss, [B]: mean negative log likelihood of its supervised tokens, in nats."""
    found = supervised_loss(model, model_inputs(model, batch))
    zeros_B = found.nll.new_zeros(len(batch["labels"]))
    counts_B = zeros_B.index_add(0, found.rows, torch.ones_like(found.nll))
    return zeros_B.index_add(0, found.rows, found.nll) / counts_B.clamp_min(1)


def sample_gradients(
    model: Any, batch: Mapping[str, Tensor], linears: Sequence[AdaptedLinear]
) -> tuple[Tensor, Iterator[tuple[AdaptedLinear, dict[str, Tensor]]]]:
    """Losses [B], and for one linear after the other the gradients {"A": [B, J, D], "B": [B, O, J]}.

    In float32 (or the model's dtype, if wider). `model` is in eval mode; parameters keep no gradient.
    """
    with torch.enable_grad(), captured(model, linears) as seen:
        losses_B = sample_losses(model, batch)
        flows = torch.autograd.grad(losses_B.sum(), [seen.outputs[each.name] for each in linears])

    def each_linear() -> Iterator[tuple[AdaptedLinear, dict[str, Tensor]]]:
        for linear, dy in zip(linears, flows, strict=True):
            routed = seen.routed[linear.plan.key] if linear.plan and linear.plan.mixed else None
            yield linear, bank_gradients(linear, seen.inputs[linear.name], dy, routed)

    return losses_B.detach(), each_linear()


@torch.no_grad()
def bank_gradients(
    linear: AdaptedLinear, x_BTD: Tensor, dy_BTO: Tensor, routed: RouterOutput | None
) -> dict[str, Tensor]:
    """{"A": [B, J, D], "B": [B, O, J]}, the formulas above."""
    dtype = torch.promote_types(x_BTD.dtype, torch.float32)
    x_BTD, dy_BTO = x_BTD.to(dtype), dy_BTO.to(dtype)
    a_JD, b_OJ = linear.bank_a.to(dtype), linear.bank_b.to(dtype)
    w_BTJ = through_core(x_BTD @ a_JD.t(), routed, linear.block) * linear.scale
    dz_BTJ = through_core(dy_BTO @ b_OJ, routed, linear.block, back=True) * linear.scale
    return {"A": dz_BTJ.transpose(1, 2) @ x_BTD, "B": dy_BTO.transpose(1, 2) @ w_BTJ}


def through_core(z_BTJ: Tensor, routed: RouterOutput | None, block: int, *, back: bool = False) -> Tensor:
    """Z M: slot k adds gates[k] times the rows of its expert in A to those in B (`back`: z Mᵀ); M None is identity."""
    if routed is None:
        return z_BTJ
    source, target = (routed.indices_b, routed.indices_a) if back else (routed.indices_a, routed.indices_b)
    rows = torch.arange(block, device=z_BTJ.device)
    parts = [(each[..., None] * block + rows).flatten(-2) for each in (source, target)]
    parts.append(routed.gates.to(z_BTJ.dtype).repeat_interleave(block, -1))
    size = (*z_BTJ.shape[:2], parts[0].shape[-1])
    source_BTC, target_BTC, gates_BTC = (each[:, None].expand(size) if each.dim() == 2 else each for each in parts)
    moved_BTC = z_BTJ.gather(-1, source_BTC) * gates_BTC
    return torch.zeros_like(z_BTJ).scatter_add_(-1, target_BTC, moved_BTC)
