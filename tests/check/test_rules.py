"""The checks find what is planted, and nothing where nothing is planted."""

import dataclasses

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from mixtune import get_peft_model
from mixtune.adapters import routes
from mixtune.adapters.hooks import ModelHooks
from mixtune.adapters.layer import MixtureLinear
from mixtune.check import CHECKS, Example, check_rules
from mixtune.check.rules import run_check
from mixtune.check.subject import Subject
from mixtune.routing import together
from mixtune.routing.cache import RoutedCache
from mixtune.routing.generating import GenerationPrompt
from mixtune.routing.prompts import BatchFacts
from mixtune.routing.scope import RoutingScope, ScopeHolder
from routed import adapted, config
from tiny import tiny_llava


def by_rule(results, kept):
    """Numbers of the rules with a check whose result is `kept`."""
    return {int(each.rule[0]) for each in results if each.kept is kept}


def broken(results):
    return {each.check for each in results if each.kept is False}


def report(results):
    return "\n".join(f"{each.rule}: {each.check}: {each.kept} {each.reason}" for each in results)


@pytest.mark.parametrize("preset", ["lora", "mixlora", "llava-mole"])
def test_every_check_applies_and_is_kept(preset, examples):
    results = check_rules(adapted(preset), examples)
    assert [each.check for each in results] == [each.name for each in CHECKS]
    unsaid = {"selections differ", "every router has a gradient"} if preset == "lora" else set()
    assert {each.check for each in results if each.kept is not True} == unsaid, report(results)
    exact = {each.check for each in results if each.tolerance == 0}
    assert exact == {"fresh = base", "disabled = base", "saved and loaded = same bits", "copies share nothing"}
    assert all(each.difference == 0 if each.check in exact else each.tolerance == 1e-5 for each in results)


def test_results_come_as_they_are_found(examples):
    seen = []
    assert check_rules(adapted("lora"), examples[:1], progress=seen.append) == seen
    assert {each.check for each in seen if each.reason == "needs two examples"} == {
        "cache repeated, reordered, selected", "alone = in a batch padded left", "alone = in a batch padded right",
        "generate alone = in a batch", "packed = separate",
    }  # fmt: skip


def test_a_fresh_adapter_is_checked_with_random_values(examples):
    model = get_peft_model(tiny_llava()[0], config("mixlora"))
    results = check_rules(model, examples[:2])
    assert by_rule(results, True) == set(range(8)) and not broken(results), report(results)
    assert "random values" in results[0].reason
    fresh = check_rules(model, examples[:2], randomised=False)
    dead = next(each for each in fresh if each.rule[0] == "5")
    assert dead.kept is False and "no gradient" in dead.reason  # B = 0 lets nothing through


def test_examples_that_are_routed_alike_prove_little(examples):
    result = run_check(CHECKS[0], Subject(adapted("mixlora"), examples[:1] * 2, 1e-5, 0))
    assert result.kept is None and "routed alike" in result.reason


def test_what_cannot_be_checked_is_refused(examples):
    model = adapted("lora")
    with pytest.raises(ValueError, match="examples: none given"):
        check_rules(model, [])
    with pytest.raises(ValueError, match="carries no mixture"):
        check_rules(tiny_llava()[0], examples)
    odd = Example(inputs={**examples[0].inputs, "token_type_ids": torch.zeros(1, 13).long()}, prompt_length=9)
    with pytest.raises(ValueError, match="same tensors"):
        check_rules(model, [odd, examples[1]])
    with model.disable_adapter(), pytest.raises(ValueError, match="not active"):
        check_rules(model, examples)


def test_a_model_with_add_adapter_is_checked_alike(examples):
    model, _ = tiny_llava()
    model.add_adapter(config("mixlora", modules_to_save=["multi_modal_projector"]))
    results = check_rules(model, examples)
    assert by_rule(results, True) == set(range(8)) and not broken(results), report(results)


def test_released_mixlora_breaks_the_first_three_rules(examples):
    results = check_rules(adapted("mixlora-released"), examples[:2])
    assert by_rule(results, False) == {1, 2, 3}, report(results)
    assert next(each.kept for each in results if each.rule[0] == "5") is None  # its routers are frozen by design


def test_released_llava_mole_is_dense_in_inference_only_and_its_routers_have_no_task_gradient(examples):
    results = check_rules(adapted("llava-mole-released"), examples[:2])
    assert broken(results) == {"training mode = evaluation mode", "every router has a gradient"}, report(results)


def test_frozen_routers_are_no_broken_rule(examples):
    results = check_rules(adapted("mixlora", router_trainable=False), examples[:2])
    assert not broken(results)
    assert "router_trainable" in next(each.reason for each in results if each.rule[0] == "5")


def test_random_routing_is_another_at_every_forward(examples):
    results = check_rules(adapted("mixlora", random_routing=True), examples[:2])
    assert by_rule(results, False) == {1, 2, 3}, report(results)


# Faults, each planted in a model that is otherwise sound: (plant, checks that must find it, rules that must hold)


def pools_over_padding(monkeypatch):
    monkeypatch.setattr(BatchFacts, "attended", lambda self: None)


def pools_over_answers(monkeypatch):
    monkeypatch.setattr(BatchFacts, "prompt_positions", lambda self, *_: self.attended())


def routes_anew_while_decoding(monkeypatch):
    monkeypatch.setattr(RoutingScope, "from_cache", lambda self, key: None)
    monkeypatch.setattr(GenerationPrompt, "expand", lambda self, batch, length: torch.ones(batch, length).bool())


def routers_without_gradient(monkeypatch):
    decide = routes.conditional_routes

    def without(h, banks, weights, options, *rest):
        return decide(h, banks, weights, dataclasses.replace(options, gate="none"), *rest)

    monkeypatch.setattr(routes, "conditional_routes", without)


def cache_not_reordered(monkeypatch):
    monkeypatch.setattr(RoutedCache, "reorder_cache", lambda self, rows: super(RoutedCache, self).reorder_cache(rows))


def recomputation_routes_anew(monkeypatch):
    def again(self):
        return dataclasses.replace(
            self, facts=BatchFacts(shape=self.facts.shape), made={}, live={}, _pooled=None, _masks={}
        )

    monkeypatch.setattr(RoutingScope, "again", again)


def scope_left_open(monkeypatch):
    close = ModelHooks.close

    def leave(self, model, args, kwargs, output):
        scope = self.holder.scope
        close(self, model, args, kwargs, output)
        self.holder.scope = scope

    monkeypatch.setattr(ModelHooks, "close", leave)


def scope_left_open_by_an_exception(monkeypatch):
    close = ModelHooks.close

    def leave(self, model, args, kwargs, output):
        if output is not None:
            close(self, model, args, kwargs, output)

    monkeypatch.setattr(ModelHooks, "close", leave)


def copies_share_a_scope(monkeypatch):
    monkeypatch.setattr(ScopeHolder, "__deepcopy__", lambda self, memo: self, raising=False)


def file_lacks_a_router(monkeypatch):
    save = PeftModel.save_pretrained

    def lossy(self, folder, **options):
        save(self, folder, **options)
        path = f"{folder}/adapter_model.safetensors"
        tensors = load_file(path)
        tensors.pop(next(name for name in tensors if "mixture_router_AB" in name))
        save_file(tensors, path)

    monkeypatch.setattr(PeftModel, "save_pretrained", lossy)


def never_disabled(monkeypatch):
    enable = MixtureLinear.enable_adapters
    monkeypatch.setattr(MixtureLinear, "enable_adapters", lambda self, enabled: enable(self, True))


FAULTS = [
    (pools_over_padding, {1, 2, 3}, "other tokens under padding"),
    (pools_over_answers, {1, 2}, "other answer tokens"),
    (routes_anew_while_decoding, {2, 3}, "generate = teacher forcing"),
    (routers_without_gradient, {5}, "every router has a gradient"),
    (cache_not_reordered, {2}, "cache repeated, reordered, selected"),
    (recomputation_routes_anew, {4}, "activation checkpointing"),
    (scope_left_open, {7}, "after a forward and generate"),
    (scope_left_open_by_an_exception, {7}, "after an exception"),
    (copies_share_a_scope, {7}, "copies share nothing"),
    (file_lacks_a_router, {6}, "saved and loaded = same bits"),
    (never_disabled, {6}, "disabled = base"),
]


@pytest.mark.parametrize(("plant", "rules", "check"), FAULTS, ids=[each[0].__name__ for each in FAULTS])
def test_a_planted_fault_breaks_its_rule(plant, rules, check, examples, monkeypatch):
    plant(monkeypatch)
    results = check_rules(adapted("mixlora"), examples[:2])
    assert check in broken(results), report(results)
    assert by_rule(results, False) == rules, report(results)


def test_a_tie_that_rounding_decides_is_no_broken_rule(examples, monkeypatch):
    """The first example's choice at the first router comes out in another order in a batch, as if its scores tied."""
    choose, tied = together.top_k, []

    def unsure(scores, k):  # of all routers of an input
        chosen = choose(scores, k)
        tied.append(scores[0, 0].detach())  # the first router is asked first
        same = (scores - tied[0]).abs().amax(-1) < 1e-5
        return torch.where(same[..., None], chosen.flip(-1), chosen) if scores.shape[1] > 1 else chosen

    monkeypatch.setattr(together, "top_k", unsure)
    subject = Subject(adapted("mixlora"), examples, 1e-5, 0)
    subject.look(subject.batch([examples[0].whole()], "right"))
    before = {name: value.clone() for name, value in subject.parameters.items()}
    result = run_check(next(each for each in CHECKS if each.name == "alone = in a batch padded right"), subject)
    assert result.kept and "two choices tie, and rounding decides (logits of example 0" in result.reason
    assert all(torch.equal(value, before[name]) for name, value in subject.parameters.items())
