"""results.json from rows, and two runs side by side."""

import pytest

from mixtune.evaluate import EvaluateSettings, compare_rows, wilson_interval
from mixtune.evaluate.summary import summarise_splits, summarise_tasks


def row(name: str, right: bool | None, task: str = "a", **changes):
    facts = {"id": name, "task": task, "domain": "d", "split": "seen", "target": "x", "options": ["x", "y"]}
    return {**facts, "rank_correct": right, "greedy_correct": False, **changes}


def test_tasks_and_splits() -> None:
    rows = [row("1", True), row("2", False), row("3", True, "b", split="unseen", options=[])]
    rows.append(row("4", None, "c", options=["x", "y", "z", "w"]))
    tasks = summarise_tasks(rows, EvaluateSettings())
    assert tasks["a"]["rank"] == wilson_interval([True, False]).as_dict()
    assert (tasks["b"]["chance"], tasks["c"]["rank"], tasks["c"]["chance"]) == (None, None, 0.25)
    splits = summarise_splits(rows, tasks, EvaluateSettings())
    assert (splits["seen"]["tasks"], splits["seen"]["n"], splits["seen"]["chance"]) == (2, 3, 0.375)
    assert splits["seen"]["rank"]["accuracy"] == 0.5
    assert splits["unseen"]["chance"] is None
    assert splits["unseen"]["greedy"]["accuracy"] == 0.0


def test_comparison_takes_the_samples_both_answered() -> None:
    first = [row("1", True), row("2", True), row("3", True)]
    second = [row("2", False), row("1", True), row("9", True)]
    found = compare_rows(first, second)
    assert (found.samples, found.first_only, found.second_only) == (2, 1, 0)
    with pytest.raises(ValueError, match="no sample in common"):
        compare_rows(first, [row("7", True)])
    with pytest.raises(ValueError, match="sample '1' has the target 'x' in one run and 'z'"):
        compare_rows(first, [row("1", True, target="z")])
