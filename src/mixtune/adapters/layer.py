"""The one layer of every preset: a frozen linear, two banks, and the parameters of a router.

Shape suffixes: B instances, T tokens, D input width, O output width, E factors or experts.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from mixtune.adapters.plan import LayerPlan
from mixtune.adapters.routes import route, settle
from mixtune.adapters.settings import MixtureConfig
from mixtune.kernels import (
    IDENTITY,
    Core,
    Frozen,
    decoding_core,
    is_decoding,
    made_of,
    mixture_linear,
    one_token,
    wide_dtype,
)
from mixtune.routing.scope import ScopeHolder

MERGING = (
    "merging: a mixture is another matrix for every sample, so no single weight equals it; serve the model with its "
    "adapter"
)
MERGING_LORA = "merging: mixtune never writes into the base's weights; use peft's own LoraConfig to merge a LoRA"
ROUTERS = (
    "mixture_router_A", "mixture_router_B", "mixture_router_AB", "mixture_router_choice", "mixture_router_embed"
)  # fmt: skip

CENTER = "mixture_center"  # what a router takes off the pooled prompt (`mixtune.adapters.centering`)
NARROW = (torch.bfloat16, torch.float16)
DECODING_PARTS = ("mixture_A", "mixture_B", "mixture_dropout")


def keeps_dtype(x: Tensor) -> bool:
    """Whether a linear would compute x in x's own dtype: autocast is off, or casts to that."""
    kind = x.device.type
    return not torch.is_autocast_enabled(kind) or torch.get_autocast_dtype(kind) == x.dtype


class FrozenLinear(nn.Linear):
    """A linear that does not train, though a loader puts parameters into it that do (as transformers' does)."""

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Take `param` over without gradient."""
        if param is not None:
            param.requires_grad_(False)
        super().register_parameter(name, param)


class MixtureLinear(nn.Module, BaseTunerLayer):
    """A linear layer with one or more adapters: y = W x + Σ over active adapters of s·B·M·A x.

    Parameters, all float32 whatever the base's dtype (nn.Linear each, so that every name is `<attr>.<adapter>.weight`):
    mixture_A [E·block, D], mixture_B [O, E·block], mixture_router_A and _B [E, D], mixture_router_AB [E, r·D],
    mixture_router_choice and _embed [E, D], mixture_center [1, D] (never trained); a layer has those its adapter needs.
    """

    base_layer: nn.Module
    in_features: int
    out_features: int
    adapter_layer_names = ("mixture_A", "mixture_B", *ROUTERS, CENTER)
    other_param_names = ("mixture_dropout", "mixture_plan")

    def __init__(self, base_layer: nn.Linear, holder: ScopeHolder) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.in_features, self.out_features = base_layer.in_features, base_layer.out_features
        for name in self.adapter_layer_names:
            setattr(self, name, nn.ModuleDict())
        self.mixture_dropout = nn.ModuleDict()
        self.mixture_plan: dict[str, LayerPlan] = {}
        self.frozen_peft_weight_names = {}
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self.holder = holder

    def update_layer(self, adapter: str, plan: LayerPlan) -> None:
        """Add the parameters of `adapter` as `plan` says, on the base layer's device."""
        config = plan.config
        self.mixture_plan[adapter] = plan
        self.mixture_dropout[adapter] = nn.Dropout(config.lora_dropout) if config.lora_dropout else nn.Identity()
        frozen = (() if config.routers_learn else ROUTERS) + ((CENTER,) if config.router_center else ())
        if frozen:
            self.frozen_peft_weight_names[adapter] = frozen
        self._add("mixture_A", adapter, self.in_features, plan.rows)
        self._add("mixture_B", adapter, plan.rows, self.out_features)
        if config.init_weights:
            nn.init.zeros_(self.part("mixture_B", adapter).weight)
        if plan.mixed and plan.leader is None:
            self._add_routers(adapter, config)
        self._move_adapter_to_device_of_base_layer(adapter)
        self.set_adapter(self.active_adapters)

    def part(self, name: str, adapter: str) -> nn.Linear:
        """The parameters called `name` (one of `adapter_layer_names`) of `adapter`."""
        return getattr(self, name)[adapter]

    def banks(self, adapter: str) -> tuple[Tensor, Tensor]:
        """The weights of A and of B of `adapter`."""
        return self.part("mixture_A", adapter).weight, self.part("mixture_B", adapter).weight

    def together(self, plan: LayerPlan) -> list[MixtureLinear]:
        """The layers of `plan.beside` whose routers can decide with this one's now, this one first.

        Not one that is off, lies elsewhere, or whose parameters are gathered (FSDP) at another time than these.
        """

        def kind(layer: MixtureLinear) -> tuple[Any, ...]:
            weight = layer.part(ROUTERS[0], plan.adapter).weight
            return type(weight), weight.shape, weight.dtype, weight.device

        def joins(other: MixtureLinear) -> bool:
            whole = type(other) is type(self) is MixtureLinear  # FSDP gives a unit of its own another class
            active = plan.adapter in other.mixture_plan and plan.adapter in other.active_adapters
            return whole and active and not other._disable_adapters and kind(other) == kind(self)

        return [self, *(other for other in plan.beside if other is not self and joins(other))]

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The base layer's result plus what each active adapter adds; x and result [B, T, ·] or [T, ·]."""
        plans = [self.mixture_plan[adapter] for adapter in self.active_adapters if adapter in self.mixture_plan]
        if self._disable_adapters or not plans:
            return self.base_layer(x, *args, **kwargs)
        decoding = self._is_decoding(x)
        y: Any = None if decoding or args or kwargs else self._frozen(x, plans[0])
        if y is None:
            y = self.base_layer(x, *args, **kwargs)
            if self.base_layer._forward_hooks:
                y = y.view_as(y)  # somebody may have kept the result, so nothing is added into it in place
        adapt = self._adapt_one if decoding else self._adapt
        for plan in plans:
            y = adapt(y, x, plan)
        return y

    def _frozen(self, x: Tensor, plan: LayerPlan) -> Frozen | None:
        """The base layer's weights, if its result can be computed together with what `plan` adds: in a narrow dtype,
        where a result that is rounded before something small is added to it would lose much of that.

        None for anything but an ordinary linear, whole and frozen, that nobody watches.
        """
        base, scope = self.base_layer, self.holder.scope
        if torch.compiler.is_compiling() or type(base) is not nn.Linear:
            return None
        if base.weight.dtype not in NARROW or x.dtype != base.weight.dtype or not keeps_dtype(x):
            return None
        hooks = (base._forward_hooks, base._forward_pre_hooks, base._backward_hooks, base._backward_pre_hooks)
        watched = any(hooks) or "forward" in base.__dict__ or _has_any_global_hook()
        frozen = all(type(each) is nn.Parameter and not each.requires_grad for each in base.parameters())
        whole = scope is not None and (scope.whole or not scope.learning)
        dropout = self.mixture_dropout[plan.adapter]
        alike = not dropout.training or isinstance(dropout, nn.Identity)  # both read the same x
        return Frozen(base.weight, base.bias) if frozen and whole and alike and not watched else None

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Always raises ValueError; see `MixtureModel`."""
        raise ValueError(MERGING)

    def unmerge(self) -> None:
        """Nothing to do: nothing is ever merged."""

    def _adapt(self, y: Any, x: Tensor, plan: LayerPlan) -> Tensor:
        adapter, flat = plan.adapter, x.dim() == 2
        x_BTD, y_BTO = (x[None], y if isinstance(y, Frozen) else y[None]) if flat else (x, y)
        scope, banks = self.holder.scope, self.banks(adapter)
        routed = route(self, plan, x_BTD) if plan.mixed else None
        if scope is not None and scope.casts is not None and not torch.compiler.is_compiling():
            banks = scope.casts.lowered(plan.own_key, banks, y.weight.dtype if isinstance(y, Frozen) else y.dtype)
        dropped_BTD = self.mixture_dropout[adapter](x_BTD)
        y_BTO = mixture_linear(y_BTO, dropped_BTD, *banks, routed, scale=plan.scale, block=plan.block)
        y_BTO = settle(plan, scope, y_BTO) if plan.mixed else y_BTO
        return y_BTO[0] if flat else y_BTO

    def _is_decoding(self, x: Tensor) -> bool:
        """Whether `_adapt_one` may take the place of `_adapt`."""
        plain = x.dim() == 3 and not self.training and is_decoding(x)
        return plain and not (torch.compiler.is_compiling() or torch.is_autocast_enabled(x.device.type))

    def _adapt_one(self, y_B1O: Tensor, x_B1D: Tensor, plan: LayerPlan) -> Tensor:
        """`_adapt` while decoding, in fewer calls: what one step makes of a kept selection serves the next ones.

        Every look-up counts here, and `self.mixture_A` is a slower one.
        """
        adapter, core = plan.adapter, IDENTITY
        parts: Any = self._modules
        bank_a, bank_b, dropout = (parts[name]._modules[adapter] for name in DECODING_PARTS)
        bank_a_JD, bank_b_OJ = bank_a.weight, bank_b.weight
        if plan.mixed:
            core = self._core(x_B1D, (bank_a_JD, bank_b_OJ), wide_dtype(y_B1O, bank_a_JD), plan)
        if dropout.training:
            x_B1D = dropout(x_B1D)
        return one_token(y_B1O, x_B1D, bank_a_JD, bank_b_OJ, core, scale=plan.scale)

    def _core(self, x_B1D: Tensor, banks: tuple[Tensor, Tensor], dtype: torch.dtype, plan: LayerPlan) -> Core:
        """What the router of `plan` has decided: made once for a kept selection, or once a step for a group."""
        scope, cores, keep = self.holder.scope, None, plan.instance and plan.config.keep_selection
        if scope is not None and (plan.instance or plan.config.router_scope != "linear"):
            cores = scope.cores(keep)
        key = plan.own_key if keep else plan.key  # what is kept may hold rows of this layer's banks
        core, now = None if cores is None else cores.get(key), made_of(banks, dtype) if keep else None
        if core is None or core.made_of != now:
            core = decoding_core(route(self, plan, x_B1D), dtype, banks, plan.block, keep=keep and cores is not None)
            core = core._replace(made_of=now)
            if cores is not None:
                cores[key] = core
        return core

    def _add(self, name: str, adapter: str, d_in: int, d_out: int, *, bias: bool = False) -> None:
        # nn.Linear starts as kaiming_uniform(a=sqrt(5)), peft's start for LoRA's A; each row depends on d_in alone.
        frozen = name in self.frozen_peft_weight_names.get(adapter, ())
        kind = FrozenLinear if frozen else nn.Linear
        getattr(self, name)[adapter] = kind(d_in, d_out, bias=bias, dtype=torch.float32)

    def _add_routers(self, adapter: str, config: MixtureConfig) -> None:
        width, size = self.in_features, config.size
        if config.router_center:
            self._add(CENTER, adapter, width, 1)
            nn.init.zeros_(self.part(CENTER, adapter).weight)
        self._add("mixture_router_A", adapter, width, size, bias=config.router == "linear" and config.router_bias)
        if config.router == "linear":
            return
        self._add("mixture_router_B", adapter, width, size)
        if config.conditional in ("published", "released"):
            self._add("mixture_router_AB", adapter, width * config.r, size)
        if config.conditional == "choice":
            self._add("mixture_router_choice", adapter, width, size)
            self._add("mixture_router_embed", adapter, width, size)

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        # peft also casts to the base's dtype here; our parameters stay float32.
        device = device or self._get_base_layer_device_and_dtype(self.get_base_layer())[0]
        for name in self.adapter_layer_names:
            module = getattr(self, name)
            if device is None or adapter_name not in module:
                continue
            if not any(parameter.is_meta for parameter in module[adapter_name].parameters()):
                module[adapter_name].to(device)
