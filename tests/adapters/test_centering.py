"""Centers of routers: the mean pooled prompt, taken off what a router reads, kept with the adapter, never trained."""

import pytest
import torch
from peft import PeftModel

from mixtune import center_routers, get_peft_model, record_routing
from mixtune.adapters.centering import centers as found_by_layer
from routed import adapted, attended, batch, config, packed, sample
from tiny import tiny_llava
from tolerances import TOL

SAMPLES = [sample(seed, prompt, answer) for seed, (prompt, answer) in enumerate([(9, 4), (14, 3), (6, 1), (11, 7)])]


def centers(model):
    return {name: each for name, each in model.named_parameters() if ".mixture_center." in name}


def pooled_inputs(model, found):
    """Mean over its prompt of what each linear reads, [B, D] by name, worked out from the inputs themselves."""
    seen, handles = {}, []
    for name, module in model.named_modules():
        if hasattr(module, "mixture_plan"):
            handles.append(module.register_forward_pre_hook(lambda m, args, n=name: seen.__setitem__(n, args[0])))
    with torch.no_grad():
        model.eval()(**found)
    for handle in handles:
        handle.remove()
    prompt_BT = (found["labels"] == -100) & found["attention_mask"].bool()
    return {
        name: torch.stack([x_BTD[row][prompt_BT[row]].mean(0) for row in range(len(x_BTD))])
        for name, x_BTD in seen.items()
    }


@pytest.fixture
def fresh():
    torch.manual_seed(0)
    return get_peft_model(tiny_llava(0)[0], config("mixlora-centered"))


def test_a_center_is_the_mean_of_the_pooled_prompts(fresh):
    halves = [batch(SAMPLES[:1]), batch(SAMPLES[1:])]
    pooled = [pooled_inputs(fresh, half) for half in halves]
    fresh.train()
    with center_routers(fresh):
        for half in halves:
            fresh(**half)
    assert fresh.training and centers(fresh)
    for name, center in centers(fresh).items():
        layer = name.partition(".mixture_center.")[0]
        expected = torch.cat([each[layer] for each in pooled]).mean(0, keepdim=True)
        torch.testing.assert_close(center, expected, **TOL[torch.float32])


def test_packed_rows_give_the_same_centers(fresh):
    with center_routers(fresh):
        fresh(**batch(SAMPLES))
    before = {name: center.clone() for name, center in centers(fresh).items()}
    with center_routers(fresh):
        fresh(**packed(SAMPLES))
    first = {name: each for name, each in centers(fresh).items() if "layers.0.self_attn.q_proj" in name}
    assert first  # what later layers read depends on whether the attention keeps samples apart
    for name, center in first.items():
        torch.testing.assert_close(center, before[name], **TOL[torch.float32])


def test_a_router_reads_the_difference():
    """Scores are those of a plain router for which each prompt's mean is moved by the center."""
    model, plain = adapted("mixlora-centered"), adapted("mixlora")
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if ".mixture_center." not in k})
    for center in centers(model).values():
        torch.nn.init.zeros_(center)
    with torch.no_grad():
        assert torch.equal(model(**batch(SAMPLES)).logits, plain(**batch(SAMPLES)).logits)
    with center_routers(model):
        model(**batch(SAMPLES))
    found = batch(SAMPLES)
    inputs = pooled_inputs(model, found)
    with torch.no_grad(), record_routing(model) as seen:
        model(**found)
    for name, routed in seen.selections.items():
        layer = model.get_submodule(f"base_model.model.{name}" if not name.startswith("base_model") else name)
        key = next(each for each in inputs if each.endswith(name))
        h_BD = inputs[key] - layer.mixture_center["default"].weight
        probs_BE = (h_BD @ layer.mixture_router_A["default"].weight.t()).softmax(-1)
        torch.testing.assert_close(routed.probs, probs_BE, **TOL[torch.float32])


def test_choices_spread_over_the_factors(fresh):
    """Samples that choose nearly alike because of their common mean choose differently without it."""

    def used(model):
        with torch.no_grad(), record_routing(model) as seen:
            model(**batch(SAMPLES))
        hot = [torch.zeros(4, 6).scatter_(1, each.indices_a, 1.0) for each in seen.selections.values()]
        return torch.stack([each.any(0).float().mean() for each in hot]).mean()

    before = used(fresh)
    with center_routers(fresh):
        fresh(**batch(SAMPLES))
    assert used(fresh) > before


def test_centers_are_kept_with_the_adapter_and_do_not_train(fresh, tmp_path):
    with center_routers(fresh):
        fresh(**batch(SAMPLES))
    fresh.train()
    fresh(**batch(SAMPLES)).loss.backward()
    assert all(not each.requires_grad and each.grad is None for each in centers(fresh).values())
    fresh.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny_llava(0)[0], tmp_path)
    kept = centers(loaded)
    assert kept and all(torch.equal(kept[name], center) for name, center in centers(fresh).items())
    with torch.no_grad():
        a, b = (each.eval()(**batch(SAMPLES)).logits for each in (fresh, loaded))
    assert all(torch.equal(attended(a, batch(SAMPLES), row), attended(b, batch(SAMPLES), row)) for row in range(4))


def test_linears_without_a_mixture_have_no_center():
    model = get_peft_model(tiny_llava(0)[0], config("mixlora-centered", mixture_modules=r".*mlp.*"))
    with center_routers(model):
        model(**batch(SAMPLES))
    assert len(centers(model)) == 6 and all(bool(each.any()) for each in centers(model).values())


def test_misuse_is_told(fresh):
    with pytest.raises(ValueError, match="no forward of the model"), center_routers(fresh):
        pass
    plain = adapted("mixlora")
    assert found_by_layer(fresh) and not found_by_layer(plain)
    with pytest.raises(ValueError, match="router_center: no active adapter"), center_routers(plain):
        plain(**batch(SAMPLES))
    with pytest.raises(ValueError, match="router_center: needs context 'instance', got 'token'"):
        config("llava-mole", router_center=True)
