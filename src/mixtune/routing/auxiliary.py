"""The auxiliary loss of one forward: collected from the routers, and kept differentiable where checkpointing cuts it.

Activation checkpointing with use_reentrant=True runs the first pass without gradient, so what the routers report then
cannot be differentiated; the recomputation can, but by then the loss has been handed over. So the loss handed over
carries a tap: the tap learns, in the backward pass, how much the auxiliary loss weighs in the whole (d loss / d aux),
and each recomputed layer adds that much of its own router's loss.

Shape suffixes: S samples, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from mixtune.routing.cache import Key

ONCE = (
    "auxiliary loss: with use_reentrant=True it reaches the routers only in the backward pass that recomputes the "
    "layers; add it to the task loss and go backward once, on the sum"
)


@dataclass(eq=False)
class AuxiliaryLoss:
    """What the routers of one forward report.

    whole: losses with a gradient, weighted. cut: those without one, whose routers will report again when recomputed.
    pooled: by adapter, (c, weighted p), both [S, E], of every router, for the released loss that is formed over all
    layers. weight: d loss / d aux of `cut`, known from when the backward pass has gone through the tap to its end.
    paid, unpaid: whether a layer was recomputed after, or before, it was known.
    """

    whole: list[Tensor] = field(default_factory=list)
    cut: dict[Key, Tensor] = field(default_factory=dict)
    pooled: dict[str, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)
    weight: Tensor | None = None
    pooled_without_gradient: bool = False
    paid: bool = False
    unpaid: bool = False

    def add(self, key: Key, loss: Tensor) -> None:
        """Take one router's weighted loss of the first pass."""
        if loss.requires_grad:
            self.whole.append(loss)
        else:
            self.cut[key] = loss

    def pool(self, adapter: str, share_SE: Tensor, weighted_mean_SE: Tensor) -> None:
        """Take one router's terms of the released loss."""
        self.pooled.setdefault(adapter, []).append((share_SE, weighted_mean_SE))
        self.pooled_without_gradient |= not torch.is_grad_enabled()

    def total(self) -> Tensor | None:
        """Sum of everything reported, a scalar; None if nothing was.

        Raises ValueError if the released loss was cut: its layers cannot pay for it one by one.
        """
        if self.pooled_without_gradient and torch.is_grad_enabled():
            raise ValueError(
                "router_aux_loss_scope: 'released' needs all layers at once, which activation checkpointing with "
                "use_reentrant=True does not keep; use gradient_checkpointing_kwargs={'use_reentrant': False}"
            )
        parts = [*self.whole, *(_released(terms) for terms in self.pooled.values())]
        if self.cut:
            parts.append(self._tapped())
        return torch.stack([part.to(parts[0].device) for part in parts]).sum() if parts else None

    def settle(self, key: Key, loss: Tensor, y: Tensor) -> Tensor:
        """Pass y on as it is; its gradient pays for the loss that the first pass reported under `key` without one."""
        return _Inject.apply(y, loss, self) if key in self.cut and loss.requires_grad else y

    def forget(self) -> None:
        """Drop the losses that hold a graph, after `total`."""
        self.whole.clear()
        self.pooled.clear()

    def tap(self, gradient: Tensor) -> None:
        """Note the weight until the end of the backward pass that is running. Raises ValueError if it is too late."""
        # The engine runs what was built last first, so this is done before any layer of the forward is recomputed.
        if self.unpaid:
            raise ValueError(ONCE)
        self.weight, self.paid = gradient, False
        torch.autograd.Variable._execution_engine.queue_callback(self._end)

    def _end(self) -> None:
        self.weight = None
        if not self.paid:
            raise ValueError(ONCE)

    def _tapped(self) -> Tensor:
        losses = list(self.cut.values())
        # On the last router's device: with layers on several, the backward pass begins there.
        value = torch.stack([loss.to(losses[-1].device) for loss in losses]).sum()
        if not torch.is_grad_enabled():
            return value
        anchor = torch.zeros((), device=value.device, requires_grad=True)
        return _Tap.apply(value, anchor, self)


def _released(terms: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Mean over samples of Σ_j c_j p_j, c and p pooled over layers and tokens (METHODS M3, left column)."""
    share_SE, mean_SE = (torch.stack([term[side] for term in terms]).mean(0) for side in (0, 1))
    return (share_SE * mean_SE).sum(1).mean()


class _Tap(Function):
    """The value, with a gradient that is only noted."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, anchor: Tensor, auxiliary: AuxiliaryLoss) -> Tensor:
        ctx.auxiliary = auxiliary
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        ctx.auxiliary.tap(gradient)
        return None, torch.zeros_like(gradient), None


class _Inject(Function):
    """The identity on y; backwards, `loss` gets what the tap saw."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, loss: Tensor, auxiliary: AuxiliaryLoss) -> Tensor:
        ctx.auxiliary = auxiliary
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        weight = ctx.auxiliary.weight
        ctx.auxiliary.paid |= weight is not None
        ctx.auxiliary.unpaid |= weight is None
        return gradient, None if weight is None else weight.to(gradient.device), None
