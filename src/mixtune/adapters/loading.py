"""An adapter is loaded whole or not at all: missing, unexpected and misshapen tensors are errors that name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from peft.tuners.tuners_utils import _filter_state_dict_by_key_prefixes, _get_tuner_state_dict_key_prefixes
from torch import Tensor, nn

from mixtune.adapters.layer import MixtureLinear

PEFT_PREFIX = "base_model.model."
SHOWN = 8


def check_tensors(model: nn.Module, adapter: str, tensors: Mapping[str, Tensor]) -> None:
    """Compare `tensors`, keyed like the model's state dict, with what `adapter` in `model` needs.

    Raises ValueError that lists what is missing, unexpected or of another shape.
    """
    state = model.state_dict()
    prefixes = _get_tuner_state_dict_key_prefixes(model, adapter_name=adapter)
    needed = _filter_state_dict_by_key_prefixes(state, prefixes)
    given = {_model_key(key, state): tensor for key, tensor in tensors.items()}
    wrong = [f"missing: {key}" for key in needed if key not in given]
    wrong += [f"unexpected: {key}" for key in given if key not in state]
    wrong += [
        f"wrong shape: {key}: expected {list(state[key].shape)}, found {list(tensor.shape)}"
        for key, tensor in given.items()
        if key in state and state[key].shape != tensor.shape
    ]
    if wrong:
        raise ValueError(f"adapter {adapter!r}: its file does not fit this model\n" + _listed(wrong))


def mark_unloaded(layer: MixtureLinear, adapter: str) -> None:
    """Fill the parameters of `adapter`, which a file is about to supply, with NaN, so that one left out is noticed.

    transformers' loader only warns about a tensor that is missing, and would draw it at random.
    """
    for name in layer.adapter_layer_names:
        modules = getattr(layer, name)
        for parameter in modules[adapter].parameters() if adapter in modules else ():
            parameter._is_hf_initialized = True
            if not parameter.is_meta:
                nn.init.constant_(parameter, torch.nan)


def check_loaded(layers: Iterable[MixtureLinear]) -> None:
    """Raise ValueError, naming them, if parameters marked by `mark_unloaded` were never loaded."""
    missing = [
        f"missing: {plan.name}.{name}.{adapter}"
        for layer in layers
        for adapter, plan in layer.mixture_plan.items()
        for name in layer.adapter_layer_names
        if adapter in getattr(layer, name)
        and any(bool(parameter.isnan().any()) for parameter in getattr(layer, name)[adapter].parameters())
    ]
    if missing:
        raise ValueError("the adapter's file lacks tensors (or holds NaN)\n" + _listed(missing))


def _model_key(key: str, state: Mapping[str, Tensor]) -> str:
    # Without a PeftModel around it the model's names lack the prefix that files have.
    short = key.removeprefix(PEFT_PREFIX)
    return short if key not in state and short in state else key


def _listed(lines: list[str]) -> str:
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join(f"  {line}" for line in (*lines[:SHOWN], *more))
