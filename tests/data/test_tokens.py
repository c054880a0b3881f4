"""Token ids and supervision in several templates and two tokenizers, token by token."""

import pytest
import templates
import torch
from PIL import Image

import tiny
from mixtune.data.conversation import Rendered, render
from mixtune.data.sample import DataError, Message, Sample, SampleError
from mixtune.data.tokens import TokenWriter

PICTURE = Image.new("RGB", (40, 30), (255, 0, 0))


def written(processor, *turns: tuple[str, str], images: int = 0, prompt: bool = False):
    """Tokens as words, and the words that are supervised."""
    sample = Sample("s", tuple(Message(*turn) for turn in turns), (), "t", origin="d.json:4")
    writer = TokenWriter(processor)
    pictures = writer.pictures([PICTURE] * images)
    tokens = writer.write(render(processor, sample, prompt=prompt), pictures.ids, sample.origin)
    words = [processor.tokenizer.decode([number]) for number in tokens.ids]
    return words, [word for word, learnt in zip(words, tokens.supervised, strict=True) if learnt]


ONE = (("user", "<image>what colour"), ("assistant", "dark blue"))
TWO = (*ONE, ("user", "and now"), ("assistant", "red"))


def test_tiny_template_word_by_word():
    words, learnt = written(tiny.tiny_processor(), *ONE, images=1)
    image = ["<image>"] * 4
    assert words == ["<s>", "user:", *image, "what", "colour", "assistant:", "<unk>", "blue", "</s>"]
    assert learnt == ["<unk>", "blue", "</s>"]


@pytest.mark.parametrize("template, learnt", [
    (templates.CHATML, "dark blue<|im_end|>red<|im_end|>"),
    (templates.SPACED, "dark blue<|im_end|>red<|im_end|>"),
    (templates.VICUNA, " dark blue red<|end|>"),
    (templates.TWO_ENDS, "dark blue<|im_end|>red<|im_end|>\n<|end|>"),
])  # fmt: skip
def test_every_answer_is_learnt_with_its_end_and_nothing_else(template, learnt):
    words, found = written(templates.byte_level_processor(template), *TWO, images=1)
    assert "".join(found) == learnt
    assert words[-1] == found[-1]
    assert words.count("<image>") == 4


@pytest.mark.parametrize("template", [
    templates.CHATML, templates.SPACED, templates.VICUNA, templates.TWO_ENDS, tiny.CHAT_TEMPLATE,
])  # fmt: skip
@pytest.mark.parametrize("turns", [ONE, TWO])
def test_a_conversation_begins_with_the_very_tokens_of_its_prompt(template, turns):
    is_tiny = template is tiny.CHAT_TEMPLATE
    processor = tiny.tiny_processor() if is_tiny else templates.byte_level_processor(template)
    whole, _ = written(processor, *turns, images=1)
    prompt, none = written(processor, *turns, images=1, prompt=True)
    assert none == []
    assert whole[: len(prompt)] == prompt
    last = "dark blue" if turns is ONE else "red"
    rest = "".join(whole[len(prompt) :])
    assert rest.strip().startswith("<unk>" if is_tiny and turns is ONE else last)


def test_a_first_word_that_would_melt_into_the_prompt_is_kept_apart():
    processor = templates.byte_level_processor(templates.SPACED)
    joined = processor.tokenizer.tokenize("assistant: red")
    assert joined[-1] == "Ġred"  # else this template would test nothing
    words, learnt = written(processor, ("user", "what"), ("assistant", "red"))
    assert learnt[0] != " red"
    assert "".join(words).endswith("assistant: red<|im_end|>")


def test_offsets_survive_letters_of_several_bytes():
    processor = templates.byte_level_processor(templates.CHATML)
    _, learnt = written(processor, ("user", "é🙂?"), ("assistant", "🙂é"))
    ids = processor.tokenizer("🙂é<|im_end|>")["input_ids"]
    assert learnt == [processor.tokenizer.decode([number]) for number in ids]


def test_several_images_are_expanded_in_place_and_joined():
    processor = tiny.tiny_processor()
    turns = (("user", "<image><image>what"), ("assistant", "red"), ("user", "<image>"), ("assistant", "blue"))
    words, _ = written(processor, *turns, images=3)
    assert words == ["<s>", "user:", *["<image>"] * 8, "what", "assistant:", "red", "</s>",
                     "user:", *["<image>"] * 4, "assistant:", "blue", "</s>"]  # fmt: skip
    pictures = TokenWriter(processor).pictures([PICTURE, Image.new("RGB", (30, 40))])
    alone = processor.image_processor([PICTURE], return_tensors="pt")["pixel_values"]
    assert pictures.tensors["pixel_values"].shape == (2, 3, 28, 28)
    torch.testing.assert_close(pictures.tensors["pixel_values"][:1], alone, rtol=0, atol=0)
    assert TokenWriter(processor).blank((40, 30)) == pictures.ids[0]


def test_ids_equal_those_of_the_processor_itself():
    processor = tiny.tiny_processor()
    sample = Sample("s", tuple(Message(*turn) for turn in TWO), (), "t")
    rendered = render(processor, sample)
    writer = TokenWriter(processor)
    ours = writer.write(rendered, writer.pictures([PICTURE]).ids, "").ids
    theirs = processor(text=[rendered.text], images=[PICTURE], add_special_tokens=False)["input_ids"][0]
    assert ours == theirs[: len(ours)]
    assert len(theirs) == len(ours)


def test_image_tokens_that_do_not_match_the_images_are_refused():
    dropping = templates.byte_level_processor(templates.NO_IMAGES)
    with pytest.raises(SampleError, match=r"d\.json:4: images: the chat template wrote 0 '<image>' .* 1 image"):
        written(dropping, *ONE, images=1)
    with pytest.raises(SampleError, match=r"wrote 1 '<image>' token\(s\) for 0 image"):
        written(tiny.tiny_processor(), *ONE, images=0)


def test_processors_that_cannot_be_used_are_named():
    class Slow:
        tokenizer = None

    with pytest.raises(DataError, match=r"processor: its tokenizer .* a fast one is needed"):
        TokenWriter(Slow())
    no_images = tiny.tiny_processor()
    no_images.image_token = None
    with pytest.raises(DataError, match="LlavaProcessor has no image token"):
        TokenWriter(no_images).pictures([PICTURE])


def test_text_without_an_answer_gives_nothing_to_learn():
    tokens = TokenWriter(tiny.tiny_processor()).write(Rendered("what colour", ()), [], "d.json:1")
    assert (tokens.ids, tokens.supervised) == ([], [])
