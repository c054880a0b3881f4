"""Recipes in and out of YAML, with `key=value` changes and every mistake reported at once."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pydantic import ValidationError

from mixtune.config.draft import Draft
from mixtune.config.errors import ConfigError
from mixtune.config.reading import write_yaml
from mixtune.config.settings import Recipe


def load_recipe(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Recipe:
    """Read a YAML recipe and apply `key=value` overrides, in order, before it is checked.

    Keys are dotted (`train.learning_rate=1e-4`, `data.sources.0.path=x`), or a bare name that one section
    alone has (`learning_rate=1e-4`); values are YAML. Raises ConfigError with every mistake of the file and
    the overrides, each with its line or override, key, value and near names.
    """
    draft = Draft(os.fspath(path))
    draft.read()
    for text in overrides:
        draft.override(text)
    try:
        recipe = Recipe.model_validate(draft.value)
    except ValidationError as error:
        draft.add_problems(error.errors(include_url=False))
    if draft.mistakes:
        raise ConfigError(draft.sorted_mistakes())
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML that `load_recipe` reads back to an equal one; values that are None are left out."""
    return write_yaml(recipe.model_dump(mode="json", exclude_none=True))
