"""The prompt that a running `generate` was given, which its first forward is routed on.

Shape suffixes: B rows, T positions of this forward, P positions of the prompt given to `generate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class GenerationPrompt:
    """The prompt of a running `generate`: mask [B, P] is true where a position is prompt and not padding.

    ids: its token ids [B, P]; None where it was given as embeddings.
    """

    mask: Tensor
    ids: Tensor | None = None

    def begins(self, tokens_BT: Any) -> bool:
        """Whether token ids begin with this prompt, row by row; those of beams do too. Unknown ones are taken to."""
        if self.ids is None or not isinstance(tokens_BT, Tensor):
            return True
        rows, length = self.ids.shape
        if tokens_BT.shape[0] % rows or tokens_BT.shape[1] < length:
            return False
        repeated = self.ids.repeat_interleave(tokens_BT.shape[0] // rows, dim=0)
        return torch.equal(tokens_BT[:, :length], repeated.to(tokens_BT.device))

    def expand(self, batch: int, length: int) -> Tensor:
        """The mask for a forward over `length` positions from the start, [batch, length]; what follows is answer.

        `generate` repeats each row for beams and returned sequences before the first forward, and only ever
        exchanges rows of one prompt. Raises ValueError if the forward cannot be one over this prompt.
        """
        rows, prompt = self.mask.shape
        if batch % rows or length < prompt:
            raise ValueError(
                f"generate: a forward over {batch} x {length} positions does not start with the prompt of "
                f"{rows} x {prompt}; a mixture is routed on the whole prompt at once"
            )
        mask_BP = self.mask.repeat_interleave(batch // rows, dim=0)
        return torch.nn.functional.pad(mask_BP, (0, length - prompt), value=False)
