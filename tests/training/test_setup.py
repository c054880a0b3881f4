import pytest
import torch

from mixtune.training.architectures import build_on_meta
from mixtune.training.setup import adapter_config, count_parameters, prepare
from runs import tiny_recipe
from tiny import tiny_config


def make(tiny_llava, tmp_path, **options):
    return prepare(tiny_llava()[0], tiny_recipe(tmp_path / "d.jsonl", tmp_path, **options))


@pytest.mark.parametrize("adapter", ["lora", "mixlora", "llava-mole", None])
def test_parameters_counted_without_weights_are_those_that_train(tiny_llava, tmp_path, adapter):
    prepared = make(tiny_llava, tmp_path, adapter=adapter)
    recipe = tiny_recipe(tmp_path / "d.jsonl", tmp_path, adapter=adapter)
    assert count_parameters(build_on_meta(tiny_config()), recipe) == prepared.parameters
    trained = sum(weight.numel() for weight in prepared.trained.model.parameters() if weight.requires_grad)
    assert prepared.total == trained > 0
    assert prepared.parameters["projector"] == 2 * 32 * 32 + 2 * 32


def test_the_projector_stays_frozen_on_request(tiny_llava, tmp_path):
    prepared = make(tiny_llava, tmp_path, train_projector=False)
    assert prepared.parameters["projector"] == 0


def test_modules_named_by_the_user_are_saved_beside_the_projector(tmp_path):
    recipe = tiny_recipe(tmp_path / "d", tmp_path, adapter={"preset": "lora", "modules_to_save": ["embed_tokens"]})
    assert adapter_config(recipe.adapter, "connector").modules_to_save == ["connector", "embed_tokens"]


def test_only_routers_with_a_gate_are_expected_to_learn_from_the_task(tiny_llava, tmp_path):
    assert make(tiny_llava, tmp_path, adapter="mixlora").hooks.routers
    assert not make(tiny_llava, tmp_path, adapter="mixlora-published").hooks.routers
    assert not make(tiny_llava, tmp_path, adapter="lora").hooks.routers
    assert make(tiny_llava, tmp_path, adapter=None).hooks is None


def test_the_adapter_records_the_recipes_name_of_its_base_and_depends_on_the_seed_alone(tiny_llava, tmp_path):
    first, again = make(tiny_llava, tmp_path), make(tiny_llava, tmp_path)
    other = make(tiny_llava, tmp_path, seed=1)
    assert first.trained.model.peft_config["default"].base_model_name_or_path == "tiny"
    pairs = zip(first.trained.model.parameters(), again.trained.model.parameters(), strict=True)
    assert all(torch.equal(left, right) for left, right in pairs)
    pairs = zip(first.trained.model.parameters(), other.trained.model.parameters(), strict=True)
    assert not all(torch.equal(left, right) for left, right in pairs)


def test_a_misspelt_target_is_refused_with_near_names(tiny_llava, tmp_path):
    with pytest.raises(ValueError, match=r"q_prj.*q_proj"):
        make(tiny_llava, tmp_path, adapter={"preset": "lora", "target_modules": ["q_prj"]})
