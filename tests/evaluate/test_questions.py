"""Continuations across templates: the tokens of an option are those training would see."""

import dataclasses

import pytest

from mixtune.config import DataSettings, SourceSettings
from mixtune.data import Encoder, read_samples
from mixtune.evaluate.questions import Questioner, prompt_of, target_of
from tiny import tiny_processor


def first(path):
    return read_samples(DataSettings(sources=(SourceSettings(path=str(path)),)))[0][0]


def test_question_and_answer_are_read_without_placeholders(tiny_samples) -> None:
    sample = first(tiny_samples(1))
    assert (prompt_of(sample), target_of(sample)) == ("what colour is this?", "red")


def test_each_text_is_encoded_once(tiny_samples, monkeypatch) -> None:
    sample, questioner = first(tiny_samples(1)), Questioner(Encoder(tiny_processor()))
    found = questioner.continuation(sample, "green")
    monkeypatch.setattr(Encoder, "encode", None)
    assert questioner.continuation(dataclasses.replace(sample, id="other"), "green") == found


def test_earlier_answers_of_a_conversation_belong_to_the_prompt(tiny_samples) -> None:
    sample = first(tiny_samples(1))
    ask = dataclasses.replace(sample.messages[0], text="how many?")
    answer = dataclasses.replace(sample.messages[1], text="2")
    longer = dataclasses.replace(sample, messages=(*sample.messages, ask, answer))
    processor = tiny_processor()
    found = Questioner(Encoder(processor)).continuation(longer, "3")
    assert processor.tokenizer.convert_ids_to_tokens(found) == ["3", "</s>"]


def test_an_encoding_that_does_not_begin_with_its_prompt_is_refused(tiny_samples, monkeypatch) -> None:
    sample, questioner = first(tiny_samples(1)), Questioner(Encoder(tiny_processor()))
    whole = questioner.encoder.encode(sample)
    monkeypatch.setattr(Encoder, "encode", lambda *_: {**whole, "input_ids": whole["input_ids"].flip(0)})
    with pytest.raises(ValueError, match="'green' the tokens do not begin with the prompt's"):
        questioner.continuation(sample, "green")
