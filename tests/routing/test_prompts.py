import pytest
import torch

from mixtune.routing.generating import GenerationPrompt
from mixtune.routing.prompts import BatchFacts

IDS = torch.arange(10).view(2, 5)


def facts(**inputs):
    given = {key: inputs.pop(key) for key in ("prompt_mask", "attended_mask", "task_ids") if key in inputs}
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


def test_the_text_of_a_prompt_is_what_is_no_picture():
    prompt_BT = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]]).bool()
    found = BatchFacts.of({"input_ids": IDS}, {}, None, (1, 2, 8))
    assert found.text_positions(prompt_BT).int().tolist() == [[1, 0, 0, 0, 0], [0, 1, 1, 0, 1]]
    assert found.text_positions(None).int().tolist() == [[1, 0, 0, 1, 1], [1, 1, 1, 0, 1]]
    assert facts().text_positions(prompt_BT) is prompt_BT  # a model without pictures
    with pytest.raises(ValueError, match="inputs_embeds: routers with pooling 'text' cannot tell pictures"):
        BatchFacts.of({"inputs_embeds": torch.zeros(2, 5, 4)}, {}, None, (1,)).text_positions(prompt_BT)


PACKED = torch.tensor([[0, 0, 1, 1, 1], [2, 3, 3, 3, 3]])


@pytest.mark.parametrize(
    "said",
    [
        {"seq_idx": torch.tensor([[4, 4, 7, 7, 7], [0, 1, 1, 1, 1]])},
        {"cu_seq_lens_q": torch.tensor([0, 2, 5, 6, 10], dtype=torch.int32)},
        {"position_ids": torch.tensor([[0, 1, 0, 1, 2], [0, 0, 1, 2, 3]])},
        {"position_ids": torch.tensor([[0, 1, 0, 1, 2], [0, 0, 1, 2, 3]]).expand(4, 2, 5)},
    ],
    ids=["seq_idx", "cu_seq_lens_q", "position_ids", "positions in text and picture"],
)
def test_packed_rows_are_told_by_any_of_their_signs(said):
    assert facts(**said).owners().tolist() == PACKED.tolist()


def test_rows_of_one_sample_have_no_segments():
    assert facts().owners() is None
    assert facts(position_ids=torch.arange(5)[None]).owners() is None
    picture = torch.tensor([[0, 1, 1, 2, 2]]).expand(3, 2, 5)  # a picture's rows and columns repeat
    assert facts(position_ids=picture).owners() is None
    assert facts(position_ids=PACKED, generation=GenerationPrompt(torch.ones(2, 5))).owners() is None


def test_each_packed_sample_has_its_own_prompt():
    labels = torch.tensor([[-100, 5, -100, -100, 6], [-100, -100, 7, -100, 8]])
    read = facts(labels=labels).prompt_positions(PACKED)
    assert read.int().tolist() == [[1, 0, 1, 1, 0], [1, 1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"seq_idx": IDS[:, 1:]}, r"seq_idx: shape \(2, 4\), expected \(2, 5\)"),
        ({"cu_seq_lens_q": torch.tensor([0, 4, 9])}, "cu_seq_lens_q: ends at 9, but the inputs have 10 positions"),
    ],
)
def test_signs_of_packing_that_do_not_fit_are_named(said, message):
    with pytest.raises(ValueError, match=message):
        facts(**said).owners()


def test_a_sample_without_a_prompt_is_refused():
    labels = torch.tensor([[-100, 5, 6, 7, 8], [5, 6, 7, 8, 9]])
    with pytest.raises(ValueError, match=r"labels: sample\(s\) \[1\] .* no prompt"):
        facts(labels=labels).prompt_positions()
    with pytest.raises(ValueError, match=r"sample\(s\) \[1, 2, 3\]"):
        facts(labels=labels).prompt_positions(torch.tensor([[0, 0, 0, 1, 1], [2, 2, 3, 3, 3]]))
    given = torch.ones(2, 5)
    assert facts(labels=labels, prompt_mask=given).prompt_positions().all()


def test_positions_of_padding_do_not_look_packed():
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])
    positions = torch.tensor([[1, 1, 0, 1, 2], [0, 1, 2, 1, 1]])
    assert facts(attention_mask=mask, position_ids=positions).prompt_positions().tolist() == mask.bool().tolist()


def test_a_mask_without_positions_is_refused():
    with pytest.raises(ValueError, match="does not say which positions are padding"):
        facts(attention_mask=torch.zeros(2, 1, 5, 5)).prompt_positions()


def test_padding_of_packed_rows_is_told_by_a_mask_of_its_own():
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    found = facts(attended_mask=mask, position_ids=torch.tensor([[0, 1, 0, 1, 2], [0, 1, 2, 0, 1]]))
    assert torch.equal(found.attended(), mask.bool())
    assert found.owners().tolist() == [[0, 0, 1, 1, 1], [2, 2, 2, 3, 3]]


def test_a_longer_attention_mask_covers_the_cache_first():
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0]])
    assert facts(attention_mask=mask).attended().int().tolist() == [[1] * 5, [1, 1, 1, 1, 0]]
