"""Stage full: the language model trains, the tower does not, and its weights come back bit for bit."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from mixtune.train import train
from mixtune.training.checkpoint import CheckpointError
from mixtune.training.loading import load_model
from mixtune.training.whole import load_tuned, load_whole
from runs import tiny_recipe


def full(data, folder, **settings):
    given = tiny_recipe(data, folder, adapter=None, **settings).model_dump()
    return type(tiny_recipe(data, folder)).model_validate({**given, "train": {**given["train"], "stage": "full"}})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    import tiny

    root = tmp_path_factory.mktemp("full")
    recipe = full(tiny.tiny_samples(root / "data", 12), root / "run", max_steps=4, save_steps=2)
    return recipe, train(recipe)


def test_all_but_the_tower_has_learnt(finished):
    recipe, result = finished
    before, after = load_model(recipe.model)[0], load_whole(load_model(recipe.model)[0], result.output_dir)
    new = dict(after.named_parameters())
    changed = {name for name, weight in before.named_parameters() if not torch.equal(weight, new[name])}
    assert all("vision_tower" not in name for name in changed)
    rest = {name for name in new if "vision_tower" not in name}
    assert changed == rest == set(load_file(result.output_dir / "weights.safetensors"))
    assert any("lm_head" in name for name in changed) and any("multi_modal_projector" in name for name in changed)


def test_a_run_names_its_files_and_says_how_to_load_them(finished):
    _, result = finished
    names = {path.name for path in result.output_dir.iterdir()}
    assert {"weights.safetensors", "weights.json", "README.md", "train_result.json"} <= names
    assert "adapter_config.json" not in names and "load_whole" in (result.output_dir / "README.md").read_text()


def test_a_resumed_run_ends_with_the_same_bits(finished, tmp_path):
    recipe, result = finished
    part = recipe.model_copy(update={"train": recipe.train.model_copy(update={"output_dir": str(tmp_path / "run")})})
    train(part)
    (tmp_path / "run" / "train_result.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    train(part)
    first, second = (load_file(folder / "weights.safetensors") for folder in (result.output_dir, tmp_path / "run"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_a_run_left_is_loaded_whatever_its_stage(finished, tiny_samples, tmp_path):
    recipe, result = finished
    tuned = load_tuned(load_model(recipe.model)[0], result.output_dir)
    saved = load_file(result.output_dir / "weights.safetensors")
    assert all(torch.equal(weight, saved[name]) for name, weight in tuned.named_parameters() if name in saved)
    for stage, settings in (("tune", {"adapter": "lora"}), ("align", {"adapter": None})):
        made = train(tiny_recipe(tiny_samples(8), tmp_path / stage, max_steps=1, **settings))
        model = load_tuned(load_model(recipe.model)[0], made.output_dir)
        assert hasattr(model, "peft_config") == (stage == "tune")
    with pytest.raises(CheckpointError, match="holds no adapter"):
        load_tuned(load_model(recipe.model)[0], tmp_path)


def test_a_damaged_file_and_another_base_are_refused(finished, tiny_llava, tmp_path):
    recipe, result = finished
    with pytest.raises(CheckpointError, match="was trained on base 'tiny'"):
        load_whole(tiny_llava(seed=5)[0], result.output_dir)
    shutil.copytree(result.output_dir, tmp_path / "copy")
    path = tmp_path / "copy" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\1\2\3")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_whole(load_model(recipe.model)[0], tmp_path / "copy")
