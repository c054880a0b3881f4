"""From a comparison to its runs: what each arm trains, for how many steps, where; nothing is run or written here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mixtune.compare.arms import Arm, Names, fitted_arms, sized, with_keys
from mixtune.compare.loading import Loaded
from mixtune.compare.settings import SEARCH
from mixtune.config import Recipe, near
from mixtune.data import Sample, TaskSampler, fingerprint_samples, read_samples
from mixtune.training.plan import budget


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """Training data of one size: samples, their fingerprint, and the draws of each task in an epoch."""

    samples: int
    fingerprint: str
    quotas: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run and its questions. data_size: samples kept of each task, None for all. task: of a specialist.
    point: what a search run tries, empty in a final run. recipe: whole and explicit. benchmarks: what is asked; blind:
    and whether once more with wrong pictures.
    """

    arm: str
    seed: int
    folder: Path
    recipe: Recipe
    benchmarks: tuple[str, ...]
    steps: int
    data_size: int | None = None
    task: str | None = None
    point: Mapping[str, Any] = field(default_factory=dict)
    trains: bool = True
    blind: bool = False

    @property
    def label(self) -> str:
        """How a person calls it."""
        parts = [self.arm, f"size {self.data_size}" if self.data_size else "", f"seed {self.seed}", self.task or ""]
        parts += [f"{key}={value}" for key, value in self.point.items()]
        return " ".join(part for part in parts if part)


class PlanError(ValueError):
    """A comparison whose arms cannot be held against each other, or not be built; one line a mistake."""


class Plan:
    """Arms and data of a loaded comparison. Raises PlanError listing the arms that do not fit, ModelError and DataError
    as a training run would.
    """

    def __init__(self, loaded: Loaded, names: Names, out: Path):
        self.settings, self.out, self.names = loaded.settings, out, names
        self._data: dict[str, tuple[list[str], str]] = {}  # tasks of the samples, and what they hash to
        mistakes: list[str] = []
        self.arms = fitted_arms(loaded, names, mistakes)
        mistakes += self._unmatched() if self.settings.match == "steps" and not mistakes else []
        if mistakes:
            raise PlanError("\n".join(mistakes))

    @property
    def sizes(self) -> tuple[int | None, ...]:
        """Data sizes in order; (None,) without any."""
        return self.settings.data_sizes or (None,)

    def data(self, recipe: Recipe, size: int | None) -> DataFacts:
        """The recipe's training data at one size. What was read once is not read again for other draws of it."""
        settings = sized(recipe, size).data
        key = settings.model_dump_json(include={"sources", "max_per_task", "max_bad"})
        if key not in self._data:
            resolved = self.names.recipe(recipe.model_copy(update={"data": settings}))
            samples = read_samples(resolved.data)[0]
            self._data[key] = [sample.task for sample in samples], fingerprint_samples(samples)
        labels, content = self._data[key]
        tasks = sorted(set(labels))
        sampler = TaskSampler([tasks.index(label) for label in labels], settings, 0, tasks, content)
        return DataFacts(samples=len(labels), fingerprint=sampler.fingerprint, quotas=sampler.quotas)

    def questions(self) -> dict[tuple[str, ...], list[Sample]]:
        """What is asked at the end and in the search, by the benchmarks' names. Raises PlanError for a task of
        `evaluate.tasks` without questions (validation questions may lack those that no arm trains on, unseen tasks),
        for questions that cannot be answered the way that counts, and for specialists that nothing is asked of.
        """
        judge, base = self.settings.evaluate, self.arms[self.settings.baseline]
        trained = self.data(base.recipe, None).quotas if judge.tasks else {}
        wanted = {judge.benchmarks: judge.tasks}
        if self.settings.search:
            wanted[judge.validation] = tuple(task for task in judge.tasks if task in trained)
        found = {}
        for names, tasks in wanted.items():
            samples = self.names.questions(names, judge.per_task)
            found[names] = [sample for sample in samples if not judge.tasks or sample.task in judge.tasks]
            known = {sample.task for sample in samples}
            for task in [task for task in tasks if task not in known]:
                hint = near(task, known)
                raise PlanError(f"evaluate.tasks: no question of {', '.join(names)} belongs to {task!r}{hint}")
        if mistakes := [line for names, samples in found.items() for line in self._unanswerable(names, samples)]:
            raise PlanError("\n".join(mistakes))
        return found

    def _unanswerable(self, names: Sequence[str], samples: Sequence[Sample]) -> Iterator[str]:
        """What is wrong with questions: no options to rank, none of a specialist's task."""
        asked, bare = {sample.task for sample in samples}, sorted({s.task for s in samples if not s.options})
        if self.settings.evaluate.way == "rank" and bare:
            yield f"evaluate.way: rank, but questions of {', '.join(bare)} list no options; take greedy"
        for arm in self.arms.values():
            tasks = self._specialties(arm, None) if arm.settings.kind == "specialists" else []
            if missing := sorted(set(tasks) - asked):
                yield (
                    f"arms.{arm.name}: specialists are asked their own tasks, and {', '.join(names)} has no question "
                    f"of {', '.join(missing)}; add questions of them, or name others in evaluate.tasks"
                )

    def _specialties(self, arm: Arm, size: int | None) -> list[str]:
        """The tasks that specialists of an arm are trained on, one each."""
        judged = self.settings.evaluate.tasks
        return [task for task in self.data(arm.recipe, size).quotas if not judged or task in judged]

    def steps(self, arm: Arm, size: int | None, task: str | None = None) -> int:
        """Optimizer steps of one run of an arm."""
        facts = self.data(arm.recipe, size)
        whole = round(budget(sized(arm.recipe, size), facts.samples).steps * arm.settings.samples)
        if task is None or arm.settings.specialist_steps == "matched":
            return max(whole, 1)
        return max(round(whole * facts.quotas[task] / facts.samples), 1)

    def _unmatched(self) -> list[str]:
        """Arms whose steps or samples a step are not those of the baseline."""
        base, found = self.arms[self.settings.baseline], []
        for arm in self.arms.values():
            if not arm.trains:
                continue
            for size in self.sizes:
                mine, theirs = (
                    budget(sized(each.recipe, size), self.data(each.recipe, size).samples) for each in (arm, base)
                )
                if (mine.steps, mine.batch) != (theirs.steps, theirs.batch):
                    found.append(
                        f"arms.{arm.name}: takes {mine.steps} steps of {mine.batch} samples, the baseline "
                        f"{theirs.steps} of {theirs.batch}; use `samples:` for a longer run, or `match: none`"
                    )
                    break
        return found

    def runs(self, winners: Mapping[str, Mapping[str, Any]] | None = None) -> list[Run]:
        """The final runs, with what the search found for each arm; seeds come last, so that arms advance together."""
        found: list[Run] = []
        for size in self.sizes:
            for seed in self.settings.seeds:
                for arm in self.arms.values():
                    once = seed == self.settings.seeds[0] and size == self.sizes[0]
                    if arm.trains or once:  # an untuned model is the same for every seed and size
                        found += self._runs_of(arm, seed, size if arm.trains else None, (winners or {}).get(arm.name))
        return found

    def search_runs(self, arm: Arm, points: Sequence[Mapping[str, Any]]) -> list[Run]:
        """The runs of the search for one arm: all points with the search's seed, asked the validation questions."""
        search = self.settings.search
        assert search is not None
        found = []
        for point in points:
            place = "_".join(f"{key.rpartition('.')[2]}-{value}" for key, value in point.items()) or "as-is"
            for run in self._runs_of(arm, search.seed, self.sizes[-1], point):
                steps = min(search.steps or run.steps, run.steps)
                folder = self.out / SEARCH / arm.name / slug(place) / Path(*run.folder.relative_to(self.out).parts[1:])
                shorter = run.recipe.train.model_copy(update={"max_steps": steps, "output_dir": str(folder)})
                recipe = run.recipe.model_copy(update={"train": shorter})
                asked: dict[str, Any] = {"benchmarks": self.settings.evaluate.validation, "blind": False}
                found.append(replace(run, folder=folder, recipe=recipe, steps=steps, point=point, **asked))
        return found

    def _runs_of(self, arm: Arm, seed: int, size: int | None, point: Mapping[str, Any] | None) -> Iterator[Run]:
        recipe = with_keys(sized(arm.recipe, size), point or {})
        folder = self.out / arm.name / (f"size-{size}" if size else "") / f"seed-{seed}"
        common: dict[str, Any] = {
            "arm": arm.name,
            "seed": seed,
            "data_size": size,
            "benchmarks": self.settings.evaluate.benchmarks,
        }
        common["blind"] = self.settings.evaluate.blind and seed == self.settings.seeds[0]
        if arm.settings.kind != "specialists":
            steps = self.steps(arm, size) if arm.trains else 0
            train = recipe.train.model_copy(update={"max_steps": steps or -1, "seed": seed, "output_dir": str(folder)})
            whole = recipe.model_copy(update={"train": train})
            yield Run(folder=folder, recipe=whole, steps=steps, trains=arm.trains, **common)
            return
        tasks = list(self.data(arm.recipe, size).quotas)
        for task in self._specialties(arm, size):
            steps, place = self.steps(arm, size, task), folder / slug(task)
            train = recipe.train.model_copy(update={"max_steps": steps, "seed": seed, "output_dir": str(place)})
            alone = {"sampling": "weights", "weights": {name: float(name == task) for name in tasks}}
            data = recipe.data.model_copy(update=alone)
            whole = recipe.model_copy(update={"train": train, "data": data})
            yield Run(folder=place, recipe=whole, steps=steps, task=task, **common)


def slug(text: str) -> str:
    """`text` as a folder's name."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", text)
