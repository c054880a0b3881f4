"""From answered rows of one benchmark to its numbers: means, POPE's five, MME's sums, and what papers make of them.

A row is a line of samples.jsonl; `task` is "BENCHMARK/PART" or "BENCHMARK", `cluster` the image its question is about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from mixtune.evaluate.numbers import Number, mean_of, ratio

Row: TypeAlias = Mapping[str, Any]
Numbers: TypeAlias = Callable[[Sequence[Row]], dict[str, Number]]

RANKED = "ranked_accuracy"
MME_PERCEPTION = tuple("existence count position color posters celebrity scene landmark artwork OCR".split())
MME_COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


def part_of(row: Row) -> str:
    """The part of a benchmark a row belongs to; empty if it has none."""
    return str(row["task"]).partition("/")[2]


def parts_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each part, parts by name."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(part_of(row), []).append(row)
    return dict(sorted(found.items()))


def clustered(rows: Sequence[Row], counts: Callable[[Row], Sequence[float]]) -> np.ndarray:
    """Sums [C, K] of what the rows of each cluster add, clusters by name; a row without one is its own."""
    sums: dict[str, np.ndarray] = {}
    for row in rows:
        name = f"image {row['cluster']}" if row.get("cluster") else f"sample {row['id']}"
        added = np.asarray(counts(row), dtype=float)
        sums[name] = sums[name] + added if name in sums else added
    return np.stack([sums[name] for name in sorted(sums)])


def mean_number(rows: Sequence[Row], field: str = "score") -> Number:
    """Mean over the rows of a field, or of a detail of that name."""
    counts = clustered(rows, lambda row: (float(row[field] if field in row else row["details"][field]), 1.0))
    return Number(strata=(counts,), value=mean_of, mean=True)


def ranked_numbers(rows: Sequence[Row]) -> dict[str, Number]:
    """``ranked_accuracy``: the share whose most likely option is the target."""
    return {RANKED: mean_number(rows, "rank_correct")}


def task_numbers(rows: Sequence[Row], field: str = "score", name: str = "accuracy") -> dict[str, Number]:
    """Mean over tasks of a field's mean, every task counting the same; then that of each split, if there are two."""
    found, splits = {name: task_mean(rows, field)}, sorted({row["split"] for row in rows})
    if len(splits) > 1:
        found |= {f"{name}/{each}": task_mean([row for row in rows if row["split"] == each], field) for each in splits}
    return found


def task_mean(rows: Sequence[Row], field: str) -> Number:
    """Mean over tasks of a field's mean."""
    strata: list[np.ndarray] = []
    for task in sorted({row["task"] for row in rows}):
        strata += mean_number([row for row in rows if row["task"] == task], field).strata
    return Number(strata=tuple(strata), value=mean_of, mean=True)


def mean_numbers(rows: Sequence[Row], name: str = "accuracy", details: Sequence[str] = ()) -> dict[str, Number]:
    """Mean score under ``name``, then of every part ("accuracy/human"), then the mean of each detail."""
    found = {name: mean_number(rows)}
    parts = parts_of(rows)
    found |= {f"{name}/{part}": mean_number(mine) for part, mine in parts.items() if part}
    return found | {detail: mean_number(rows, detail) for detail in details}


def _counts_pope(row: Row, *, lmms_eval: bool) -> tuple[float, ...]:
    """(right, questions, true positives, false positives, false negatives, said yes) of one row."""
    yes, said = row["target"].lower() == "yes", row["read_as"]
    missed = said == "no" if lmms_eval else said != "yes"
    counts_as_yes = yes if lmms_eval else said == "yes"
    return row["score"], 1, yes and said == "yes", not yes and said == "yes", yes and missed, counts_as_yes


def _precision(totals: Sequence[np.ndarray]) -> np.ndarray:
    t = totals[0]
    return ratio(t[..., 2], t[..., 2] + t[..., 3])


def _recall(totals: Sequence[np.ndarray]) -> np.ndarray:
    t = totals[0]
    return ratio(t[..., 2], t[..., 2] + t[..., 4])


def _f1(totals: Sequence[np.ndarray]) -> np.ndarray:
    precision, recall = _precision(totals), _recall(totals)
    return ratio(2 * precision * recall, precision + recall)


def _yes_ratio(totals: Sequence[np.ndarray]) -> np.ndarray:
    return ratio(totals[0][..., 5], totals[0][..., 1])


POPE = {"accuracy": mean_of, "precision": _precision, "recall": _recall, "f1": _f1, "yes_ratio": _yes_ratio}


def pope_numbers(rows: Sequence[Row], *, lmms_eval: bool = False) -> dict[str, Number]:
    """Accuracy, precision, recall, F1 (yes is the positive class) and yes-ratio, of all rows and of each split.

    A ratio over nothing is 0 (the official script stops there). With ``lmms_eval``, as its utils.py has it: an answer
    that is neither yes nor no is no false negative, and the yes-ratio is that of the *targets*.
    """
    found = {}
    for part, mine in {"": list(rows), **parts_of(rows)}.items():
        counts = clustered(mine, partial(_counts_pope, lmms_eval=lmms_eval))
        for name, value in POPE.items():
            found[f"{name}/{part}" if part else name] = Number(strata=(counts,), value=value)
    return found


def _points(totals: Sequence[np.ndarray]) -> np.ndarray:
    """Sum over subtasks of 100 (right / questions) + 100 (pairs all right / pairs)."""
    return sum((100 * (ratio(t[..., 0], t[..., 1]) + ratio(t[..., 2], t[..., 3])) for t in totals), np.zeros(()))


def mme_numbers(rows: Sequence[Row]) -> dict[str, Number]:
    """Points of perception (10 subtasks), cognition (4), both together, and each subtask: acc + acc+, 0 to 200.

    acc is the share of right answers in per cent, acc+ the share of images whose two answers are both right. Source:
    calculation.py of the MME evaluation tool. Raises ValueError for an image that has not exactly two questions, or a
    subtask unknown to MME.
    """
    subtasks = {part: _pairs(part, mine) for part, mine in parts_of(rows).items()}
    groups = {"perception": MME_PERCEPTION, "cognition": MME_COGNITION, "total": MME_PERCEPTION + MME_COGNITION}
    found = {}
    for name, members in groups.items():
        strata = tuple(subtasks[part] for part in members if part in subtasks)
        if strata:
            found[name] = Number(strata=strata, value=_points, unit="points", most=200.0)
    each = {
        part: Number(strata=(counts,), value=_points, unit="points", most=200.0) for part, counts in subtasks.items()
    }
    return found | {f"points/{part}": number for part, number in each.items()}


def _pairs(part: str, rows: Sequence[Row]) -> np.ndarray:
    """(right, questions, both right, pairs) of each image."""
    if part not in MME_PERCEPTION + MME_COGNITION:
        raise ValueError(f"mme: {part!r} is none of the 14 subtasks: {', '.join(MME_PERCEPTION + MME_COGNITION)}")
    counts = clustered(rows, lambda row: (row["score"], 1.0))
    if np.any(counts[:, 1] != 2):
        wrong = int(np.sum(counts[:, 1] != 2))
        raise ValueError(f"mme: {wrong} image(s) of {part} have not exactly two questions; MME scores pairs")
    return np.column_stack([counts, counts[:, 0] == 2, np.ones(len(counts))])


def pathvqa_numbers(rows: Sequence[Row]) -> dict[str, Number]:
    """Open questions: mean recall, F1 and precision of words. Closed ones: accuracy. Source: see `token_overlap`."""
    parts, found = parts_of(rows), {}
    if "open" in parts:
        found["open_recall"] = mean_number(parts["open"])
        found["open_f1"] = mean_number(parts["open"], "f1")
        found["open_precision"] = mean_number(parts["open"], "precision")
    if "closed" in parts:
        found["closed_accuracy"] = mean_number(parts["closed"])
    return found


def _sum_of_means(totals: Sequence[np.ndarray]) -> np.ndarray:
    return sum((100 * ratio(t[..., 0], t[..., 1]) for t in totals), np.zeros(()))


def sum_of_parts(rows: Sequence[Row]) -> dict[str, Number]:
    """``overall``: sum over the parts of their accuracy in per cent; then each part's accuracy.

    Source: Overall_Score of OpenGVLab/Multi-Modality-Arena, tiny_lvlm_evaluation/updated_eval_tiny.py.
    """
    parts = {part: mean_number(mine) for part, mine in parts_of(rows).items()}
    whole = Number(strata=tuple(n.strata[0] for n in parts.values()), value=_sum_of_means, unit="points", most=100.0)
    return {"overall": whole, **{f"accuracy/{part}": number for part, number in parts.items()}}
