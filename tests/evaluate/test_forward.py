"""The prompt pass and its continuations on every family of models: what a full forward of each sequence gives."""

import pytest
import torch

from mixtune import get_peft_model
from mixtune.evaluate.forward import run_prompts
from mixtune.evaluate.ranking import greedy_tokens, rank_options
from routed import config, randomise
from tolerances import TOL
from zoo import FIRST_WORD, PAD, ZOO, build, examples

OPTIONS = [[[9, 10, 11], [12]], [[13, 14], [15, 16, 17, 18]], [[19], [20, 21]], [[22, 23], [24, 25, 26]]]


def prompt_of(example):
    """The example's prompt as `Encoder.encode_prompt` gives one."""
    return {key: value[0, : example.prompt_length] if key.endswith("_ids") else value
            for key, value in example.inputs.items()}  # fmt: skip


def obvious_score(model, example, option):
    """Mean log-likelihood of the option: one forward over prompt and option, one sample, without a cache."""
    row = example.continued(torch.tensor(option))
    labels = row.tokens["input_ids"].clone()
    labels[:, : example.prompt_length] = -100
    logits = model(**row.tokens, **example.pictures, labels=labels, use_cache=False).logits[0].log_softmax(-1)
    targets = torch.tensor(option)[:, None]
    return logits[example.prompt_length - 1 : -1].gather(1, targets).mean().item()


@pytest.mark.parametrize("name", ZOO)
@torch.no_grad()
def test_one_prompt_pass_scores_as_full_forwards_do(name):
    base = build(name)
    shown = examples(name, base)
    model = get_peft_model(base, config("mixlora")).eval()
    randomise(model)
    together = run_prompts(model, [prompt_of(each) for each in shown], PAD)
    scores = rank_options(model, together, OPTIONS)
    expected = [
        [obvious_score(model, each, option) for option in row] for each, row in zip(shown, OPTIONS, strict=True)
    ]
    for found, wanted in zip(scores, expected, strict=True):
        torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted), **TOL[torch.float32])
    answers = greedy_tokens(model, together, (), max_new_tokens=3, pad_id=PAD)
    for each, answer in zip(shown, answers, strict=True):
        alone = run_prompts(model, [prompt_of(each)], PAD)
        assert greedy_tokens(model, alone, (), max_new_tokens=3, pad_id=PAD) == [answer]
    assert any(token >= FIRST_WORD for answer in answers for token in answer)
