"""What peft asks of the layers it works with, on every preset."""

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from mixtune import get_peft_model
from mixtune.adapters.layer import FrozenLinear, MixtureLinear
from routed import PRESETS, adapted, config
from tiny import tiny_llava


def layers(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, MixtureLinear)}


@pytest.mark.parametrize("preset", PRESETS)
def test_it_is_one_of_pefts_layers(preset):
    model, base = adapted(preset), tiny_llava()[0]
    for name, layer in layers(model).items():
        linear = base.get_submodule(name.removeprefix("base_model.model."))
        assert isinstance(layer, BaseTunerLayer) and type(layer.get_base_layer()) is nn.Linear
        assert torch.equal(layer.weight, linear.weight) and layer.bias is None
        assert layer._get_available_adapters() == {"default"} and layer._all_available_adapter_names() == ["default"]
        assert not layer.merged and not layer.supports_lora_conversion()
        with pytest.raises(ValueError, match="merging"):
            layer.merge()
        layer.unmerge()
        layer.delete_adapter("default")
        assert not layer._get_available_adapters() and not layer._all_available_adapter_names()
        assert not [each for each in layer.state_dict() if not each.startswith("base_layer.")]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_parameter_is_named_by_attribute_and_adapter(preset):
    for layer in layers(adapted(preset)).values():
        for name in layer.state_dict():
            attribute, *rest = name.split(".")
            assert attribute == "base_layer" or rest in (["default", "weight"], ["default", "bias"])


@pytest.mark.parametrize("preset", PRESETS)
def test_what_trains_survives_switching_and_disabling(preset):
    model = get_peft_model(tiny_llava()[0], config(preset))

    def trained():
        return {name for name, parameter in model.named_parameters() if parameter.requires_grad}

    before = trained()
    assert any("router" in name for name in before) == config(preset).routers_learn or preset == "lora"
    model.add_adapter("second", config("mixlora"))
    model.set_adapter("second")
    assert trained() and all(".second." in name for name in trained())
    model.set_adapter("default")
    assert trained() == before
    with model.disable_adapter():
        assert not trained()
    assert trained() == before
    model.set_requires_grad("default", False)
    assert not trained()
    model.set_requires_grad("default", True)
    assert trained() == before


def test_a_frozen_linear_stays_frozen_whatever_is_put_in():
    linear = FrozenLinear(2, 3)
    assert not linear.weight.requires_grad and not linear.bias.requires_grad
    linear.weight = nn.Parameter(torch.ones(3, 2))
    assert not linear.weight.requires_grad and torch.equal(
        linear(torch.ones(1, 2)) - linear.bias, torch.full((1, 3), 2.0)
    )
