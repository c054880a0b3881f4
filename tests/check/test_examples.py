"""Batches as training and generation make them."""

import pytest
import torch

from mixtune.check.examples import Example, NotApplicableError, batch, joined_pictures, positions


def example(length=5, prompt=3, **more):
    ids = torch.arange(10, 10 + length)[None]
    return Example(inputs={"input_ids": ids, **more}, prompt_length=prompt)


def test_rows_are_padded_on_either_side_with_room():
    rows = [example(5).whole(), example(4).whole()]
    right = batch(rows, "right", 0, room=1)
    assert right["input_ids"].tolist() == [[10, 11, 12, 13, 14, 0], [10, 11, 12, 13, 0, 0]]
    assert right["labels"].tolist() == [[-100, -100, -100, 13, 14, -100], [-100, -100, -100, 13, -100, -100]]
    left = batch(rows, "left", 7, labels=False)
    assert left["input_ids"][1].tolist() == [7, 10, 11, 12, 13] and "labels" not in left
    assert left["attention_mask"][1].tolist() == [0, 1, 1, 1, 1]
    assert positions(left["attention_mask"])[1].tolist() == [0, 0, 1, 2, 3]


def test_tensors_with_one_entry_a_token_are_cut_and_continued_with_the_ids():
    types, mask = torch.tensor([[0, 0, 0, 1, 1]]), torch.ones(1, 5, 2, 1)
    given = example(token_type_ids=types, cross_attention_mask=mask, attention_mask=torch.ones(1, 5))
    assert set(given.prompt().tokens) == {"input_ids", "token_type_ids", "cross_attention_mask"}
    found = batch([given.whole()], "left", 0)
    assert torch.equal(found["token_type_ids"], types) and found["cross_attention_mask"].shape == (1, 5, 2, 1)
    longer = given.continued(torch.tensor([20, 21, 22]))
    assert longer.tokens["input_ids"].tolist() == [[10, 11, 12, 20, 21, 22]]
    assert longer.tokens["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1]]


def test_pictures_are_joined_in_order_and_belong_to_no_token():
    one, two = (example(pixel_values=torch.full((1, 5, 2), float(number))) for number in range(2))
    none = example()
    assert joined_pictures([one, none, two])["pixel_values"][:, 0, 0].tolist() == [0.0, 1.0]
    flat = example(pixel_values=torch.zeros(1, 5))
    with pytest.raises(NotApplicableError, match="do not go into one batch"):
        joined_pictures([one, flat])


@pytest.mark.parametrize(("ids", "prompt"), [([[1, 2]], 2), ([[1, 2]], 0), ([1, 2], 1)])
def test_an_example_needs_one_row_with_prompt_and_answer(ids, prompt):
    with pytest.raises(ValueError, match=r"prompt_length|input_ids"):
        Example(inputs={"input_ids": torch.tensor(ids)}, prompt_length=prompt)
