import torch

from mixtune.data import read_samples
from mixtune.training.parts import projector
from mixtune.training.setup import prepare
from mixtune.training.warm import warm_start_projector
from runs import build_tiny, tiny_recipe


def test_the_projector_learns_from_pictures_and_answers_alone(tiny_samples, tmp_path):
    recipe = tiny_recipe(tiny_samples(9), tmp_path, adapter=None, dtype="bfloat16", warm_start_steps=40)
    model, processor = build_tiny(recipe.model)
    prepare(model, recipe)
    before = {name: value.clone() for name, value in model.named_parameters()}
    torch.manual_seed(0)
    losses = warm_start_projector(model, processor, read_samples(recipe.data)[0], recipe.train)
    assert losses[-1] < losses[0]
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {f"model.multi_modal_projector.{name}" for name, _ in projector(model)[1].named_parameters()}
