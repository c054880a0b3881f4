"""Rule 3: nobody else matters; a sample's output is the same alone, in any batch and in a packed row.

Shape suffixes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

import torch

from mixtune.check.examples import Side, joined_pictures, labels_of
from mixtune.check.results import Tally
from mixtune.check.subject import Subject, Written, attended, need_two, same_text


def padded_left(subject: Subject, tally: Tally) -> None:
    """Alone and in a batch padded on the left: the same logits, and instances routed with the same probabilities."""
    _in_a_batch(subject, tally, "left")


def padded_right(subject: Subject, tally: Tally) -> None:
    """The same with the padding on the right."""
    _in_a_batch(subject, tally, "right")


def _in_a_batch(subject: Subject, tally: Tally, side: Side) -> None:
    need_two(subject)
    together = subject.together(side, room=1)  # padding, even where all are equally long
    seen = subject.look(together)
    for row, single in enumerate(subject.alone()):
        tally.close(attended(seen.logits, together, row), single.logits[0], f"logits of example {row}")
        for name, routed in single.routed.items():
            if routed.indices_a.dim() == 2 and name in seen.routed:
                found = seen.routed[name].probs[row : row + 1]
                tally.close(found, routed.probs, f"{name}: probabilities of example {row}")


def generated(subject: Subject, tally: Tally) -> None:
    """`generate` writes the same alone and in a batch."""
    need_two(subject)
    together = subject.greedy(subject.examples)
    for row, each in enumerate(subject.examples):
        mine = Written(together.tokens[row : row + 1], together.logits[row : row + 1], None)
        same_text(tally, mine, subject.greedy([each]), f"logits of example {row}")


def packed(subject: Subject, tally: Tally) -> None:
    """Examples after one another in one row, positions starting anew with each: the same logits as apart."""
    need_two(subject)
    rows = [each.whole() for each in subject.examples]
    inputs = {name: torch.cat([row.tokens[name] for row in rows], 1) for name in rows[0].tokens}
    inputs["labels"] = torch.cat([labels_of(row) for row in rows], 1)
    device = inputs["labels"].device
    inputs["position_ids"] = torch.cat([torch.arange(row.length, device=device) for row in rows])[None]
    seen = subject.look(inputs | joined_pictures(subject.examples))
    ends = torch.tensor([row.length for row in rows]).cumsum(0).tolist()
    for row, single in enumerate(subject.alone()):
        start = ends[row] - rows[row].length
        tally.close(seen.logits[:, start : ends[row]], single.logits, f"logits of example {row}")
