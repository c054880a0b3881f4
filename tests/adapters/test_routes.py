"""Linears that are given the same input decide together, and each as it would decide by itself."""

import copy

import pytest
import torch

from mixtune import auxiliary_loss, record_routing
from mixtune.adapters import routes
from mixtune.adapters.layer import MixtureLinear
from mixtune.training.setup import checkpoint_activations
from routed import adapted, batch, config, sample
from tolerances import TOL

EXACT = TOL[torch.float64]
GROUPS = [3, 1, 2, 1]  # q, k, v; o; gate, up; down


def make(**changes):
    """The tiny model in float64, training, with a balance loss."""
    return adapted("mixlora", router_aux_loss_coef=0.1, **changes).double().train()


def layer(model, name, number=0):
    return model.get_base_model().get_submodule(f"model.language_model.layers.{number}.{name}")


def outcome(model, monkeypatch, *, apart=False):
    """Loss, selections and gradients of one step, and how many routers decided at a time."""
    sizes, whole = [], routes.conditional_routes

    def noted(h, banks, *rest):
        sizes.append(len(banks))
        return whole(h, banks, *rest)

    found = batch([sample(0, 9), sample(1, 12)])
    found["pixel_values"] = found["pixel_values"].double()
    model.zero_grad()
    with monkeypatch.context() as patch, record_routing(model) as seen:
        patch.setattr(routes, "conditional_routes", noted)
        if apart:
            patch.setattr(MixtureLinear, "together", lambda self, plan: [self])
        loss = model(**found).loss + auxiliary_loss(model)
        forward = list(sizes)
        loss.backward()
    return loss, seen.selections, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, forward


def assert_same(left, right):
    assert left[1].keys() == right[1].keys() and left[2].keys() == right[2].keys()
    torch.testing.assert_close(left[0], right[0], **EXACT)
    for name, routed in left[1].items():
        assert torch.equal(routed.indices_a, right[1][name].indices_a)
        assert torch.equal(routed.indices_b, right[1][name].indices_b)
        torch.testing.assert_close(routed.probs, right[1][name].probs, **EXACT)
    assert any("router_AB" in name or "embed" in name or "router_B" in name for name in left[2])
    for name, value in left[2].items():
        torch.testing.assert_close(value, right[2][name], **EXACT, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("changes", [{}, {"conditional": "none"}, {"num_factors": 2}, {"num_factors": 60}], ids=str)
def test_together_is_as_apart(changes, monkeypatch):
    """Few factors and many, more than a core is written out for."""
    model = make(**changes)
    together, apart = outcome(model, monkeypatch), outcome(model, monkeypatch, apart=True)
    assert together[3] == 2 * GROUPS and apart[3] == [1] * 14
    assert_same(together, apart)


@pytest.mark.parametrize("reentrant", [None, True, False])
def test_a_linear_that_is_given_another_input_decides_for_itself(reentrant, monkeypatch):
    model = make()
    layer(model, "self_attn.k_proj").register_forward_pre_hook(lambda _, given: (given[0] * -2,))
    apart = outcome(model, monkeypatch, apart=True)
    if reentrant is not None:
        checkpoint_activations(model.get_base_model(), reentrant=reentrant)
    together = outcome(model, monkeypatch)
    assert together[3] == [3, 1, 1, 2, 1, *GROUPS]
    assert_same(together, apart)


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputation_decides_together_again(reentrant, monkeypatch):
    model = make()
    expected = outcome(model, monkeypatch)
    checkpoint_activations(model.get_base_model(), reentrant=reentrant)
    assert_same(outcome(model, monkeypatch), expected)


def test_who_is_not_adapted_does_not_join(monkeypatch):
    model = make(target_modules=r".*\.(k|v|up)_proj", exclude_modules=r".*vision.*")
    together = outcome(model, monkeypatch)
    assert together[3] == 2 * [2, 1]
    assert_same(together, outcome(model, monkeypatch, apart=True))


def test_adapters_that_are_active_at_once_have_their_own_groups(monkeypatch):
    model = make()
    model.add_adapter("second", config("mixlora", target_modules=r".*\.(q|k)_proj", exclude_modules=r".*vision.*"))
    model.double().base_model.set_adapter(["default", "second"])
    together = outcome(model, monkeypatch)
    assert together[3] == 2 * [3, 2, 1, 2, 1]
    assert_same(together, outcome(model, monkeypatch, apart=True))


def test_who_is_off_or_unlike_or_gathered_apart_does_not_join():
    model = make()
    q, k, v = (layer(model, f"self_attn.{name}_proj") for name in "qkv")
    plan = q.mixture_plan["default"]
    assert q.together(plan) == [q, k, v]
    k.enable_adapters(False)
    assert q.together(plan) == [q, v]
    k.enable_adapters(True)
    v.float()
    assert q.together(plan) == [q, k] and v.together(v.mixture_plan["default"]) == [v]
    k.__class__ = type("FSDPMixtureLinear", (MixtureLinear,), {})  # as fully_shard marks a unit of its own
    assert q.together(plan) == [q] and k.together(k.mixture_plan["default"]) == [k]
    k.delete_adapter("default")
    assert q.together(plan) == [q]


def test_a_copy_of_the_model_decides_with_its_own_layers():
    model = make()
    twin = layer(copy.deepcopy(model), "self_attn.q_proj")
    names = {id(each) for each in twin.mixture_plan["default"].beside}
    assert id(twin) in names and not names & {id(each) for each in model.modules()}


def test_nothing_is_kept_of_decisions_that_nobody_fetched():
    model = make()
    attention, scopes = layer(model, "self_attn"), []
    attention.register_forward_hook(lambda *_: scopes.append(attention.q_proj.holder.scope))
    attention.k_proj.register_forward_pre_hook(lambda _, given: (given[0].clone(),))
    found = batch([sample(0, 9)])
    model(**{**found, "pixel_values": found["pixel_values"].double()})
    assert scopes[0].chosen and not scopes[0].ahead
