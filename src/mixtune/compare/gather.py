"""What finished runs left on disk, as answers by task, seed and question.

A public benchmark (POPE, TextVQA) is one unseen task, called by its name, whatever parts it has: in a mean over tasks
it counts once. What its protocol's rule half accepts (TextVQA) counts by its score.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mixtune.compare.estimates import accuracy
from mixtune.compare.jobs import BLIND, EVALUATION, RESULTS
from mixtune.compare.plan import Run
from mixtune.evaluate.scorers import chance_level
from mixtune.evaluate.settings import SPLITS
from mixtune.evaluate.store import SAMPLES, read_lines
from mixtune.training.checkpoint import RESULT_FILE, read_json


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished run: its results.json; what each answer is worth (0 to 1), by task and question; what each task is;
    what each question shows; its train_result.json or {}; the accuracies of its blind control by task.
    """

    run: Run
    results: Mapping[str, Any]
    right: Mapping[str, Mapping[str, float]]
    targets: Mapping[str, str]
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)
    trained: Mapping[str, Any] = field(default_factory=dict)
    blind: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def read_finished(run: Run, way: str) -> Finished:
    """Read a run's files; `way` ("rank", "greedy") says which answers count. A specialist's other tasks are left out.

    Raises ValueError naming a file that is missing or damaged.
    """
    folder: Path = run.folder / EVALUATION
    rows = [row for row in read_lines(folder / SAMPLES) if run.task in (None, row["task"])]
    return Finished(
        run=run,
        results=read_json(folder / RESULTS),
        right=_worth(rows, way),
        targets={row["id"]: row["target"] for row in rows},
        facts=_facts(rows),
        pictures={row["id"]: row["image"] for row in rows if row.get("image")},
        trained=read_json(run.folder / RESULT_FILE) if run.trains else {},
        blind=_blind(read_lines(run.folder / BLIND / SAMPLES), way) if run.blind else {},
    )


def _place(row: Mapping[str, Any]) -> tuple[str, str]:
    """The task that a row's answer counts for, and its split."""
    return (row["task"], row["split"]) if row["split"] in SPLITS else (row.get("benchmark") or row["task"], SPLITS[1])


def _worth(rows: Sequence[Mapping[str, Any]], way: str) -> dict[str, dict[str, float]]:
    """What each answer is worth, by task and question; those that were not given that way are left out."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        correct = row.get(f"{way}_correct")
        worth = row.get("score") if correct is None and way == "greedy" else correct
        if worth is not None:
            found[_place(row)[0]][row["id"]] = float(worth)
    return dict(found)


def _facts(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Domain, split, questions and chance of every task."""
    mine: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        mine[_place(row)].append(row)
    return {
        task: {
            "domain": asked[0]["domain"],
            "split": split,
            "n": len(asked),
            "chance": chance_level([len(row["options"]) for row in asked]),
        }
        for (task, split), asked in mine.items()
    }


def _blind(rows: Sequence[Mapping[str, Any]], way: str) -> dict[str, dict[str, float]]:
    found = {}
    for task, worth in _worth(rows, way).items():
        seen = accuracy({task: np.array([list(worth.values())])})
        found[task] = {"mean": seen.mean, "low": seen.low, "high": seen.high}
    return found


def check_same_questions(finished: Sequence[Finished]) -> None:
    """Raises ValueError naming two runs that were asked the same question with different right answers."""
    seen: dict[str, tuple[str, Run]] = {}
    for each in finished:
        for name, target in each.targets.items():
            before, run = seen.setdefault(name, (target, each.run))
            if before != target:
                raise ValueError(
                    f"question {name!r} has the answer {before!r} in {run.folder} and {target!r} in {each.run.folder}; "
                    "the questions changed in between: remove the older folder and run again"
                )


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Answers of two arms to the same questions, y_SQ by task; what each question shows; the seeds that both have."""

    first: dict[str, np.ndarray]
    second: dict[str, np.ndarray]
    pictures: dict[str, list[str]]
    seeds: list[int]

    def of(self, tasks: Sequence[str]) -> Paired:
        """Of some tasks only."""
        return Paired(
            first={task: self.first[task] for task in tasks},
            second={task: self.second[task] for task in tasks},
            pictures={task: self.pictures[task] for task in tasks},
            seeds=self.seeds,
        )


class Table:
    """Answers of the runs of one data size: for each arm its seeds, tasks and questions.

    An arm's specialists are one row; a seed counts once all specialists of it have finished. An untuned arm's one run
    stands for every seed.
    """

    def __init__(self, finished: Sequence[Finished], expected: Mapping[str, Mapping[int, int]]):
        self._right: dict[str, dict[int, dict[str, dict[str, float]]]] = defaultdict(dict)
        counts: dict[tuple[str, int], int] = defaultdict(int)
        for each in finished:
            key = (each.run.arm, each.run.seed)
            counts[key] += 1
            for task, right in each.right.items():
                self._right[key[0]].setdefault(key[1], {}).setdefault(task, {}).update(right)
        for (arm, seed), found in counts.items():
            if found < expected[arm][seed]:
                self._right[arm].pop(seed, None)
        self._pictures = {name: shown for each in finished for name, shown in each.pictures.items()}
        self._fixed = {each.run.arm for each in finished if not each.run.trains}

    @property
    def arms(self) -> list[str]:
        """Arms with at least one whole seed."""
        return [arm for arm, seeds in self._right.items() if seeds]

    def seeds(self, arm: str) -> list[int]:
        """Seeds that an arm has finished."""
        return sorted(self._right[arm])

    def tasks(self, arm: str) -> list[str]:
        """Tasks that an arm answered with all its seeds."""
        seeds = list(self._right[arm].values())
        return sorted(set.intersection(*(set(tasks) for tasks in seeds)))

    def answers(self, arm: str, tasks: Sequence[str]) -> dict[str, np.ndarray]:
        """y_SQ of each of `tasks`, over the questions that all seeds answered."""
        return {task: self._rows(arm, self.seeds(arm), task, self._asked([arm], task)) for task in tasks}

    def paired(self, first: str, second: str, tasks: Sequence[str]) -> Paired:
        """The answers of two arms over the seeds and questions that both have."""
        pools = [set(self.seeds(arm)) for arm in (first, second) if arm not in self._fixed]
        seeds = sorted(set.intersection(*pools)) if pools else self.seeds(first)
        if not seeds:
            return Paired(first={}, second={}, pictures={}, seeds=[])
        asked = {task: self._asked([first, second], task) for task in tasks}
        mine, other = ({task: self._rows(arm, seeds, task, asked[task]) for task in tasks} for arm in (first, second))
        shown = {task: [self._pictures.get(name, f"{task} {name}") for name in names] for task, names in asked.items()}
        return Paired(first=mine, second=other, pictures=shown, seeds=seeds)

    def _asked(self, arms: Sequence[str], task: str) -> list[str]:
        sets = [set(tasks[task]) for arm in arms for tasks in self._right[arm].values()]
        return sorted(set.intersection(*sets))

    def _rows(self, arm: str, seeds: Sequence[int], task: str, asked: Sequence[str]) -> np.ndarray:
        found = self._right[arm]
        only = next(iter(found))
        rows = [found[only if arm in self._fixed else seed][task] for seed in seeds]
        return np.array([[row[name] for name in asked] for row in rows], dtype=float)
