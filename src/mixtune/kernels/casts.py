"""Banks in the dtype that is computed in, made once for all calls between which the banks do not change.

The banks are float32 and train; in a base of bfloat16 every forward would cast them, and every recomputation and every
micro-batch of one optimizer step would cast the same values again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixtune.kernels.decoding import made_of


class Lowered(NamedTuple):
    """A bank, to which the gradient goes, and its values in the base's dtype."""

    bank: Tensor
    low: Tensor


class Casts:
    """Copies of banks in another dtype by layer and adapter: no more than one of each bank.

    A copy is made again when its bank was changed, replaced or moved. A change that torch does not count (through
    `parameter.data`, by a fused optimizer) is not seen, so whoever keeps this lets go of it before parameters change.
    """

    def __init__(self) -> None:
        self.count = 0
        self._kept: dict[Any, tuple[Any, Tensor, Tensor]] = {}

    def lowered(self, key: Any, banks: tuple[Tensor, Tensor], dtype: torch.dtype) -> tuple[Any, Any]:
        """Both `banks` of `key` with their copies in `dtype`; as they are, if that is their own."""
        if banks[0].dtype == dtype:
            return banks
        now, kept = made_of(banks, dtype), self._kept.get(key)
        if kept is None or kept[0] != now:
            low_a, low_b = (bank.detach().to(dtype) for bank in banks)
            kept = self._kept[key] = (now, low_a, low_b)
            self.count += 1
        return Lowered(banks[0], kept[1]), Lowered(banks[1], kept[2])
