"""How checks see a model: plain words, texts that part at a tie, the mixture switched off."""

import torch

from mixtune.check.results import Tally
from mixtune.check.subject import Subject, Written, same_text, special_tokens
from routed import IMAGE, adapted
from tiny import tiny_config


def test_special_tokens_of_all_configurations():
    assert {0, 1, 2, IMAGE} <= special_tokens(tiny_config()) < set(range(10))


def test_bare_is_the_base_for_a_while(examples):
    subject = Subject(adapted("mixlora"), examples, 1e-5, 0)
    routed = subject.alone()[0]
    with subject.bare():
        base = subject.alone()[0]
    assert base.routed == {} and len(routed.routed) == 14
    assert not torch.equal(base.logits, routed.logits)
    assert subject.alone()[0] is routed  # made once for each of the two


def test_texts_are_compared_until_they_part():
    logits = torch.zeros(1, 4, 3)
    tokens = torch.tensor([[1, 2, 0, 1]])
    for step, agrees in ((1, False), (2, False), (3, True)):
        other = logits.clone()
        other[0, step] = 1.0
        tally = Tally(1e-5)
        same_text(tally, Written(tokens, logits, None), Written(torch.tensor([[1, 2, 1, 1]]), other, None), "it")
        assert (tally.faults == []) is agrees  # the step at which they part is still compared
