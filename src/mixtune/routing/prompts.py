"""Which positions of a batch are prompt: the only ones an instance is routed on (rule 1).

Shape suffixes: B instances, T positions of this forward, P positions of the prompt given to `generate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SEGMENT_KEYS = ("seq_idx", "cu_seq_lens_q", "cu_seq_lens_k")
IGNORED = -100


@dataclass(frozen=True)
class GenerationPrompt:
    """The prompt of a running `generate`: mask [B, P] is true where a position is prompt and not padding."""

    mask: Tensor

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


@dataclass(frozen=True, kw_only=True)
class BatchFacts:
    """What one call of the model says about its batch; masks are worked out when a layer asks, not before.

    shape: (B, T) of the inputs, None if the model takes no token ids. prompt_mask: [B, T] given by the collator.
    generation: set while `generate` runs.
    """

    shape: tuple[int, int] | None = None
    prompt_mask: Tensor | None = None
    attention_mask: Any = None
    labels: Tensor | None = None
    position_ids: Tensor | None = None
    task_ids: Tensor | None = None
    segments: bool = False
    generation: GenerationPrompt | None = None

    @classmethod
    def of(cls, inputs: Mapping[str, Any], given: Mapping[str, Any], generation: GenerationPrompt | None) -> BatchFacts:
        """Facts of a call with keyword arguments `inputs`; `given` holds prompt_mask and task_ids, if any."""
        tokens = inputs.get("input_ids")
        tokens = inputs.get("inputs_embeds") if tokens is None else tokens
        return cls(
            shape=None if tokens is None else tuple(tokens.shape[:2]),
            prompt_mask=given.get("prompt_mask"),
            attention_mask=inputs.get("attention_mask"),
            labels=inputs.get("labels"),
            position_ids=inputs.get("position_ids"),
            task_ids=given.get("task_ids"),
            segments=any(inputs.get(key) is not None for key in SEGMENT_KEYS),
            generation=generation,
        )

    def prompt_positions(self) -> Tensor | None:
        """Mask [B, T], true where an instance may be read for its routing; None means everywhere.

        In this order: given; seen by `generate`; before the first supervised token; attended. Raises ValueError for
        packed rows, for a given mask of the wrong shape, and for an attention mask that says nothing about positions.
        """
        self._refuse_packing()
        if self.prompt_mask is not None:
            if self.shape is not None and tuple(self.prompt_mask.shape) != self.shape:
                raise ValueError(
                    f"prompt_mask: shape {tuple(self.prompt_mask.shape)}, expected {self.shape} like the inputs"
                )
            return self.prompt_mask.bool()
        if self.shape is None:
            return None
        if self.generation is not None:
            return self.generation.expand(*self.shape)
        attended_BT = self.attended()
        if self.labels is None or tuple(self.labels.shape) != self.shape:
            return attended_BT
        before_BT = (self.labels != IGNORED).cumsum(1) == 0
        return before_BT if attended_BT is None else before_BT & attended_BT

    def attended(self) -> Tensor | None:
        """Mask [B, T], false on padding; None means no padding. Raises ValueError if that cannot be known."""
        if self.attention_mask is None:
            return None
        if not isinstance(self.attention_mask, Tensor) or self.attention_mask.dim() != 2:
            kind = getattr(self.attention_mask, "shape", type(self.attention_mask).__name__)
            raise ValueError(
                f"attention_mask: {kind} does not say which positions are padding; pass prompt_mask [B, T]"
            )
        length = self.shape[1] if self.shape else self.attention_mask.shape[1]
        return self.attention_mask[:, -length:].bool()

    def _refuse_packing(self) -> None:
        if self.segments or self._positions_restart():
            raise ValueError(
                "packed rows: several samples in one row cannot be routed one by one; "
                "pad them into rows of their own, or use a preset that routes tokens"
            )

    def _positions_restart(self) -> bool:
        position_ids = self.position_ids
        if self.generation is not None or self.shape is None or position_ids is None or position_ids.dim() != 2:
            return False
        falls = position_ids[:, 1:] <= position_ids[:, :-1]
        if isinstance(self.attention_mask, Tensor) and self.attention_mask.dim() == 2:
            attended_BT = self.attention_mask[:, -position_ids.shape[1] :].bool()
            falls = falls & attended_BT[:, 1:] & attended_BT[:, :-1]
        return bool(falls.any())
