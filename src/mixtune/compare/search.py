"""The small search: the same grid for every arm, judged on validation questions; all of it is reported."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mixtune.compare.arms import Arm
from mixtune.compare.settings import Comparison, SearchSettings, dotted


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One point of the grid for one arm: its mean accuracy on the validation questions, None if its run failed."""

    arm: str
    point: Mapping[str, Any]
    accuracy: float | None
    chosen: bool = False
    at_edge: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The row as comparison.json has it."""
        row = {"arm": self.arm, "point": dict(self.point), "accuracy": self.accuracy, "chosen": self.chosen}
        return {**row, "at_edge": list(self.at_edge)}


def searched(settings: Comparison) -> list[str]:
    """Arms that are searched themselves: all that train and do not take over what another arm found."""
    return [name for name, arm in settings.arms.items() if arm.kind != "untuned" and not arm.search_as]


def points(search: SearchSettings, arm: Arm) -> list[dict[str, Any]]:
    """The grid for one arm, without keys that the arm sets itself and, if it has no adapter, those of adapters."""
    free = _free({dotted(key): values for key, values in search.grid.items()}, arm)
    return [dict(zip(free, values, strict=True)) for values in itertools.product(*free.values())]


def _free(keys: Mapping[str, Any], arm: Arm) -> dict[str, Any]:
    """Those of dotted `keys` that the arm neither sets itself nor lacks, as one without an adapter lacks its keys."""
    own = {f"{section}.{key}" for section, part in arm.settings.changes.items() for key in part}
    if "adapter.lora_alpha" in own:
        own.add("adapter.scaling")
    if arm.recipe.adapter is None:
        own |= {key for key in keys if key.startswith("adapter.")}
    return {key: value for key, value in keys.items() if key not in own}


def choose(tried: Sequence[Tried]) -> list[Tried]:
    """The rows of one arm with the best marked (the first in ties) and the keys for which it lies at the grid's end."""
    scored = [row for row in tried if row.accuracy is not None]
    if not scored:
        return list(tried)
    best = max(scored, key=lambda row: row.accuracy or 0.0)
    edge = []
    for key, value in best.point.items():
        values = [row.point[key] for row in tried]
        numbers = all(isinstance(each, (int, float)) for each in values) and len(set(values)) > 1
        if numbers and value in (min(values), max(values)):
            edge.append(key)
    mark = {"chosen": True, "at_edge": tuple(edge)}
    return [Tried(**{**vars(row), **(mark if row is best else {})}) for row in tried]


def winners(settings: Comparison, arms: Mapping[str, Arm], tried: Sequence[Tried]) -> dict[str, Mapping[str, Any]]:
    """What each arm found, also those that take over another arm's, but for keys that are not theirs to take. An arm
    whose search failed is left out.
    """
    found = {row.arm: row.point for row in tried if row.chosen}
    shared = {name: arm.search_as for name, arm in settings.arms.items() if arm.search_as in found}
    return found | {name: _free(found[str(other)], arms[name]) for name, other in shared.items()}
