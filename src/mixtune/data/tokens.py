"""Rendered conversations as token ids, with the ids that stand for images put in and the answers marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mixtune.data.conversation import Rendered
from mixtune.data.pictures import join_pictures
from mixtune.data.sample import DataError, SampleError

Span = tuple[int, int]
IGNORED = -100
TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")
TEXT_OUTPUTS = ("input_ids", "attention_mask", "labels", *TOKEN_TYPES)
# Processors that write a whole prompt around an image, and whose token_type_ids are 1 on the answer, not on images.
MARK_ANSWERS = ("PaliGemmaProcessor",)


@dataclass(frozen=True)
class Tokens:
    """Token ids and, for each, whether it is learnt."""

    ids: list[int]
    supervised: list[bool]


@dataclass(frozen=True)
class Framed:
    """Token ids of an image, and the plain text that its processor sets it off with (Gemma 3: blank lines)."""

    before: str
    ids: list[int]
    after: str


@dataclass(frozen=True)
class Pictures:
    """For each image the token ids that stand for it, and the tensors of all images together."""

    ids: list[list[int]]
    tensors: dict[str, Tensor]


class TokenWriter:
    """Tokenizes rendered text with one processor.

    The text is tokenized with one placeholder token an image, and each is then replaced by the ids that the processor
    itself writes for that image. So positions in the text are known, whatever an image turns into. Plain text that the
    processor puts around an image is tokenized with the text, since its new lines may melt into those of the text.
    """

    def __init__(self, processor: Any):
        tokenizer: Any = getattr(processor, "tokenizer", None)
        if not getattr(tokenizer, "is_fast", False):
            kind = type(tokenizer).__name__
            raise DataError(f"processor: its tokenizer ({kind}) gives no positions in the text; a fast one is needed")
        self.processor, self.tokenizer = processor, tokenizer
        self.image_token = getattr(processor, "image_token", None)
        self.image_id: int = tokenizer.convert_tokens_to_ids(self.image_token) if self.image_token else -1
        added = tokenizer.added_tokens_decoder.items()
        specials = {number for number, token in added if token.special} | set(tokenizer.all_special_ids)
        never = {self.image_id, tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id}
        self._ends = (specials - never) | {tokenizer.eos_token_id}  # eos may double as another of them
        self._specials = specials | {self.image_id}
        self._blanks: dict[tuple[int, int], list[int]] = {}
        self._marks_answers = type(processor).__name__ in MARK_ANSWERS

    def pictures(self, images: Sequence[Image.Image]) -> Pictures:
        """What the processor makes of the images, one at a time: ids of their tokens, and tensors joined."""
        made = [self._picture(image) for image in images]
        names = dict.fromkeys(name for _, tensors in made for name in tensors)
        joined = {name: join_pictures([tensors[name] for _, tensors in made]) for name in names}
        return Pictures([ids for ids, _ in made], joined)

    def blank(self, size: tuple[int, int]) -> list[int]:
        """Token ids of an image of this width and height, remembered: they do not depend on what it shows."""
        if size not in self._blanks:
            self._blanks[size] = self._picture(Image.new("RGB", size))[0]
        return self._blanks[size]

    def types(self, tokens: Tokens) -> dict[str, Tensor]:
        """What the model takes besides ids and gives each token a type, by name, each [T]: 1 on the tokens that its
        processor marks as an image's, or from the first supervised token on (MARK_ANSWERS); empty for most models.
        """
        if self._marks_answers:
            prompt = tokens.supervised.index(True) if any(tokens.supervised) else len(tokens.ids)
            return {TOKEN_TYPES[0]: (torch.arange(len(tokens.ids)) >= prompt).long()}
        ids = torch.tensor(tokens.ids)
        return {name: torch.isin(ids, torch.tensor(marked)).long() for name, marked in self._image_types.items()}

    @cached_property
    def _image_types(self) -> dict[str, list[int]]:
        """The token types that the processor gives, and the ids of the tokens it marks in an image."""
        if self.image_token is None:
            return {}
        made = self._process(Image.new("RGB", (32, 32)))
        given = {name: made[name][0].bool() for name in TOKEN_TYPES if name in made}
        return {name: made["input_ids"][0][mask].unique().tolist() for name, mask in given.items() if mask.any()}

    def _process(self, image: Image.Image) -> Any:
        return self.processor(text=[self.image_token], images=[image], return_tensors="pt", add_special_tokens=False)

    def _picture(self, image: Image.Image) -> tuple[list[int], dict[str, Tensor]]:
        if self.image_token is None:
            raise DataError(f"processor: {type(self.processor).__name__} has no image token; it cannot take images")
        made = self._process(image)
        ids = made["input_ids"][0].tolist()
        if self.image_id not in ids:
            raise DataError(f"processor: {type(self.processor).__name__} writes no {self.image_token!r} for an image")
        if self._marks_answers:
            ids = [number for number in ids if number == self.image_id]
        return ids, {name: value for name, value in made.items() if name not in TEXT_OUTPUTS}

    def write(self, rendered: Rendered, images: Sequence[list[int]], origin: str) -> Tokens:
        """Ids of the text up to its last supervised token; of a prompt, all of it.

        A turn is supervised up to the special token that ends it. Without one it ends with its last word,
        and after the last turn the tokenizer's end token is added, so that the model learns to stop.
        """
        framed = [self._framed(ids) for ids in images]
        ids, spans = self._tokenize(rendered, framed)
        written = ids.count(self.image_id)
        if written != len(images):
            reason = f"the chat template wrote {written} {self.image_token!r} token(s) for {len(images)} image(s)"
            raise SampleError(origin, "images", f"{reason}; it drops images, or a message holds that token")
        learnt, closed = [False] * len(ids), True
        if rendered.is_prompt:
            return self._with_images(Tokens(ids, learnt), framed)
        for turn in rendered.turns:
            closed = self._mark(learnt, ids, spans, turn, rendered.text)
        length = max((at + 1 for at, wanted in enumerate(learnt) if wanted), default=0)
        ids, learnt = ids[:length], learnt[:length]
        if not closed and length and self.tokenizer.eos_token_id is not None:
            ids, learnt = [*ids, self.tokenizer.eos_token_id], [*learnt, True]
        return self._with_images(Tokens(ids, learnt), framed)

    def _framed(self, ids: list[int]) -> Framed:
        """The ids of an image with the plain text at both ends taken off, where that text has these ids by itself."""
        special = [at for at, number in enumerate(ids) if number in self._specials]
        ends = ids[: special[0]], ids[special[-1] + 1 :]
        texts = [self.tokenizer.decode(end) if end else "" for end in ends]
        for text, end in zip(texts, ends, strict=True):
            if text and self.tokenizer(text, add_special_tokens=False)["input_ids"] != end:
                return Framed("", ids, "")
        return Framed(texts[0], ids[special[0] : special[-1] + 1], texts[1])

    def _mark(self, learnt: list[bool], ids: list[int], spans: list[Span], turn: Span, text: str) -> bool:
        """Mark one turn's tokens in `learnt`; whether a special token ends it."""
        start, end = turn
        inside = [at for at, (left, right) in enumerate(spans) if start <= left < right <= end]
        closing = [at for at in inside if ids[at] in self._ends]
        words = start + len(text[start:end].rstrip())
        for at in inside:
            learnt[at] = at <= closing[-1] if closing else spans[at][0] < words
        return bool(closing)

    def _tokenize(self, rendered: Rendered, images: Sequence[Framed]) -> tuple[list[int], list[Span]]:
        """Ids and character spans of the text.

        Tokenized whole, an answer's first word may melt into the end of its prompt. Where it does, the text
        is cut there, so that the prompt's ids are those that generation sees.
        """
        text = rendered.text
        whole = self._piece(text, (0, len(text)), images)
        starts = [start for start, _ in rendered.turns]
        prompts = {start: self._piece(text, (0, start), images)[0] for start in starts}
        cuts = [start for start in starts if whole[0][: len(prompts[start])] != prompts[start]]
        if not cuts:
            return whole
        edges = [0, *cuts, len(text)]
        pieces = [self._piece(text, edge, images) for edge in pairwise(edges)]
        return [one for ids, _ in pieces for one in ids], [span for _, spans in pieces for span in spans]

    def _piece(self, text: str, part: Span, images: Sequence[Framed]) -> tuple[list[int], list[Span]]:
        """Ids of a part of the text, plain text around images put in, and their spans in the whole."""
        bos, (left, right) = self.tokenizer.bos_token, part
        piece, places = self._set_off(text[left:right], images[text[:left].count(self.image_token or "\0") :])
        made = self.tokenizer(
            piece,
            add_special_tokens=left == 0 and not (bos and text.startswith(bos)),
            return_offsets_mapping=True,
            verbose=False,
        )
        return made["input_ids"], [(places[begin] + left, places[end] + left) for begin, end in made["offset_mapping"]]

    def _set_off(self, text: str, images: Sequence[Framed]) -> tuple[str, Sequence[int]]:
        """The text with its images set off, and for each position in it the position in `text`."""
        if not any(image.before or image.after for image in images):
            return text, range(len(text) + 1)
        token = str(self.image_token)
        out, *others = text.split(token)
        at, places = len(out), [*range(len(out))]
        for number, following in enumerate(others):
            image = images[number] if number < len(images) else Framed("", [], "")
            end = at + len(token)
            out += image.before + token + image.after + following
            places += [at] * len(image.before) + [*range(at, end)] + [end] * len(image.after)
            at = end + len(following)
            places += range(end, at)
        return out, [*places, len(text)]

    def _with_images(self, tokens: Tokens, images: Sequence[Framed]) -> Tokens:
        """Each placeholder token replaced by the ids of its image, none of them supervised."""
        ids: list[int] = []
        learnt: list[bool] = []
        following = iter(images)
        for number, wanted in zip(tokens.ids, tokens.supervised, strict=True):
            new = next(following).ids if number == self.image_id else [number]
            ids += new
            learnt += [wanted and number != self.image_id] * len(new)
        return Tokens(ids, learnt)
