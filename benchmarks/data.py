"""Samples a second: into the collator, with and without the feature cache, padded and packed.

collator: JPEG pictures and short conversations to one padded batch; the reference is transformers' own processor called
once for the whole batch, which gives neither labels nor prompt mask. features: to what the projector reads, through a
frozen tower or from stored features. packing: whole training steps on the token lengths of the pocket mix.

Pictures are drawn, the processor is LLaVA's with a tokenizer of whole words, models have random weights: no assets.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from benchmarks import features, packing
from benchmarks.features import once
from benchmarks.harness import Case, Run
from benchmarks.options import Settings, option
from benchmarks.results import Target
from mixtune.data import Collator, Encoder, ImageRef, Message, Sample, load_image

PARTS = ("collator", "features", "packing")
PATCH = 14
WORDS = tuple(f"word{number}" for number in range(1000))
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ' : ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{{ '<image> ' if part['type'] == 'image' else part['text'] }}{% endfor %}{% endif %}"
    "{{ ' </s> ' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant : ' }}{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class DataSettings(Settings):
    """Sizes of the pictures, the texts and the batch. Raises ValueError for unknown names."""

    memory: bool = option(False, "measure the peak memory of each arm too (tensors alone, no pictures)")
    parts: tuple[str, ...] = option(PARTS, "what to measure")
    batch: int = option(16, "samples of a batch; packing has `batches`")
    side: int = option(336, "pixels of a side, as the model sees it")
    width: int = option(640, "pixels of a side, as the file has it")
    question: int = option(40, "words of a question")
    answer: int = option(10, "words of an answer")
    towers: tuple[str, ...] = option(tuple(features.TOWERS), "features: whose they are")
    batches: tuple[int, ...] = option((16, 64), "packing: samples of a batch")
    attention: tuple[str, ...] = option(("eager", "sdpa"), "packing: attention code")
    layers: int = option(2, "packing: layers of the model")

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, known in (("parts", PARTS), ("towers", features.TOWERS)):
            for name in getattr(self, field):
                if name not in known:
                    raise ValueError(f"{field}: {name!r} is none of {', '.join(known)}")


SETTINGS = DataSettings
TARGETS: tuple[Target, ...] = ()
FACTS = ("batch", "side", "width", "question", "answer")
REFERENCE = "transformers' processor"


def cases(settings: DataSettings) -> Iterator[Case]:
    """The cases of each part; the pictures go when all are done."""
    with tempfile.TemporaryDirectory() as folder:
        samples, processor = draw(Path(folder), settings), make_processor(settings.side)
        if "collator" in settings.parts:
            yield Case(
                facts={"dtype": "float32", **{name: getattr(settings, name) for name in FACTS}},
                arms=arms(samples, processor),
                reference=REFERENCE,
                work=settings.batch,
                unit="samples",
            )
        if "features" in settings.parts:
            yield from features.cases(settings, samples, make_processor)
        if "packing" in settings.parts:
            yield from packing.cases(settings, Collator(Encoder(processor), ["draw"]))


def arms(samples: Sequence[Sample], processor: LlavaProcessor) -> dict[str, Callable[[], Run]]:
    """The ways from samples to a batch by name; each builds what it needs beforehand and gives its `Run`."""
    collator = Collator(Encoder(processor, max_length=4096), ["draw"])
    texts = [Sample(s.id, tuple(Message(m.role, m.text[len("<image>") :]) if m.role == "user" else m
                                for m in s.messages), (), s.task) for s in samples]  # fmt: skip
    return {
        REFERENCE: lambda: once(partial(whole_batch, samples, processor)),
        "collator": lambda: once(partial(collator, samples)),
        "collator, text alone": lambda: once(partial(collator, texts)),
        "collator, samples encoded before": lambda: once(
            partial(collator.batch, [collator.encoder.encode(sample) for sample in samples], samples)
        ),
    }


def whole_batch(samples: Sequence[Sample], processor: LlavaProcessor) -> Any:
    """The same pictures and texts through transformers' processor."""
    turns = [[{"role": each.role, "content": each.text} for each in sample.messages] for sample in samples]
    texts = processor.apply_chat_template(turns, tokenize=False)
    pictures = [load_image(ref) for sample in samples for ref in sample.images]
    return processor(text=texts, images=pictures, padding=True, return_tensors="pt")


def draw(folder: Path, settings: DataSettings) -> list[Sample]:
    """Samples with a noisy picture each, questions of different lengths."""
    generator = torch.Generator().manual_seed(0)

    def words(count: int) -> str:
        return " ".join(WORDS[number] for number in torch.randint(len(WORDS), (count,), generator=generator).tolist())

    samples = []
    for number in range(settings.batch):
        path = folder / f"{number}.jpg"
        coarse = torch.randint(256, (settings.width // 16, settings.width // 16, 3), generator=generator)
        picture = Image.fromarray(coarse.to(torch.uint8).numpy()).resize((settings.width, settings.width * 3 // 4))
        picture.save(path, quality=90)
        question = f"<image> {words(1 + settings.question * (number + 1) // settings.batch)}"
        turns = (Message("user", question), Message("assistant", words(settings.answer)))
        samples.append(Sample(str(number), turns, (ImageRef(str(path)),), "draw", origin=f"sample {number}"))
    return samples


def make_processor(side: int, patch: int = PATCH) -> LlavaProcessor:
    """LLaVA's processor for pictures of `side` pixels, with a tokenizer that knows the words used here."""
    special = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
    vocabulary = {word: number for number, word in enumerate((*special, "user", "assistant", ":", *WORDS))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=["<image>"], model_max_length=4096,
    )  # fmt: skip
    pictures = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return LlavaProcessor(
        image_processor=pictures, tokenizer=tokenizer, patch_size=patch, chat_template=TEMPLATE,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
    )  # fmt: skip
