"""The gradient of each sample on each bank is what autograd gives for that sample alone."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from mixtune.analyse.interference.banks import adapted_linears
from mixtune.analyse.interference.gradients import sample_gradients, sample_losses
from routed import adapted, batch, prompts, randomise, sample
from tiny import tiny_llava
from tolerances import TOL

PRESETS = ("lora", "mixlora", "llava-mole", "llava-mole-released")


def plain_lora():
    model = get_peft_model(tiny_llava()[0], LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "down_proj"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return model.eval()


def alone(model, linear, given) -> list[torch.Tensor]:
    """Gradients of one sample's loss on both banks, from autograd."""
    with torch.enable_grad():
        return torch.autograd.grad(sample_losses(model, given).sum(), [linear.bank_a, linear.bank_b])


@pytest.mark.parametrize("preset", [*PRESETS, "peft"])
def test_each_sample_has_the_gradient_it_has_alone(preset: str) -> None:
    model = plain_lora() if preset == "peft" else adapted(preset)
    samples = [sample(seed, prompt=8 + seed, answer=3 + seed) for seed in range(3)]
    linears = [each for each in adapted_linears(model) if each.linear in ("q_proj", "down_proj", "up_proj")]
    losses_B, by_linear = sample_gradients(model.requires_grad_(False), batch(samples), linears)
    found = {linear.name: gradients for linear, gradients in by_linear}
    for number, each in enumerate(samples):
        given = batch([each])
        torch.testing.assert_close(sample_losses(model, given)[0], losses_B[number], **TOL[torch.float32])
        for linear in linears:
            linear.bank_a.requires_grad_(True), linear.bank_b.requires_grad_(True)
            expected = alone(model, linear, given)
            assert any(value.any() for value in expected), "something is measured"
            for side, value in zip("AB", expected, strict=True):
                torch.testing.assert_close(found[linear.name][side][number], value, **TOL[torch.float32])
            linear.bank_a.requires_grad_(False), linear.bank_b.requires_grad_(False)


def test_nothing_is_left_behind() -> None:
    model = adapted("mixlora").requires_grad_(False)
    linears = adapted_linears(model)
    sample_losses(model, batch([sample(0, prompt=8)]))  # transformers hooks a model at its first forward
    hooks = {name: len(module._forward_hooks) for name, module in model.named_modules()}
    _, by_linear = sample_gradients(model, batch([sample(0, prompt=8)]), linears)
    assert len(list(by_linear)) == len(linears)
    assert {name: len(module._forward_hooks) for name, module in model.named_modules()} == hooks
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_gate_that_trains_the_bank_through_the_router_is_refused() -> None:
    model = adapted("mixlora", gate="multiply")
    with pytest.raises(ValueError, match="gate 'multiply' bank A has a gradient through its router"):
        adapted_linears(model)


def test_prompts_alone_have_no_loss() -> None:
    """Where nothing is supervised, a loss is zero and so is every gradient: it cannot count as a direction."""
    model = adapted("lora").requires_grad_(False)
    randomise(model)
    given = prompts([sample(0, prompt=8)])
    given["labels"] = torch.full_like(given["input_ids"], -100)
    assert sample_losses(model, given).tolist() == [0.0]
