"""Trained and active parameters of an arm on the real model's shapes, and the size that meets a budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from mixtune.adapters import MixtureConfig, factor_parameters, router_parameters, trainable_breakdown
from mixtune.adapters.layer import MixtureLinear
from mixtune.config import Recipe
from mixtune.training.loading import ModelError, meta_model
from mixtune.training.setup import adapt, count_parameters

ROUNDS = 12


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Numbers of one arm. trained: by part (factors, routers, projector, other). active: numbers of the adapter that
    one input uses, banks and routers. per: what the routing looks at, "instance" or "token"; "all" without routing.
    """

    trained: dict[str, int]
    active: int
    per: str

    @property
    def adapter(self) -> int:
        """Trained numbers of banks and routers: what a budget counts (the projector is the same in every arm)."""
        return self.trained["factors"] + self.trained["routers"]

    def as_dict(self) -> dict[str, Any]:
        """The numbers as comparison.json has them."""
        return {**self.trained, "total": sum(self.trained.values()), "active": self.active, "active_per": self.per}


@dataclass(frozen=True, kw_only=True)
class Solved:
    """What a budget decided: `field` is `value`, which trains `reached` numbers of the `wanted` ones."""

    field: str
    value: int
    wanted: int
    reached: int

    @property
    def gap(self) -> float:
        """How far the arm is above (or below) the budget, as a share of it."""
        return self.reached / self.wanted - 1.0

    def as_dict(self) -> dict[str, Any]:
        """The numbers as comparison.json has them."""
        found = {"field": self.field, "value": self.value, "wanted": self.wanted, "reached": self.reached}
        return {**found, "gap": self.gap}


def count(recipe: Recipe) -> Parameters:
    """Count on the base's shapes, without its weights. Raises ModelError if its configuration is not on this machine.

    Of E factors a conditional router lets r act on an instance; of E experts a linear router lets top_k act on a token
    (all of them where `dense` is "always"). Routers act, unless selections are drawn (`random_routing`).
    """
    model = meta_model(recipe.model)
    if model is None:
        raise ModelError(
            f"model.name_or_path: '{recipe.model.name_or_path}' is not on this machine, so nothing can be counted on it"
        )
    model.requires_grad_(False)
    if recipe.adapter is None:
        return Parameters(trained=count_parameters(model, recipe), active=0, per="all")
    with torch.device("meta"):
        adapted = adapt(model, recipe)
    config: Any = next(iter(adapted.peft_config.values()))
    banks = sum(weight.numel() * _share(adapted, name) for name, weight in factor_parameters(adapted).items())
    routers = 0 if config.random_routing else sum(weight.numel() for weight in router_parameters(adapted).values())
    per = "all" if config.context == "none" else config.context
    return Parameters(trained=trainable_breakdown(adapted), active=round(banks) + routers, per=per)


def _share(model: torch.nn.Module, parameter: str) -> float:
    """The part of a bank that acts on one input. `parameter` is `<layer>.mixture_A.<adapter>.weight`."""
    layer = model.get_submodule(parameter.rsplit(".", 3)[0])
    assert isinstance(layer, MixtureLinear)
    plan = layer.mixture_plan[parameter.split(".")[-2]]
    config = plan.config
    if not plan.mixed or config.dense == "always":
        return 1.0
    return (config.r if config.router == "conditional" else config.top_k) / config.size


def solved_field(recipe: Recipe, given: str | None = None) -> str:
    """The field that a budget decides: what the arm says, else num_factors of a conditional router and r otherwise."""
    assert recipe.adapter is not None
    config = MixtureConfig(preset=recipe.adapter.preset, **recipe.adapter.overrides)
    return given or ("num_factors" if config.router == "conditional" else "r")


def with_size(recipe: Recipe, field: str, value: int) -> Recipe:
    """The recipe with another r, num_factors or num_experts; its scale stays what it was."""
    assert recipe.adapter is not None
    before = MixtureConfig(preset=recipe.adapter.preset, **recipe.adapter.overrides).scale
    update: dict[str, Any] = {field: value, "scaling": before, "lora_alpha": None}
    return recipe.model_copy(update={"adapter": recipe.adapter.model_copy(update=update)})


def solve(recipe: Recipe, wanted: int, given: str | None = None, measure: Callable[[Recipe], Parameters] = count):
    """(the recipe whose adapter trains nearest to `wanted` numbers, what was decided).

    The count grows (nearly) linearly with the field, so a secant finds it in a few counts, and its two neighbours are
    compared. Raises ValueError naming the smallest size if even that one is more than twice the budget.
    """
    field = solved_field(recipe, given)
    config = MixtureConfig(preset=recipe.adapter.preset, **recipe.adapter.overrides) if recipe.adapter else None
    assert config is not None
    lowest = {"num_factors": config.r, "num_experts": config.top_k}.get(field, 1)
    highest = config.num_factors if field == "r" and config.router == "conditional" else None
    known: dict[int, int] = {}

    def reached(value: int) -> int:
        if value not in known:
            known[value] = measure(with_size(recipe, field, value)).adapter
        return known[value]

    best = _nearest(reached, wanted, lowest, highest)
    if reached(best) > 2 * wanted:
        raise ValueError(
            f"budget: {wanted:,} numbers are too few: the smallest {field}, {best}, trains {reached(best):,}"
        )
    decided = Solved(field=field, value=best, wanted=wanted, reached=reached(best))
    return with_size(recipe, field, best), decided


def _nearest(reached: Callable[[int], int], wanted: int, lowest: int, highest: int | None) -> int:
    """The whole number from `lowest` to `highest` whose count is nearest to `wanted`."""
    top = highest if highest is not None else math.inf
    here, step = lowest, 1
    for _ in range(ROUNDS):
        other = here + step if here + step <= top else here - step
        if other < lowest:
            return here
        slope = (reached(other) - reached(here)) / (other - here)
        guess = here + math.floor((wanted - reached(here)) / max(slope, 1e-9))
        guess = int(min(max(guess, lowest), top))
        if guess == here:
            break
        here = guess
    near_by = [value for value in (here - 1, here, here + 1) if lowest <= value <= top]
    return min(near_by, key=lambda value: abs(reached(value) - wanted))
