import pytest
import torch

from mixtune.data.packing import pack
from mixtune.data.sample import DataError


def encoded(length, answer, pictures=1, **more):
    ids = torch.arange(length)
    labels = torch.where(ids < length - answer, -100, ids)
    found = {"input_ids": ids, "labels": labels, "prompt_mask": labels < 0, **more}
    return found | ({"pixel_values": torch.full((pictures, 3, 2, 2), float(length))} if pictures else {})


def test_samples_lie_side_by_side_with_their_pictures_in_order():
    row = pack([encoded(4, 1), encoded(3, 2, pictures=0), encoded(5, 1, pictures=2)])
    assert row["input_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3, 4]]
    assert torch.equal(row["position_ids"], row["input_ids"])
    assert row["labels"].tolist() == [[-100, -100, -100, 3, -100, 1, 2, -100, -100, -100, -100, 4]]
    assert row["prompt_mask"].int().tolist() == [[1, 1, 1, 0, 1, 0, 0, 1, 1, 1, 1, 0]]
    assert row["pixel_values"][:, 0, 0, 0].tolist() == [4.0, 5.0, 5.0]
    assert "attention_mask" not in row


def test_token_types_are_refused():
    with pytest.raises(DataError, match=r"data\.packing: this model reads mm_token_type_ids"):
        pack([encoded(4, 1, mm_token_type_ids=torch.zeros(4))])
