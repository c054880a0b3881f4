import pytest

from mixtune.config import load_recipe
from mixtune.training.dryrun import rehearse, synthetic_samples
from mixtune.training.loading import ModelError
from runs import tiny_recipe


@pytest.fixture
def said():
    lines = []
    return lines, lambda *new: lines.extend(new)


def test_a_recipe_is_rehearsed_on_its_own_model_and_data_and_nothing_is_kept(tiny_samples, tmp_path, said):
    lines, say = said
    metrics = rehearse(tiny_recipe(tiny_samples(12), tmp_path / "run"), say)
    assert metrics["steps"] == 2 and metrics["loss"] > 0
    assert not (tmp_path / "run").exists()
    text = "\n".join(lines)
    assert "12 samples of 3 task(s)" in text and "routers: " in text and "6 steps of 4 samples" in text


def test_without_data_synthetic_samples_do(tmp_path, said):
    recipe = tiny_recipe(tmp_path / "missing.jsonl", tmp_path / "run", adapter="lora")
    rehearse(recipe, said[1])
    assert any("synthetic samples" in line for line in said[0])
    assert {sample.task for sample in synthetic_samples()} == {"colour", "yes-no"}


def test_a_model_that_is_neither_here_nor_known_is_refused_with_near_names(tiny_samples, tmp_path, said):
    recipe = tiny_recipe(tiny_samples(4), tmp_path / "run")
    model = recipe.model.model_copy(update={"name_or_path": "llava-hf/llava-1.5-7b-fh"})
    with pytest.raises(ModelError, match=r"model\.name_or_path.*not on this machine"):
        rehearse(recipe.model_copy(update={"model": model}), said[1])


@pytest.mark.parametrize(
    ("name", "factors", "routers"),
    [("llava-v1-vision-flan-mixlora", 39_976_960, 109_314_048), ("llava-1.5-mole", 172_752_896, 393_312)],
)
def test_the_papers_recipes_pass(request, said, name, factors, routers):
    """Counts are the papers': 2.4986 M a unit of E, 2·E·1.1387 M and r·E·1.1387 M for MixLoRA (E = 16, r = 4)."""
    lines, say = said
    recipe = load_recipe(request.config.rootpath / "recipes" / f"{name}.yaml")
    metrics = rehearse(recipe, say)
    assert metrics["steps"] == 2
    text = "\n".join(lines)
    assert f"factors: {factors:,}" in text and f"routers: {routers:,}" in text
    assert "tiny random twin" in text and "synthetic" in text
