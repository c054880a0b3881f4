"""Samples as tensors: token ids, labels, the prompt mask, pictures, task numbers.

Legend: B samples in a batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from mixtune.config import near
from mixtune.data.conversation import render
from mixtune.data.packing import pack, plan_rows
from mixtune.data.pictures import join_pictures
from mixtune.data.sample import DataError, ImageRef, Sample, SampleError, image_size, load_image
from mixtune.data.tokens import IGNORED, TOKEN_TYPES, Pictures, Tokens, TokenWriter

SEQUENCES = {
    "input_ids": None, "labels": IGNORED, "prompt_mask": 0, "attention_mask": 0, **dict.fromkeys(TOKEN_TYPES, 0)
}  # fmt: skip
"""Tensors with one entry a token, and what fills them up (None: the tokenizer's padding token)."""


class Encoder:
    """Turns one sample into tensors with the processor that will serve the model.

    All turns of the assistant are supervised, each with the special token that ends it;
    where the template ends the last answer with none, the tokenizer's end token is
    added. Token ids of a prompt are those that generation sees.
    """

    def __init__(self, processor: Any, max_length: int = 1024):
        self.processor = processor
        self.max_length = max_length
        self._writer = TokenWriter(processor)

    def encode(self, sample: Sample) -> dict[str, Tensor]:
        """A sample as `input_ids`, `labels` (-100 where not supervised) and `prompt_mask` (bool, true before the
        first supervised token), each [T], with the token types of models that take them (`TokenWriter.types`) and
        what the image processor gives (`pixel_values`, images first).

        DataError names the origin: more than `max_length` tokens, images that cannot be read, image tokens
        that do not match the images, a template that the prompt cannot be told from.
        """
        pictures = self._pictures(sample)
        tokens = self._tokens(sample, pictures)
        supervised = torch.tensor(tokens.supervised)
        ids = torch.tensor(tokens.ids)
        prompt = torch.arange(len(ids)) < int(supervised.int().argmax())
        labels = torch.where(supervised, ids, IGNORED)
        types = self._writer.types(tokens)
        return {"input_ids": ids, "labels": labels, "prompt_mask": prompt, **types, **pictures.tensors}

    def encode_prompt(self, sample: Sample) -> dict[str, Tensor]:
        """`input_ids`, token types and pictures of what comes before the last answer, with the generation prompt."""
        pictures = self._pictures(sample)
        rendered = render(self.processor, sample, prompt=True)
        tokens = self._writer.write(rendered, pictures.ids, sample.origin)
        self._check_length(sample, len(tokens.ids), 0)
        return {"input_ids": torch.tensor(tokens.ids), **self._writer.types(tokens), **pictures.tensors}

    def measure(self, sample: Sample) -> int:
        """Number of tokens of `encode(sample)`, from its text and image sizes. DataError as there."""
        sizes = [self._at(sample, image_size, ref) for ref in sample.images]
        rows = [self._writer.blank(size) for size in sizes]
        return len(self._tokens(sample, Pictures(rows, {})).ids)

    def _tokens(self, sample: Sample, pictures: Pictures) -> Tokens:
        tokens = self._writer.write(render(self.processor, sample), pictures.ids, sample.origin)
        if not any(tokens.supervised):
            raise SampleError(sample.origin, "messages", "the answers have no tokens to learn from")
        self._check_length(sample, len(tokens.ids), sum(tokens.supervised))
        return tokens

    def _pictures(self, sample: Sample) -> Pictures:
        return self._writer.pictures([self._at(sample, load_image, ref) for ref in sample.images])

    @staticmethod
    def _at(sample: Sample, read: Any, ref: ImageRef) -> Any:
        try:
            return read(ref)
        except DataError as error:
            raise SampleError(sample.origin, "images", str(error)) from error

    def _check_length(self, sample: Sample, length: int, answers: int) -> None:
        if length <= self.max_length:
            return
        field = "answer" if answers > self.max_length else "messages"
        reason = f"{length} tokens (answers {answers}) are more than data.max_length {self.max_length}"
        raise SampleError(sample.origin, field, f"{reason}; raise data.max_length or shorten the sample")


class Collator:
    """Samples (or what `Encoder.encode` gave for them) as one padded batch.

    `task_names` gives the number of each task. `padding_side` "right" is for training, "left" for generation. `packed`
    puts the samples of a batch side by side into few rows instead, as many as `plan_rows` finds cheapest for `width`;
    they are in another order then.
    """

    def __init__(
        self,
        encoder: Encoder,
        task_names: Sequence[str],
        padding_side: Literal["right", "left"] = "right",
        *,
        packed: bool = False,
        width: int | None = None,
    ):
        tokenizer = encoder.processor.tokenizer
        found = (tokenizer.pad_token_id, tokenizer.eos_token_id)
        self.encoder = encoder
        self.padding_side, self.packed, self.width = padding_side, packed, width
        self.pad_id = next((number for number in found if number is not None), 0)
        self.task_numbers = {name: number for number, name in enumerate(task_names)}

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """A batch of `input_ids`, `attention_mask`, `labels` and `prompt_mask` (bool,
        false on padding) [B, T], `task_ids` [B] and the pictures of all samples in
        order. DataError for an unknown task, or from `encode`. Packed: see `pack`.
        """
        return self.batch([self.encoder.encode(sample) for sample in samples], samples)

    def prompts(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """The same of `Encoder.encode_prompt`: no labels; the whole prompt is in `prompt_mask`."""
        encoded = [self.encoder.encode_prompt(sample) for sample in samples]
        masks = [{"prompt_mask": torch.ones_like(one["input_ids"], dtype=torch.bool)} for one in encoded]
        return self.batch([one | mask for one, mask in zip(encoded, masks, strict=True)], samples)

    def batch(self, encoded: Sequence[dict[str, Tensor]], samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Pad and stack encoded samples, or pack them; pictures are joined as `join_pictures` does."""
        task_ids = torch.tensor([self._task_number(sample) for sample in samples])
        if self.packed:
            plan = plan_rows([len(each["input_ids"]) for each in encoded], self.width)
            order = [number for row in plan for number in row]
            return {**pack(encoded, plan, self.pad_id), "task_ids": task_ids[order]}
        rows = [{**one, "attention_mask": torch.ones_like(one["input_ids"])} for one in encoded]
        names = dict.fromkeys(name for row in rows for name in row)
        batch = {name: self._joined(name, [row[name] for row in rows if name in row]) for name in names}
        return {**batch, "task_ids": task_ids}

    def _joined(self, name: str, tensors: list[Tensor]) -> Tensor:
        if name not in SEQUENCES:
            return join_pictures(tensors)
        filler = self.pad_id if SEQUENCES[name] is None else SEQUENCES[name]
        longest = max(len(row_T) for row_T in tensors)
        padded = []
        for row_T in tensors:
            missing = longest - len(row_T)
            sides = (0, missing) if self.padding_side == "right" else (missing, 0)
            padded.append(pad(row_T, sides, value=filler))
        return torch.stack(padded)

    def _task_number(self, sample: Sample) -> int:
        if sample.task not in self.task_numbers:
            hint = near(sample.task, self.task_numbers)
            raise SampleError(sample.origin, "task", f"'{sample.task}' is no task of this run{hint}")
        return self.task_numbers[sample.task]
