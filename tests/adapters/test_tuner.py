import copy
import pickle
import warnings

import pytest
import torch
from peft import (
    AutoPeftModelForCausalLM,
    LoraConfig,
    PeftModel,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from peft import get_peft_model as peft_get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from mixtune import MixtureConfig, get_peft_model
from mixtune.adapters import trainable_breakdown
from mixtune.adapters.hooks import ATTRIBUTE
from mixtune.adapters.layer import MixtureLinear
from routed import CENTERED, PRESETS, adapted, batch, config, randomise, sample
from tiny import tiny_llava
from tolerances import TOL

FROZEN = [preset for preset in PRESETS if config(preset).router != "none" and not config(preset).routers_learn]


@pytest.fixture(scope="module")
def found():
    return batch([sample(0, 9), sample(1, 12)])


def logits(model, found):
    with torch.no_grad():
        return model(**found).logits


def test_lora_equals_pefts_own(found):
    ours = get_peft_model(tiny_llava()[0], config("lora", r=4)).eval()
    randomise(ours)
    targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    theirs = peft_get_peft_model(tiny_llava()[0], LoraConfig(r=4, lora_alpha=8, target_modules=targets)).eval()
    weights = {name.replace("mixture_", "lora_"): value for name, value in ours.state_dict().items()}
    theirs.load_state_dict(weights)
    torch.testing.assert_close(logits(ours, found), logits(theirs, found), **TOL[torch.float32])
    for model in (ours, theirs):
        model(**found).loss.backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters() if "lora_" in name}
    for name, parameter in ours.named_parameters():
        if parameter.requires_grad:
            expected = gradients[name.replace("mixture_", "lora_")]
            torch.testing.assert_close(parameter.grad, expected, **TOL[torch.float32])


def test_vision_tower_and_projector_are_left_alone():
    names = [name for name, module in adapted("mixlora").named_modules() if isinstance(module, MixtureLinear)]
    assert len(names) == 2 * 7 and all(".language_model." in name for name in names)


def test_several_adapters_switch_and_add_up(found):
    model = adapted("mixlora")
    first = logits(model, found)
    model.add_adapter("second", config("llava-mole"))
    randomise_only(model, "second")
    assert torch.equal(logits(model, found), first)
    model.set_adapter("second")
    assert not torch.equal(logits(model, found), first)
    model.base_model.set_adapter(["default", "second"])
    assert torch.isfinite(logits(model, found)).all()
    model.set_adapter("default")
    assert torch.equal(logits(model, found), first)
    model.delete_adapter("second")
    assert not [name for name in model.state_dict() if ".second." in name]
    assert torch.equal(logits(model, found), first)


def randomise_only(model, adapter):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if f".{adapter}." in name:
                parameter.normal_(std=0.3)


def test_a_config_can_be_used_twice():
    made = config("mixlora")
    before = copy.deepcopy(made.to_dict())
    get_peft_model(tiny_llava()[0], made)
    assert made.to_dict() == before


def test_parameters_are_float32_on_a_bfloat16_base(found):
    model = get_peft_model(tiny_llava()[0].bfloat16(), config("mixlora"))
    randomise(model)
    assert {p.dtype for name, p in model.named_parameters() if ".mixture_" in name} == {torch.float32}
    low = {**found, "pixel_values": found["pixel_values"].bfloat16()}
    assert model(**low).logits.dtype == torch.bfloat16
    model(**low).loss.backward()
    learned = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in learned)


@pytest.mark.parametrize("preset", PRESETS)
def test_merging_is_refused_and_unloading_restores(preset, found):
    model = adapted(preset, modules_to_save=["multi_modal_projector"])
    for merge in (model.merge_and_unload, model.merge_adapter):
        with pytest.raises(ValueError, match="merging"):
            merge()
    base = model.unload()
    assert torch.equal(logits(base, found), logits(tiny_llava()[0], found))
    assert base.state_dict().keys() == tiny_llava()[0].state_dict().keys()
    assert ATTRIBUTE not in base.__dict__ and "generate" not in base.__dict__
    assert not base._forward_pre_hooks and not base._forward_hooks and not base._forward_hooks_always_called


@pytest.mark.parametrize("preset", PRESETS)
def test_several_adapters_of_transformers_switch_disable_and_go(found, preset):
    model = tiny_llava()[0]
    before = logits(model, found)
    model.add_adapter(config(preset), "first")
    assert torch.equal(logits(model, found), before)
    randomise(model)
    first = logits(model, found)
    model.add_adapter(config("llava-mole"), "second")
    assert model.active_adapters() == ["second"] and torch.equal(logits(model, found), before)
    model.set_adapter("first")
    assert torch.equal(logits(model, found), first) and not torch.equal(first, before)
    model.disable_adapters()
    assert torch.equal(logits(model, found), before)
    model.enable_adapters()
    model.delete_adapter("second")
    assert torch.equal(logits(model, found), first)
    model.delete_adapter("first")
    assert torch.equal(logits(model, found), before)
    model.add_adapter(config(preset), "third")
    assert torch.equal(logits(model, found), before)


def test_peft_and_its_adapters_of_other_methods(found):
    theirs = LoraConfig(r=2, target_modules=r".*language_model.*q_proj")
    model = peft_get_peft_model(tiny_llava()[0], theirs)
    for inside in (model, model.get_base_model()):
        with pytest.raises(ValueError, match=r"q_proj carries an adapter of another method \(peft.tuners.lora"):
            get_peft_model(inside, config("mixlora"), adapter_name="mixed")
    with pytest.raises(ValueError, match="different peft types"):
        model.add_adapter("mixed", config("mixlora"))
    with pytest.raises(ValueError, match="not compatible with the `PeftMixedModel`"):
        peft_get_peft_model(tiny_llava()[0], config("mixlora"), mixed=True)
    model = tiny_llava()[0]
    model.add_adapter(config("mixlora"), "mixed")
    model.add_adapter(theirs, "theirs")  # wraps our layers, and nothing tells us
    model.set_adapter("mixed")
    with pytest.raises(ValueError, match=r"saving: .*q_proj.base_layer lies inside an adapter of another method"):
        model.get_adapter_state_dict()


def test_a_name_is_used_once_and_is_no_name_of_a_module(tmp_path, found):
    model = adapted("mixlora")
    before = logits(model, found)
    with pytest.raises(ValueError, match="'default' is on this model already"):
        get_peft_model(model.get_base_model(), config("lora"))
    for name in ("layers", "a.b", ""):
        with pytest.raises(ValueError, match=f"adapter_name: '{name}' is empty, has a dot or is the name of a module"):
            model.add_adapter(name, config("lora"))
    assert torch.equal(logits(model, found), before)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(PeftModel.from_pretrained(tiny_llava()[0], tmp_path).eval(), found), before)


def test_a_model_is_left_as_it_was_when_an_adapter_does_not_go_in(found):
    model = tiny_llava()[0]
    before = logits(model, found)
    with pytest.raises(ValueError, match="embed_tokens is a Embedding; only linears can be adapted"):
        get_peft_model(model, config("mixlora", target_modules=r".*language_model.*(q_proj|embed_tokens)"))
    assert model.state_dict().keys() == tiny_llava()[0].state_dict().keys()
    assert ATTRIBUTE not in model.__dict__ and not hasattr(model, "peft_config") and "generate" not in model.__dict__
    assert torch.equal(logits(model, found), before)


def test_the_second_adapter_goes_where_the_first_is(found):
    """Hooks of the first model would not know of an adapter that is given to one around it or inside it."""
    outer = adapted("lora")
    base = outer.get_base_model()
    for other in (outer, base.model.language_model):
        with pytest.raises(ValueError, match="has layers of an adapter that was given to another model"):
            get_peft_model(other, config("mixlora"), adapter_name="second")
    before = logits(outer, found)
    second = get_peft_model(base, config("mixlora"), adapter_name="second")
    second.set_adapter("default")
    assert torch.equal(logits(second, found), before)
    prompt = {key: value[:1] for key, value in found.items() if key != "labels"}
    second.set_adapter("second")
    randomise(second, seed=1)
    fresh = get_peft_model(tiny_llava()[0], config("mixlora"), adapter_name="second")
    fresh.load_state_dict({name: value for name, value in second.state_dict().items() if ".default." not in name})
    options = {"max_new_tokens": 4, "do_sample": False}
    assert torch.equal(second.generate(**prompt, **options), fresh.eval().generate(**prompt, **options))


def test_an_adapter_for_each_sample_is_refused(found):
    prompt = {key: value for key, value in found.items() if key != "labels"}
    model = adapted("mixlora")
    for call in (model, model.generate, model.get_base_model()):
        with pytest.raises(ValueError, match="adapter_names: a batch goes through one choice of adapters"):
            call(**prompt, adapter_names=["default", "__base__"])


@pytest.mark.parametrize("preset", PRESETS)
def test_copies_and_pickles_are_models_of_their_own(found, preset):
    model = adapted(preset)
    pickled = pickle.loads(pickle.dumps(model))  # transformers' models cannot be pickled once they have been called
    expected = logits(model, found)
    prompt = {key: value[:1] for key, value in found.items() if key != "labels"}
    answer = model.generate(**prompt, max_new_tokens=3, do_sample=False)
    for other in (pickled, copy.deepcopy(model)):
        assert torch.equal(logits(other, found), expected)
        assert torch.equal(other.generate(**prompt, max_new_tokens=3, do_sample=False), answer)
        other.unload()
    assert torch.equal(logits(model, found), expected)
    assert torch.equal(model.generate(**prompt, max_new_tokens=3, do_sample=False), answer)


@pytest.mark.parametrize("preset", PRESETS)
def test_peft_reports_on_it(tmp_path, preset, capsys):
    model = adapted(preset, modules_to_save=["multi_modal_projector"])
    status = model.get_model_status()
    assert (status.peft_types, status.num_adapter_layers) == ({"default": "MIXTURE"}, 14 + 1)
    assert status.requires_grad == {"default": "irregular" if preset in (*FROZEN, *CENTERED) else True}
    layers = [layer for layer in model.get_layer_status() if layer.module_type == "MixtureLinear"]
    assert len(layers) == 14 and all(layer.available_adapters == ["default"] for layer in layers)
    model.print_trainable_parameters()
    assert f"trainable params: {sum(trainable_breakdown(model).values()):,d}" in capsys.readouterr().out
    model.create_or_update_model_card(tmp_path)
    assert "library_name: peft" in (tmp_path / "README.md").read_text()
    assert not model.supports_lora_conversion() and not hasattr(model, "add_weighted_adapter")


def test_weights_are_put_into_layers_that_peft_injected(found):
    tensors = get_peft_model_state_dict(adapted("mixlora"))
    expected = logits(adapted("mixlora"), found)
    for low in (False, True):
        model = inject_adapter_in_model(config("mixlora"), tiny_llava()[0], low_cpu_mem_usage=low)
        set_peft_model_state_dict(model, tensors, low_cpu_mem_usage=low)
        assert torch.equal(logits(model, found), expected)


def test_text_models_and_automatic_classes(tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    base = LlamaForCausalLM(LlamaConfig(vocab_size=20, **sizes))
    base.save_pretrained(tmp_path / "base")
    base = LlamaForCausalLM.from_pretrained(tmp_path / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = get_peft_model(base, MixtureConfig(num_factors=4, r=2, task_type="CAUSAL_LM"))
    randomise(model)
    model.save_pretrained(tmp_path / "adapter")
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    ids = torch.tensor([[1, 2, 3, 4]])
    expected = model.eval().generate(input_ids=ids, max_new_tokens=4, do_sample=False)
    assert torch.equal(loaded.generate(input_ids=ids, max_new_tokens=4, do_sample=False), expected)
