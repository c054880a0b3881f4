"""What the demo changes between its arms: the preset and the folder, nothing else."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mixtune.config import load_recipe
from mixtune.pocket.demo import ARMS, SMOKE_STEPS, Demo

RECIPE = Path(__file__).parents[2] / "recipes" / "pocket" / "demo.yaml"


def test_both_arms_share_the_recipe_and_the_scale() -> None:
    recipe = load_recipe(RECIPE)
    demo = Demo(recipe=RECIPE, out=Path("out"), smoke=False, resume=True, console=Console())
    arms = {arm: demo.arm(recipe, arm) for arm in ARMS}
    for arm, made in arms.items():
        assert made.adapter.preset == arm and made.train.output_dir == str(Path("out") / arm)
        same = {"preset": recipe.adapter.preset}
        assert made.adapter.model_copy(update=same) == recipe.adapter
        assert made.train.model_copy(update={"output_dir": recipe.train.output_dir}) == recipe.train
        assert (made.model, made.data) == (recipe.model, recipe.data)
    assert (recipe.adapter.r, recipe.adapter.num_factors, recipe.adapter.scaling) == (4, 16, 2.0)


def test_a_smoke_run_is_a_few_steps() -> None:
    demo = Demo(recipe=RECIPE, out=Path("out"), smoke=True, resume=True, console=Console())
    assert demo.arm(load_recipe(RECIPE), "lora").train.max_steps == SMOKE_STEPS
