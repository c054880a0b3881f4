"""A conversation as the chat template writes it, and where in it the assistant's turns begin and end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mixtune.data.sample import PLACEHOLDER, Message, Sample, SampleError


@dataclass(frozen=True)
class Rendered:
    """The text of a conversation and, for each assistant turn in it, the span of characters after its prompt.

    `is_prompt` says that the text ends where an answer is wanted: nothing in it is to be learnt.
    """

    text: str
    turns: tuple[tuple[int, int], ...]
    is_prompt: bool = False


def chat_message(message: Message) -> dict[str, Any]:
    """A message as chat templates take it: a list of text and image parts.

    New lines beside a placeholder are dropped, because how an image is set off from the text is up to the template.
    """
    pieces = message.text.split(PLACEHOLDER)
    parts: list[dict[str, str]] = []
    for number, piece in enumerate(pieces):
        text = piece if len(pieces) == 1 else piece.strip("\n")
        if number:
            parts.append({"type": "image"})
        if text:
            parts.append({"type": "text", "text": text})
    return {"role": message.role, "content": parts}


def _render(processor: Any, messages: Sequence[dict[str, Any]], sample: Sample, prompt: bool) -> str:
    try:
        text = processor.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=prompt)
    except Exception as error:  # templates refuse what they do not know with errors of several kinds
        reason = f"the chat template refuses this conversation ({error})"
        raise SampleError(sample.origin, "messages", reason) from error
    return str(text)


def render(processor: Any, sample: Sample, prompt: bool = False) -> Rendered:
    """The whole conversation; as a `prompt` only what precedes its last answer, with the generation prompt.

    A turn of the assistant begins where the text of the messages before it, with the generation prompt,
    ends: that is what a model sees when it is asked for the turn. DataError where the template writes that
    text differently once more turns follow.
    """
    messages = [chat_message(message) for message in sample.messages]
    if prompt and sample.messages[-1].role == "assistant":
        messages.pop()
    text = _render(processor, messages, sample, prompt)
    turns = []
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = _render(processor, messages[:number], sample, True)
        last = number + 1 == len(messages)
        upto = text if last else _render(processor, messages[: number + 1], sample, False)
        end = _common_length(upto, text)
        if not text.startswith(before) or end <= len(before):
            raise SampleError(sample.origin, f"messages[{number}]", _template_reason(before, text))
        turns.append((len(before), end))
    return Rendered(text, tuple(turns), is_prompt=prompt)


def _common_length(one: str, other: str) -> int:
    """Number of characters that two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _template_reason(prompt: str, text: str) -> str:
    same = _common_length(prompt, text)
    return (
        "the chat template writes the prompt of this answer differently once the answer follows: after "
        f"character {same} {prompt[same : same + 30]!r} against {text[same : same + 30]!r}; use a template "
        "whose prompts are beginnings of the whole conversation"
    )
