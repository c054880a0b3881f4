import pytest
import torch

from mixtune import get_peft_model, record_routing
from mixtune.adapters import router_parameters
from mixtune.adapters.groups import router_name
from mixtune.check import check_rules
from routed import adapted, batch, config, sample
from tolerances import TOL
from zoo import build, examples

LAYER = "model.language_model.layers.3"
OWNERS = {"linear": 7, "input": 4, "mlp": 2, "layer": 1}  # routers in a decoder layer; attention is a block like an MLP


@pytest.mark.parametrize(
    ("linear", "scope", "expected"),
    [
        (f"{LAYER}.self_attn.k_proj", "linear", f"{LAYER}.self_attn.k_proj"),
        (f"{LAYER}.self_attn.k_proj", "input", f"{LAYER}.self_attn.q_proj"),
        (f"{LAYER}.self_attn.o_proj", "input", f"{LAYER}.self_attn.o_proj"),
        (f"{LAYER}.mlp.up_proj", "input", f"{LAYER}.mlp.gate_proj"),
        (f"{LAYER}.mlp.down_proj", "mlp", f"{LAYER}.mlp"),
        (f"{LAYER}.mlp.down_proj", "layer", LAYER),
        (f"{LAYER}.mlp.experts.5.down_proj", "layer", LAYER),
        ("lm_head", "layer", "lm_head"),
    ],
)
def test_names(linear, scope, expected):
    assert router_name(linear, scope) == expected


@pytest.mark.parametrize("scope", OWNERS)
@pytest.mark.parametrize("preset", ["mixlora", "llava-mole"])
def test_a_group_has_one_router_and_one_selection(preset, scope):
    model = adapted(preset, router_scope=scope, mixture_modules=None if preset == "mixlora" else r".*_proj")
    kinds = len({name.split(".mixture_")[1].split(".")[0] + name[-5:] for name in router_parameters(model)})
    assert len(router_parameters(model)) == 2 * kinds * OWNERS[scope]
    with record_routing(model) as seen, torch.no_grad():
        model(**batch([sample(0, 9), sample(1, 12)]))
    assert len(seen.selections) == 2 * OWNERS[scope]


@pytest.mark.parametrize("scope", ["input", "mlp", "layer"])
@pytest.mark.parametrize("preset", ["mixlora", "llava-mole"])
def test_the_rules_hold_for_shared_routers(preset, scope):
    model = get_peft_model(build("llava"), config(preset, router_scope=scope)).eval()
    results = check_rules(model, examples("llava", build("llava")), tolerance=TOL[torch.float32]["atol"])
    assert [result for result in results if not result.kept] == []
