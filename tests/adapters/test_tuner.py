import copy
import warnings

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel
from peft import get_peft_model as peft_get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from mixtune import MixtureConfig, get_peft_model
from mixtune.adapters.hooks import ATTRIBUTE
from mixtune.adapters.layer import MixtureLinear
from routed import PRESETS, adapted, batch, config, randomise, sample
from tiny import tiny_llava
from tolerances import TOL


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
    model = adapted(preset)
    for merge in (model.merge_and_unload, model.merge_adapter):
        with pytest.raises(ValueError, match="merging"):
            merge()
    base = model.unload()
    assert torch.equal(logits(base, found), logits(tiny_llava()[0], found))
    assert ATTRIBUTE not in base.__dict__ and "generate" not in base.__dict__
    assert not base._forward_pre_hooks and not base._forward_hooks and not base._forward_hooks_always_called


def test_projector_trains_and_is_saved_beside(tmp_path, found):
    model = get_peft_model(tiny_llava()[0], config("mixlora", modules_to_save=["multi_modal_projector"]))
    randomise(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.add_(0.1)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny_llava()[0], tmp_path).eval()
    assert torch.equal(logits(loaded, found), logits(model.eval(), found))


@pytest.mark.parametrize("low", [False, True])
def test_loading_with_and_without_low_memory(tmp_path, found, low):
    model = adapted("mixlora")
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny_llava()[0], tmp_path, low_cpu_mem_usage=low).eval()
    assert torch.equal(logits(loaded, found), logits(model, found))


@pytest.mark.parametrize("preset", PRESETS)
def test_transformers_own_adapters(tmp_path, found, preset):
    model = adapted(preset)
    model.save_pretrained(tmp_path)
    other = tiny_llava()[0]
    other.load_adapter(str(tmp_path))
    assert torch.equal(logits(other, found), logits(model, found))
    fresh = tiny_llava()[0]
    fresh.add_adapter(config(preset))
    assert torch.equal(logits(fresh, found), logits(tiny_llava()[0], found))


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
