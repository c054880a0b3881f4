"""The peft method itself: where peft asks for layers, hooks, saved tensors and merging."""

from __future__ import annotations

import copy
import re
from typing import Any

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import register_peft_method
from torch import Tensor, nn

from mixtune.adapters.generation import bind_generate, unbind_generate
from mixtune.adapters.hooks import ModelHooks
from mixtune.adapters.layer import MERGING, MERGING_LORA, MixtureLinear
from mixtune.adapters.loading import check_tensors, mark_unloaded
from mixtune.adapters.routes import LayerPlan
from mixtune.adapters.settings import MixtureConfig, MixtureType
from mixtune.adapters.targets import resolve_targets


class MixtureModel(BaseTuner):
    """Puts `MixtureLinear` layers into a model and hooks around its forward; made by `get_peft_model`."""

    prefix = "mixture_"
    tuner_layer_cls = MixtureLinear
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 (peft's type)

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Add `adapter_name` to `model`; see `BaseTuner`. Raises ValueError before anything is changed."""
        # peft writes what it resolves into the config; a config that is used for two models must not carry it over.
        self.peft_config[adapter_name] = copy.deepcopy(self.peft_config[adapter_name])
        self._leaders: dict[tuple[str, str], MixtureLinear] = {}
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        hooks = ModelHooks.of(model)
        hooks.install(model)
        bind_generate(model)
        if self._awaits_file(self.peft_config[adapter_name]):
            hooks.unchecked = True
            for layer in hooks.layers:
                mark_unloaded(layer, adapter_name)

    # peft_config is a MixtureConfig throughout; peft declares its base class.
    @staticmethod
    def _awaits_file(config: Any) -> bool:
        """Whether the config was read from a file for inference, so that the weights are about to be read too."""
        return config._made_for_a_base and config.inference_mode

    def _prepare_model(self, peft_config: Any, model: nn.Module) -> None:
        resolve_targets(peft_config, model)

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if not isinstance(target, (MixtureLinear, nn.Linear)):
            kind = type(target).__name__
            raise ValueError(f"target_modules: {current_key} is a {kind}; only linears can be adapted")
        old = isinstance(target, MixtureLinear)
        layer = target if isinstance(target, MixtureLinear) else MixtureLinear(target, ModelHooks.of(self.model).holder)
        layer.update_layer(adapter_name, self._plan(peft_config, adapter_name, layer, current_key))
        if adapter_name not in self.active_adapters:
            layer.set_adapter(self.active_adapters)
        if not old:
            self._replace_module(parent, target_name, layer, target)

    def _plan(self, config: MixtureConfig, adapter: str, layer: MixtureLinear, name: str) -> LayerPlan:
        """What `layer` does; the first linear of an MLP that shares a router becomes the router's owner."""
        chosen = config.mixture_modules is None or re.fullmatch(config.mixture_modules, name)
        mixed = config.router != "none" and bool(chosen)
        number = len(self._leaders)
        plan = LayerPlan(config=config, name=name, adapter=adapter, mixed=mixed, number=number)
        if not mixed:
            return plan
        leader = self._leaders.setdefault(plan.key, layer)
        if leader is layer:
            return plan
        return LayerPlan(config=config, name=name, adapter=adapter, mixed=True, number=number, leader=leader)

    def _check_merge_allowed(self) -> None:
        routed = any(getattr(config, "router", "none") != "none" for config in self.peft_config.values())
        raise ValueError(MERGING if routed else MERGING_LORA)

    def _unload_and_optionally_merge(self, merge: bool = True, *args: Any, **kwargs: Any) -> Any:
        if merge:
            self._check_merge_allowed()
        hooks = ModelHooks.find(self.model)
        super()._unload_and_optionally_merge(False, *args, **kwargs)
        hooks.remove(self.model)
        unbind_generate(self.model)
        return self.model

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: Any, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        remapped = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        check_tensors(model, adapter_name, remapped)
        return remapped


def register() -> None:
    """Make peft know the method under the name MIXTURE, for configs, models and files. Safe to call again."""
    if MixtureType.MIXTURE in PEFT_TYPE_TO_CONFIG_MAPPING:
        return
    try:
        register_peft_method(name="mixture", config_cls=MixtureConfig, model_cls=MixtureModel)
    except ValueError:
        # peft takes names of its own enum (PeftType) only; all it does with one is look it up in these tables.
        _fill_tables()


def _fill_tables() -> None:
    name: Any = MixtureType.MIXTURE
    PEFT_TYPE_TO_CONFIG_MAPPING[name] = MixtureConfig
    PEFT_TYPE_TO_TUNER_MAPPING[name] = MixtureModel
    PEFT_TYPE_TO_PREFIX_MAPPING[name] = MixtureModel.prefix
