import torch

from mixtune.adapters import router_parameters
from mixtune.adapters.replay import NAME, ReplayingCheckpoint
from mixtune.training.setup import checkpoint_activations
from routed import adapted, batch, sample


def test_checkpoint_functions_are_wrapped_once_and_restored():
    model = adapted("mixlora")
    base = model.get_base_model()
    checkpoint_activations(base, reentrant=False)
    layers = [m for m in base.modules() if NAME in m.__dict__]
    before = [m.__dict__[NAME] for m in layers]
    model.train()
    for _ in range(2):
        model(**batch([sample(0, 9)])).loss.backward()
    wrapped = [m.__dict__[NAME] for m in layers]
    assert all(isinstance(each, ReplayingCheckpoint) and each.checkpoint is old
               for each, old in zip(wrapped, before, strict=True))  # fmt: skip
    model.unload()
    assert [m.__dict__[NAME] for m in layers] == before


def test_recomputation_repeats_a_random_selection():
    found = batch([sample(0, 9), sample(1, 12)])
    model = adapted("mixlora", random_routing=True).train()

    def gradient():
        torch.manual_seed(3)
        model.zero_grad()
        model(**found).loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    expected = gradient()
    checkpoint_activations(model.get_base_model(), reentrant=False)
    for name, value in gradient().items():
        assert torch.equal(value, expected[name])


def test_recomputation_does_not_choose_again():
    found = batch([sample(0, 9), sample(1, 12)])
    model = adapted("mixlora", gate="none").train()

    def gradient(meddle):
        model.zero_grad()
        loss = model(**found).loss
        if meddle:  # routers that would now choose otherwise
            for parameter in router_parameters(model).values():
                parameter.data.neg_()
        loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    expected = gradient(meddle=False)
    checkpoint_activations(model.get_base_model(), reentrant=False)
    for name, value in gradient(meddle=True).items():
        assert torch.equal(value, expected[name])
