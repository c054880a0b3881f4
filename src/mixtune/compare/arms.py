"""The arms of a comparison, each a whole recipe with its size solved for the budget it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mixtune.compare.budget import Parameters, Solved, count, solve
from mixtune.compare.loading import Loaded
from mixtune.compare.settings import FREE, ArmSettings, Comparison, parse_count
from mixtune.config import Recipe
from mixtune.data import Sample


@dataclass(frozen=True, kw_only=True)
class Names:
    """What names like `pocket/train` mean. recipe: a recipe with folders and files instead; questions: the samples of
    evaluation benchmarks (their names, the first so many of a task or None).
    """

    recipe: Callable[[Recipe], Recipe]
    questions: Callable[[Sequence[str], int | None], list[Sample]]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm as it will be run: its recipe with the solved size in it, what it trains, what the budget decided."""

    name: str
    settings: ArmSettings
    recipe: Recipe
    parameters: Parameters | None
    solved: Solved | None = None

    @property
    def trains(self) -> bool:
        """Whether there is anything to train."""
        return self.settings.kind != "untuned"


def sized(recipe: Recipe, size: int | None) -> Recipe:
    """The recipe with so many samples of each task; unchanged for None."""
    if size is None:
        return recipe
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"max_per_task": size})})


def with_keys(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with dotted keys set, checked again. An adapter that gets a scale loses its lora_alpha."""
    if not values:
        return recipe
    whole = recipe.model_dump(mode="json", exclude_none=True)
    for key, value in values.items():
        section, _, name = key.partition(".")
        if key == "adapter.scaling":
            whole[section].pop("lora_alpha", None)
        whole[section][name] = value
    return Recipe.model_validate(whole)


def fitted_arms(loaded: Loaded, names: Names, mistakes: list[str]) -> dict[str, Arm]:
    """All arms, those with a budget solved; arms that name another arm's size come after it. `mistakes` grows."""
    settings = loaded.settings
    fitted: dict[str, Arm] = {}
    waiting = sorted(settings.arms, key=lambda name: isinstance(_wanted(settings, name), str))
    for name in waiting:
        wanted = _wanted(settings, name)
        if isinstance(wanted, str):
            other = fitted.get(wanted)
            if other is None or other.parameters is None or not other.parameters.adapter:
                mistakes.append(f"arms.{name}.budget: arm '{wanted}' trains no adapter to be equal to")
                continue
            wanted = other.parameters.adapter
        try:
            fitted[name] = _fit(name, settings.arms[name], loaded.recipes[name], wanted, names)
        except ValueError as error:
            mistakes.append(f"arms.{name}: {error}")
    return {name: fitted[name] for name in settings.arms if name in fitted}


def _wanted(settings: Comparison, name: str) -> int | str | None:
    """The budget of an arm: a number, the name of an arm, or None for none."""
    given = parse_count(settings.arms[name].budget)
    if given == FREE or settings.arms[name].kind == "untuned":
        return None
    return settings.budget if given is None else given


def _fit(name: str, settings: ArmSettings, recipe: Recipe, wanted: Any, names: Names) -> Arm:
    if settings.kind == "untuned":
        return Arm(name=name, settings=settings, recipe=recipe, parameters=None)
    resolved, solved = names.recipe(recipe), None
    if wanted is not None and recipe.adapter is not None:
        resolved, solved = solve(resolved, wanted, settings.solve)
        recipe = recipe.model_copy(update={"adapter": resolved.adapter})
    return Arm(name=name, settings=settings, recipe=recipe, parameters=count(resolved), solved=solved)
