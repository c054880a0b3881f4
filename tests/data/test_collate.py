"""Samples as tensors: labels, prompt mask, lengths, padding on both sides, and agreement with the model."""

import dataclasses

import pytest
import torch
from PIL import Image
from processors import gemma3_processor, llava_next_processor, paligemma_processor

import tiny
from mixtune.config import DataSettings, SourceSettings
from mixtune.data.collate import Collator, Encoder
from mixtune.data.conversation import render
from mixtune.data.readers import read_samples
from mixtune.data.sample import DataError, ImageRef, Message
from tolerances import TOL


@pytest.fixture
def samples(tiny_samples):
    return read_samples(DataSettings(sources=(SourceSettings(path=str(tiny_samples(6))),)))[0]


@pytest.fixture(scope="module")
def processor():
    return tiny.tiny_processor()


def with_turns(sample, *turns):
    return dataclasses.replace(sample, messages=tuple(Message(*turn) for turn in turns))


def test_labels_and_prompt_mask_of_a_conversation(samples, processor):
    turns = (
        ("system", "be short"),
        ("user", "<image>what"),
        ("assistant", "red"),
        ("user", "or"),
        ("assistant", "no"),
    )
    encoded = Encoder(processor).encode(with_turns(samples[0], *turns))
    words = processor.tokenizer.convert_ids_to_tokens(encoded["input_ids"].tolist())
    image = ["<image>"] * 4
    assert words == ["<s>", "system:", "be", "short", "user:", *image, "what", "assistant:", "red", "</s>", "user:",
                     "or", "assistant:", "no", "</s>"]  # fmt: skip
    learnt = torch.tensor([word in ("red", "no", "</s>") for word in words])
    expected = torch.where(learnt, encoded["input_ids"], -100)
    assert torch.equal(encoded["labels"], expected)
    assert torch.equal(encoded["prompt_mask"], torch.arange(len(words)) < words.index("red"))
    assert encoded["prompt_mask"].dtype == torch.bool
    assert encoded["pixel_values"].shape == (1, 3, 28, 28)


def test_the_prompt_alone_is_the_masked_part(samples, processor):
    encoder = Encoder(processor)
    for sample in samples:
        encoded, prompt = encoder.encode(sample), encoder.encode_prompt(sample)
        assert torch.equal(prompt["input_ids"], encoded["input_ids"][encoded["prompt_mask"]])
        assert torch.equal(prompt["pixel_values"], encoded["pixel_values"])
        assert encoder.measure(sample) == len(encoded["input_ids"])


def test_lengths_are_held_to_and_what_is_too_long_is_said(samples, processor):
    sample = dataclasses.replace(samples[0], origin="d.json:9")
    length = Encoder(processor).measure(sample)
    assert len(Encoder(processor, length).encode(sample)["input_ids"]) == length
    short = Encoder(processor, length - 1)
    for call in (short.encode, short.measure):
        with pytest.raises(DataError) as caught:
            call(sample)
        assert str(caught.value) == (
            f"d.json:9: messages: {length} tokens (answers 2) are more than data.max_length {length - 1}; "
            "raise data.max_length or shorten the sample"
        )
    long = with_turns(sample, ("user", "<image>what"), ("assistant", "red " * 30))
    with pytest.raises(DataError, match=r"d\.json:9: answer: 39 tokens \(answers 31\) are more than data.max_length"):
        short.encode(long)
    with pytest.raises(DataError, match=r"messages: .* data.max_length 5"):
        Encoder(processor, 5).encode_prompt(sample)


def test_images_that_cannot_be_read_name_the_sample(samples, processor):
    lost = dataclasses.replace(samples[0], images=(ImageRef("lost.png"),), origin="d.json:9")
    encoder = Encoder(processor)
    for call in (encoder.encode, encoder.encode_prompt, encoder.measure):
        with pytest.raises(DataError, match=r"d\.json:9: images: lost\.png: "):
            call(lost)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_batch_is_its_samples_padded_on_one_side(samples, processor, side):
    encoder = Encoder(processor)
    mixed = [
        samples[0],
        with_turns(samples[1], ("user", "<image>what or what"), ("assistant", "yes or no")),
        samples[2],
    ]
    batch = Collator(encoder, tiny.TASKS, side)(mixed)
    rows = [encoder.encode(sample) for sample in mixed]
    longest = max(len(row["input_ids"]) for row in rows)
    fillers = {"input_ids": 0, "labels": -100, "prompt_mask": False, "attention_mask": 0}
    for number, row in enumerate({**row, "attention_mask": torch.ones_like(row["input_ids"])} for row in rows):
        for name, filler in fillers.items():
            padding = torch.full((longest - len(row[name]),), filler, dtype=row[name].dtype)
            parts = [row[name], padding] if side == "right" else [padding, row[name]]
            assert torch.equal(batch[name][number], torch.cat(parts)), name
    assert torch.equal(batch["pixel_values"], torch.cat([row["pixel_values"] for row in rows]))
    assert batch["task_ids"].tolist() == [0, 1, 2]


def test_prompts_are_batched_without_labels(samples, processor):
    batch = Collator(Encoder(processor), tiny.TASKS, "left").prompts(samples[:3])
    assert "labels" not in batch
    assert torch.equal(batch["prompt_mask"], batch["attention_mask"].bool())
    assert (batch["input_ids"][:, -1] == processor.tokenizer.convert_tokens_to_ids("assistant:")).all()


def test_samples_without_images_may_be_mixed_in(samples, processor):
    text = dataclasses.replace(with_turns(samples[1], ("user", "what"), ("assistant", "no")), images=())
    collator = Collator(Encoder(processor), tiny.TASKS)
    assert collator([samples[0], text, samples[2]])["pixel_values"].shape[0] == 2
    assert "pixel_values" not in collator([text])


def test_unknown_tasks_come_with_near_names(samples, processor):
    with pytest.raises(
        DataError, match=r"samples\.jsonl:1: task: 'colour' is no task of this run; did you mean 'color'"
    ):
        Collator(Encoder(processor), ["color", "yesno"])(samples[:1])


def test_the_model_takes_a_batch_and_padding_changes_nothing(samples, tiny_llava):
    model, processor = tiny_llava()
    encoder = Encoder(processor)
    batch = Collator(encoder, tiny.TASKS)(samples[:3])
    given = {name: value for name, value in batch.items() if name not in ("prompt_mask", "task_ids")}
    with torch.no_grad():
        together = model(**given).logits
        for number, sample in enumerate(samples[:3]):
            row = encoder.encode(sample)
            alone = model(input_ids=row["input_ids"][None], pixel_values=row["pixel_values"]).logits[0]
            torch.testing.assert_close(together[number, : len(alone)], alone, **TOL[torch.float32])


def pictured(sample, folder, *sizes):
    """The sample with pictures of these sizes, and the pictures."""
    pictures = [Image.new("RGB", size, (9 * number, 200, 30)) for number, size in enumerate(sizes)]
    refs = [ImageRef(str(folder / f"{len(sizes)}-{number}.png")) for number in range(len(sizes))]
    for ref, picture in zip(refs, pictures, strict=True):
        picture.save(ref.path)
    turns = (("user", "<image>" * len(sizes) + "what"), ("assistant", "no or yes"))
    return dataclasses.replace(with_turns(sample, *turns), images=tuple(refs)), pictures


@pytest.mark.parametrize("processor", [llava_next_processor, gemma3_processor])
def test_a_batch_is_the_one_the_processor_makes(samples, processor, tmp_path):
    """Pictures in other numbers of parts, and token types: what a training batch needs, as the processor has it."""
    processor = processor()
    wide, small = (32, 16), (16, 16)
    mixed, pictures = zip(*(pictured(samples[0], tmp_path, *sizes) for sizes in ((small,), (wide, small))), strict=True)
    encoder = Encoder(processor)
    batch = Collator(encoder, tiny.TASKS)(mixed)
    assert [encoder.measure(sample) for sample in mixed] == batch["attention_mask"].sum(1).tolist()
    texts = [render(processor, sample).text for sample in mixed]
    given = {"return_tensors": "pt", "padding": True, "add_special_tokens": False}
    made = processor(text=texts, images=list(pictures), **given)
    assert {*made} == {*batch} - {"labels", "prompt_mask", "task_ids"} and len(made) > 3
    for name, value in made.items():
        assert torch.equal(batch[name], value), name


def test_images_are_marked_in_prompts_and_words_alone_are_not(samples, tmp_path):
    encoder = Encoder(gemma3_processor())
    text = dataclasses.replace(with_turns(samples[1], ("user", "what"), ("assistant", "no")), images=())
    shown = pictured(samples[0], tmp_path, (16, 16))[0]
    for encode in (encoder.encode_prompt, encoder.encode):
        assert not encode(text)["token_type_ids"].any()
        assert encode(shown)["token_type_ids"].sum() == 4
    batch = Collator(encoder, tiny.TASKS, "left").prompts([text, shown])
    assert torch.equal(batch["token_type_ids"], (batch["input_ids"] == tiny.VOCABULARY.index("<image>")).long())


def test_where_token_types_mark_the_answer(samples, tmp_path):
    """PaliGemma sees what has type 0 in both directions, so an answer must not have it."""
    encoder = Encoder(paligemma_processor())
    sample = pictured(samples[0], tmp_path, (16, 16))[0]
    encoded, prompt = encoder.encode(sample), encoder.encode_prompt(sample)
    assert torch.equal(encoded["token_type_ids"], (~encoded["prompt_mask"]).long())
    assert not prompt["token_type_ids"].any()
    assert torch.equal(prompt["input_ids"], encoded["input_ids"][encoded["prompt_mask"]])
    words = encoder.processor.tokenizer.convert_ids_to_tokens(encoded["input_ids"].tolist())
    assert words == ["<s>", "user:", *["<image>"] * 16, "what", "assistant:", "no", "or", "yes", "</s>"]
    assert (encoded["labels"] == -100).sum() == len(prompt["input_ids"])  # the processor's own labels are not taken


def test_encoding_is_fast_enough_for_thousands_of_samples(samples, processor, monkeypatch):
    calls = []
    render = processor.apply_chat_template
    monkeypatch.setattr(processor, "apply_chat_template", lambda *a, **k: calls.append(1) or render(*a, **k))
    Encoder(processor).encode(samples[0])
    assert len(calls) == 2  # the conversation and its prompt: what costs time is bounded, whatever the machine
