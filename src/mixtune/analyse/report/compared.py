"""A comparison.json as the report reads it: who is who, what was measured, and where the runs' training logs lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mixtune.analyse.palette import series_of
from mixtune.analyse.report.curves import ALL_TASKS, Curves, Line, log_line, logged_tasks, mean_line
from mixtune.analyse.runs import EVALUATION, LOG, Run, RunFolders, read_run
from mixtune.evaluate.settings import SPLITS
from mixtune.evaluate.store import SAMPLES, read_lines


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The content of a comparison.json and the folder it lies in."""

    content: Mapping[str, Any]
    folder: Path

    @property
    def entries(self) -> Sequence[Mapping[str, Any]]:
        """The results that hold any arm, one a data size."""
        return [entry for entry in self.content["results"] if entry["arms"]]

    @property
    def last(self) -> Mapping[str, Any]:
        """The results the answer is about: of the largest data size."""
        return max(self.entries, key=lambda entry: entry["data_size"] or 0)

    @property
    def facts(self) -> Mapping[str, Mapping[str, Any]]:
        """What each arm is and cost."""
        return self.content["arms"]

    @property
    def baseline(self) -> str:
        """The arm that differences are to."""
        return self.last["baseline"]

    @cached_property
    def styles(self) -> dict[str, str]:
        """The style of every arm, in the order of the file."""
        return series_of(list(self.facts), [name for name, arm in self.facts.items() if arm["kind"] == "untuned"])

    def seeds_words(self, arm: str, entry: Mapping[str, Any]) -> str:
        """How many seeds of an arm are whole in an entry of the results, and of how many where some are not."""
        rows = [row for row in self.content["runs"] if row["data_size"] in (entry["data_size"], None)]
        planned = len({row["seed"] for row in rows if row["arm"] == arm})
        finished = len(entry["arms"].get(arm, {"seeds": ()})["seeds"])
        if not planned and not finished:
            return "search failed"
        return f"{finished} of {planned}" if finished < planned else str(finished)

    @property
    def failed(self) -> Sequence[Mapping[str, Any]]:
        """The runs that failed, those of the search too."""
        return [{"reason": "", **row} for row in self.content["failed"]]

    @property
    def mixtures(self) -> list[str]:
        """Arms with results that choose among factors or experts, but the baseline and controls whose routers are kept
        from learning.
        """
        return [name for name in self._joint(choosing=True) if not self._is_control(name)]

    @property
    def plain(self) -> list[str]:
        """Arms with results whose adapters choose nothing, but the baseline."""
        return self._joint(choosing=False)

    def _joint(self, *, choosing: bool) -> list[str]:
        return [
            name for name, arm in self.facts.items()
            if arm["kind"] == "joint" and arm["preset"] and name in self.last["arms"] and name != self.baseline
            and bool(arm.get("num_factors") or arm.get("num_experts")) == choosing
        ]  # fmt: skip

    def _is_control(self, arm: str) -> bool:
        given = self.content["settings"].get("arms", {}).get(arm, {}).get("adapter") or {}
        return given.get("router_trainable") is False or given.get("random_routing") is True

    @property
    def specialists_share(self) -> float | None:
        """How many samples all specialists of a seed take together for one of the baseline; None if not known."""
        counts = [self.facts[name].get("samples") if name else None for name in (self.specialists, self.baseline)]
        return counts[0] / counts[1] if counts[0] and counts[1] else None

    @property
    def specialists(self) -> str | None:
        """The specialists with results; those that take all the steps, where there are several."""
        found = [name for name in self.last["gaps"] if name in self.last["arms"]]
        return next((name for name in found if self.facts[name]["specialist_steps"] == "matched"), (found or [None])[0])

    @property
    def best_mixture(self) -> str | None:
        """The mixture with the highest mean on seen tasks (on unseen ones if it was asked no others)."""

        def standing(name: str) -> tuple[float, ...]:
            splits = self.last["arms"][name]["splits"]
            return tuple(splits[split]["mean"] if split in splits else -1.0 for split in SPLITS)

        return max(self.mixtures, key=standing, default=None)

    def difference(self, arm: str, split: str) -> Mapping[str, Any] | None:
        """The arm minus the baseline on a split; None if either is not there."""
        return self.last["differences"].get(arm, {}).get("splits", {}).get(split)

    def gap(self, arm: str, split: str = "seen") -> Mapping[str, Any] | None:
        """The arm minus the specialists on a split; None if either is not there."""
        if self.specialists is None:
            return None
        return self.last["gaps"][self.specialists].get(arm, {}).get("splits", {}).get(split)

    def spotlight(self) -> list[str]:
        """The arms that small pictures show: specialists, the baseline and the best mixture."""
        names = [self.specialists, self.baseline, self.best_mixture]
        return [name for name in dict.fromkeys(names) if name is not None and name in self.last["arms"]]

    @cached_property
    def sample_runs(self) -> list[Run]:
        """One run each of the best mixture (or another joint arm) and of the baseline, whose answers can be looked at:
        of each its first finished seed; empty without them.
        """
        size, joint = self.last["data_size"], [name for name, arm in self.facts.items() if arm["kind"] == "joint"]
        found: dict[str, Run] = {}
        for arm in dict.fromkeys(name for name in (self.best_mixture, self.baseline, *joint) if name):
            for row in self.content["runs"]:
                folder = self.folder / row["folder"] / EVALUATION
                mine = row["arm"] == arm and row["data_size"] in (size, None) and row["done"]
                if mine and len(found) < 2 and arm not in found and (folder / SAMPLES).exists():
                    found[arm] = read_run(arm, RunFolders(evaluation=folder))
        return list(found.values())

    @cached_property
    def curves(self) -> Curves:
        """Learning curves of the arms on the largest data size, means over seeds; of specialists, over tasks too."""
        size = self.last["data_size"]
        logs: dict[str, list[tuple[str | None, list[dict[str, Any]]]]] = {}
        for row in self.content["runs"]:
            path = self.folder / row["folder"] / LOG
            if row["done"] and row["data_size"] in (size, None) and path.exists():
                logs.setdefault(row["arm"], []).append((row["task"], read_lines(path)))
        choices = logged_tasks([log for found in logs.values() for _, log in found])
        curves = {choice: _arm_lines(logs, choice) for choice in ([ALL_TASKS, *choices] if logs else [])}
        return {choice: lines for choice, lines in curves.items() if lines}


def _arm_lines(logs: Mapping[str, Sequence[tuple[str | None, list[dict[str, Any]]]]], choice: str) -> dict[str, Line]:
    lines = {}
    for arm, found in logs.items():
        line = mean_line(
            [log_line(log, choice) for task, log in found if choice == ALL_TASKS or task in (None, choice)]
        )
        if line[0]:
            lines[arm] = line
    return lines
