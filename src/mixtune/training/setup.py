"""What trains on a base model: an adapter (stage tune), the projector (align) or the language model (full), and how
much that is.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel, set_seed

from mixtune.adapters import MixtureConfig, auxiliary_loss, router_parameters, trainable_breakdown
from mixtune.adapters.hooks import ModelHooks
from mixtune.config import AdapterSettings, Recipe
from mixtune.training.parts import (
    AlignedProjector,
    Trained,
    TunedAdapter,
    base_dtype,
    base_fingerprint,
    hold_in_float32,
    projector,
    quiet_peft,
    saved_modules,
)
from mixtune.training.trainer import RoutingHooks
from mixtune.training.whole import TunedModel, unfreeze_language_model


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A model ready to train.

    trained: what is saved. hooks: the adapter's say in the loss, None without one. parameters: trained numbers by
    part (factors, routers, projector, other). base: the name of the frozen model; fingerprint: its hash.
    """

    trained: Trained
    hooks: RoutingHooks | None
    parameters: dict[str, int] = field(default_factory=dict)
    base: str
    fingerprint: str

    @property
    def total(self) -> int:
        """All trained numbers."""
        return sum(self.parameters.values())


def adapter_config(settings: AdapterSettings, saved: str | None) -> MixtureConfig:
    """The adapter's configuration; `saved` names the module trained whole beside it (the projector), or None."""
    given = settings.overrides
    if saved is not None:
        given["modules_to_save"] = sorted({*given.get("modules_to_save", []), saved})
    return MixtureConfig(preset=settings.preset, **given)


def adapt(model: PreTrainedModel, recipe: Recipe) -> PeftModel:
    """Put the recipe's adapter on a model (meta tensors will do), seeded by train.seed."""
    assert recipe.adapter is not None  # a Recipe of stage tune has one
    saved = projector(model)[0] if recipe.train.train_projector else None
    config = adapter_config(recipe.adapter, saved)
    set_seed(recipe.train.seed)
    with quiet_peft():
        adapted = get_peft_model(model, config)
    for each in adapted.peft_config.values():
        each.base_model_name_or_path = recipe.model.name_or_path  # not the folder it was cached in
    return adapted


def count_parameters(model: PreTrainedModel, recipe: Recipe) -> dict[str, int]:
    """What the recipe would train on `model`, a model on the meta device (which is used up), by part."""
    model.requires_grad_(False)
    if recipe.adapter is not None:
        with torch.device("meta"):
            return trainable_breakdown(adapt(model, recipe))
    if recipe.train.stage == "full":
        return unfreeze_language_model(model, with_projector=recipe.train.train_projector)
    count = sum(weight.numel() for weight in projector(model)[1].parameters())
    return {"factors": 0, "routers": 0, "projector": count, "other": 0}


def learning_routers(model: nn.Module) -> dict[str, nn.Parameter]:
    """Trained routers of the active adapters to which, by their settings, the task loss can give a gradient: a gate or
    a dense mixture is needed. Raises ValueError if `model` carries no mixture.
    """
    taught = {
        adapter
        for layer in ModelHooks.find(model).layers
        for adapter in layer.active_adapters
        if adapter in layer.mixture_plan and _task_teaches(layer.mixture_plan[adapter].config)
    }
    routers = router_parameters(model)
    return {name: weight for name, weight in routers.items() if weight.requires_grad and name.split(".")[-2] in taught}


def _task_teaches(config: MixtureConfig) -> bool:
    return config.gate != "none" or config.dense == "always"


def checkpoint_activations(model: nn.Module, *, reentrant: bool = False) -> None:
    """Recompute activations in the backward pass (not `reentrant`: frozen embeddings need no gradient of their own).

    Switched on after the adapter is in place: peft would otherwise make the vision tower's inputs require gradients.
    """
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    options = {"use_reentrant": reentrant}
    if hasattr(inner, "activation_checkpointing_enable"):
        inner.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:  # its name before transformers 5.23
        inner.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)


def prepare(model: PreTrainedModel, recipe: Recipe) -> Prepared:
    """Freeze the base, add what the recipe's stage trains and keep that in float32."""
    model.requires_grad_(False)
    name, fingerprint = recipe.model.name_or_path, base_fingerprint(model)
    build = {"align": _prepare_align, "tune": _prepare_tune, "full": _prepare_full}[recipe.train.stage]
    trained, hooks, parameters = build(model, recipe, fingerprint)
    if recipe.train.gradient_checkpointing:
        checkpoint_activations(trained.model)
    return Prepared(trained=trained, hooks=hooks, parameters=parameters, base=name, fingerprint=fingerprint)


def _prepare_align(model: PreTrainedModel, recipe: Recipe, fingerprint: str):
    module = projector(model)[1]
    module.requires_grad_(True)
    hold_in_float32(module, base_dtype(model))
    aligned = AlignedProjector(model, recipe.model.name_or_path, fingerprint)
    return (
        aligned,
        None,
        {"factors": 0, "routers": 0, "projector": sum(w.numel() for w in module.parameters()), "other": 0},
    )


def _prepare_full(model: PreTrainedModel, recipe: Recipe, fingerprint: str):
    parameters = unfreeze_language_model(model, with_projector=recipe.train.train_projector)
    return TunedModel(model, recipe.model.name_or_path, fingerprint), None, parameters


def _prepare_tune(model: PreTrainedModel, recipe: Recipe, fingerprint: str):
    dtype = base_dtype(model)
    adapted = adapt(model, recipe)
    for module in saved_modules(adapted):
        hold_in_float32(module, dtype)
    hooks = RoutingHooks(auxiliary_loss=auxiliary_loss, routers=learning_routers(adapted))
    return TunedAdapter(adapted), hooks, trainable_breakdown(adapted)


def is_main_process() -> bool:
    """True in a single process and in process zero of a distributed launch, also before that is initialised."""
    return int(os.environ.get("RANK", "0")) == 0
