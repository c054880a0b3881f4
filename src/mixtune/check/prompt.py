"""Rule 1: an instance is routed on its prompt; answers and padding never influence it.

Shape suffixes: B rows, T positions, E factors or experts, K chosen slots.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixtune.check.examples import Inputs, NotApplicableError, Side
from mixtune.check.results import Tally
from mixtune.check.subject import Seen, Subject
from mixtune.routing.routers import RouterOutput

ROOM = 2  # padding positions that every row has, however long it is


def other_answers(subject: Subject, tally: Tally) -> None:
    """With other tokens in every answer the prompts are routed alike and have the same logits."""
    inputs, seen = subject.in_a_batch()
    answer_BT = inputs["labels"] != -100
    prompt_BT = ~answer_BT & inputs["attention_mask"].bool()
    other = replaced(subject, inputs, answer_BT)
    other["labels"] = torch.where(answer_BT, other["input_ids"], inputs["labels"])
    _compare(subject, tally, subject.look(other), seen, prompt_BT)


def other_padding(subject: Subject, tally: Tally) -> None:
    """Other tokens under attention 0 change nothing, padded on either side, with labels or without."""
    sides: tuple[tuple[Side, bool], ...] = (("right", True), ("left", False))
    for side, labels in sides:
        inputs = subject.together(side, room=ROOM, labels=labels)
        padding_BT = ~inputs["attention_mask"].bool()
        other = replaced(subject, inputs, padding_BT)
        _compare(subject, tally, subject.look(other), subject.look(inputs), ~padding_BT)


def replaced(subject: Subject, inputs: Inputs, where_BT: Tensor) -> Inputs:
    """`inputs` with other words of the examples at the positions `where_BT`."""
    words = subject.words
    if len(words) < 2:
        raise NotApplicableError("the examples hold no two different words to put in")
    ids_BT = inputs["input_ids"]
    at_BT = torch.searchsorted(words, ids_BT.clamp(words[0], words[-1]))
    steps_BT = 1 + torch.arange(ids_BT.shape[1], device=ids_BT.device) % (len(words) - 1)
    other_BT = words[(at_BT + steps_BT) % len(words)]
    return {**inputs, "input_ids": torch.where(where_BT, other_BT, ids_BT)}


def _compare(subject: Subject, tally: Tally, found: Seen, expected: Seen, where_BT: Tensor) -> None:
    tally.close(found.logits[where_BT], expected.logits[where_BT], "logits")
    for name, routed in expected.routed.items():
        compare_routing(tally, name, found.routed.get(name), routed, where_BT)


def compare_routing(
    tally: Tally, name: str, found: RouterOutput | None, expected: RouterOutput, where_BT: Tensor
) -> None:
    """Compare one router's selections and probabilities: of instances all, of tokens those at `where_BT`."""
    if found is None:
        tally.fact(False, f"{name}: routed in one forward only")
        return
    pick = (lambda each: each) if expected.indices_a.dim() == 2 else (lambda each: _at(each, where_BT))
    for field in ("indices_a", "indices_b", "probs", "probs_b"):
        one, other = getattr(found, field), getattr(expected, field)
        if one is not None and other is not None:
            word = "selection" if field.startswith("indices") else "probabilities"
            tally.close(pick(one), pick(other), f"{name}: {word}")


def _at(values: Tensor, where_BT: Tensor) -> Tensor:
    """Values [B, T, ·] (or [1, B·T, ·], where a block flattens its input) at the positions `where_BT`."""
    return values.reshape(*where_BT.shape, -1)[where_BT] if values.numel() else values
