"""Samples as the checks take them, and the batches they are put in.

Shape suffixes: B samples, T tokens, P positions of a prompt, N tokens of an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixtune.data.pictures import join_pictures
from mixtune.data.tokens import IGNORED

Inputs = dict[str, Any]
Side = Literal["left", "right"]


class NotApplicableError(Exception):
    """A check says nothing about this model or these examples; its text is the reason."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One sample, unpadded, with its answer.

    inputs: what the model takes, a batch of one: `input_ids` [1, T], other tensors with one entry a token [1, T, ...]
    (`token_type_ids`, `mm_token_type_ids`), pictures as the processor gives them (`pixel_values`, `image_sizes`, ...).
    prompt_length: number of positions before the answer.

    Raises ValueError if input_ids is not [1, T], or if prompt or answer is empty.
    """

    inputs: dict[str, Tensor]
    prompt_length: int

    def __post_init__(self) -> None:
        ids = self.inputs.get("input_ids")
        if ids is None or ids.dim() != 2 or ids.shape[0] != 1:
            found = "none" if ids is None else list(ids.shape)
            raise ValueError(f"inputs: input_ids must be one row [1, T], found {found}")
        if not 0 < self.prompt_length < ids.shape[1]:
            raise ValueError(
                f"prompt_length: {self.prompt_length} of {ids.shape[1]} positions leaves no prompt or no answer"
            )

    @property
    def length(self) -> int:
        """T, the positions of prompt and answer."""
        return self.inputs["input_ids"].shape[1]

    @property
    def per_token(self) -> dict[str, Tensor]:
        """The inputs with one entry a token, [1, T, ...]; masks, labels and positions are made by the batch."""
        made = ("attention_mask", "labels", "position_ids", "prompt_mask")
        return {
            name: value
            for name, value in self.inputs.items()
            if name not in made
            and not name.startswith(("pixel", "image", "video"))
            and value.dim() >= 2
            and tuple(value.shape[:2]) == (1, self.length)
        }

    @property
    def pictures(self) -> dict[str, Tensor]:
        """The inputs that belong to the sample as a whole."""
        made = ("attention_mask", "labels", "position_ids", "prompt_mask")
        return {name: value for name, value in self.inputs.items() if name not in made and name not in self.per_token}

    @property
    def answer(self) -> Tensor:
        """Token ids of the answer, [N]."""
        return self.inputs["input_ids"][0, self.prompt_length :]

    def prompt(self) -> Row:
        """The prompt alone."""
        return Row(self, {name: value[:, : self.prompt_length] for name, value in self.per_token.items()})

    def whole(self) -> Row:
        """Prompt and answer."""
        return Row(self, self.per_token)

    def continued(self, tokens: Tensor) -> Row:
        """The prompt followed by `tokens` [N] in the place of the answer; what else is known of a token is as there."""
        found = {}
        for name, value in self.per_token.items():
            more = value[:, -1:].repeat_interleave(len(tokens), dim=1)
            more = tokens[None] if name == "input_ids" else more
            found[name] = torch.cat([value[:, : self.prompt_length], more], 1)
        return Row(self, found)


@dataclass(frozen=True)
class Row:
    """One row of a batch: an example's tokens, or some of them."""

    example: Example
    tokens: Mapping[str, Tensor]

    @property
    def length(self) -> int:
        """Number of its positions."""
        return self.tokens["input_ids"].shape[1]


def batch(rows: Sequence[Row], side: Side, pad_token_id: int, *, room: int = 0, labels: bool = True) -> Inputs:
    """Rows padded on `side` to the longest of them plus `room`, pictures joined in order, as a training batch has them.

    Gives `attention_mask` and, if wanted, `labels` (-100 in prompts and padding). Raises NotApplicableError if the
    pictures of different examples cannot be joined.
    """
    longest = max(row.length for row in rows) + room
    found: Inputs = {}
    for name in rows[0].tokens:
        filler = pad_token_id if name == "input_ids" else 0
        found[name] = torch.cat([_padded(row.tokens[name], longest, side, filler) for row in rows])
    ones = [torch.ones_like(row.tokens["input_ids"]) for row in rows]
    found["attention_mask"] = torch.cat([_padded(each, longest, side, 0) for each in ones])
    if labels:
        found["labels"] = torch.cat([_padded(labels_of(row), longest, side, IGNORED) for row in rows])
    return found | joined_pictures([row.example for row in rows])


def labels_of(row: Row) -> Tensor:
    """The row's token ids, -100 in its prompt, [1, T]."""
    labels = row.tokens["input_ids"].clone()
    labels[:, : row.example.prompt_length] = IGNORED
    return labels


def joined_pictures(examples: Sequence[Example]) -> Inputs:
    """The pictures of all examples in order. Raises NotApplicableError if their shapes do not go together."""
    names = dict.fromkeys(name for each in examples for name in each.pictures)
    try:
        return {
            name: join_pictures([each.pictures[name] for each in examples if name in each.pictures]) for name in names
        }
    except ValueError as error:
        raise NotApplicableError(f"the pictures of these examples do not go into one batch ({error})") from error


def positions(mask_BT: Tensor) -> Tensor:
    """Position of each token counted over attended tokens, [B, T], so that padding on the left shifts nothing."""
    return (mask_BT.cumsum(1) - 1).clamp_min(0)


def _padded(value: Tensor, length: int, side: Side, filler: int) -> Tensor:
    missing = length - value.shape[1]
    ends = (0, missing) if side == "right" else (missing, 0)
    return pad(value, (0, 0) * (value.dim() - 2) + ends, value=filler)
