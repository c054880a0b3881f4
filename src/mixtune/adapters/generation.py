"""`generate` of a model that carries a mixture: it notes the prompt before the library takes it apart, and refuses what
cannot be right.

Shape suffixes: B rows given to `generate`, P positions of their prompt.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mixtune.adapters.hooks import OWN_KEYS, ModelHooks
from mixtune.routing.cache import filled
from mixtune.routing.generating import GenerationPrompt

BATCHING = (
    "continuous batching packs strangers into one row, so a sample cannot be routed on its own prompt; "
    "use generate() with a padded batch"
)
# Option -> (value that is harmless, why any other is refused). METHODS D6 and D7 are what would go wrong.
REFUSED: dict[str, tuple[Any, str]] = {
    "prefill_chunk_size": (None, "a prompt read in chunks would be routed on its first chunk alone"),
    "guidance_scale": (1, "classifier-free guidance runs a second prompt that would be routed on its own"),
    "token_healing": (False, "the prompt is rewritten after its positions were noted"),
}


def bind_generate(model: nn.Module) -> None:
    """Put `routed_generate` in the place of `generate` on this one model, and refuse `generate_batch`."""
    if hasattr(model, "generate") and "generate" not in model.__dict__:
        model.__dict__["generate"] = partial(routed_generate, model)  # unlike a bound method, it can be pickled
    if hasattr(model, "generate_batch") and "generate_batch" not in model.__dict__:
        model.__dict__["generate_batch"] = partial(routed_generate_batch, model)


def unbind_generate(model: nn.Module) -> None:
    """Undo `bind_generate`."""
    for name, own in (("generate", routed_generate), ("generate_batch", routed_generate_batch)):
        if getattr(model.__dict__.get(name), "func", None) is own:
            del model.__dict__[name]


def routed_generate(self: Any, *args: Any, **kwargs: Any) -> Any:
    """The model's own `generate`, every answer written under the selection of its prompt (rule 2).

    Takes `prompt_mask` [B, P] and `task_ids` besides. Raises ValueError for options under which that cannot hold.
    """
    hooks = ModelHooks.of(self)
    given = {key: kwargs.pop(key) for key in OWN_KEYS if key in kwargs}
    generate = type(self).generate
    named = dict(zip(("inputs", "generation_config"), args, strict=False)) | kwargs
    outer = hooks.generation
    if not hooks.routes_instances() or (outer is not None and outer.begins(_ids(named))):
        return generate(self, *args, **kwargs)  # the second: a draft for the answer that is being written
    _refuse(self, named)
    hooks.generation = _prompt(self, named, given.get("prompt_mask"))
    try:
        return generate(self, *args, **kwargs)
    finally:
        hooks.generation = outer


def routed_generate_batch(self: Any, *args: Any, **kwargs: Any) -> Any:
    """The model's own `generate_batch` while no instance is routed; otherwise raises ValueError."""
    if ModelHooks.of(self).routes_instances():
        raise ValueError(f"generate_batch: {BATCHING}")
    return type(self).generate_batch(self, *args, **kwargs)


def _option(model: nn.Module, named: dict[str, Any], name: str) -> Any:
    """The value of a generation option: as an argument, in the given generation_config, or in the model's."""
    places = (named.get("generation_config"), getattr(model, "generation_config", None))
    values = [named.get(name), *(getattr(place, name, None) for place in places)]
    return next((value for value in values if value is not None), None)


def _refuse(model: nn.Module, named: dict[str, Any]) -> None:
    if _option(model, named, "cache_implementation") == "paged":
        raise ValueError(f"cache_implementation: 'paged': {BATCHING}")
    for name, (harmless, reason) in REFUSED.items():
        value = _option(model, named, name)
        if value is not None and value != harmless:
            raise ValueError(f"{name}: {value!r} cannot be used with a mixture: {reason}")


def _ids(named: dict[str, Any]) -> Any:
    """The token ids given to `generate`, under either of their names."""
    return named.get("inputs") if named.get("inputs") is not None else named.get("input_ids")


def _prompt(model: nn.Module, named: dict[str, Any], prompt_mask: Tensor | None) -> GenerationPrompt:
    """The prompt positions of this call."""
    ids, embedded = _ids(named), named.get("inputs_embeds")
    tokens = ids if embedded is None else embedded
    if tokens is None:  # the library starts from one beginning-of-text token
        return GenerationPrompt(torch.ones(1, 1, dtype=torch.bool))
    if filled(named.get("past_key_values")):  # goes on with the selections that the cache carries
        return GenerationPrompt(torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))
    mask = prompt_mask if prompt_mask is not None else named.get("attention_mask")
    if mask is None:
        mask = _without_padding(model, named, tokens)
    if mask.shape != tokens.shape[:2]:
        raise ValueError(f"prompt_mask: shape {tuple(mask.shape)}, expected {tuple(tokens.shape[:2])} like the inputs")
    return GenerationPrompt(mask.bool(), ids if embedded is None else None)


def _without_padding(model: nn.Module, named: dict[str, Any], tokens: Tensor) -> Tensor:
    """The attention mask that `generate` infers when it is given none: padding only if it cannot be an end of text."""
    pad, eos = _option(model, named, "pad_token_id"), _option(model, named, "eos_token_id")
    ends = eos if isinstance(eos, (list, tuple)) else [eos]
    everywhere = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    if tokens.dim() != 2 or pad is None or pad in ends:
        return everywhere
    return tokens != pad
