"""Samples as questions: the prompt, the right answer, and every option as the tokens training would have seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

from mixtune.data.collate import Encoder
from mixtune.data.sample import Sample
from mixtune.evaluate.scorers import normalise_answer

SHOWN = 20  # problems listed in an error


def target_of(sample: Sample) -> str:
    """The right answer: the text of the last turn (the assistant's, see `check_questions`)."""
    return sample.messages[-1].text.strip()


def prompt_of(sample: Sample) -> str:
    """The question as people read it: the turns before the answer, one a line, without image placeholders."""
    return "\n".join(message.text.replace("<image>", "").strip() for message in sample.messages[:-1])


def check_questions(samples: Sequence[Sample]) -> None:
    """Raises ValueError listing every sample that cannot be scored: an id twice, no answer, an answer that is
    not among the options, options that are the same once normalised.
    """
    problems = [] if samples else ["samples: there is nothing to evaluate"]
    seen: set[str] = set()
    for sample in samples:
        problems += [f"{sample.origin}: {problem}" for problem in _problems(sample, seen)]
        seen.add(sample.id)
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise ValueError("\n".join(problems[:SHOWN] + more))


def _problems(sample: Sample, seen: Collection[str]) -> list[str]:
    if sample.messages[-1].role != "assistant":
        return [f"messages: the last turn is {sample.messages[-1].role!r}; the right answer has to stand there"]
    problems = [f"id: {sample.id!r} occurs twice"] if sample.id in seen else []
    options = [normalise_answer(option) for option in sample.options]
    if options and normalise_answer(target_of(sample)) not in options:
        problems.append(f"options: the answer {target_of(sample)!r} is not among {list(sample.options)}")
    if len(set(options)) != len(options):
        problems.append(f"options: some are the same answer: {list(sample.options)}")
    return problems


class Questioner:
    """Encodes prompts and continuations with the encoder that training uses.

    The tokens of a continuation depend on its text and on the chat template's words just before it, which are
    the same in every prompt; so each distinct text is encoded once and remembered.
    """

    def __init__(self, encoder: Encoder):
        self.encoder = encoder
        self._continuations: dict[str, list[int]] = {}

    def prompt(self, sample: Sample) -> dict[str, Any]:
        """What `Encoder.encode_prompt` gives: token ids up to where the answer begins, and the pictures."""
        return self.encoder.encode_prompt(sample)

    def continuation(self, sample: Sample, text: str) -> list[int]:
        """Token ids that follow the prompt if the answer is `text`, with the token that ends the turn.

        Taken from the encoding of the whole conversation, as in training. Raises ValueError if that encoding
        does not begin with the prompt (the template or the tokenizer rewrites what came before the answer).
        """
        if text not in self._continuations:
            answered = dataclasses.replace(sample.messages[-1], text=text)
            whole = self.encoder.encode(dataclasses.replace(sample, messages=(*sample.messages[:-1], answered)))
            prompt_ids, ids = _flat(self.prompt(sample)["input_ids"]), _flat(whole["input_ids"])
            if ids[: len(prompt_ids)] != prompt_ids:
                raise ValueError(f"{sample.origin}: with the answer {text!r} the tokens do not begin with the prompt's")
            labels = _flat(whole["labels"])[len(prompt_ids) :]
            self._continuations[text] = [label for label in labels if label != -100]
        return self._continuations[text]


def _flat(values: Any) -> list[int]:
    """Token ids as a flat list, from a list or a tensor of shape [T] or [1, T]."""
    values = values.reshape(-1).tolist() if hasattr(values, "reshape") else values
    return list(values)
