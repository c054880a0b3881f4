import random
from itertools import product

import pytest
import torch

from mixtune.data.packing import pack, plan_rows
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


def test_several_rows_are_filled_up_behind_their_last_sample():
    made = pack([encoded(4, 1), encoded(3, 2), encoded(2, 1)], [[1], [0, 2]], pad_id=9)
    assert made["input_ids"].tolist() == [[0, 1, 2, 9, 9, 9], [0, 1, 2, 3, 0, 1]]
    assert made["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 0, 1]]  # no sample starts in the filling
    assert made["labels"].tolist() == [[-100, 1, 2, -100, -100, -100], [-100, -100, -100, 3, -100, 1]]
    assert made["prompt_mask"].int().tolist() == [[1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 1, 0]]
    assert made["attended_mask"].int().tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    assert made["pixel_values"][:, 0, 0, 0].tolist() == [3.0, 4.0, 2.0]


def cost(rows, lengths, width):
    longest = max(sum(lengths[number] for number in row) for row in rows)
    return len(rows) * longest * (width + longest)


@pytest.mark.parametrize("width", [1, 8, 64, 10**6])
def test_rows_hold_every_sample_once_and_cost_no_more_than_padding(width):
    draw = random.Random(width)
    for count in (1, 2, 5, 16, 33):
        lengths = [draw.randint(1, 60) for _ in range(count)]
        rows = plan_rows(lengths, width)
        assert sorted(number for row in rows for number in row) == list(range(count))
        assert all(list(row) == sorted(row) for row in rows) and list(rows) == sorted(rows)
        assert cost(rows, lengths, width) <= cost([[number] for number in range(count)], lengths, width)


@pytest.mark.parametrize("width", [4, 20, 100])
def test_rows_are_nearly_the_cheapest_there_are(width):
    """Within a tenth of the best of all ways to put six samples into up to six rows."""
    draw = random.Random(width)
    for _ in range(5):
        lengths = [draw.randint(5, 40) for _ in range(6)]
        ways = ([[n for n in range(6) if put[n] == row] for row in range(6)] for put in product(range(6), repeat=6)
                if put[0] == 0 and all(put[n] <= max(put[:n]) + 1 for n in range(1, 6)))  # fmt: skip
        least = min(cost([row for row in rows if row], lengths, width) for rows in ways)
        assert least <= cost(plan_rows(lengths, width), lengths, width) <= 1.1 * least


def test_attention_that_costs_more_makes_shorter_rows():
    lengths = [31, 51, 34, 33, 36, 32, 33, 40]
    assert [len(plan_rows(lengths, width)) for width in (None, 10**6, 576, 1)] == [1, 1, 3, 8]
    assert plan_rows([40, 8, 8, 24, 40, 40], 64) == [[0], [1, 2, 3], [4], [5]]


def test_token_types_are_refused():
    with pytest.raises(DataError, match=r"data\.packing: this model reads mm_token_type_ids"):
        pack([encoded(4, 1, mm_token_type_ids=torch.zeros(4))])
