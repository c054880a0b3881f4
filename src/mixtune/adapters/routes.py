"""How a layer asks its router: once per forward, from the cache while decoding, again with the same answer when
activation checkpointing recomputes.

Shape suffixes: B instances, T tokens, D input width, E factors or experts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mixtune.adapters.plan import LayerPlan
from mixtune.kernels import is_decoding, takes_core, with_core
from mixtune.routing.cache import Kept
from mixtune.routing.cores import ConditionalWeights
from mixtune.routing.losses import balance_loss, sample_usage
from mixtune.routing.routers import RouterOutput, TokenOptions, conditional_route, random_route, token_route
from mixtune.routing.scope import RoutingScope
from mixtune.routing.together import can_decide_together, conditional_routes

if TYPE_CHECKING:
    from mixtune.adapters.layer import MixtureLinear

Chosen = tuple[Tensor, Tensor]


def route(layer: MixtureLinear, plan: LayerPlan, x_BTD: Tensor) -> RouterOutput:
    """The selection of `layer` for its input in the forward that is running.

    Raises ValueError, naming the layer, outside a forward of the whole model or if the input cannot be routed.
    """
    scope, key, config = layer.holder.scope, plan.key, plan.config
    if scope is None:
        raise ValueError(
            f"{plan.name}: called outside a forward of the model that was given the adapter, so its batch is unknown; "
            "call that model, and checkpoint activations with its own gradient_checkpointing_enable()"
        )
    shared = plan.instance or config.router_scope != "linear"
    routed = scope.live.get(key) if shared else None
    try:
        if routed is None and plan.instance and config.keep_selection:
            routed = scope.from_cache(key)
        if routed is None:
            routed = _decide(layer, plan, x_BTD, scope)
            owners_BT = scope.owners(x_BTD) if plan.instance else None
            routed = routed if owners_BT is None else routed.spread(owners_BT)
            if not is_decoding(x_BTD):
                routed = with_core(routed, plan.rows, plan.block, plan.core_dtype(x_BTD))
    except ValueError as error:
        raise ValueError(f"{plan.name}: {error}") from None
    if shared:
        scope.live[key] = routed
    return routed


def settle(plan: LayerPlan, scope: RoutingScope | None, y: Tensor) -> Tensor:
    """y, carrying what a recomputed router owes to the auxiliary loss (see `mixtune.routing.auxiliary`)."""
    loss = scope.owed.pop(plan.key, None) if scope is not None else None
    return y if loss is None or scope is None else scope.auxiliary.settle(plan.key, loss, y)


def _decide(layer: MixtureLinear, plan: LayerPlan, x_BTD: Tensor, scope: RoutingScope) -> RouterOutput:
    """Ask the router, or in a recomputation its gates only; the first time, note the selection and its loss."""
    before = scope.made.get(plan.key)
    chosen = None if before is None else (before.indices_a, before.indices_b)
    owner = plan.leader or layer
    if x_BTD.shape[-1] != owner.in_features:
        raise ValueError(
            f"reads {x_BTD.shape[-1]} features before {owner.mixture_plan[plan.adapter].name} chose for its group, "
            f"whose router reads {owner.in_features}; router_scope 'linear' gives each layer its own router"
        )
    if plan.config.random_routing:
        routed = _random(plan, x_BTD, scope, before)
    elif plan.config.router == "conditional":
        routed = _conditional(owner, plan, x_BTD, scope, chosen)
    else:
        routed = _linear(owner, plan, x_BTD, scope, chosen)
    loss = _weighted_loss(plan, x_BTD, scope, routed)  # recomputed too: checkpointing counts the tensors it saves
    if loss is not None and scope.replaying:
        scope.owed[plan.key] = loss
    if before is None:
        scope.made[plan.key] = Kept.of(routed)
        if plan.instance and plan.config.keep_selection and scope.owners(x_BTD) is None:
            scope.keep.append(plan.key)
        if scope.recording:
            scope.record(plan.key, routed)
        if loss is not None:
            scope.auxiliary.add(plan.key, loss)
    return routed


def _weighted_loss(plan: LayerPlan, x_BTD: Tensor, scope: RoutingScope, routed: RouterOutput) -> Tensor | None:
    """router_aux_loss_coef · balance loss of one router, where something trains and something is weighted.

    Over attended tokens or over instances, as `router_aux_loss_scope` says; of "released" only the terms are noted.
    """
    config = plan.config
    coef = config.router_aux_loss_coef
    if not coef or scope.facts.generation is not None or not (scope.training or torch.is_grad_enabled()):
        return None
    mask_BT = None if plan.instance else scope.attended(x_BTD)
    chosen = routed.indices_a
    if chosen.shape[-1] == config.size:  # all are used, in proportion: the first choice is what can be out of balance
        chosen = routed.probs.argmax(-1, keepdim=True)
    if config.router_aux_loss_scope == "batch":
        return coef * balance_loss(routed.probs, chosen, mask_BT, config.size)
    count = scope.instances(x_BTD)
    owners = torch.arange(count, device=x_BTD.device) if plan.instance else scope.rows(x_BTD)
    share_BE, mean_BE = sample_usage(routed.probs, chosen, mask_BT, owners, count)
    if config.router_aux_loss_scope == "released":
        if plan.key not in scope.made:
            scope.auxiliary.pool(plan.adapter, share_BE, coef * mean_BE)
        return None
    weights_B = scope.sample_weights(x_BTD)
    losses_B = config.size * (share_BE * mean_BE).sum(1)
    return coef * (weights_B * losses_B).sum() / weights_B.sum().clamp_min(1)


def _conditional(
    owner: MixtureLinear, plan: LayerPlan, x_BTD: Tensor, scope: RoutingScope, chosen: Chosen | None
) -> RouterOutput:
    adapter = plan.adapter
    if can_decide_together(plan.options):
        return _together(owner, plan, x_BTD, scope, chosen)
    bank_a_ED = owner.part("mixture_A", adapter).weight
    h_BD = _read([owner], plan, x_BTD, scope)
    return conditional_route(h_BD, bank_a_ED, _weights(owner, adapter), plan.options, chosen)


def _together(
    owner: MixtureLinear, plan: LayerPlan, x_BTD: Tensor, scope: RoutingScope, chosen: Chosen | None
) -> RouterOutput:
    """The decision that was made for this linear beside another; else one for all linears that are given this input, or
    for this one alone if it turns out to be given another.
    """
    seen, routed = scope.ahead.pop(plan.key, (None, None))
    if routed is not None and seen is x_BTD:
        return routed
    alone = seen is not None or plan.config.router_scope != "linear"
    layers, kept = [owner] if alone else owner.together(plan), scope.chosen.get(plan.key)
    if chosen is not None and (kept is None or len(kept) != len(layers)):  # it chose alone when the forward first ran
        layers, kept = [owner], [chosen]
    banks = [each.part("mixture_A", plan.adapter).weight for each in layers]
    weights = [_weights(each, plan.adapter) for each in layers]
    read, core_dtype = _read(layers, plan, x_BTD, scope), _core_dtype(plan, x_BTD, scope, plan.config.r)
    own, *others = found = conditional_routes(read, banks, weights, plan.options, kept, core_dtype)
    if others:
        scope.chosen[plan.key] = [(each.indices_a, each.indices_b) for each in found]
        for layer, each in zip(layers, found, strict=True):
            scope.ahead[layer.mixture_plan[plan.adapter].key] = (x_BTD, each)
        own = scope.ahead.pop(plan.key)[1]
    return own


def _core_dtype(plan: LayerPlan, x_BTD: Tensor, scope: RoutingScope, chosen_rows: int) -> torch.dtype | None:
    """What a router writes the core in; None where the linears will take none, or another than the router's."""
    packed = plan.instance and scope.owners(x_BTD) is not None
    if packed or is_decoding(x_BTD) or not takes_core(plan.rows, chosen_rows, tokens=not plan.instance):
        return None
    return plan.core_dtype(x_BTD)


def _weights(owner: MixtureLinear, adapter: str) -> ConditionalWeights:
    return ConditionalWeights(
        router_a=owner.part("mixture_router_A", adapter).weight,
        router_b=owner.part("mixture_router_B", adapter).weight,
        conditional=_weight(owner, "mixture_router_AB", adapter),
        choice_embed=_weight(owner, "mixture_router_embed", adapter),
        choice_weight=_weight(owner, "mixture_router_choice", adapter),
    )


def _linear(
    owner: MixtureLinear, plan: LayerPlan, x_BTD: Tensor, scope: RoutingScope, chosen: Chosen | None
) -> RouterOutput:
    router, config = owner.part("mixture_router_A", plan.adapter), plan.config
    dense = config.dense == "always" or (config.dense == "inference" and not owner.training)
    options = TokenOptions(top_k=config.top_k, gate=config.gate, dense=dense)
    seen = _read([owner], plan, x_BTD, scope) if plan.instance else x_BTD
    core_dtype = None if plan.instance else _core_dtype(plan, x_BTD, scope, config.top_k * plan.block)
    return token_route(seen, router.weight, router.bias, options, chosen, core_dtype)


def _random(plan: LayerPlan, x_BTD: Tensor, scope: RoutingScope, before: Kept | None) -> RouterOutput:
    if before is not None:
        return before.output
    count = plan.config.r if plan.config.router == "conditional" else plan.config.top_k
    routed = random_route(scope.instances(x_BTD), plan.config.size, count, scope.random(plan.number), x_BTD.device)
    if plan.config.router == "linear":  # an expert is one number: its A goes with its B
        return RouterOutput(routed.indices_a, routed.indices_a, routed.gates, routed.probs)
    return routed


def _read(owners: list[MixtureLinear], plan: LayerPlan, x_BTD: Tensor, scope: RoutingScope) -> Tensor:
    """What routers read of an instance: its pooled prompt [B, D], or what differs from each router's center, [G, B, D]
    (of one router [B, D] too).
    """
    h_BD = plan.pooled(x_BTD, scope)
    if not plan.config.router_center:
        return h_BD
    centers = [owner.part("mixture_center", plan.adapter).weight for owner in owners]
    return h_BD - (centers[0] if len(centers) == 1 else torch.stack(centers))


def _weight(owner: MixtureLinear, name: str, adapter: str) -> Tensor | None:
    return owner.part(name, adapter).weight if adapter in getattr(owner, name) else None
