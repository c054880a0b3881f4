"""Examples for the checks: a few of the user's own samples, or random pictures with random questions."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from functools import partial
from typing import Any

from PIL import Image
from torch import Tensor

from mixtune.check.examples import Example
from mixtune.config import DataSettings, SourceSettings
from mixtune.data import Encoder, ImageRef, Message, Sample, read_samples
from mixtune.data.sample import PLACEHOLDER

LONGEST = 16_384  # tokens of one example; the encoder refuses more
ANSWER = 12  # tokens of an answer that are looked at; more would only take time
MADE = ("labels", "prompt_mask")
WORDS = (
    "what is the colour of this round thing on left how many small boxes are there and which one looks new or old "
    "near water under a green tree beside two red doors please name every animal you can see in short"
).split()


def examples_from(processor: Any, data: str | None, count: int) -> list[Example]:
    """`count` examples, encoded as in training: of the file `data`, or random ones. They differ in length if they can.

    Raises DataError for a file that cannot be read or holds an unreadable sample.
    """
    encoder = Encoder(processor, max_length=LONGEST)
    samples = random_samples(count) if data is None else spread(own_samples(data), count)
    return [encoded(encoder, sample) for sample in samples]


def own_samples(path: str) -> list[Sample]:
    """The samples of a file in any format that training reads."""
    return read_samples(DataSettings(sources=(SourceSettings(path=path),)))[0]


def spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """`count` samples from all over the file, which is often sorted by task, in its order."""
    if len(samples) <= count:
        return list(samples)
    return [samples[number * len(samples) // count] for number in range(count)]


def random_samples(count: int, seed: int = 0) -> list[Sample]:
    """`count` questions of growing length, each about a picture of its own; a pure function of `seed`."""
    dice = random.Random(seed)
    found = []
    for number in range(count):
        question = " ".join(dice.choices(WORDS, k=4 + 3 * number))
        answer = " ".join(dice.choices(WORDS, k=3 + number % 3))
        messages = (Message("user", f"{PLACEHOLDER}\n{question}?"), Message("assistant", answer))
        picture = ImageRef(f"random picture {number}", read=partial(bytes, _picture(dice)))
        found.append(Sample(f"random-{number}", messages, (picture,), "random", origin=f"random sample {number}"))
    return found


def encoded(encoder: Encoder, sample: Sample) -> Example:
    """One sample as an example, its answer cut to ANSWER tokens."""
    made: dict[str, Tensor] = encoder.encode(sample)
    prompt, whole = int(made["prompt_mask"].sum()), len(made["input_ids"])
    # Pictures of later turns must keep their tokens.
    later = any(PLACEHOLDER in message.text for message in sample.messages[_first_answer(sample) :])
    length = whole if later else min(whole, prompt + ANSWER)
    inputs = {
        name: value[None, :length] if value.dim() == 1 and len(value) == whole else value
        for name, value in made.items()
        if name not in MADE
    }
    return Example(inputs=inputs, prompt_length=prompt)


def _first_answer(sample: Sample) -> int:
    return next(number for number, message in enumerate(sample.messages) if message.role == "assistant")


def _picture(dice: random.Random) -> bytes:
    """A PNG of coloured squares."""
    small = Image.new("RGB", (6, 6))
    small.putdata([(dice.randrange(256), dice.randrange(256), dice.randrange(256)) for _ in range(36)])
    file = io.BytesIO()
    small.resize((336, 336), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()
