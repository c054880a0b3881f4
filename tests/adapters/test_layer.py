"""What peft asks of the layers it works with, on every preset."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import nn

import sharded_driver
from mixtune import get_peft_model
from mixtune.adapters.hooks import ModelHooks
from mixtune.adapters.layer import FrozenLinear, MixtureLinear, keeps_dtype
from mixtune.kernels import Frozen, mixture_linear
from routed import FIRST_WORD, PRESETS, adapted, batch, config, in_bfloat16, prompts, sample
from tiny import tiny_llava
from tolerances import TOL


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
    linear.weight, linear.bias = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3))
    assert not linear.weight.requires_grad and not linear.bias.requires_grad
    assert torch.equal(linear(torch.ones(1, 2)), torch.full((1, 3), 3.0))


@pytest.mark.parametrize("preset", ["lora", "mixlora", "llava-mole"])
def test_a_grad_scaler_leaves_gradients_and_step_as_they_are(preset: str) -> None:
    found, stepped = [], []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**10)):
        model, given = adapted(preset).train(), batch([sample(0, 6), sample(1, 8)])
        trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
        optimizer = torch.optim.SGD(trained.values(), lr=0.1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(**given).loss
        (loss if scaler is None else scaler.scale(loss)).backward()
        if scaler is not None:
            assert max(each.grad.abs().max() for each in trained.values()) > 1.0  # it was scaled
            scaler.unscale_(optimizer)
        found.append({name: each.grad.clone() for name, each in trained.items()})
        optimizer.step() if scaler is None else scaler.step(optimizer)
        stepped.append({name: each.detach().clone() for name, each in trained.items()})
    for plain, scaled in (found, stepped):
        for name, value in plain.items():
            size = value.abs().max().clamp_min(1.0)
            torch.testing.assert_close(scaled[name] / size, value / size, **TOL[torch.float32])


def test_shards_over_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    """FSDP2, each of two processes with one of the two samples."""
    presets, out = ("mixlora", "llava-mole"), tmp_path / "gradients.safetensors"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, sharded_driver.__file__, ",".join(presets)]
    both = [subprocess.Popen([*command, str(rank), str(port), str(out)]) for rank in (0, 1)]
    whole = {f"{each}/{name}": grad for each in presets for name, grad in sharded_driver.gradients(each).items()}
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    sharded = load_file(out)
    assert sharded.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(sharded[name], value, **TOL[torch.float32], msg=lambda t, name=name: f"{name}: {t}")


def test_decoding_keeps_what_a_selection_amounts_to_as_long_as_the_selection() -> None:
    model, found = adapted("mixlora"), prompts([sample(0, 6), sample(1, 8)])
    tokens = {"input_ids": torch.full((2, 1), FIRST_WORD), "attention_mask": torch.ones(2, 9, dtype=torch.long)}
    with torch.no_grad():
        cache = model(**found, use_cache=True).past_key_values
        assert cache.mixture_kept and not cache.mixture_cores
        model(**tokens, past_key_values=cache)
        cores = dict(cache.mixture_cores)
        assert len(cores) == len(cache.mixture_kept)
        tokens["attention_mask"] = torch.ones(2, 10, dtype=torch.long)
        model(**tokens, past_key_values=cache)
        assert all(cache.mixture_cores[key] is core for key, core in cores.items())
        cache.reorder_cache(torch.tensor([1, 1]))
        assert not cache.mixture_cores
        tokens["attention_mask"] = torch.ones(2, 11, dtype=torch.long)
        model(**tokens, past_key_values=cache)
        parts = {key: (*core.matrices, *(core.chosen or ())) for key, core in cores.items()}
        key = next(key for key, found in parts.items() if not all(torch.equal(each[0], each[1]) for each in found))
        again = cache.mixture_cores[key]
        for before, after in zip(parts[key], (*again.matrices, *(again.chosen or ())), strict=True):
            assert torch.equal(after, before[[1, 1]])


def doubled(model) -> None:
    with torch.no_grad():
        for layer in layers(model).values():
            layer.part("mixture_A", "default").weight.mul_(2.0)


def replaced(model) -> None:
    for layer in layers(model).values():
        part = layer.part("mixture_B", "default")
        part.weight = nn.Parameter(part.weight.detach() * 2.0)


@pytest.mark.parametrize("num_factors", [6, 40])  # the chosen rows are copied, however many there are to choose from
@pytest.mark.parametrize("change", [doubled, replaced, nn.Module.double])
def test_what_decoding_keeps_does_not_outlive_a_change_of_the_adapter(change, num_factors) -> None:
    seen = []
    for decoded_before in (True, False):
        model, found = adapted("mixlora", num_factors=num_factors), prompts([sample(0, 6), sample(1, 6)])
        token = {"input_ids": torch.full((2, 1), FIRST_WORD), "attention_mask": torch.ones(2, 7, dtype=torch.long)}
        with torch.no_grad():
            cache = model(**found, use_cache=True).past_key_values
            if decoded_before:
                model(**token, past_key_values=cache)
                cache.crop(-1)
                assert any(core.chosen for core in cache.mixture_cores.values())
            change(model)
            seen.append(model(**token, past_key_values=cache).logits)
    assert torch.equal(*seen)


@pytest.mark.parametrize(("changes", "expected"), [
    ({}, True), ({"train": False}, True), ({"preset": "llava-mole"}, True), ({"preset": "lora"}, True),
    ({"narrow": False}, False), ({"lora_dropout": 0.1}, False), ({"lora_dropout": 0.1, "train": False}, True),
    ({"shards": True}, False), ({"shards": True, "train": False}, True),
])  # fmt: skip
def test_when_the_base_linear_is_computed_with_the_adapter(changes, expected, monkeypatch):
    """In a narrow dtype, where both read the same x and the weights stay where they are."""
    given, seen = dict(changes), []
    train, narrow, shards = (given.pop(name, other) for name, other in (("train", 1), ("narrow", 1), ("shards", 0)))
    model = adapted(given.pop("preset", "mixlora"), **given).train(bool(train))

    def noted(y, *args, **kwargs):
        seen.append(isinstance(y, Frozen))
        return mixture_linear(y, *args, **kwargs)

    monkeypatch.setattr("mixtune.adapters.layer.mixture_linear", noted)
    if shards:
        monkeypatch.setattr(ModelHooks, "_gathered_later", lambda self: True)
    found = batch([sample(0, 9), sample(1, 12)])
    if narrow:
        in_bfloat16(model)
        found["pixel_values"] = found["pixel_values"].bfloat16()
    with torch.set_grad_enabled(bool(train)):
        model(**found)
    assert len(seen) == 14 and set(seen) == {expected}


def watched_backward(linear):
    return linear.register_full_backward_pre_hook(lambda module, grads: None)


def watched_with_all(linear):
    return nn.modules.module.register_module_forward_hook(lambda module, args, y: None)


def trained_weight(linear):
    linear.weight.requires_grad_(True)


def trained_bias(linear):
    linear.bias = nn.Parameter(torch.zeros(linear.out_features, dtype=linear.weight.dtype))


@pytest.mark.parametrize("touch", [watched_backward, watched_with_all, trained_weight, trained_bias])
def test_a_linear_that_trains_or_is_watched_is_computed_by_itself(touch, monkeypatch):
    model, seen = adapted("mixlora").train(), []
    in_bfloat16(model)

    def noted(y, *args, **kwargs):
        seen.append(isinstance(y, Frozen))
        return mixture_linear(y, *args, **kwargs)

    monkeypatch.setattr("mixtune.adapters.layer.mixture_linear", noted)
    found = batch([sample(0, 9), sample(1, 12)])
    found["pixel_values"] = found["pixel_values"].bfloat16()
    first = next(iter(layers(model).values())).base_layer
    handle = touch(first)
    try:
        model(**found).loss.backward()
    finally:
        if handle is not None:
            handle.remove()
    assert seen[0] is False and any(seen[1:]) is (touch is not watched_with_all)
    assert all(each.grad is not None for each in first.parameters() if each.requires_grad)


def test_autocast_to_another_narrow_dtype_decides_what_a_linear_computes_in():
    x, other = torch.zeros(1, dtype=torch.bfloat16), torch.zeros(1, dtype=torch.float16)
    assert keeps_dtype(x) and keeps_dtype(other)
    with torch.autocast("cpu", torch.bfloat16):
        assert keeps_dtype(x) and not keeps_dtype(other)


def test_a_fresh_adapter_on_a_narrow_base_changes_no_bit():
    base, _ = tiny_llava()
    base = base.bfloat16().eval()
    found = batch([sample(0, 9), sample(1, 12)])
    found["pixel_values"] = found["pixel_values"].bfloat16()
    expected = base(**found).logits
    assert torch.equal(get_peft_model(base, config("mixlora")).eval()(**found).logits, expected)


def test_a_base_linear_that_somebody_watches_is_called():
    model, seen = in_bfloat16(adapted("mixlora")).train(), []
    watched = [m for m in model.modules() if isinstance(m, MixtureLinear)][:2]
    watched[0].base_layer.register_forward_hook(lambda *_: seen.append("hook"))
    before = watched[1].base_layer.forward
    watched[1].base_layer.forward = lambda x: (seen.append("forward"), before(x))[1]
    found = batch([sample(0, 9)])
    model(**{**found, "pixel_values": found["pixel_values"].bfloat16()})
    assert seen == ["hook", "forward"]
