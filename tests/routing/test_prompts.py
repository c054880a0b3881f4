import pytest
import torch

from mixtune.routing.prompts import BatchFacts, GenerationPrompt

IDS = torch.arange(10).view(2, 5)


def facts(**inputs):
    given = {key: inputs.pop(key) for key in ("prompt_mask", "task_ids") if key in inputs}
    return BatchFacts.of({"input_ids": IDS, **inputs}, given, inputs.pop("generation", None))


def test_sources_in_order():
    mask = torch.tensor([[1, 1, 1, 1, 0], [0, 1, 1, 1, 1]])
    labels = torch.tensor([[-100, -100, 7, -100, -100], [-100, -100, -100, 8, 9]])
    assert facts().prompt_positions() is None
    assert facts(attention_mask=mask).prompt_positions().tolist() == mask.bool().tolist()
    found = facts(attention_mask=mask, labels=labels).prompt_positions()
    assert found.int().tolist() == [[1, 1, 0, 0, 0], [0, 1, 1, 0, 0]]
    given = torch.tensor([[0, 1, 0, 0, 0], [0, 0, 1, 0, 0]])
    assert (
        facts(attention_mask=mask, labels=labels, prompt_mask=given).prompt_positions().int().tolist() == given.tolist()
    )


def test_only_the_first_answer_ends_a_prompt():
    labels = torch.tensor([[-100, 5, -100, -100, 6], [-100] * 5])
    assert facts(labels=labels).prompt_positions().int().tolist() == [[1, 0, 0, 0, 0], [1] * 5]


def test_generation_repeats_rows_and_ends_with_the_prompt():
    prompt = GenerationPrompt(torch.tensor([[False, True], [True, True]]))
    assert prompt.expand(4, 3).int().tolist() == [[0, 1, 0], [0, 1, 0], [1, 1, 0], [1, 1, 0]]
    for batch, length in ((3, 3), (2, 1)):
        with pytest.raises(ValueError, match="does not start with the prompt"):
            prompt.expand(batch, length)


@pytest.mark.parametrize(
    "extra", [{"seq_idx": IDS}, {"cu_seq_lens_q": IDS}, {"position_ids": torch.tensor([[0, 1, 0, 1, 2]])}]
)
def test_packed_rows_are_refused(extra):
    with pytest.raises(ValueError, match="packed rows"):
        facts(**extra).prompt_positions()


def test_positions_of_padding_do_not_look_packed():
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])
    positions = torch.tensor([[1, 1, 0, 1, 2], [0, 1, 2, 1, 1]])
    assert facts(attention_mask=mask, position_ids=positions).prompt_positions().tolist() == mask.bool().tolist()


def test_a_mask_without_positions_is_refused():
    with pytest.raises(ValueError, match="does not say which positions are padding"):
        facts(attention_mask=torch.zeros(2, 1, 5, 5)).prompt_positions()


def test_a_longer_attention_mask_covers_the_cache_first():
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0]])
    assert facts(attention_mask=mask).attended().int().tolist() == [[1] * 5, [1, 1, 1, 1, 0]]
