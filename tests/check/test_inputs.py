"""Examples made of random samples and of the user's own."""

import dataclasses

import pytest
import torch

from mixtune.check.inputs import ANSWER, encoded, examples_from, own_samples, random_samples, spread
from mixtune.data import Encoder, Message


def test_random_samples_depend_on_the_seed_alone_and_differ_in_length(tiny_llava):
    assert random_samples(3) == random_samples(3) != random_samples(3, seed=1)
    assert random_samples(3)[1].images[0].read() == random_samples(3)[1].images[0].read()
    found = examples_from(tiny_llava()[1], None, 4)
    lengths = [each.prompt_length for each in found]
    assert len(set(lengths)) == 4 and lengths == sorted(lengths)
    assert not torch.equal(found[0].inputs["pixel_values"], found[1].inputs["pixel_values"])


def test_own_samples_are_encoded_as_in_training(tiny_llava, tiny_samples):
    processor, path = tiny_llava()[1], str(tiny_samples(6))
    found = examples_from(processor, path, 2)
    samples = own_samples(path)
    assert spread(samples, 2) == [samples[0], samples[3]] and spread(samples, 9) == samples
    made = Encoder(processor).encode(samples[3])
    assert torch.equal(found[1].inputs["input_ids"][0], made["input_ids"])
    assert found[1].prompt_length == int(made["prompt_mask"].sum())
    assert set(found[1].inputs) == {"input_ids", "pixel_values"}


@pytest.mark.parametrize("later_picture", [False, True])
def test_long_answers_are_cut_but_never_a_later_picture(tiny_llava, later_picture):
    sample = random_samples(1)[0]
    question, answer = sample.messages[0], Message("assistant", "red " * 40)
    more = (Message("user", "<image> and this?"), Message("assistant", "blue")) if later_picture else ()
    images = sample.images * (2 if later_picture else 1)
    long = dataclasses.replace(sample, messages=(question, answer, *more), images=images)
    example = encoded(Encoder(tiny_llava()[1]), long)
    assert (example.length - example.prompt_length == ANSWER) is not later_picture
