"""Whether a model keeps samples apart that share a row: asked of the model itself, since its attention code decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mixtune.data import Encoder, Sample
from mixtune.data.packing import pack
from mixtune.data.sample import DataError
from mixtune.training.parts import vision_tower

APART = (
    0.1  # of the logits' standard deviation: rounding moves them by a hundredth in bfloat16, a stranger by all of it
)


@torch.no_grad()
def check_packing(model: Any, encoder: Encoder, samples: Sequence[Sample]) -> None:
    """Compare the logits of two samples packed into one row with those of each alone.

    Raises DataError, naming the attention code, if they differ: then tokens see those of the sample before.
    """
    encoded = [encoder.encode(sample) for sample in (samples[0], samples[-1])]
    was_training = model.training
    model.eval()
    try:
        together = _logits(model, pack(encoded))
        alone = torch.cat([_logits(model, pack([each])) for each in encoded])
    finally:
        model.train(was_training)
    apart = (together - alone).abs().max() / alone.std()
    if not apart <= APART:
        raise DataError(
            f"data.packing: with model.attn_implementation '{model.config._attn_implementation}' packed samples see "
            f"each other (their logits change by {float(apart):.2g} standard deviations); leave data.packing off"
        )


def _logits(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    place = next(vision_tower(model).parameters())
    inputs = {
        name: value.to(place.device, place.dtype if value.is_floating_point() else None)
        for name, value in batch.items()
        if name not in ("labels", "prompt_mask")
    }
    return model(**inputs, use_cache=False).logits[0].float()
