"""Whether a model keeps samples apart that share a row: asked of the model itself, since its attention code decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils.generic import is_flash_attention_requested

from mixtune.adapters.hooks import OWN_KEYS
from mixtune.data import Encoder, Sample
from mixtune.data.packing import pack
from mixtune.data.sample import DataError
from mixtune.training.parts import vision_tower

# In standard deviations of the logits, root mean square: on the pocket model in bfloat16 rounding moves them by 0.02 to
# 0.03 (single ones by 0.18), a stranger by 0.4 to 0.5.
APART = 0.1


def attention_width(model: Any) -> int | None:
    """Tokens of a row at which its attention costs as much as all else (`data.packing.plan_rows`); None for attention
    by samples (flash attention's kernels of variable length), which knows them in a single row only.

    The width of the hidden states stands for it: all else that a token costs grows with its square, its attention with
    the width times the row. On a CPU, at a width of 576, it was 400 (bfloat16, eager) to 2,300 (sdpa).
    """
    text = model.config.get_text_config()
    return None if is_flash_attention_requested(text) else int(text.hidden_size)


@torch.no_grad()
def check_packing(model: Any, encoder: Encoder, samples: Sequence[Sample]) -> None:
    """Compare the logits of two samples side by side, in rows as the run will have them, with those of each alone.

    Raises DataError, naming the attention code, if they differ: then tokens see those of the sample before.
    """
    encoded = [encoder.encode(sample) for sample in (samples[0], samples[-1])]
    rows = [[0, 1]] if attention_width(model) is None else [[0, 1], [1, 0]]
    was_training = model.training
    model.eval()
    try:
        together = _logits(model, pack(encoded, rows)).flatten(0, 1)
        alone = torch.cat([_logits(model, pack([encoded[number]]))[0] for row in rows for number in row])
    finally:
        model.train(was_training)
    apart = moved(together, alone)
    if not apart <= APART:
        raise DataError(
            f"data.packing: with model.attn_implementation '{model.config._attn_implementation}' packed samples see "
            f"each other (their logits change by {apart:.2g} standard deviations); leave data.packing off"
        )


def moved(logits: Tensor, before: Tensor) -> float:
    """Root mean square of the change in standard deviations of what was before; single ones are rounded far off."""
    return float((logits - before).square().mean().sqrt() / before.std())


def _logits(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    place = next(vision_tower(model).parameters())
    inputs = {
        name: value.to(place.device, place.dtype if value.is_floating_point() else None)
        for name, value in batch.items()
        if name != "labels" and name not in OWN_KEYS
    }
    return model(**inputs, use_cache=False).logits.float()
