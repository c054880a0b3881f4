"""The rules of routing on every family of vision-language models in the zoo, and what is adapted in each of them."""

import pytest
import torch

from mixtune import get_peft_model
from mixtune.adapters import families
from mixtune.adapters.layer import MixtureLinear
from mixtune.check import check_rules
from routed import config, randomise
from tolerances import TOL
from zoo import ZOO, build, examples

CLOSE = TOL[torch.float32]
PRESETS = ("mixlora", "llava-mole")
QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
# What the models themselves do not keep. A check that is not listed here has to apply, and to be kept.
ROPE = "positions of pictures are three numbers a token, worked out from a prompt and remembered by the model"
BOTH_WAYS = "tokens of a prompt, or of a picture, see each other in both directions, across the samples of a row too"
DOES_NOT_APPLY = {
    **{name: {"packed = separate": ROPE, "cache repeated, reordered, selected": ROPE} for name in QWEN},
    "paligemma": {"packed = separate": BOTH_WAYS},
    "gemma3": {"packed = separate": BOTH_WAYS},
}
every_family = pytest.mark.parametrize("name", ZOO)


def adapted(name, preset, **changes):
    return get_peft_model(build(name), config(preset, **changes)).eval()


@every_family
@pytest.mark.parametrize("preset", PRESETS)
def test_the_rules_hold(name, preset):
    model = adapted(name, preset)
    results = check_rules(model, examples(name, build(name)), tolerance=CLOSE["atol"])
    assert [result for result in results if result.kept is False] == []
    left_out = {result.check: result.reason for result in results if result.kept is None}
    assert left_out.keys() <= DOES_NOT_APPLY.get(name, {}).keys()
    assert all("the model without its mixture breaks it too" in reason for reason in left_out.values())


@every_family
@pytest.mark.parametrize("preset", PRESETS)
def test_the_language_model_is_adapted_and_nothing_else(name, preset):
    base = build(name)
    inside = next(path for path, module in base.named_modules() if module is base.get_decoder())
    linears = {path for path, module in base.named_modules() if isinstance(module, torch.nn.Linear)}
    model = get_peft_model(base, config(preset)).get_base_model()
    layers = {path: module for path, module in model.named_modules() if isinstance(module, MixtureLinear)}
    assert layers.keys() == {path for path in linears if path.startswith(f"{inside}.")} and len(layers) == 2 * 7
    mixed = {path for path, layer in layers.items() if layer.mixture_plan["default"].mixed}
    assert mixed == {path for path in layers if preset == "mixlora" or ".mlp." in path}
    owners = [path for path, layer in layers.items() if "default" in layer.mixture_router_A]
    assert len(owners) == (14 if preset == "mixlora" else 2)


@every_family
def test_its_configuration_names_the_tokens_of_pictures(name):
    base = build(name)
    found = families.picture_tokens(base)
    ids = examples(name, base)[0].inputs["input_ids"]
    assert found and sum((ids == token).sum() for token in found) > 0


@every_family
def test_the_projector_trains_and_the_tower_rests(name):
    base = build(name)
    path, _ = families.projector(base)
    tower, _ = families.vision_tower(base)
    model = get_peft_model(base, config("mixlora", modules_to_save=[path])).train()
    randomise(model)
    found = dict(examples(name, base)[0].inputs)
    model(**found, labels=found["input_ids"], prompt_mask=torch.ones_like(found["input_ids"])).loss.backward()
    trained = {each for each, parameter in model.named_parameters() if parameter.requires_grad}
    moved = {each for each, parameter in model.named_parameters() if parameter.grad is not None}
    assert moved == trained
    projected = {each for each in trained if f".{path}.modules_to_save." in each}
    assert projected and all(".mixture_" in each for each in trained - projected)
    assert not {each for each in trained - projected if f".{tower}." in each}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", QWEN)
def test_packed_rows_with_positions_of_pictures(name, preset):
    """Where position ids have a plane for the text and three for the picture, the first tells the samples apart."""
    model = adapted(name, preset)
    randomise(model)
    rows = [each for each in examples(name, build(name)) if "pixel_values" in each.inputs]
    given = [{**each.inputs, "position_ids": _positions(model, each.inputs), "use_cache": False} for each in rows]
    labels = [each.inputs["input_ids"].clone() for each in rows]
    for each, row in zip(labels, rows, strict=True):
        each[:, : row.prompt_length] = -100
    packed = {
        key: torch.cat([each[key] for each in given], 0 if key in ("pixel_values", "image_grid_thw") else -1)
        for key in ("input_ids", "mm_token_type_ids", "position_ids", "pixel_values", "image_grid_thw")
    }
    with torch.no_grad():
        apart = [model(**each, labels=label).logits for each, label in zip(given, labels, strict=True)]
        together = model(**packed, labels=torch.cat(labels, 1), use_cache=False).logits
    torch.testing.assert_close(together, torch.cat(apart, 1), **CLOSE)


def _positions(model, inputs):
    asked = ("input_ids", "mm_token_type_ids", "image_grid_thw")
    rotary = model.get_base_model().model.get_rope_index(**{key: inputs[key] for key in asked})[0]
    return torch.cat([torch.arange(rotary.shape[-1]).expand(1, 1, -1), rotary])


def test_the_table_of_families_says_what_is_tested():
    assert {each for row in families.FAMILIES if row.tested for each in row.model_types} == set(ZOO)
    assert all(build(name).config.model_type == name for name in ZOO)
