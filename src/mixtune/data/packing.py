"""Several samples side by side in one row instead of one below the other: no padding is computed.

Legend: B samples, T tokens of a sample, N tokens of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mixtune.data.pictures import join_pictures
from mixtune.data.sample import DataError

PACKED = ("input_ids", "labels", "prompt_mask")


def pack(encoded: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Encoded samples as one row: `input_ids`, `labels` and `prompt_mask` [1, N], `position_ids` [1, N] that start
    again with every sample, and the pictures of all in order.

    There is no attention mask: transformers reads from the positions which tokens may see each other.
    Raises DataError for samples with other tensors of one entry a token (token types): their models number positions or
    look at neighbours in a way of their own.
    """
    lengths = [len(each["input_ids"]) for each in encoded]
    names = dict.fromkeys(name for each in encoded for name in each)
    others = [name for name in names if name.endswith("token_type_ids")]
    if others:
        raise DataError(
            f"data.packing: this model reads {', '.join(others)}, which packed rows cannot say; leave it off"
        )
    # A label at a sample's first token would be learnt from the sample before it.
    assert all(int(each["labels"][0]) < 0 for each in encoded)
    row = {name: torch.cat([each[name] for each in encoded])[None] for name in PACKED}
    row["position_ids"] = torch.cat([torch.arange(length) for length in lengths])[None]
    pictures = {name: [each[name] for each in encoded if name in each] for name in names if name not in PACKED}
    return row | {name: join_pictures(tensors) for name, tensors in pictures.items()}
