import pytest
from torch import nn

from mixtune import get_peft_model
from mixtune.adapters.families import FAMILIES, PROJECTORS, TOWERS, outside_language_model, projector, vision_tower
from mixtune.adapters.layer import MixtureLinear
from routed import config
from tiny import tiny_llava


def renamed(**names):
    """The tiny LLaVA, of no family that the table knows, with other names for its parts."""
    model = tiny_llava()[0]
    model.config.model_type = "unheard_of"
    for old, new in names.items():
        setattr(model.model, new, getattr(model.model, old))
        delattr(model.model, old)
    return model


def test_each_model_type_has_one_row_and_every_name_is_found():
    types = [each for row in FAMILIES for each in row.model_types]
    assert len(types) == len(set(types))
    assert {name for row in FAMILIES for name in row.towers} == set(TOWERS)
    assert {name for row in FAMILIES for name in row.projectors} == set(PROJECTORS)


def test_parts_of_a_known_family_are_the_ones_its_row_names():
    model = tiny_llava()[0]
    model.model.merger = nn.Linear(2, 2)  # another family's name
    assert vision_tower(model) == ("model.vision_tower", model.model.vision_tower)
    assert projector(model) == ("model.multi_modal_projector", model.model.multi_modal_projector)


def test_an_unknown_family_is_searched_for_all_names():
    model = renamed(vision_tower="visual", multi_modal_projector="connector")
    assert vision_tower(model)[0] == "model.visual"
    assert projector(model)[0] == "model.connector"


def test_parts_of_unknown_names_are_left_alone_and_offered():
    model = renamed(vision_tower="eyes", multi_modal_projector="bridge")
    assert outside_language_model(model) == ["model.eyes", "model.bridge"]
    with pytest.raises(ValueError, match=r"has no projector: .* may be one of model\.eyes, model\.bridge .*families"):
        projector(model)
    adapted = get_peft_model(model, config("lora", target_modules=["q_proj"])).get_base_model()
    names = [name for name, module in adapted.named_modules() if isinstance(module, MixtureLinear)]
    assert names == [f"model.language_model.layers.{number}.self_attn.q_proj" for number in range(2)]
    every = get_peft_model(renamed(vision_tower="eyes"), config("lora")).get_base_model()
    assert not [n for n, m in every.model.eyes.named_modules() if isinstance(m, MixtureLinear)]


def test_a_language_model_has_nothing_outside():
    model = tiny_llava()[0]
    assert outside_language_model(model.model.language_model) == []
    assert outside_language_model(nn.Sequential(nn.Linear(2, 2))) == []
    assert outside_language_model(model) == ["model.vision_tower", "model.multi_modal_projector"]
    model.config.is_encoder_decoder = True
    assert outside_language_model(model) == []
