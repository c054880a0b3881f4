import copy
import gc
import pickle
import weakref

import pytest
import torch

from mixtune import auxiliary_loss, get_peft_model, record_routing
from mixtune.adapters import router_parameters
from mixtune.adapters.hooks import ModelHooks
from mixtune.routing.cache import kept_by
from mixtune.training.setup import checkpoint_activations
from routed import adapted, batch, config, randomise, sample
from tiny import tiny_llava


@pytest.fixture(scope="module")
def found():
    return batch([sample(0, 9), sample(1, 12)])


def test_own_arguments_do_not_reach_the_model(found):
    model = adapted("lora")
    with torch.no_grad():
        model(**found, prompt_mask=torch.ones_like(found["input_ids"]), task_ids=torch.tensor([0, 1]))


def test_positional_arguments_are_understood(found):
    model = adapted("mixlora").get_base_model()
    with record_routing(model) as seen, torch.no_grad():
        model(found["input_ids"], found["pixel_values"], found["attention_mask"])
    assert seen.prompt_lengths.tolist() == [13, 16]


def test_a_wrong_prompt_mask_is_named(found):
    with pytest.raises(ValueError, match=r"prompt_mask: shape \(2, 3\), expected \(2, 16\)"):
        adapted("mixlora")(**found, prompt_mask=torch.ones(2, 3))


def test_layers_cannot_be_called_alone():
    layer = next(module for module in adapted("mixlora").modules() if type(module).__name__ == "MixtureLinear")
    with pytest.raises(ValueError, match="q_proj: called outside a forward"):
        layer(torch.zeros(1, 2, 32))


def test_a_model_without_a_mixture_is_named():
    with pytest.raises(ValueError, match="Linear carries no mixture"):
        ModelHooks.find(torch.nn.Linear(2, 2))


def test_random_routing_is_a_function_of_torchs_seed(found):
    model = adapted("mixlora", random_routing=True)

    def drawn(seed):
        torch.manual_seed(seed)
        with record_routing(model) as seen, torch.no_grad():
            model(**found)
        return torch.stack([routed.indices_a for routed in seen.selections.values()])

    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))
    assert (drawn(1) != drawn(1)[:1]).any()


def test_released_behaviour_reroutes_every_step(found):
    model = adapted("mixlora-released", r=2, num_factors=6, lora_dropout=0.0, scaling=1.0)
    with record_routing(model) as seen, torch.no_grad():
        out = model(**found, use_cache=True)
        more = torch.cat([found["attention_mask"], torch.ones(2, 1, dtype=torch.long)], 1)
        model(input_ids=torch.tensor([[9], [10]]), attention_mask=more, past_key_values=out.past_key_values)
    assert len(seen.forwards) == 2 and kept_by(out.past_key_values) == {}


def test_caches_can_be_pickled(found):
    with torch.no_grad():
        cache = adapted("mixlora")(**found, use_cache=True).past_key_values
    again = pickle.loads(pickle.dumps(cache))
    assert type(again) is type(cache) and again.get_seq_length() == cache.get_seq_length()
    for key, kept in kept_by(cache).items():
        assert torch.equal(kept_by(again)[key].indices_b, kept.indices_b)


def test_instance_experts_and_every_gate(found):
    for gate in ("multiply", "renormalise", "none", "straight-through"):
        changes = {"context": "instance", "gate": gate, "top_k": 2, "router_scope": "linear"}
        model = get_peft_model(tiny_llava()[0], config("llava-mole", **changes)).eval()
        randomise(model)
        with torch.no_grad():
            whole = model(**found).logits
            assert torch.isfinite(whole).all()
            one = {key: value[:1] for key, value in found.items()}
            torch.testing.assert_close(model(**one).logits[0, :13], whole[0, :13])


def scopes_of(model):
    """Weak references to the scope of every forward of `model` from now on."""
    hooks, found = ModelHooks.find(model), []
    hooks.layers[0].register_forward_pre_hook(lambda *_: found.append(weakref.ref(hooks.holder.scope)))
    return found


@pytest.mark.parametrize("preset", ["mixlora", "llava-mole"])
@pytest.mark.parametrize("backward", [True, False])
def test_nothing_of_a_forward_stays_alive(preset, backward, found):
    """Also where activation checkpointing holds the scope, and where the auxiliary loss is left out of the loss."""
    model = adapted(preset, router_aux_loss_coef=0.1).train()
    checkpoint_activations(model.get_base_model())
    seen = scopes_of(model)
    for _ in range(3):
        loss = model(**found).loss
        if backward:
            loss.backward()
        del loss
    auxiliary_loss(model)
    gc.collect()
    assert len(seen) >= 3 and not any(scope() is not None for scope in seen)


def test_a_model_is_copied_after_a_forward_with_an_auxiliary_loss(found):
    model = adapted("llava-mole", router_aux_loss_coef=0.1)
    model(**found)
    copied = copy.deepcopy(model)
    assert auxiliary_loss(copied) is None and auxiliary_loss(model) is not None


def test_training_without_knowing_the_prompt_is_refused(found):
    unknown = {key: value for key, value in found.items() if key != "labels"}
    model = adapted("mixlora").train()
    with pytest.raises(ValueError, match="labels: a training forward without labels or prompt_mask"):
        model(**unknown)
    model(**unknown, prompt_mask=found["labels"] == -100)
    with torch.no_grad():
        model(**unknown)
    adapted("llava-mole").train()(**unknown)  # tokens are routed on themselves
    adapted("mixlora", pooling="all").train()(**unknown)


def test_routers_that_read_text_do_not_see_the_picture():
    question, pictures = sample(0, 9), [sample(seed, 9)["pixels"] for seed in range(6)]
    model = adapted("mixlora", pooling="text", num_factors=12)

    def first_choices(pooling):
        model = adapted("mixlora", pooling=pooling, num_factors=12)
        with record_routing(model) as record:
            model(**batch([{**question, "pixels": 20 * picture} for picture in pictures]))
        return next(iter(record.selections.values())).indices_a

    assert len(first_choices("prompt").unique(dim=0)) > 1 == len(first_choices("text").unique(dim=0))
    found = batch([question])
    embedded = {"inputs_embeds": model.get_input_embeddings()(found.pop("input_ids")), **found}
    del embedded["pixel_values"]
    with pytest.raises(ValueError, match="inputs_embeds: routers with pooling 'text'"):
        model(**embedded)


def test_a_model_that_does_not_name_its_picture_token_cannot_be_read_on_text():
    base, _ = tiny_llava(0)
    base.config.image_token_id = None
    with pytest.raises(ValueError, match=r"pooling: 'text' needs .* LlavaForConditionalGeneration names none"):
        get_peft_model(base, config("instruction-mole"))
    get_peft_model(tiny_llava(0)[0].model.language_model, config("instruction-mole"))  # no pictures, all is text


def test_results_that_a_hook_has_kept_are_not_overwritten(found):
    model, kept = adapted("mixlora"), []
    layer = ModelHooks.find(model).layers[0]
    layer.base_layer.register_forward_hook(lambda _module, _args, output: kept.append((output, output.clone())))
    with torch.no_grad():
        model(**found)
    assert torch.equal(*kept[0])


def test_a_dense_mixture_can_be_balanced(found):
    """The share of an expert is that of the positions it is first in; that of all is the same for every expert."""
    model = adapted("llava-mole", dense="always", router_aux_loss_coef=1.0).train()
    model(**found)
    loss = auxiliary_loss(model)
    loss.backward()
    routers = [weight.grad for weight in router_parameters(model).values()]
    assert loss.item() != pytest.approx(2.0) and all(grad.abs().max() > 1e-4 for grad in routers)
