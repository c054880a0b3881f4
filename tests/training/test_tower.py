"""A tower that sees pictures one at a time gives each its own features, and features can stand for pictures."""

import pytest
import torch

import zoo
from mixtune.training.setup import prepare
from mixtune.training.tower import TowerError, check_tower, join_tower, layers_read, picture_features, split_tower
from runs import tiny_recipe

PER_PICTURE = ("llava", "aya_vision", "internvl", "paligemma", "gemma3")


def one_picture(name):
    return zoo.ZOO[name].pictures((zoo.SMALL,), torch.Generator().manual_seed(3))


def tokens(model, pictures):
    with torch.no_grad():
        return torch.cat(list(model.get_image_features(pixel_values=pictures).pooler_output))


@pytest.mark.parametrize("name", zoo.ZOO)
def test_every_architecture_is_exact_or_refused(name):
    model = zoo.build(name).requires_grad_(False)
    if name not in PER_PICTURE:
        with pytest.raises(TowerError, match="for one picture; features can be kept only of models that take"):
            check_tower(model, one_picture(name))
        return
    features = check_tower(model, one_picture(name))
    assert features.shape[0] == 1 and features.dim() == 3
    example = zoo.examples(name, model)[1]  # two pictures
    plain = model(**example.inputs).logits
    split_tower(model, 1)
    assert torch.equal(model(**example.inputs).logits, plain)
    stored = torch.cat([picture_features(model, each[None]) for each in example.inputs["pixel_values"]])
    assert torch.equal(model(**{**example.inputs, "pixel_values": stored}).logits, plain)
    join_tower(model)
    assert torch.equal(model(**example.inputs).logits, plain)


@pytest.mark.parametrize(("layers", "width"), [(-1, 32), (1, 32), ([-2, 0, -1], 96)])
def test_the_hidden_states_that_the_model_reads_are_kept(tiny_llava, layers, width):
    model = tiny_llava()[0].requires_grad_(False)
    model.config.vision_feature_layer = layers
    model.model.config.vision_feature_layer = layers
    if width != 32:
        model.model.multi_modal_projector.linear_1 = torch.nn.Linear(width, 32).requires_grad_(False)
    features = check_tower(model, {"pixel_values": torch.randn(1, 3, 28, 28)})
    assert features.shape == (1, 5, width)
    assert layers_read(model) == ((layers,) if isinstance(layers, int) else tuple(layers))


@pytest.mark.parametrize(("at_once", "seen"), [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (8, [5])])
def test_pictures_go_through_a_few_at_a_time(tiny_llava, at_once, seen):
    model = tiny_llava()[0]
    pixels, counts = torch.randn(5, 3, 28, 28), []
    expected = tokens(model, pixels)
    split_tower(model, at_once)
    patches = next(module for name, module in model.named_modules() if name.endswith("patch_embedding"))
    patches.register_forward_pre_hook(lambda _m, args: counts.append(len(args[0])))
    assert torch.equal(tokens(model, pixels), expected)
    assert counts == seen


def test_one_at_a_time_a_pictures_features_are_its_own_also_where_the_tower_mixes_a_batch(tiny_llava):
    model = tiny_llava()[0]
    tower = model.model.vision_tower
    whole = tower.forward
    tower.forward = lambda pixel_values, **rest: whole(pixel_values + 1e-3 * len(pixel_values), **rest)
    pixels = torch.randn(3, 3, 28, 28)
    alone = torch.cat([tokens(model, each[None]) for each in pixels])
    assert not torch.equal(tokens(model, pixels), alone)
    mixing = tower.forward
    split_tower(model, 1)
    tower.forward.encode = mixing
    assert torch.equal(tokens(model, pixels), alone)


TRAINS_THE_TOWER = {
    "an adapter on it": {"target_modules": r".*(vision_tower|language_model).*q_proj", "exclude_modules": ["lm_head"]},
    "a copy of it": {"modules_to_save": ["vision_tower"]},
}


@pytest.mark.parametrize("way", TRAINS_THE_TOWER)
def test_a_tower_that_trains_is_refused(tiny_llava, tmp_path, way):
    picture = {"pixel_values": torch.randn(1, 3, 28, 28)}
    for change, refused in (({}, False), (TRAINS_THE_TOWER[way], True)):
        model = tiny_llava()[0].requires_grad_(False)
        recipe = tiny_recipe(tmp_path / "d", tmp_path, adapter={"preset": "lora", **change})
        adapted = prepare(model, recipe).trained.model
        if not refused:
            assert check_tower(adapted, picture).shape == (1, 5, 32)
            continue
        with pytest.raises(TowerError, match="the vision tower trains"):
            check_tower(adapted, picture)


def test_a_model_that_reads_more_than_is_kept_is_refused(tiny_llava, monkeypatch):
    model = tiny_llava()[0].requires_grad_(False)
    inner = type(model.model)
    plain = inner.get_image_features

    def reads_pixels(self, pixel_values, **rest):
        output = plain(self, pixel_values, **rest)
        output.pooler_output = [each + pixel_values.mean() for each in output.pooler_output]
        return output

    monkeypatch.setattr(inner, "get_image_features", reads_pixels)
    with pytest.raises(TowerError, match="reads more of its tower's output than"):
        check_tower(model, {"pixel_values": torch.randn(1, 3, 28, 28)})


def test_several_squares_for_one_picture_are_refused(tiny_llava):
    model = tiny_llava()[0].requires_grad_(False)
    with pytest.raises(TowerError, match=r"takes pixel_values \(3, 3, 28, 28\) for one picture"):
        check_tower(model, {"pixel_values": torch.randn(3, 3, 28, 28)})
