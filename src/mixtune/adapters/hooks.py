"""What a model that carries a mixture does around each forward: open the scope, close it, hand over what came out.

One `ModelHooks` a model, found in the model's `__dict__` under `ATTRIBUTE`, so that copies of the model have their own.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from mixtune.adapters.families import picture_tokens
from mixtune.adapters.layer import MixtureLinear
from mixtune.adapters.loading import check_loaded
from mixtune.adapters.replay import unwrap_checkpointing, wrap_checkpointing
from mixtune.routing.auxiliary import AuxiliaryLoss
from mixtune.routing.cache import adopt, filled, kept_by
from mixtune.routing.generating import GenerationPrompt
from mixtune.routing.prompts import BatchFacts
from mixtune.routing.scope import RoutingScope, ScopeHolder

ATTRIBUTE = "_mixtune_hooks"
OWN_KEYS = ("prompt_mask", "attended_mask", "task_ids", "sample_weights")


class ModelHooks:
    """State and hooks of one model.

    holder: shared with the model's layers. generation: the prompt of the `generate` that is running. recorders: open
    `record_routing` contexts. auxiliary: loss of the forward just done, until it is taken or the next forward opens.
    unchecked: adapters with settings from a file whose tensors nobody has looked at yet.
    """

    def __init__(self, model: nn.Module) -> None:
        self.holder = ScopeHolder()
        self.generation: GenerationPrompt | None = None
        self.recorders: list[Any] = []
        self.auxiliary: Tensor | None = None
        self.layers: list[MixtureLinear] = []
        self.installed = False
        self.unchecked: set[str] = set()
        self._instances = self._random = self._wanted = False
        self._names = tuple(inspect.signature(type(model).forward).parameters)[1:]
        self._checkpointed: list[nn.Module] = []
        self._pictures = picture_tokens(model)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes over: not the loss of a forward that only the original has made."""
        return {**self.__dict__, "auxiliary": None}

    @classmethod
    def of(cls, model: nn.Module) -> ModelHooks:
        """The hooks of `model`, made if it has none yet (not installed then)."""
        if ATTRIBUTE not in model.__dict__:
            model.__dict__[ATTRIBUTE] = cls(model)
        return model.__dict__[ATTRIBUTE]

    @classmethod
    def find(cls, model: nn.Module) -> ModelHooks:
        """The hooks of `model`, or of the adapted model inside it. Raises ValueError if there is none."""
        for module in model.modules():
            if ATTRIBUTE in module.__dict__:
                return module.__dict__[ATTRIBUTE]
        raise ValueError(
            f"{type(model).__name__} carries no mixture; make one with get_peft_model(model, MixtureConfig())"
        )

    def install(self, model: nn.Module) -> None:
        """Hook `model`, once, and look up its layers again (they are looked up here so that no forward has to)."""
        modules = list(model.modules())
        self.layers = [module for module in modules if isinstance(module, MixtureLinear)]
        plans = [plan for layer in self.layers for plan in layer.mixture_plan.values()]
        self._instances = any(plan.instance for plan in plans)
        self._random = any(plan.config.random_routing for plan in plans)
        text = any(plan.instance and plan.config.pooling == "text" for plan in plans)
        if text and not self._pictures and getattr(model.config, "vision_config", None) is not None:
            raise ValueError(
                f"pooling: 'text' needs to know which tokens stand for pictures, but the configuration of "
                f"{type(model).__name__} names none (image_token_id); use pooling 'prompt'"
            )
        self._checkpointed = [module for module in modules if hasattr(module, "gradient_checkpointing")]
        if not self.installed:
            model.register_forward_pre_hook(self.open, with_kwargs=True)
            model.register_forward_hook(self.close, with_kwargs=True, always_call=True)
            self.installed = True

    def remove(self, model: nn.Module) -> None:
        """Leave `model` as it was before `install`."""
        for hooks in (model._forward_pre_hooks, model._forward_hooks):
            for number in [number for number, hook in hooks.items() if getattr(hook, "__self__", None) is self]:
                for table in (hooks, model._forward_pre_hooks_with_kwargs, model._forward_hooks_with_kwargs,
                              model._forward_hooks_always_called):  # fmt: skip
                    table.pop(number, None)
        unwrap_checkpointing(self._checkpointed)
        model.__dict__.pop(ATTRIBUTE, None)

    def routes_instances(self) -> bool:
        """Whether an adapter that is active and enabled routes instances, so that selections have to be kept."""
        return any(
            not layer._disable_adapters and name in layer.mixture_plan and layer.mixture_plan[name].instance
            for layer in self.layers
            for name in layer.active_adapters
        )

    def open(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """Forward pre-hook: take our own keyword arguments out and open the scope."""
        if getattr(model, "_is_replica", False):
            raise ValueError("nn.DataParallel shares one scope between threads; use DistributedDataParallel (torchrun)")
        given = {key: kwargs[key] for key in OWN_KEYS if key in kwargs}
        kwargs = {key: value for key, value in kwargs.items() if key not in OWN_KEYS} if given else kwargs
        inputs = {**dict(zip(self._names, args, strict=False)), **kwargs}
        if model.training:
            wrap_checkpointing(self._checkpointed, self.holder)
        refuse_adapter_names(kwargs)
        for adapter in sorted(self.unchecked):
            check_loaded(model, adapter)
            self.unchecked.discard(adapter)
        self._drop_auxiliary()
        cache = inputs.get("past_key_values") if self._instances else None
        continues = bool(kept_by(cache)) or filled(cache) > 0
        prompt = self.generation
        if prompt is not None and not continues and not prompt.begins(inputs.get("input_ids")):
            prompt = None  # somebody else's forward, run while `generate` is running
        learning = model.training and torch.is_grad_enabled()
        whole = learning and not self._gathered_later()
        self.holder.scope = RoutingScope(
            facts=BatchFacts.of(inputs, given, prompt, self._pictures),
            cache=cache,
            continues=continues,
            training=model.training,
            learning=learning,
            whole=whole,
            casts=self.holder.casts if whole else None,
            recording=bool(self.recorders),
            auxiliary=AuxiliaryLoss(),  # a default made by a class of ours would break a compiled graph
            seed=self._seed(),
        )
        return args, kwargs

    def _gathered_later(self) -> bool:
        """Whether parameters lie in shards (FSDP) before the forward: whole copies of them are not to be kept then."""
        if torch.compiler.is_compiling() or not self.layers:
            return True
        last = self.layers[-1]
        return any(type(bank) is not nn.Parameter for adapter in last.mixture_plan for bank in last.banks(adapter))

    def take_auxiliary(self) -> Tensor | None:
        """Hand over the auxiliary loss of the forward just done, once."""
        loss, self.auxiliary = self.auxiliary, None
        self._wanted = True
        return loss

    def _drop_auxiliary(self) -> None:
        """Forget a loss that was not taken; the first time, say what that means."""
        if self.auxiliary is not None and self.auxiliary.requires_grad and not self._wanted:
            self._wanted = True
            warnings.warn(
                "the mixture's auxiliary loss (router_aux_loss_coef) is not part of the loss: nobody took it after a "
                "training forward. Use mixtune.training.routed.RoutedTrainer (for TRL mixtune.training.sft."
                "RoutedSFTTrainer), or add mixtune.auxiliary_loss(model) to your loss",
                stacklevel=2,
            )
        self.auxiliary = None

    def close(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Forward hook, called after an exception too (without output then): close the scope, pass on its results."""
        scope, self.holder.scope = self.holder.scope, None
        if scope is None:
            return
        if output is not None:
            self._pass_on(scope, output)
        scope.forget()

    def _pass_on(self, scope: RoutingScope, output: Any) -> None:
        if scope.keep:
            for cache in _caches(scope.cache, output):
                adopt(cache, {key: scope.made[key] for key in scope.keep})
        self.auxiliary = scope.auxiliary.total()
        if scope.recorded:
            for recorder in self.recorders:
                recorder.add(scope)

    def _seed(self) -> int:
        """A fresh number from torch's generator (which trainers save and restore) if anything is routed at random."""
        return int(torch.randint(1 << 62, ()).item()) if self._random else 0


def refuse_adapter_names(given: dict[str, Any]) -> None:
    """Raise ValueError if a call's keyword arguments ask for another adapter for each sample (peft's mixed batches)."""
    if given.get("adapter_names") is not None:
        raise ValueError(
            "adapter_names: a batch goes through one choice of adapters; call set_adapter() and run the samples of "
            "each adapter as a batch of their own"
        )


def _caches(given: Any, output: Any) -> list[Cache]:
    """The KV caches this forward filled: the one it was given, and the one it returned if that is another."""
    values = output.values() if isinstance(output, dict) else output if isinstance(output, tuple) else ()
    found = [each for each in (given, *values) if isinstance(each, Cache)]
    return list({id(cache): cache for cache in found}.values())
