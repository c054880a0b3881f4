"""Where tasks ask different things about the same pictures: is a wrong answer the right one to another task?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mixtune.evaluate.scorers import normalise_answer

ANSWERS = {"rank": "ranked", "greedy": "answer"}


@dataclass(frozen=True, kw_only=True)
class Mistaken:
    """Answers of one task: how many, how many are right, and how many wrong ones are right for another task."""

    n: int
    right: int
    of_another_task: int


def mistaken_tasks(rows: Sequence[Mapping[str, Any]], way: Literal["rank", "greedy"] = "rank") -> dict[str, Mistaken]:
    """Count answers that another task wanted, from the rows of samples.jsonl (see `mixtune.evaluate.run`).

    An answer counts as another task's if it is wrong and equals, once normalised, what a sample of another task with
    the same image wants. Many of those are the mark of interference: the picture was seen, the instruction was not
    heeded. Tasks that share no image with another one, and rows not answered that way, are left out. Rows of a blind
    control give no meaning: their targets do not belong to their images.
    """
    wanted: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        if row["image"] is not None:
            wanted[row["image"]][row["task"]].add(normalise_answer(row["target"]))
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in rows:
        here = wanted.get(row["image"], {})
        if len(here) < 2 or row.get(ANSWERS[way]) is None:
            continue
        others = set().union(*(targets for task, targets in here.items() if task != row["task"]))
        given, right = normalise_answer(row[ANSWERS[way]]), bool(row[f"{way}_correct"])
        counted = counts[row["task"]]
        counted[0] += 1
        counted[1] += right
        counted[2] += not right and given in others
    return {task: Mistaken(n=n, right=right, of_another_task=other) for task, (n, right, other) in counts.items()}
