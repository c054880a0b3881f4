import pytest
import torch
from peft import PeftModel
from transformers import LlavaForConditionalGeneration

from mixtune import get_peft_model
from mixtune.adapters.layer import MixtureLinear
from mixtune.adapters.targets import linear_names
from routed import adapted, batch, config, sample
from tiny import tiny_config, tiny_llava

ALL = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def adapted_names(model):
    return [name for name, module in model.named_modules() if isinstance(module, MixtureLinear)]


def test_all_linear_is_the_language_model_without_its_head():
    model = adapted("mixlora")
    assert model.peft_config["default"].target_modules == ALL
    assert not [name for name in adapted_names(model) if "lm_head" in name]


def test_no_targets_means_the_default():
    assert adapted_names(adapted("lora", target_modules=None)) == adapted_names(adapted("lora"))


def test_listed_names_do_not_reach_into_the_tower():
    assert len(adapted_names(adapted("lora", target_modules=["q_proj"]))) == 2
    with_tower = adapted("lora", target_modules=["q_proj"], exclude_modules=[])
    assert len(adapted_names(with_tower)) == 4


def test_patterns_and_layers():
    assert len(adapted_names(adapted("mixlora", target_modules=r".*\.1\.mlp\.up_proj"))) == 1
    assert len(adapted_names(adapted("mixlora", target_modules=["up_proj"], layers_to_transform=[1]))) == 1
    second = adapted_names(adapted("mixlora", layers_to_transform=1, layers_pattern="layers"))
    assert len(second) == 7 and all(".layers.1." in name for name in second)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target_modules": ["q_proj", "up_prj"]}, "target_modules: 'up_prj' matches nothing; did you mean 'up_proj'"),
        ({"target_modules": r"up_proj"}, "target_modules: 'up_proj' matches nothing; did you mean 'up_proj'"),
        ({"target_modules": ["fc1"]}, "target_modules: 'fc1' matches nothing but 2 modules that other settings"),
        ({"preset": "llava-mole", "target_modules": ["q_proj"]}, "mixture_modules: "),
        ({"target_modules": "all_linear"}, "target_modules: 'all_linear' matches nothing; did you mean 'all-linear'"),
        ({"layers_to_transform": [9]}, "target_modules: 'all-linear' matches nothing that the other settings do not"),
        (
            {"modules_to_save": ["multimodal_projector"]},
            "modules_to_save: 'multimodal_projector' matches nothing; did you mean 'multi_modal_projector'?",
        ),
    ],
)
def test_targets_that_match_nothing_are_errors(given, message):
    model = tiny_llava()[0]
    preset = given.pop("preset", "mixlora")
    with pytest.raises(ValueError) as caught:
        get_peft_model(model, config(preset, **given))
    assert message in str(caught.value)
    assert not adapted_names(model) and not model._forward_pre_hooks


def test_experts_go_into_the_mlp_and_share_a_router():
    model = adapted("llava-mole")
    rows = {name.rpartition(".")[2]: module.mixture_A["default"].out_features
            for name, module in model.named_modules() if isinstance(module, MixtureLinear)}  # fmt: skip
    assert rows == {name: 9 if name in ("gate_proj", "up_proj", "down_proj") else 3 for name in ALL}
    routers = [name for name, _ in model.named_parameters() if "_router_" in name]
    assert len(routers) == 2 * 2 and all("gate_proj.mixture_router_A.default." in name for name in routers)


def test_an_adapter_for_another_base_is_refused(tmp_path):
    adapted("mixlora").save_pretrained(tmp_path)
    settings = tiny_config()
    settings.text_config.intermediate_size = 48
    other = LlavaForConditionalGeneration(settings)
    with pytest.raises(ValueError) as caught:
        PeftModel.from_pretrained(other, tmp_path)
    message = "another base (made on an unnamed model): model.language_model.layers.*.mlp.down_proj: "
    assert message + "expected 2 of [32, 64], found 2 of [32, 48]" in str(caught.value)
    settings = tiny_config()
    settings.text_config.num_hidden_layers = 1
    with pytest.raises(ValueError, match=r"expected 2 of \[32, 64\], found 1 of \[32, 64\]"):
        LlavaForConditionalGeneration(settings).load_adapter(str(tmp_path))


def test_linears_are_counted_once():
    before = linear_names(tiny_llava()[0])
    assert linear_names(adapted("mixlora").get_base_model()) == before


def test_layers_that_do_not_see_the_prompt_are_named():
    model = adapted("mixlora", target_modules=["out_proj"], exclude_modules=[])
    with pytest.raises(ValueError, match=r"vision_tower.*its input has shape .*exclude_modules"), torch.no_grad():
        model(**batch([sample(0, 9)]))
