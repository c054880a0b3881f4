"""Files: every way to load one on every preset, and what is said about one that does not fit."""

import json
import os

import pytest
import torch
from peft import AutoPeftModel, PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration
from transformers.utils import logging

from mixtune import MixtureConfig, get_peft_model
from routed import INSTANCE, PRESETS, adapted, batch, config, randomise, sample
from tiny import tiny_llava
from tolerances import TOL

FILE, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
PROJECTOR = {"modules_to_save": ["multi_modal_projector"]}
INNER = "model.language_model.layers.1.mlp.up_proj.mixture_router_B"
KEY = f"base_model.model.{INNER}.weight"
SAVED = "base_model.model.model.multi_modal_projector.linear_1.weight"


@pytest.fixture(scope="module")
def found():
    return batch([sample(0, 9), sample(1, 12)])


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """transformers prints a progress bar and a report a load."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    yield
    logging.set_verbosity(before)
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """By preset: the folder of an adapter with a trained projector (on a base that has a folder too), and its model."""
    base = tmp_path_factory.mktemp("base")
    tiny_llava()[0].save_pretrained(base)
    made = {}
    for preset in PRESETS:
        model = get_peft_model(LlavaForConditionalGeneration.from_pretrained(base), config(preset, **PROJECTOR))
        randomise(model)
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.data.add_(0.1)
        folder = tmp_path_factory.mktemp(preset)
        model.save_pretrained(folder)
        made[preset] = (folder, model.eval())
    return made


def logits(model, found):
    with torch.no_grad():
        return model(**found).logits


def trained(model):
    return {name.removeprefix("base_model.model.") for name, each in model.named_parameters() if each.requires_grad}


def by_transformers(folder, **options):
    model = tiny_llava()[0]
    model.load_adapter(str(folder), **options)
    return model


def by_peft(folder, **options):
    return PeftModel.from_pretrained(tiny_llava()[0], folder, **options)


def as_second(folder):
    model = get_peft_model(tiny_llava()[0], config("lora"))
    model.load_adapter(folder, "second")
    model.set_adapter("second")
    return model


WAYS = {
    "peft": by_peft,
    "peft, trainable": lambda folder: by_peft(folder, is_trainable=True),
    "peft, low memory": lambda folder: by_peft(folder, low_cpu_mem_usage=True, torch_device="cpu"),
    "peft, low memory, trainable": lambda folder: by_peft(
        folder, low_cpu_mem_usage=True, is_trainable=True, torch_device="cpu"
    ),
    "peft, another name and device": lambda folder: by_peft(folder, adapter_name="b", torch_device="cpu"),
    "peft, second adapter": as_second,
    "peft, automatic class": AutoPeftModel.from_pretrained,
    "transformers": by_transformers,
    "transformers, trainable": lambda folder: by_transformers(folder, is_trainable=True),
    "transformers, adapter's folder": LlavaForConditionalGeneration.from_pretrained,
}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_loading_gives_the_same_model(saved, found, way, preset):
    folder, model = saved[preset]
    loaded = WAYS[way](folder)
    assert torch.equal(logits(loaded.eval(), found), logits(model, found))
    if "trainable" in way:
        assert trained(loaded) == trained(model)
    elif "second" not in way:  # peft trains what set_adapter makes active; transformers trains modules_to_save anyway
        assert not [name for name in trained(loaded) if ".mixture_" in name]


@pytest.mark.parametrize("preset", PRESETS)
def test_transformers_writes_what_both_read(tmp_path, saved, found, preset):
    folder, model = saved[preset]
    first = by_transformers(folder)
    first.save_pretrained(tmp_path)
    written, original = load_file(tmp_path / FILE), load_file(folder / FILE)
    assert written.keys() == original.keys()
    assert all(torch.equal(tensor, original[key]) for key, tensor in written.items())
    assert {f"base_model.model.{key}" for key in first.get_adapter_state_dict()} == original.keys()
    assert torch.equal(logits(by_peft(tmp_path).eval(), found), logits(model, found))


@pytest.mark.parametrize("preset", ["mixlora", "llava-mole"])
def test_parameters_stay_float32_on_a_bfloat16_base(saved, found, preset):
    folder, _ = saved[preset]
    low = {**found, "pixel_values": found["pixel_values"].bfloat16()}
    first, second = (tiny_llava()[0].bfloat16() for _ in range(2))
    first.load_adapter(str(folder))
    second = PeftModel.from_pretrained(second, folder).eval()
    for model in (first, second):
        assert {each.dtype for name, each in model.named_parameters() if ".mixture_" in name} == {torch.float32}
    assert torch.equal(logits(first, low), logits(second, low))


def test_resized_embeddings_travel_with_an_adapter(tmp_path, found):
    def wider():
        model = tiny_llava()[0]
        torch.manual_seed(0)
        model.resize_token_embeddings(120)
        return model

    model = get_peft_model(wider(), config("mixlora"))
    randomise(model)
    model.get_input_embeddings().weight.data.add_(0.1)
    model.save_pretrained(tmp_path, save_embedding_layers=True)
    loaded = PeftModel.from_pretrained(wider(), tmp_path).eval()
    torch.testing.assert_close(logits(loaded, found), logits(model.eval(), found), **TOL[torch.float32])


# Files that do not fit


def write(folder, preset="mixlora", **changes):
    adapted(preset, **changes).save_pretrained(folder)
    return folder


def spoil(folder, change):
    tensors = load_file(folder / FILE)
    change(tensors)
    save_file(tensors, folder / FILE, metadata={"format": "pt"})


def state(folder, **fields):
    path = folder / SETTINGS
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def set_nan(tensors):
    tensors[KEY][0, 0] = torch.nan


OTHER_KEY = KEY.replace("router_B", "router_Q")
BASE_KEY = KEY.replace("mixture_router_B", "base_layer")
CHANGES = {
    "a router is missing": (lambda each: each.pop(KEY), f"missing: base_model.model.{INNER}.default.weight"),
    "a tensor too many": (lambda each: each.update({OTHER_KEY: torch.zeros(2)}), f"unexpected: {OTHER_KEY}"),
    "a weight of the base": (lambda each: each.update({BASE_KEY: torch.zeros(64, 32)}), f"unexpected: {BASE_KEY}"),
    "another shape": (
        lambda each: each.update({KEY: each[KEY][:4].clone()}),
        "mixture_router_B.default.weight: expected [6, 32], found [4, 32]",
    ),
    "no number": (set_nan, f"not finite floating point numbers: base_model.model.{INNER}.default.weight"),
    "whole numbers": (lambda each: each.update({KEY: each[KEY].int()}), "not finite floating point numbers"),
    "a saved module is missing": (lambda each: each.pop(SAVED), f"missing: {SAVED}"),
    "nothing in it": (lambda each: each.clear(), "missing: base_model.model"),
}


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_peft_a_file_that_does_not_fit_is_refused_and_the_base_left_alone(tmp_path, found, change, trainable):
    made, message = CHANGES[change]
    spoil(write(tmp_path, **PROJECTOR), made)
    base, _ = tiny_llava()
    before = dict(base.state_dict())
    with pytest.raises(ValueError) as caught:
        PeftModel.from_pretrained(base, tmp_path, is_trainable=trainable)
    assert message in str(caught.value)
    assert base.state_dict().keys() == before.keys() and not hasattr(base, "peft_config")
    assert torch.equal(logits(base, found), logits(tiny_llava()[0], found))


@pytest.mark.parametrize("change", ["a router is missing", "a saved module is missing"])
def test_peft_a_refused_second_adapter_leaves_the_first_alone(tmp_path, found, change):
    spoil(write(tmp_path, **PROJECTOR), CHANGES[change][0])
    model = adapted("llava-mole")
    before = logits(model, found)
    with pytest.raises(ValueError, match="missing"):
        model.load_adapter(tmp_path, "second")
    assert list(model.peft_config) == ["default"] and not [name for name in model.state_dict() if ".second." in name]
    assert torch.equal(logits(model, found), before)


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("change", ["a router is missing", "a saved module is missing", "no number"])
def test_transformers_what_it_only_warns_about_is_refused_at_the_first_forward(tmp_path, found, change, trainable):
    made, message = CHANGES[change]
    spoil(write(tmp_path, **PROJECTOR), made)
    model = tiny_llava()[0]
    model.load_adapter(str(tmp_path), is_trainable=trainable)
    kind = message.partition(":")[0]
    with pytest.raises(ValueError, match=rf"{kind}: model\.(language_model.*router_B|multi_modal_projector)"):
        model(**found)


@pytest.mark.parametrize(
    ("preset", "fields", "message"),
    [
        ("mixlora", {"num_factors": 8}, "num_factors: the settings say 8, the tensors have 6"),
        ("mixlora", {"r": 3}, "r: the settings say 3, the tensors have 2"),
        ("llava-mole", {"num_experts": 5}, "num_experts: the settings say 5, the tensors have 3"),
        ("llava-mole", {"r": 4}, "r: the settings say 4, the tensors have 3"),
        ("lora", {"r": 8}, "r: the settings say 8, the tensors have 4"),
        ("mixlora", {"num_factors": 1}, "num_factors: 1 is less than r = 2"),
        ("mixlora", {"rank_pattern": {"q_proj": 3}}, "rank_pattern: no such field, but it is set to {'q_proj': 3}"),
    ],
)
def test_settings_that_do_not_go_with_the_tensors_are_named(tmp_path, preset, fields, message):
    state(write(tmp_path, preset), **fields)
    with pytest.raises(ValueError) as caught:
        PeftModel.from_pretrained(tiny_llava()[0], tmp_path)
    assert message in str(caught.value)


def test_damaged_and_absent_files_are_named(tmp_path):
    write(tmp_path)
    for content, message in (
        (b"junk", "adapter_model.safetensors is damaged"),
        (None, "has settings, but no adapter_"),
    ):
        (tmp_path / FILE).unlink()
        if content:
            (tmp_path / FILE).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            PeftModel.from_pretrained(tiny_llava()[0], tmp_path)
    with pytest.raises(ValueError, match=SETTINGS):
        PeftModel.from_pretrained(tiny_llava()[0], tmp_path / "nowhere")


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["MIXTUNE_HOME"] + "/evil",)


def test_a_pickled_file_runs_no_code(tmp_path, found):
    write(tmp_path)
    tensors = load_file(tmp_path / FILE)
    (tmp_path / FILE).unlink()
    torch.save(tensors, tmp_path / "adapter_model.bin")
    loaded = PeftModel.from_pretrained(tiny_llava()[0], tmp_path).eval()
    assert torch.equal(logits(loaded, found), logits(adapted("mixlora"), found))
    torch.save({"x": Evil()}, tmp_path / "adapter_model.bin")
    with pytest.raises(Exception, match="Weights only load failed"):
        PeftModel.from_pretrained(tiny_llava()[0], tmp_path)
    assert not os.path.exists(os.environ["MIXTUNE_HOME"] + "/evil")


# Settings of a file for a new adapter


@pytest.mark.parametrize("preset", [*INSTANCE, "llava-mole"])
def test_a_files_settings_can_make_a_new_adapter(tmp_path, found, preset):
    read = MixtureConfig.from_pretrained(write(tmp_path, preset))
    with pytest.raises(ValueError, match="for a new adapter set inference_mode=False"):
        get_peft_model(tiny_llava()[0], read)(**found)
    read.inference_mode = False
    model = tiny_llava()[0]
    before = logits(model, found)
    model.add_adapter(read)
    assert torch.equal(logits(model, found), before)
    (tmp_path / FILE).unlink()
    assert trained(get_peft_model(tiny_llava()[0], read))


def test_an_adapter_is_copied_into_another_of_the_same_settings(tmp_path, found):
    model = PeftModel.from_pretrained(tiny_llava()[0], write(tmp_path), is_trainable=True).eval()
    model.add_adapter("reference", model.peft_config["default"])
    state_dict = get_peft_model_state_dict(model, adapter_name="default")
    for name, tensor in state_dict.items():
        path, _, last = name.rpartition(".")
        model.get_parameter(f"{path}.reference.{last}").data.copy_(tensor)
    before = logits(model, found)
    model.set_adapter("reference")
    assert torch.equal(logits(model, found), before)
