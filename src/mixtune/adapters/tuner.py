"""The peft method itself: where peft asks for layers, hooks, saved tensors and merging."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import register_peft_method
from torch import Tensor, nn

from mixtune.adapters.generation import bind_generate, unbind_generate
from mixtune.adapters.groups import router_name
from mixtune.adapters.hooks import ATTRIBUTE, ModelHooks, refuse_adapter_names
from mixtune.adapters.layer import MERGING, MERGING_LORA, MixtureLinear
from mixtune.adapters.loading import await_tensors, check_file, check_tensors
from mixtune.adapters.plan import LayerPlan
from mixtune.adapters.settings import MixtureConfig, MixtureType
from mixtune.adapters.targets import resolve_targets


class MixtureModel(BaseTuner):
    """Puts `MixtureLinear` layers into a model and hooks around its forward; made by `get_peft_model`."""

    prefix = "mixture_"
    tuner_layer_cls = MixtureLinear
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 (peft's type)

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Add `adapter_name` to `model`; see `BaseTuner`. Raises ValueError and leaves the model as it was."""
        self._check_new(model, adapter_name)
        # peft writes what it resolves into the config; a config that is used for two models must not carry it over.
        # (peft_config is a MixtureConfig throughout; peft declares its base class.)
        config: Any = copy.deepcopy(self.peft_config[adapter_name])
        self.peft_config[adapter_name] = config
        self._leaders: dict[tuple[str, str], MixtureLinear] = {}
        self._beside: dict[str, list[MixtureLinear]] = {}
        hooks = ModelHooks.of(model)
        with self._withdrawing(adapter_name):
            super().inject_adapter(model, adapter_name, *args, **kwargs)
            hooks.install(model)
            bind_generate(model)
            if config._made_for_a_base:
                hooks.unchecked.add(adapter_name)
                await_tensors(model, adapter_name)
                check_file(model, adapter_name, config)

    def _check_new(self, model: nn.Module, adapter: str) -> None:
        """Raise ValueError if `model` has the adapter already, or something that it does not go with."""
        layers = [module for module in model.modules() if isinstance(module, MixtureLinear)]
        plan = next((layer.mixture_plan[adapter] for layer in layers if adapter in layer.mixture_plan), None)
        if plan is not None:
            self.peft_config[adapter] = plan.config  # peft has written the new one over it
            raise ValueError(f"adapter_name: {adapter!r} is on this model already; unload() it or take another name")
        try:
            _check_alone(model, layers)
            _check_name(model, adapter)
        except ValueError:
            del self.peft_config[adapter]  # it may be the model's own table
            raise

    @contextmanager
    def _withdrawing(self, adapter: str) -> Iterator[None]:
        """After an error inside, take `adapter` out of the model again."""
        try:
            yield
        except Exception:
            self.delete_adapter(adapter) if len(self.peft_config) > 1 else self.unload()
            raise

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """What a PeftModel opens around forward and generate, with their arguments, before it drops its own ones."""
        refuse_adapter_names(kwargs)
        yield

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
        beside = self._beside.setdefault(router_name(name, "input"), []) if mixed else []
        plan = LayerPlan(config=config, name=name, adapter=adapter, mixed=mixed, number=number, beside=beside)
        if not mixed:
            return plan
        beside.append(layer)
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
        hooks = ModelHooks.of(self.model)
        super()._unload_and_optionally_merge(False, *args, **kwargs)
        hooks.remove(self.model)
        unbind_generate(self.model)
        return self.model

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        # peft also moves tensors here, which `MixtureLinear` does itself, and takes every module for a linear.
        setattr(parent, child_name, new_module)

    @classmethod
    def _get_adapter_state_dict(cls, model: nn.Module, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        for name, module in model.named_modules():
            if isinstance(module, MixtureLinear) and name.endswith(".base_layer"):
                raise ValueError(
                    f"saving: {name} lies inside an adapter of another method, so its tensors would have names that "
                    "no model has; take that adapter off first with unload()"
                )
        return super()._get_adapter_state_dict(model, *args, **kwargs)

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: Any, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        remapped = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        unchecked, tuner = ModelHooks.find(model).unchecked, getattr(model, "base_model", None)
        new = tuner if isinstance(tuner, MixtureModel) and adapter_name in unchecked else None
        with new._withdrawing(adapter_name) if new else nullcontext():
            check_tensors(model, adapter_name, remapped)
        unchecked.discard(adapter_name)
        return remapped


def _check_name(model: nn.Module, adapter: str) -> None:
    """Raise ValueError for a name that peft could not tell from a part of a tensor's name when it writes a file."""
    inside = re.compile(r"\.(mixture_\w+|modules_to_save)\.")
    parts = {part for name, _ in model.named_modules() for part in inside.split(name)[0].split(".")}
    if not adapter or "." in adapter or adapter in parts:
        raise ValueError(
            f"adapter_name: {adapter!r} is empty, has a dot or is the name of a module of the model, so its tensors "
            "could not be told from others; take another name"
        )


def _check_alone(model: nn.Module, layers: list[MixtureLinear]) -> None:
    """Raise ValueError if `model` has an adapter of another method, which would hide its linears from this one, or if
    one of ours was put into a model around it or inside it, whose hooks would not know of a second.
    """
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer) and not isinstance(module, MixtureLinear):
            raise ValueError(
                f"{name} carries an adapter of another method ({type(module).__module__}); merge it first with "
                "merge_and_unload() or take it off with unload()"
            )
    hooks = model.__dict__.get(ATTRIBUTE)
    if any(hooks is None or layer.holder is not hooks.holder for layer in layers):
        raise ValueError(
            f"{type(model).__name__} has layers of an adapter that was given to another model, around it or inside "
            "it; add this one to the same: add_adapter(name, config) of the PeftModel"
        )


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
