"""Centred routers: what a router takes off the pooled prompt it reads, found on training prompts before training.

Pooled hidden states of different prompts are nearly parallel: they share a large mean, and what tells them apart is
small beside it. A router that reads them as they are scores mostly that mean, so it chooses nearly the same factors
for every prompt. Without the mean its first choices already differ as the prompts do.

Shape suffixes: B instances, T tokens, D input width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mixtune.adapters.hooks import ModelHooks
from mixtune.adapters.layer import MixtureLinear
from mixtune.adapters.plan import LayerPlan


@contextmanager
def center_routers(model: nn.Module) -> Iterator[None]:
    """Run forwards of `model` inside: every router with `router_center` gets the mean of the pooled prompts h it saw.

        c = 1/N Σ_n h_n   (over all N instances of those forwards);   afterwards the router reads h - c

    The forwards run in eval mode without gradient; centres found before are replaced. Call it on a fresh adapter, with
    prompts of every task. Raises ValueError if no active adapter has `router_center`, or if nothing was run inside.
    """
    owners = list(_owners(model))
    if not owners:
        raise ValueError("router_center: no active adapter of this model has it, so there is nothing to center")
    sums: dict[LayerPlan, Tensor] = {}
    counts: dict[LayerPlan, int] = {}

    def watch(layer: Any, args: tuple[Tensor, ...]) -> None:
        x_BTD = args[0] if args[0].dim() == 3 else args[0][None]
        for plan in _centred(layer):
            h_BD = layer.holder.scope.pool(x_BTD, over=plan.config.pooling, detach=True)
            sums[plan] = sums.get(plan, 0.0) + h_BD.double().sum(0)
            counts[plan] = counts.get(plan, 0) + h_BD.shape[0]

    training = model.training
    with ExitStack() as stack:
        for layer in dict.fromkeys(layer for layer, _ in owners):
            stack.callback(layer.register_forward_pre_hook(watch).remove)
        stack.callback(model.train, training)
        stack.enter_context(torch.no_grad())
        model.eval()
        yield
    if not sums:
        raise ValueError("center_routers: no forward of the model was run inside, so no prompt was seen")
    with torch.no_grad():
        for layer, plan in owners:
            if plan in sums:
                layer.part("mixture_center", plan.adapter).weight.copy_(sums[plan] / counts[plan])


def centers(model: nn.Module) -> dict[str, Tensor]:
    """The center of each router of the active adapters, [1, D], by the name of its layer; empty if none is centered."""
    return {plan.name: layer.part("mixture_center", plan.adapter).weight for layer, plan in _owners(model)}


def _owners(model: nn.Module) -> Iterator[tuple[MixtureLinear, LayerPlan]]:
    for layer in ModelHooks.find(model).layers:
        for plan in _centred(layer):
            yield layer, plan


def _centred(layer: MixtureLinear) -> Iterator[LayerPlan]:
    """The plans of a layer's active adapters whose router it owns and centers."""
    for adapter in layer.active_adapters:
        plan = layer.mixture_plan.get(adapter)
        if plan is not None and plan.mixed and plan.leader is None and plan.config.router_center:
            yield plan
