"""A check leaves no trace on the model."""

import random

import pytest
import torch

from mixtune.check import check_rules
from mixtune.check.subject import Subject
from mixtune.check.untouched import is_fresh, randomise, untouched, values_kept
from mixtune.training.setup import checkpoint_activations
from routed import adapted, batch, sample


def traces(model):
    """Everything of a model that a check could change, in a form that compares."""
    own = {name: {key: repr(value) for key, value in vars(module).items()} for name, module in model.named_modules()}
    return {
        "bits": {name: value.tolist() for name, value in model.state_dict().items() if "mixture" in name},
        "attributes": own,
        "trained": [each.requires_grad for each in model.parameters()],
        "gradients": [None if each.grad is None else each.grad.sum().item() for each in model.parameters()],
        "random": (torch.get_rng_state().tolist(), random.getstate()),
        "settings": repr(vars(model.peft_config["default"])),
    }


@pytest.mark.parametrize("training", [False, True])
def test_a_model_is_left_as_it_was(examples, training):
    model = adapted("mixlora").train(training)
    if training:
        checkpoint_activations(model.get_base_model())
    model(**batch([sample(0, 9)])).loss.backward()
    before = traces(model)
    check_rules(model, examples[:2], randomised=True)
    assert traces(model) == before


def test_also_after_an_error(examples):
    model = adapted("mixlora").train()
    before, subject = traces(model), Subject(model, examples, 1e-5, 0)
    parameters = list(subject.parameters.values())
    with pytest.raises(RuntimeError), untouched(subject), values_kept(parameters):
        randomise(subject)
        assert not model.training
        torch.rand(3), random.random()
        raise RuntimeError
    assert traces(model) == before


def test_random_values_are_a_function_of_the_seed_and_make_an_adapter_act(examples):
    subject = Subject(adapted("mixlora", init_weights=True), examples, 1e-5, 0)
    with torch.no_grad():
        for name, parameter in subject.parameters.items():
            if ".mixture_B." in name:
                parameter.zero_()
    assert is_fresh(subject)
    randomise(subject, seed=1)
    first = [each.clone() for each in subject.parameters.values()]
    assert not is_fresh(subject)
    randomise(subject, seed=2)
    assert not any(torch.equal(one, two) for one, two in zip(first, subject.parameters.values(), strict=True))
    randomise(subject, seed=1)
    assert all(torch.equal(one, two) for one, two in zip(first, subject.parameters.values(), strict=True))
