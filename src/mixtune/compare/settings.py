"""Settings of a comparison: arms that differ from one base recipe, their seeds, and how they are judged."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from mixtune.config import Recipe, Settings, near
from mixtune.config.draft import fields_at
from mixtune.config.settings import Count, CountOrZero, Names, Positive, Text

SEARCH = "search"
FREE = "free"
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}


def parse_count(value: Any) -> Any:
    """A number of parameters in words ("5M", "300k", "1.2B") as a whole number; anything else as it is."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgGbB]?)", value.strip()) if isinstance(value, str) else None
    return value if found is None else round(float(found[1]) * _UNITS[found[2].lower()])


def _some(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise ValueError("is empty; name at least one")
    if len(set(map(repr, value))) < len(value):
        raise ValueError(f"{list(value)} has an entry twice")
    return value


def _arm_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", value) or value == SEARCH:
        raise ValueError(
            f"'{value}' cannot name a folder; use letters, digits, '_', '.', '+', '-' (and not '{SEARCH}')"
        )
    return value


Parameters = Annotated[int, BeforeValidator(parse_count), Field(ge=1)]
Fragment = Annotated[dict[str, Any], Field(default_factory=dict)]


class ArmSettings(Settings):
    """One arm: what of the base recipe it changes (`model`, `data`, `adapter`, `train`), and how it is run.

    kind: "joint" trains one model on all tasks, "specialists" one on each task, whose answers are joined into one arm,
    "untuned" none. specialist_steps: each specialist takes all the steps of the joint run ("matched"), or the share of
    them that the joint run spends on its task ("share"). samples: how many times the steps of the base, at the same
    samples a step. budget: numbers the adapter may train ("5M"), or the name of an arm that it must equal; "free" for
    what its own settings give. solve: the field that the budget decides; by default num_factors of a conditional
    router, r of everything else. search_as: take over what the search found for that arm instead of searching.
    """

    kind: Literal["joint", "specialists", "untuned"] = "joint"
    model: Fragment
    data: Fragment
    adapter: Fragment
    train: Fragment
    specialist_steps: Literal["matched", "share"] = "matched"
    samples: Positive = 1.0
    budget: Text | Parameters | None = None
    solve: Literal["r", "num_factors", "num_experts"] | None = None
    search_as: Text | None = None

    @property
    def equals(self) -> str | None:
        """The arm whose number of trained parameters this one must have, if its budget names one."""
        given = parse_count(self.budget)
        return given if isinstance(given, str) and given != FREE else None

    @property
    def changes(self) -> dict[str, Any]:
        """The parts of a recipe that the arm changes."""
        parts = {"model": self.model, "data": self.data, "adapter": self.adapter, "train": self.train}
        return {name: part for name, part in parts.items() if part}


class JudgeSettings(Settings):
    """What every run is asked after training, as `mixtune evaluate` takes it.

    benchmarks: the final questions. validation: those of the search. tasks: only these (a specialist is asked its own).
    per_task: only so many of a task, always the same. way: which answers count, ranked options or greedy ones. blind:
    ask every arm's first seed once more with wrong pictures (benchmarks named `NAME:blind`), which says what the
    pictures are good for.
    """

    benchmarks: Annotated[Names, AfterValidator(_some)]
    validation: Names = ()
    tasks: Names = ()
    per_task: Count | None = None
    batch_size: Count = 64
    way: Literal["rank", "greedy"] = "rank"
    blind: bool = False


class SearchSettings(Settings):
    """A grid that every arm is tried on with one seed; the best mean accuracy on the validation questions wins.

    grid: recipe keys (`learning_rate`, `adapter.scaling`) and the values of each. A key that an arm sets itself is not
    searched for it, nor a key of the adapter for an arm without one. steps: shorter runs than the final ones.
    """

    grid: Annotated[dict[str, Annotated[tuple[Any, ...], AfterValidator(_some)]], Field(min_length=1)]
    seed: CountOrZero = 0
    steps: Count | None = None


class Comparison(Settings):
    """A comparison: every arm is run with every seed (and with every data size) and held against `baseline`.

    base: keys of a train recipe; `recipe: FILE` in it reads another file first. data_sizes: samples kept of each task.
    scale: the scale s of every adapter, but of arms that set scaling or lora_alpha. budget: numbers that every adapter
    trains, see `ArmSettings`. match "steps": every arm takes the base's optimizer steps and samples a step (times its
    `samples`); "none" lets arms change them. protocol: the published table whose rows are printed beside the runs'.
    """

    output_dir: Text
    base: dict[str, Any]
    arms: Annotated[dict[Annotated[str, AfterValidator(_arm_name)], ArmSettings], Field(min_length=1)]
    evaluate: JudgeSettings
    baseline: Text = "lora"
    seeds: Annotated[tuple[CountOrZero, ...], AfterValidator(_some)] = (0, 1, 2)
    data_sizes: tuple[Count, ...] = ()
    match: Literal["steps", "none"] = "steps"
    scale: Positive | None = None
    budget: Parameters | None = None
    search: SearchSettings | None = None
    protocol: Text | None = None


def dotted(key: str) -> str:
    """A recipe's key with its section (`train.learning_rate` for `learning_rate`). Raises ValueError if it has none."""
    section, dot, name = key.partition(".")
    homes = [section] if dot else [part for part in Recipe.model_fields if key in fields_at((part,))]
    name = name if dot else key
    if len(homes) == 1 and name in fields_at((homes[0],)):
        return f"{homes[0]}.{name}"
    known = [leaf for part in Recipe.model_fields for leaf in fields_at((part,))]
    raise ValueError(f"{key}: is no single key of a recipe{near(name, known)}")


def cross_checks(settings: Comparison) -> list[tuple[tuple[str, ...], str]]:
    """(path, what is wrong) of names that point nowhere and settings that need another."""
    arms = settings.arms
    found: list[tuple[tuple[str, ...], str]] = []
    if settings.baseline not in arms:
        found.append((("baseline",), f"'{settings.baseline}' is no arm{near(settings.baseline, arms)}"))
    if settings.search and not settings.evaluate.validation:
        found.append((("search",), "needs evaluate.validation: questions that the final ones are not among"))
    same = sorted(set(settings.evaluate.validation) & set(settings.evaluate.benchmarks))
    if settings.search and same:
        found.append(
            (("evaluate", "validation"), f"{same[0]!r} is among the benchmarks too; a search may not see them")
        )
    for key in settings.search.grid if settings.search else ():
        try:
            dotted(key)
        except ValueError as error:
            found.append((("search", "grid", key), str(error).partition(": ")[2]))
    for name, arm in arms.items():
        here = ("arms", name)
        if arm.search_as and (arm.search_as not in arms or arms[arm.search_as].search_as):
            found.append(
                ((*here, "search_as"), f"'{arm.search_as}' is no arm that is searched{near(arm.search_as, arms)}")
            )
        other = arm.equals
        if other is not None and (other not in arms or other == name or arms[other].equals):
            hint = near(other, [*arms, FREE])
            found.append(((*here, "budget"), f"{other!r} is no number like 5M, nor an arm without a budget{hint}"))
        if arm.kind != "specialists" and arm.specialist_steps != "matched":
            found.append(((*here, "specialist_steps"), "is for an arm of kind 'specialists'"))
    return found
