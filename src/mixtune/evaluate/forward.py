"""The shared prompt pass and its continuations.

Legend: B samples, T prompt tokens (left-padded), N rows (a sample with one of its continuations), L
continuation tokens, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixtune.data.pictures import join_pictures
from mixtune.data.tokens import TOKEN_TYPES

Model: TypeAlias = Any  # a transformers model, bare or inside peft


@dataclass(frozen=True, kw_only=True)
class PromptPass:
    """What one forward over the prompts leaves: the KV ``cache`` (a mixture's
    selections move with it), the float32 next-token ``logits_BV``, the attention
    ``mask_BT`` and the position ``next_B`` of the first answer token.
    """

    cache: Any
    logits_BV: Tensor
    mask_BT: Tensor
    next_B: Tensor


@contextmanager
def precise_head(model: Model) -> Iterator[None]:
    """Within the block the output head computes in float32 from contiguous inputs.

    Why: bfloat16 logits between 16 and 32 lie 1/8 apart, so options would tie and the order in which they are listed
    would decide; and a linear over the strided view that ``logits_to_keep`` makes copies the whole head for every
    sample (measured with 32 samples and 49,152 tokens on two cores: 5,400 ms against 14 ms). A head that is not a
    plain linear (it carries an adapter, say) keeps its dtype and only gets contiguous inputs.
    """
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear:
        hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(), *inputs[1:]))
        try:
            yield
        finally:
            hook.remove()
        return
    weight_VD, bias_V = head.weight.float(), None if head.bias is None else head.bias.float()
    head.__dict__["forward"] = lambda hidden_BTD: F.linear(hidden_BTD.float().contiguous(), weight_VD, bias_V)
    try:
        yield
    finally:
        del head.__dict__["forward"]


def run_prompts(model: Model, prompts: Sequence[dict[str, Any]], pad_id: int) -> PromptPass:
    """One forward over ``prompts`` as ``Encoder.encode_prompt`` gives them (``input_ids`` and perhaps more), padded on
    the left.

    Positions are counted over attended tokens, so that a sample has the same ones alone and in any batch. A model with
    multimodal rotary positions works them out, and says by how much they lag behind the number of tokens.
    """
    device, dtype = model.device, model.dtype
    ids = [torch.as_tensor(prompt["input_ids"], dtype=torch.long).reshape(-1) for prompt in prompts]
    longest = max(len(row) for row in ids)
    ids_BT = _padded_left(ids, longest, pad_id)
    mask_BT = _padded_left([torch.ones_like(row) for row in ids], longest, 0)
    given = _besides_ids(prompts, longest, dtype)
    rotary = _rotary(model)
    if rotary is None:
        given["position_ids"] = (mask_BT.cumsum(-1) - 1).clamp(min=0)
    else:
        rotary.rope_deltas = None  # what it remembers is of another batch
    output = model(
        input_ids=ids_BT.to(device),
        attention_mask=mask_BT.to(device),
        use_cache=True,
        logits_to_keep=1,
        **{name: value.to(device) for name, value in given.items()},
    )
    lag = None if rotary is None else rotary.rope_deltas
    next_B = mask_BT.sum(-1).to(device)
    return PromptPass(
        cache=output.past_key_values,
        logits_BV=output.logits[:, -1].float(),
        mask_BT=mask_BT.to(device),
        next_B=next_B if lag is None else next_B + lag[:, 0].to(device),
    )


def _rotary(model: Model) -> Any:
    """The module that gives each token three positions (Qwen's multimodal rotary ones); None if there is none."""
    return next((module for module in model.modules() if hasattr(module, "get_rope_index")), None)


def _padded_left(rows: Sequence[Tensor], length: int, filler: int) -> Tensor:
    return torch.stack([F.pad(row, (length - len(row), 0), value=filler) for row in rows])


def _besides_ids(prompts: Sequence[dict[str, Any]], length: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Token types [B, T] and pictures of a batch, numbers in the model's dtype."""
    found = {}
    for name in dict.fromkeys(name for prompt in prompts for name in prompt if name != "input_ids"):
        rows = [prompt[name] for prompt in prompts if prompt.get(name) is not None]
        if rows:
            found[name] = _padded_left(rows, length, 0) if name in TOKEN_TYPES else join_pictures(rows)
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in found.items()}


def select_rows(prompt: PromptPass, rows_N: Tensor) -> PromptPass:
    """A copy of the prompt pass with row n taken from sample ``rows_N[n]``; the original stays as it was."""
    # Selecting makes new keys and values: a copy of all prompts' before would be thrown away at once.
    layers = getattr(prompt.cache, "layers", ())
    kept = [getattr(layer, name, None) for layer in layers for name in ("keys", "values")]
    cache = copy.deepcopy(prompt.cache, {id(tensor): tensor for tensor in kept if tensor is not None})
    cache.batch_select_indices(rows_N)
    return PromptPass(
        cache=cache,
        logits_BV=prompt.logits_BV[rows_N],
        mask_BT=prompt.mask_BT[rows_N],
        next_B=prompt.next_B[rows_N],
    )


def continue_prompts(model: Model, prompt: PromptPass, ids_NL: Tensor, mask_NL: Tensor) -> tuple[PromptPass, Tensor]:
    """Forward of the next L tokens of every row after its cache, right-padded where ``mask_NL`` is 0.

    Returns the pass one step on (its cache is the same object, grown) and the float32 logits ``[N, L, V]``.
    """
    length = ids_NL.shape[1]
    mask_NT = torch.cat([prompt.mask_BT, mask_NL.to(prompt.mask_BT)], dim=1)
    positions_NL = prompt.next_B[:, None] + torch.arange(length, device=ids_NL.device)
    output = model(
        input_ids=ids_NL,
        attention_mask=mask_NT,
        position_ids=positions_NL if _rotary(model) is None else positions_NL.expand(3, -1, -1),
        past_key_values=prompt.cache,
        use_cache=True,
    )
    logits_NLV = output.logits.float()
    grown = PromptPass(
        cache=output.past_key_values,
        logits_BV=logits_NLV[:, -1],
        mask_BT=mask_NT,
        next_B=prompt.next_B + length,
    )
    return grown, logits_NLV
