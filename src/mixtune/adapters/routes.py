"""How a layer asks its router: once per forward, from the cache while decoding, again with the same answer when
activation checkpointing recomputes.

Shape suffixes: B instances, T tokens, D input width, E factors or experts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mixtune.adapters.groups import router_name
from mixtune.adapters.settings import MixtureConfig
from mixtune.routing.cache import Kept, Key
from mixtune.routing.cores import ConditionalOptions, ConditionalWeights
from mixtune.routing.gates import HARD_GATES
from mixtune.routing.losses import balance_loss, sample_usage
from mixtune.routing.routers import RouterOutput, TokenOptions, conditional_route, random_route, token_route
from mixtune.routing.scope import RoutingScope

if TYPE_CHECKING:
    from mixtune.adapters.layer import MixtureLinear

Chosen = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerPlan:
    """What one layer does for one adapter.

    name: of the linear in the model. adapter: its name. mixed: False for a plain LoRA. leader: the layer that owns the
    router's parameters, None for the layer itself. number: position among the adapter's layers.

    Worked out from these once, since every layer reads them in every forward: block, bank rows of
    one factor (1) or expert (its rank); rows of bank A; scale, s of `MixtureConfig`; key of the
    router in the scope and the cache (adapter, and name of the linear or of its group), own_key of
    the linear; instance, whether instances are routed; options, of a conditional router.
    """

    config: MixtureConfig
    name: str
    adapter: str
    mixed: bool
    number: int = 0
    leader: MixtureLinear | None = None
    block: int = field(init=False)
    rows: int = field(init=False)
    scale: float = field(init=False)
    key: Key = field(init=False)
    own_key: Key = field(init=False)
    instance: bool = field(init=False)
    options: ConditionalOptions = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        block = config.r if self.mixed and config.router == "linear" else 1
        worked_out = {
            "block": block,
            "rows": config.size * block if self.mixed else config.r,
            "scale": config.scale,
            "key": (self.adapter, router_name(self.name, config.router_scope)),
            "own_key": (self.adapter, self.name),
            "instance": self.mixed and config.context == "instance",
            "options": ConditionalOptions(
                r=config.r, conditional=config.conditional, gate=config.gate, ifs_weight=config.ifs_weight
            ),
        }
        for field_name, value in worked_out.items():
            object.__setattr__(self, field_name, value)


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
    weights = ConditionalWeights(
        router_a=owner.part("mixture_router_A", adapter).weight,
        router_b=owner.part("mixture_router_B", adapter).weight,
        conditional=_weight(owner, "mixture_router_AB", adapter),
        choice_embed=_weight(owner, "mixture_router_embed", adapter),
        choice_weight=_weight(owner, "mixture_router_choice", adapter),
    )
    h_BD, bank_a_ED = _pooled(owner, plan, x_BTD, scope), owner.part("mixture_A", adapter).weight
    return conditional_route(h_BD, bank_a_ED, weights, plan.options, chosen)


def _linear(
    owner: MixtureLinear, plan: LayerPlan, x_BTD: Tensor, scope: RoutingScope, chosen: Chosen | None
) -> RouterOutput:
    router, config = owner.part("mixture_router_A", plan.adapter), plan.config
    dense = config.dense == "always" or (config.dense == "inference" and not owner.training)
    options = TokenOptions(top_k=config.top_k, gate=config.gate, dense=dense)
    seen = _pooled(owner, plan, x_BTD, scope) if plan.instance else x_BTD
    return token_route(seen, router.weight, router.bias, options, chosen)


def _random(plan: LayerPlan, x_BTD: Tensor, scope: RoutingScope, before: Kept | None) -> RouterOutput:
    if before is not None:
        return before.output
    count = plan.config.r if plan.config.router == "conditional" else plan.config.top_k
    routed = random_route(scope.instances(x_BTD), plan.config.size, count, scope.random(plan.number), x_BTD.device)
    if plan.config.router == "linear":  # an expert is one number: its A goes with its B
        return RouterOutput(routed.indices_a, routed.indices_a, routed.gates, routed.probs)
    return routed


def _pooled(owner: MixtureLinear, plan: LayerPlan, x_BTD: Tensor, scope: RoutingScope) -> Tensor:
    # Where the router reads it detached, the mean needs no graph.
    h_BD = scope.pool(
        x_BTD,
        whole=plan.config.pooling == "all",
        detach=plan.config.gate in HARD_GATES and plan.config.dense == "never",
    )
    return h_BD - owner.part("mixture_center", plan.adapter).weight if plan.config.router_center else h_BD


def _weight(owner: MixtureLinear, name: str, adapter: str) -> Tensor | None:
    return owner.part(name, adapter).weight if adapter in getattr(owner, name) else None
