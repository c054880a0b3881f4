import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mixtune.adapters import router_parameters
from mixtune.adapters.hooks import ATTRIBUTE
from mixtune.adapters.layer import MixtureLinear
from mixtune.adapters.replay import NAME, ReplayingCheckpoint
from mixtune.kernels import Casts
from mixtune.training.setup import checkpoint_activations
from routed import adapted, batch, in_bfloat16, sample


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


class BankCasts(TorchDispatchMode):
    """Counts how often a bank of `model` is turned into another dtype."""

    def __init__(self, model):
        super().__init__()
        self.banks = {p.data_ptr() for n, p in model.named_parameters() if ".mixture_A." in n or ".mixture_B." in n}
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._to_copy.default:
            self.count += args[0].data_ptr() in self.banks
        return function(*args, **(kwargs or {}))


def scaled_steps(model):
    """Two optimizer steps under a GradScaler, banks written past torch's count in between: (parameters, casts)."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, fused=True)
    scaler, counted = torch.amp.GradScaler("cpu", init_scale=4.0), BankCasts(model)
    found = batch([sample(0, 9), sample(1, 12)])
    found["pixel_values"] = found["pixel_values"].bfloat16()
    for _ in range(2):
        with counted:
            scaler.scale(model(**found).loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        for name, parameter in model.named_parameters():
            if ".mixture_" in name:
                parameter.data.copy_(parameter.data * 1.25)
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}, counted.count


@pytest.mark.parametrize("reentrant", [None, True, False])
@pytest.mark.parametrize("preset", ["mixlora", "llava-mole"])
def test_recomputation_casts_no_bank_again(preset, reentrant, monkeypatch):
    """Once a forward, with recomputation as without, to the same bits as casting again; after a step, once more."""
    results = []
    for keeping in (True, False):
        with monkeypatch.context() as patch:
            if not keeping:
                patch.setattr(Casts, "lowered", lambda self, key, banks, dtype: banks)
            model = in_bfloat16(adapted(preset)).train()
            if reentrant is not None:
                checkpoint_activations(model.get_base_model(), reentrant=reentrant)
                model.enable_input_require_grads()
            results.append(scaled_steps(model))
    (kept, few), (again, many) = results
    assert few == 2 * len(BankCasts(model).banks) and many == few * (1 if reentrant is None else 2)
    for name, value in kept.items():
        assert torch.equal(value, again[name]), name


def test_parameters_in_shards_are_not_copied_whole():
    model, seen = adapted("mixlora").train(), []
    layer = next(m for m in model.modules() if isinstance(m, MixtureLinear))
    layer.register_forward_pre_hook(lambda module, _: seen.append(module.holder.scope.whole))
    bank = model.base_model.model.__dict__[ATTRIBUTE].layers[-1].part("mixture_A", "default")
    for kind in (torch.nn.Parameter, type("Shard", (torch.nn.Parameter,), {})):
        bank.weight.__class__ = kind
        model(**batch([sample(0, 9)]))
    model.eval()(**batch([sample(0, 9)]))
    assert seen == [True, False, False]
