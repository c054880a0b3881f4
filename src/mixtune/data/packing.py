"""Several samples side by side in one row instead of each in its own: little or no padding is computed.

Legend: B samples, R rows, L positions of a row.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mixtune.data.pictures import join_pictures
from mixtune.data.sample import DataError
from mixtune.data.tokens import IGNORED

Rows = Sequence[Sequence[int]]
"""Numbers of the samples in each row."""


def plan_rows(lengths: Sequence[int], width: int | None = None) -> Rows:
    """Which of B samples with so many tokens share a row, so that R rows of L positions cost least.

    The cost is R · L · (width + L): `width` is the length at which the attention of a row costs as much as all else;
    None where attention costs no more than the samples' own, so that one row of all is best. For each R the samples,
    longest first, go each into the row that is shortest so far. B rows of one sample each are the padded batch, so no
    plan costs more than padding. Samples keep their order within a row, and rows that of their first.
    """
    if width is None:
        return [range(len(lengths))]
    best, least = [[number] for number in range(len(lengths))], _cost(len(lengths), max(lengths), width)
    for count in range(len(lengths) - 1, 0, -1):
        even = -(-sum(lengths) // count)
        if _cost(count, max(*lengths, even), width) < least:  # else no way to fill so few rows is cheaper
            rows = _spread(lengths, count)
            cost = _cost(count, max(sum(lengths[number] for number in row) for row in rows), width)
            if cost < least:
                best, least = rows, cost
    return best


def _cost(count: int, length: int, width: int) -> int:
    return count * length * (width + length)


def _spread(lengths: Sequence[int], count: int) -> list[list[int]]:
    """The samples in `count` rows of about the same length."""
    heap: list[tuple[int, int, list[int]]] = [(0, number, []) for number in range(count)]
    for number in sorted(range(len(lengths)), key=lambda each: -lengths[each]):
        filled, place, row = heap[0]
        row.append(number)
        heapq.heapreplace(heap, (filled + lengths[number], place, row))
    return sorted(sorted(row) for _, _, row in heap)


def pack(encoded: Sequence[Mapping[str, Tensor]], rows: Rows | None = None, pad_id: int = 0) -> dict[str, Tensor]:
    """Encoded samples as `rows` (default: one of all): `input_ids`, `labels` and `prompt_mask` [R, L], `position_ids`
    [R, L] that start again with every sample, and the pictures of all, row after row.

    Several rows are filled up with `pad_id`, not supervised, no prompt, which counts on from the row's last sample, so
    that no sample is made of it; `attended_mask` [R, L], bool, is false there. There is no attention mask: transformers
    reads from the positions which tokens may see each other, and what fills up comes after all that could see it.
    Raises DataError for samples with other tensors of one entry a token (token types): their models number positions or
    look at neighbours in a way of their own.
    """
    rows = [range(len(encoded))] if rows is None else rows
    ordered = [encoded[number] for row in rows for number in row]
    names = dict.fromkeys(name for each in ordered for name in each)
    others = [name for name in names if name.endswith("token_type_ids")]
    if others:
        raise DataError(
            f"data.packing: this model reads {', '.join(others)}, which packed rows cannot say; leave it off"
        )
    # A label at a sample's first token would be learnt from the sample before it.
    assert all(int(each["labels"][0]) < 0 for each in ordered)
    longest = max(sum(len(encoded[number]["input_ids"]) for number in row) for row in rows)
    made = [_row([encoded[number] for number in row], longest, pad_id) for row in rows]
    packed = {name: torch.stack([row[name] for row in made]) for name in made[0]}
    if len(rows) == 1:
        del packed["attended_mask"]
    pictures = {name: [each[name] for each in ordered if name in each] for name in names if name not in packed}
    return packed | {name: join_pictures(tensors) for name, tensors in pictures.items()}


def _row(encoded: Sequence[Mapping[str, Tensor]], length: int, pad_id: int) -> dict[str, Tensor]:
    """One row, filled up to `length`."""
    lengths = [len(each["input_ids"]) for each in encoded]
    missing = length - sum(lengths)
    row = {
        name: torch.cat([*(each[name] for each in encoded), encoded[0][name].new_full((missing,), filler)])
        for name, filler in (("input_ids", pad_id), ("labels", IGNORED), ("prompt_mask", False))
    }
    row["attended_mask"] = torch.arange(length) < length - missing
    lengths[-1] += missing
    row["position_ids"] = torch.cat([torch.arange(each) for each in lengths])
    return row
