import copy
import dataclasses
import json

import pytest
import torch

from mixtune import MixtureConfig, record_routing
from mixtune.adapters import PRESETS, router_parameters
from mixtune.config import AdapterSettings
from mixtune.training.setup import adapter_config
from routed import adapted, batch, sample


def test_presets_fill_in_what_is_not_given():
    made = MixtureConfig(preset="mixlora", num_factors=32)
    assert (made.r, made.num_factors, made.gate, made.conditional) == (4, 32, "straight-through", "published")
    assert made.scale == 2.0


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_stands_alone_and_names_its_source(name):
    made = MixtureConfig(preset=name)
    assert "arXiv" in PRESETS[name].source
    assert made.size >= 1 and made.scale > 0


@pytest.mark.parametrize(
    ("given", "scale"),
    [
        ({"preset": "mixlora", "r": 8}, 2.0),
        ({"preset": "mixlora", "lora_alpha": 8, "r": 8}, 1.0),
        ({"preset": "mixlora", "lora_alpha": 8, "scaling": 0.5}, 0.5),
        ({"preset": "mixlora-published"}, 2 * 16 / 4),
        ({"preset": "mixlora-released", "num_factors": 32, "r": 2}, 2 * 32 / 2),
        ({"preset": "lora", "r": 4}, 2.0),
        ({"preset": "llava-mole"}, 64 / 32),
    ],
)
def test_scale(given, scale):
    assert MixtureConfig(**given).scale == scale


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "mixlra"}, "preset: 'mixlra' is unknown; did you mean 'mixlora'"),
        ({"num_factors": 3}, "num_factors: 3 is less than r = 4"),
        ({"gate": "straight"}, "gate: 'straight' is unknown; did you mean 'straight-through'"),
        ({"r": 0}, "r: must be a whole number of at least 1, got 0"),
        ({"r": True}, "r: must be a whole number"),
        ({"preset": "llava-mole", "top_k": 4}, "top_k: 4 is more than num_experts = 3"),
        ({"lora_dropout": 1.0}, "lora_dropout: must lie in"),
        ({"keep_selection": False}, "keep_selection: False needs pooling 'all'"),
        ({"context": "token"}, "router 'conditional' needs 'instance'"),
        ({"router": "none"}, "context: 'instance' does not go with router 'none'"),
        ({"preset": "llava-mole", "random_routing": True}, "random_routing: needs context 'instance'"),
        ({"router_scope": "inputs"}, "router_scope: 'inputs' is unknown; did you mean 'input'"),
        ({"num_factor": 8}, "num_factor: no such field, but it is set to 8; did you mean 'num_factors'?"),
        ({"preset": "mixlora", "num_factors": 0}, "num_factors: must be a whole number of at least 1, got 0"),
        (
            {"target_modules": r".*q_proj", "layers_to_transform": [1]},
            "layers_to_transform: does nothing for a pattern",
        ),
        ({"layers_pattern": "layers"}, "layers_pattern: 'layers' does nothing without layers_to_transform"),
    ],
)
def test_wrong_settings_are_named(given, message):
    with pytest.raises(ValueError) as caught:
        MixtureConfig(**given)
    assert message in str(caught.value)


def test_fields_that_a_preset_does_not_use_may_be_set():
    """The arms of a comparison share a recipe."""
    assert MixtureConfig(preset="llava-mole", num_factors=16, ifs_weight=2.0, gate="none").size == 3
    assert MixtureConfig(preset="lora", r=4, num_factors=2, num_experts=3, top_k=5).size == 1


def test_a_written_config_is_read_back_equal(tmp_path):
    made = MixtureConfig(preset="llava-mole", r=4, target_modules=["q_proj", "up_proj"], exclude_modules=[])
    made.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "MIXTURE"
    read = MixtureConfig.from_pretrained(tmp_path)
    assert read.to_dict() == made.to_dict()


def test_a_field_without_a_value_may_come_from_a_newer_version(tmp_path):
    made = MixtureConfig(preset="llava-mole")
    made.save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "invented_later": None}))
    with pytest.warns(UserWarning, match="invented_later"):
        assert MixtureConfig.from_pretrained(tmp_path).to_dict() == made.to_dict()
    assert dataclasses.replace(made, r=4).r == copy.deepcopy(dataclasses.replace(made, r=4)).r == 4


@pytest.mark.parametrize(
    ("given", "learn"),
    [
        ({"preset": "mixlora"}, True),
        ({"preset": "mixlora-published"}, False),
        ({"preset": "mixlora", "router_trainable": False}, False),
        ({"preset": "mixlora", "random_routing": True}, False),
        ({"preset": "llava-mole-released"}, True),
        ({"preset": "llava-mole-released", "router_aux_loss_coef": 0.0}, False),
    ],
)
def test_routers_learn(given, learn):
    assert MixtureConfig(**given).routers_learn is learn


ABLATIONS = {
    "frozen router": {"router_trainable": False},
    "random routing": {"random_routing": True},
    "IFS only": {"conditional": "none"},
    "CFS as released": {"conditional": "released"},
    "CFS by choice": {"conditional": "choice"},
    "pooling": {"pooling": "all"},
    "gate": {"gate": "multiply"},
    "no gate": {"gate": "none"},
    "scale": {"scaling": 4.0},
}


@pytest.mark.parametrize("override", ABLATIONS.values(), ids=ABLATIONS.keys())
def test_every_ablation_is_one_override(override):
    """It changes what the model computes, or which routers train, and nothing else about the settings."""
    plain, changed = adapted("mixlora"), adapted("mixlora", **override)
    before, after = (model.peft_config["default"].to_dict() for model in (plain, changed))
    assert {name for name in before if before[name] != after[name]} == set(override)
    found = batch([sample(0, 9), sample(1, 12)])
    seen, trained = [], []
    for model in (plain, changed):
        with record_routing(model) as record, torch.no_grad():
            logits = model(**found).logits
        seen.append((logits, record.selections))
        trained.append([weight.requires_grad for weight in router_parameters(model).values()])
    same = torch.equal(seen[0][0], seen[1][0])
    assert same == (override in ({"router_trainable": False}, {"gate": "none"}))  # a straight-through gate is 1 as well
    assert all(trained[0])
    assert any(trained[1]) != (override in ({"router_trainable": False}, {"random_routing": True}, {"gate": "none"}))
    assert adapter_config(AdapterSettings(preset="mixlora", **override), None).to_dict() == {
        **MixtureConfig(preset="mixlora", **override).to_dict()
    }


@pytest.mark.parametrize(
    ("flag", "conditional"), [("input", "none"), ("input_lora_a_param", "released"), ("input_lora_a_choice", "choice")]
)
def test_flags_of_the_released_code_are_understood(flag, conditional):
    assert MixtureConfig(preset="mixlora-released", conditional=flag).conditional == conditional
    assert MixtureConfig(preset="mixlora-released").conditional == "released"


def test_the_released_mole_is_dense_or_sparse():
    """Dense in inference by default; sparse with one override, and then as the sparse path of training."""
    found = batch([sample(0, 9), sample(1, 12)])
    with torch.no_grad():
        dense = adapted("llava-mole-released")
        sparse = adapted("llava-mole-released", dense="never")
        dense_logits, sparse_logits = dense(**found).logits, sparse(**found).logits
        assert not torch.equal(dense_logits, sparse_logits)
        assert torch.equal(dense.train()(**found).logits, sparse_logits)
