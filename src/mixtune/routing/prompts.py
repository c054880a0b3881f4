"""Which positions of a batch are prompt: the only ones an instance is routed on (rule 1); and whose they are.

An instance is a row of the batch or, where several samples are packed into a row, one of its segments.

Shape suffixes: B rows, T positions of this forward, G segments of all rows, N = B·T.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixtune.routing.generating import GenerationPrompt

IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class BatchFacts:
    """What one call of the model says about its batch; masks are worked out when a layer asks, not before.

    shape: (B, T) of the inputs, None if the model takes no token ids. prompt_mask: [B, T] given by the collator.
    attended_mask: [B, T] given by the collator, false on padding; for packed rows, which have no attention mask.
    sample_weights: [B] or [G], how much each instance counts in an auxiliary loss per sample. seq_idx [B, T] and
    cu_seq_lens_q [G + 1]: transformers' own ways to say which samples share a row. generation: set while `generate`
    runs. tokens: [B, T] ids, None where embeddings are given; pictures: ids that stand for parts of pictures or videos.
    """

    shape: tuple[int, int] | None = None
    prompt_mask: Tensor | None = None
    attended_mask: Tensor | None = None
    attention_mask: Any = None
    labels: Tensor | None = None
    position_ids: Tensor | None = None
    task_ids: Tensor | None = None
    sample_weights: Tensor | None = None
    seq_idx: Tensor | None = None
    cu_seq_lens_q: Tensor | None = None
    generation: GenerationPrompt | None = None
    tokens: Tensor | None = None
    pictures: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        inputs: Mapping[str, Any],
        given: Mapping[str, Any],
        generation: GenerationPrompt | None,
        pictures: tuple[int, ...] = (),
    ) -> BatchFacts:
        """Facts of a call with keyword arguments `inputs`; `given` holds what is ours alone (`hooks.OWN_KEYS`)."""
        ids = inputs.get("input_ids")
        tokens = inputs.get("inputs_embeds") if ids is None else ids
        return cls(
            shape=None if tokens is None else tuple(tokens.shape[:2]),
            prompt_mask=given.get("prompt_mask"),
            attended_mask=given.get("attended_mask"),
            attention_mask=inputs.get("attention_mask"),
            labels=inputs.get("labels"),
            position_ids=inputs.get("position_ids"),
            task_ids=given.get("task_ids"),
            sample_weights=given.get("sample_weights"),
            seq_idx=inputs.get("seq_idx"),
            cu_seq_lens_q=inputs.get("cu_seq_lens_q"),
            generation=generation,
            tokens=ids,
            pictures=pictures,
        )

    def prompt_positions(self, owners_BT: Tensor | None = None) -> Tensor | None:
        """Mask [B, T], true where an instance may be read for its routing; None means everywhere.

        In this order: given; seen by `generate`; before the first supervised token of the row, or of each segment of
        `owners`; attended. Raises ValueError for a given mask of the wrong shape, for labels that leave an instance no
        prompt, and for an attention mask that says nothing about positions.
        """
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
        before_BT = _before_first(self.labels != IGNORED, owners_BT)
        before_BT = before_BT if attended_BT is None else before_BT & attended_BT
        _refuse_no_prompt(before_BT, self.labels, owners_BT)
        return before_BT

    def text_positions(self, prompt_BT: Tensor | None) -> Tensor | None:
        """The part of the prompt (None: everywhere) that is no picture; None means everywhere.

        Raises ValueError where embeddings are given instead of ids, which do not say what is a picture.
        """
        if not self.pictures:
            return prompt_BT
        if self.tokens is None:
            raise ValueError(
                "inputs_embeds: routers with pooling 'text' cannot tell pictures from text here; pass input_ids"
            )
        picture_BT = self.tokens == self.pictures[0]
        for token in self.pictures[1:]:
            picture_BT = picture_BT | (self.tokens == token)
        return ~picture_BT if prompt_BT is None else prompt_BT & ~picture_BT.to(prompt_BT.device)

    @property
    def prompt_is_known(self) -> bool:
        """Whether anything but the attention mask says where the prompt ends."""
        labelled = self.labels is not None and tuple(self.labels.shape) == self.shape
        return self.prompt_mask is not None or self.generation is not None or labelled

    def attended(self) -> Tensor | None:
        """Mask [B, T], false on padding; None means no padding. Raises ValueError if that cannot be known."""
        if self.attended_mask is not None:
            return self.attended_mask.bool()
        if self.attention_mask is None:
            return None
        if not isinstance(self.attention_mask, Tensor) or self.attention_mask.dim() != 2:
            kind = getattr(self.attention_mask, "shape", type(self.attention_mask).__name__)
            raise ValueError(
                f"attention_mask: {kind} does not say which positions are padding; pass one of [B, T], or prompt_mask "
                "[B, T] where instances are routed, and leave router_aux_loss_coef at 0 where tokens are"
            )
        length = self.shape[1] if self.shape else self.attention_mask.shape[1]
        return self.attention_mask[:, -length:].bool()

    def owners(self) -> Tensor | None:
        """Number of the segment that each position belongs to, long [B, T] from 0 to G - 1 in order; None where every
        row is one sample.

        From `seq_idx`, else `cu_seq_lens_q`, else where `position_ids` start again within a row. Raises ValueError if
        they do not fit the inputs.
        """
        if self.shape is None or self.generation is not None:
            return None
        starts_BT = self._starts()
        if starts_BT is None:
            return None
        starts_BT[:, 0] = True
        return starts_BT.flatten().cumsum(0).view(starts_BT.shape) - 1

    def _starts(self) -> Tensor | None:
        """True where a segment starts, [B, T] (position 0 aside); None without segments."""
        assert self.shape is not None
        if self.seq_idx is not None:
            if tuple(self.seq_idx.shape) != self.shape:
                raise ValueError(f"seq_idx: shape {tuple(self.seq_idx.shape)}, expected {self.shape} like the inputs")
            return _later(self.seq_idx[:, 1:] != self.seq_idx[:, :-1])
        if self.cu_seq_lens_q is not None:
            offsets, count = self.cu_seq_lens_q.long(), self.shape[0] * self.shape[1]
            if int(offsets[-1]) != count:
                raise ValueError(f"cu_seq_lens_q: ends at {int(offsets[-1])}, but the inputs have {count} positions")
            starts_N = torch.zeros(count, dtype=torch.bool, device=offsets.device)
            starts_N[offsets[:-1]] = True
            return starts_N.view(self.shape)
        return self._restarts()

    def _restarts(self) -> Tensor | None:
        assert self.shape is not None
        positions = self.position_ids
        if isinstance(positions, Tensor) and positions.dim() == 3 and positions.shape[0] == 4:
            positions = positions[0]  # Qwen's: the position in the text, then three that follow the picture
        if not isinstance(positions, Tensor) or positions.dim() != 2 or positions.shape[1] != self.shape[1]:
            return None
        positions = positions.expand(self.shape)
        falls = positions[:, 1:] <= positions[:, :-1]
        if isinstance(self.attention_mask, Tensor) and self.attention_mask.dim() == 2:
            attended_BT = self.attention_mask[:, -positions.shape[1] :].bool()
            falls = falls & attended_BT[:, 1:] & attended_BT[:, :-1]
        return _later(falls) if bool(falls.any()) else None


def _later(flags: Tensor) -> Tensor:
    """[B, T - 1] as [B, T]: nothing at position 0."""
    return torch.nn.functional.pad(flags, (1, 0), value=False)


def _before_first(marked_BT: Tensor, owners_BT: Tensor | None) -> Tensor:
    """True before the first marked position of each row, or of each segment."""
    if owners_BT is None:
        return marked_BT.cumsum(1) == 0
    marked_N, owners_N = marked_BT.flatten().long(), owners_BT.flatten()
    so_far_N = marked_N.cumsum(0)
    first_G = torch.searchsorted(owners_N, torch.arange(int(owners_N[-1]) + 1, device=owners_N.device))
    before_G = (so_far_N - marked_N)[first_G]
    return (so_far_N == before_G[owners_N]).view(marked_BT.shape)


def _refuse_no_prompt(prompt_BT: Tensor, labels_BT: Tensor, owners_BT: Tensor | None) -> None:
    """Raise ValueError if an instance has labels and no position before them; it would be routed on nothing.

    Not asked in a compiled graph, which cannot wait for the answer.
    """
    if torch.compiler.is_compiling():
        return
    supervised_BT = labels_BT != IGNORED
    if owners_BT is None:
        lacking = supervised_BT.any(1) & ~prompt_BT.any(1)
    else:
        owners_N, sums_2G = owners_BT.flatten(), torch.zeros(2, int(owners_BT[-1, -1]) + 1, device=prompt_BT.device)
        sums_2G.index_add_(1, owners_N, torch.stack([prompt_BT.flatten(), supervised_BT.flatten()]).float())
        lacking = (sums_2G[0] == 0) & (sums_2G[1] > 0)
    without = lacking.nonzero().flatten().tolist()
    if without:
        raise ValueError(
            f"labels: sample(s) {without} of the batch are supervised from their first token, so there is no prompt to "
            "route them on; set the prompt's labels to -100 (TRL: assistant_only_loss or prompt and completion "
            "columns), or pass prompt_mask"
        )
