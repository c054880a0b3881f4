"""A comparison out of YAML: the base and every arm as whole recipes, with every mistake reported at once."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mixtune.adapters import MixtureConfig
from mixtune.compare.published import protocols
from mixtune.compare.settings import Comparison, cross_checks
from mixtune.config import AdapterSettings, ConfigError, Recipe, expand_path, near
from mixtune.config.draft import Draft
from mixtune.config.draft import Path as Place

SCALES = ("scaling", "lora_alpha")
UNUSED_DIR = "-"  # every run gets its own folder


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A comparison's settings, the recipe of each arm (seed, steps and folder are not decided yet), plain data of the
    file as it was read, base recipe included, and the folder it lies in.
    """

    settings: Comparison
    recipes: dict[str, Recipe]
    source: dict[str, Any]
    folder: Path


def load_comparison(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Loaded:
    """Read a YAML comparison and apply `key=value` overrides (as `load_recipe`, keys from the top of the file).

    Raises ConfigError with every mistake of the file, of the recipe that `base.recipe` names, of the overrides, and of
    each arm's whole recipe, at the line that the wrong value comes from.
    """
    draft = Draft(os.fspath(path), Comparison)
    draft.read()
    for text in overrides:
        draft.override(text)
    _read_base(draft)
    settings = None
    try:
        settings = Comparison.model_validate(draft.value)
    except ValidationError as error:
        draft.add_problems(error.errors(include_url=False))
    for place, what in cross_checks(settings) if settings else ():
        draft.add(place, what)
    if settings and settings.protocol and settings.protocol not in protocols():
        draft.add(("protocol",), f"'{settings.protocol}' is unknown{near(settings.protocol, protocols())}")
    recipes = _recipes(draft)
    if draft.mistakes or settings is None:
        raise ConfigError(draft.sorted_mistakes())
    return Loaded(settings=settings, recipes=recipes, source=draft.value, folder=Path(draft.file).parent)


def _read_base(draft: Draft) -> None:
    """Put the recipe that `base.recipe` names (from the comparison's folder) under what `base` says itself."""
    base = draft.value.get("base")
    if not isinstance(base, dict) or "recipe" not in base:
        return
    name = base.pop("recipe")
    if not isinstance(name, str):
        draft.add(("base", "recipe"), f"{name!r} is no path of a recipe")
        return
    file = Path(draft.file).parent / expand_path(name)
    below = Draft(os.fspath(file))
    below.read()
    draft.graft(("base",), below)
    draft.value["base"] = merged(below.value, base)


def merged(below: Mapping[Any, Any], above: Mapping[Any, Any]) -> dict[Any, Any]:
    """Plain data of two levels: tables are joined key by key, anything else is replaced by what is above.

    A table of positions (what the override `base.data.sources.0.path=x` makes) changes these entries of a list.
    """
    joined = copy.deepcopy(dict(below))
    for key, value in above.items():
        under = joined.get(key)
        if isinstance(value, Mapping) and isinstance(under, list) and value and set(value) <= set(range(len(under))):
            joined[key] = list(merged(dict(enumerate(under)), value).values())
        elif isinstance(value, Mapping) and isinstance(under, Mapping):
            joined[key] = merged(under, value)
        else:
            joined[key] = copy.deepcopy(value)
    return joined


def _recipes(draft: Draft) -> dict[str, Recipe]:
    """The whole recipe of every arm; what is wrong with one is noted where it was written."""
    base, arms = draft.value.get("base"), draft.value.get("arms")
    if not isinstance(base, dict) or not isinstance(arms, dict):
        return {}
    found = {}
    for name, arm in arms.items():
        arm = {} if arm is None else arm
        if not isinstance(arm, dict) or not all(isinstance(arm.get(part, {}), dict) for part in Recipe.model_fields):
            continue  # Comparison has complained
        whole = arm_recipe(base, arm, draft.value.get("scale"))
        try:
            found[name] = Recipe.model_validate(whole)
        except ValidationError as error:
            origin = functools.partial(_origin, draft, str(name))
            draft.add_problems(error.errors(include_url=False), origin, Recipe)
        _check_adapter(draft, name, whole.get("adapter"))
    return found


def _check_adapter(draft: Draft, arm: str, given: Any) -> None:
    """Note what the method itself refuses: an unknown preset, sizes that do not go together."""
    try:
        adapter = AdapterSettings.model_validate(given) if given is not None else None
    except ValidationError:
        return  # noted with the recipe
    try:
        if adapter is not None:
            MixtureConfig(preset=adapter.preset, **adapter.overrides)
    except ValueError as error:
        draft.add(("arms", arm, "adapter"), str(error))


def arm_recipe(base: Mapping[str, Any], arm: Mapping[str, Any], scale: float | None) -> dict[str, Any]:
    """Plain data of an arm's recipe: the base, the arm's changes, the scale of all arms where the arm has none.

    The base's adapter is left out for a stage that trains none, unless the arm speaks of an adapter itself; an untuned
    arm is a recipe without one, of which only the model is used.
    """
    changes = {part: arm[part] for part in Recipe.model_fields if arm.get(part)}
    whole = merged(base, changes)
    train = whole.get("train")
    if isinstance(train, dict):
        train["output_dir"] = UNUSED_DIR
        if arm.get("kind") == "untuned":
            train["stage"] = "align"
        if train.get("stage", "tune") != "tune" and "adapter" not in changes:
            whole.pop("adapter", None)
    given = changes.get("adapter", {})
    if scale is not None and isinstance(whole.get("adapter"), dict) and not any(key in given for key in SCALES):
        whole["adapter"].pop("lora_alpha", None)
        whole["adapter"]["scaling"] = scale
    return whole


def _origin(draft: Draft, arm: str, path: Place) -> Place:
    """Where the value at `path` of an arm's recipe was written: in the arm, if it says so much of it, or the base."""
    inside, below = ("arms", arm, *path), ("base", *path)
    said = draft.knows(inside) - 2
    return inside if not path or (said > 0 and said >= draft.knows(below) - 1) else below
