"""From answered samples to results.json: accuracy with its interval per task, macro averages per split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mixtune.evaluate.scorers import chance_level
from mixtune.evaluate.settings import EvaluateSettings
from mixtune.evaluate.statistics import PairedComparison, compare_paired, macro_interval, wilson_interval

WAYS = ("rank", "greedy")


def outcomes_by_task(rows: Sequence[Mapping[str, Any]], way: str) -> dict[str, list[bool]]:
    """Right or wrong per task, in the order of ids; tasks not answered that way are left out."""
    tasks: dict[str, list[bool]] = {}
    for row in sorted(rows, key=lambda row: row["id"]):
        if row.get(f"{way}_correct") is not None:
            tasks.setdefault(row["task"], []).append(bool(row[f"{way}_correct"]))
    return dict(sorted(tasks.items()))


def summarise_tasks(rows: Sequence[Mapping[str, Any]], settings: EvaluateSettings) -> dict[str, dict[str, Any]]:
    """Per task: domain, split, n, chance, and Wilson's interval for
    each way it was answered (None where it was not).
    """
    tasks: dict[str, dict[str, Any]] = {}
    scored = {way: outcomes_by_task(rows, way) for way in WAYS}
    for task in sorted({row["task"] for row in rows}):
        mine = [row for row in rows if row["task"] == task]
        chance = chance_level([len(row["options"]) for row in mine])
        tasks[task] = {
            "domain": mine[0]["domain"],
            "split": mine[0]["split"],
            "n": len(mine),
            "chance": chance,
        }
        for way in WAYS:
            found = scored[way].get(task)
            tasks[task][way] = wilson_interval(found, settings.confidence).as_dict() if found else None
    return tasks


def summarise_splits(
    rows: Sequence[Mapping[str, Any]], tasks: Mapping[str, Mapping[str, Any]], settings: EvaluateSettings
) -> dict[str, dict[str, Any]]:
    """Per split: number of tasks, mean chance, and the macro average of each way with its interval.

    A way's average is over the tasks answered that way; chance is the mean over tasks that have options.
    """
    splits: dict[str, dict[str, Any]] = {}
    for split in sorted({task["split"] for task in tasks.values()}):
        members = {name: task for name, task in tasks.items() if task["split"] == split}
        chances = [task["chance"] for task in members.values() if task["chance"] is not None]
        entry: dict[str, Any] = {"tasks": len(members), "n": sum(task["n"] for task in members.values())}
        entry["chance"] = sum(chances) / len(chances) if chances else None
        inside = [row for row in rows if row["split"] == split]
        for way in WAYS:
            outcomes = outcomes_by_task(inside, way)
            entry[way] = macro_interval(outcomes, settings.confidence).as_dict() if outcomes else None
        splits[split] = entry
    return splits


def compare_rows(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], way: str = "rank", **options: Any
) -> PairedComparison:
    """Paired comparison of two runs on the samples that both answered (see `compare_paired` for the tests).

    Raises ValueError if they share no sample, or if a shared one has another target (not the same benchmark).
    """
    mine, other = {row["id"]: row for row in first}, {row["id"]: row for row in second}
    shared = sorted(mine.keys() & other.keys())
    if not shared:
        raise ValueError("the two runs have no sample in common")
    for name in shared:
        if mine[name]["target"] != other[name]["target"]:
            raise ValueError(
                f"sample {name!r} has the target {mine[name]['target']!r} in one run and "
                f"{other[name]['target']!r} in the other"
            )
    a, b = (outcomes_by_task([rows[name] for name in shared], way) for rows in (mine, other))
    return compare_paired(a, b, **options)
