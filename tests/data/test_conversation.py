"""Conversations as text: the parts of a message, and the spans of the assistant's turns in any template."""

import pytest
import templates

from mixtune.data.conversation import chat_message, render
from mixtune.data.sample import Message, Sample, SampleError


class Template:
    """A processor of which only the chat template is asked."""

    def __init__(self, write):
        self.apply_chat_template = lambda messages, tokenize, add_generation_prompt: write(
            messages, add_generation_prompt
        )


def sample_of(*turns: tuple[str, str]) -> Sample:
    return Sample("s", tuple(Message(*turn) for turn in turns), (), "t", origin="d.json:4")


TWO_TURNS = sample_of(("user", "what?"), ("assistant", "red"), ("user", "and now?"), ("assistant", "dark blue"))


@pytest.mark.parametrize("text, parts", [
    ("what?", ["what?"]), ("<image>", [None]), ("<image>what?", [None, "what?"]),
    ("<image>\nwhat?", [None, "what?"]),
    ("is\n<image> or <image>\n?", ["is", None, " or ", None, "?"]), ("a\nb\n", ["a\nb\n"]), ("", []),
])  # fmt: skip
def test_placeholders_become_image_parts(text, parts):
    found = chat_message(Message("user", text))["content"]
    assert [part.get("text") for part in found] == parts
    assert all(part["type"] == ("image" if text is None else "text") for part, text in zip(found, parts, strict=True))


@pytest.mark.parametrize("template, answers", [
    (templates.CHATML, ["red<|im_end|>\n", "dark blue<|im_end|>\n"]),
    (templates.VICUNA, [" red ", " dark blue "]),
    (templates.SPACED, ["red<|im_end|>", "dark blue<|im_end|>"]),
    (templates.TWO_ENDS, ["red<|im_end|>\n<|", "dark blue<|im_end|>\n<|end|>"]),
])  # fmt: skip
def test_turns_begin_where_their_prompt_ends(template, answers):
    processor = templates.byte_level_processor(template)
    rendered = render(processor, TWO_TURNS)
    assert [rendered.text[start:end] for start, end in rendered.turns] == answers
    prompt = render(processor, TWO_TURNS, prompt=True)
    assert rendered.text[: rendered.turns[1][0]] == prompt.text
    assert [prompt.text[start:end] for start, end in prompt.turns] == answers[:1]
    assert prompt.is_prompt and not rendered.is_prompt


def test_a_conversation_that_ends_with_the_user_is_a_prompt_as_it_is():
    processor = templates.byte_level_processor(templates.CHATML)
    asked = sample_of(("system", "be short"), ("user", "what?"))
    assert render(processor, asked, prompt=True).text == (
        "<|im_start|>system\nbe short<|im_end|>\n<|im_start|>user\nwhat?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_template_that_rewrites_its_prompts_is_refused():
    processor = templates.byte_level_processor(templates.THINKING)
    with pytest.raises(SampleError) as caught:
        render(processor, TWO_TURNS)
    assert str(caught.value).startswith("d.json:4: messages[1]: the chat template writes the prompt of this answer")
    assert "'<think>' against 'red<|im_end|>" in str(caught.value)


def test_a_template_that_forgets_earlier_answers_is_refused():
    def write(messages, prompt):
        kept = [m for n, m in enumerate(messages) if m["role"] == "user" or n + 1 == len(messages)]
        text = "".join(f"{m['role'][0]}:{m['content'][0]['text']};" for m in kept)
        return text + ("a:" if prompt else "")

    with pytest.raises(SampleError, match=r"messages\[1\]: the chat template writes the prompt"):
        render(Template(write), TWO_TURNS)


def test_what_the_template_refuses_is_told_with_the_origin():
    def write(messages, prompt):
        raise TypeError("no system role here")

    with pytest.raises(SampleError, match=r"d\.json:4: messages: the chat template refuses .*no system role here"):
        render(Template(write), TWO_TURNS)
