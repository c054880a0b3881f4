import json
import math
from dataclasses import fields

import pytest
from peft import PeftConfig

from mixtune import MixtureConfig
from mixtune.adapters import PRESETS
from mixtune.adapters.fields import NEEDED, RULES
from mixtune.adapters.settings import CHOICES

FINITE = "must be a finite number"
WHOLE = "must be a whole number of at least"
WRONG = {
    "r": ("4", 4.0, True, 0, -1, [4]),
    "lora_alpha": ("8", math.nan, math.inf, True, [8], 10**400),
    "scaling": ("x", "2", math.nan, -math.inf, False),
    "lora_dropout": ("0.1", math.nan, -0.1, 1, True),
    "num_factors": ("16", 16.0, -1, True),
    "num_experts": ("3", 3.0, -1, True),
    "top_k": ("1", 1.0, -1, True),
    "ifs_weight": ("x", math.nan, math.inf, True, None),
    "keep_selection": ("yes", 1, 0, "false"),
    "router_trainable": ("no", 1, "False"),
    "random_routing": ("yes", 1, []),
    "router_bias": ("on", 0),
    "router_center": ("on", 0),
    "router_aux_loss_coef": ("1e-2", -1, -0.01, math.nan, math.inf, True),
    "target_modules": ("(", 5, [1], {"q_proj": 1}),
    "exclude_modules": ("*", 5, ["a", None]),
    "mixture_modules": ("(", "*x", ["gate_proj"], 5, True),
    "modules_to_save": ("multi_modal_projector", [1], 5),
    "layers_to_transform": ("1", [1.0], [True], True, 1.5),
    "layers_pattern": ("(", 5, [1]),
    "init_weights": ("false", 0, None),
    "preset": (None, 5, ["mixlora"]),
    **{name: (5, ["none"], True) for name in CHOICES},
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_type_or_value_is_named(name, value):
    for preset in ("mixlora", "llava-mole"):
        with pytest.raises(ValueError) as caught:
            MixtureConfig(**{"preset": preset, name: value})
        assert str(caught.value) == f"{name}: {RULES[name][0]}, got {value!r}"


@pytest.mark.parametrize(("name", "value"), [("r", "4"), ("random_routing", "yes"), ("lora_dropout", "0.1")])
def test_a_wrong_value_in_a_file_is_named(tmp_path, name, value):
    MixtureConfig().save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(ValueError, match=f"{name}: must .* got '{value}'"):
        MixtureConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "given",
    [
        {"lora_alpha": 8, "scaling": 0.5, "lora_dropout": 0, "ifs_weight": 0, "router_aux_loss_coef": 0},
        {"scaling": None, "lora_alpha": None, "r": None, "router_bias": None, "target_modules": None},
        {"scaling": -1.0, "ifs_weight": -2.5, "lora_alpha": 1e-30},
        {"target_modules": ["q_proj"], "exclude_modules": [], "modules_to_save": ("lm_head",)},
        {"target_modules": r".*\.(q|v)_proj", "exclude_modules": {"gate"}, "mixture_modules": r".*q_proj"},
        {"layers_to_transform": [0, 2], "layers_pattern": "layers"},
        {"layers_to_transform": 0, "layers_pattern": ["layers", "h"]},
    ],
)
def test_right_values_are_kept(given):
    made = MixtureConfig(**given)
    assert all(getattr(made, name) == value for name, value in given.items() if value is not None)


def test_every_field_has_a_rule_and_presets_keep_them():
    own = {each.name for each in fields(MixtureConfig)} - {each.name for each in fields(PeftConfig)}
    assert set(RULES) == set(WRONG) == own - {"base_shapes"}
    for preset in PRESETS.values():
        assert all(RULES[name][1](value) for name, value in vars(preset).items() if name in RULES and value is not None)
    assert all(getattr(MixtureConfig(), name) is not None for name in NEEDED)
