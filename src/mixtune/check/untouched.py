"""A model is left exactly as it was: every flag, hook, gradient and bit."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from mixtune.check.results import Tally
from mixtune.check.subject import Subject

KEPT = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
NUDGE = 10.0  # tolerances: more than rounding moves a score, and too little to change what is written
SPREAD = 0.5  # size of a randomised update beside its input
SHARPNESS = 3.0  # size of a randomised router's logits: unlike one another, and far from a saturated softmax


@contextmanager
def untouched(subject: Subject) -> Iterator[None]:
    """Evaluation mode, no gradients and plain generation settings inside; after it everything is as before.

    Attributes of modules, adapter settings, `requires_grad`, gradients and the state of the random generators are put
    back, also after an exception. Values of parameters are not copied: whoever changes them uses `values_kept`.
    """
    model = subject.model
    owners = [*model.modules(), subject.hooks, *getattr(model, "peft_config", {}).values()]
    parameters = [(each, each.requires_grad, each.grad) for each in model.parameters()]
    drawn = random.getstate()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), attributes_kept(owners):
            torch.manual_seed(0)
            for each, _, _ in parameters:
                each.grad = None
            model.eval()
            _plain_generation(subject.inner)
            yield
    finally:
        random.setstate(drawn)
        for each, needed, gradient in parameters:
            each.requires_grad_(needed)
            each.grad = gradient


@contextmanager
def attributes_kept(owners: Iterable[Any]) -> Iterator[None]:
    """After it the attributes of `owners` are those before it, and so is what their dictionaries hold (hooks, parts).

    transformers leaves caches, hooks and flags on a model's modules; they go too.
    """
    before = [
        (found, dict(found))
        for owner in owners
        for found in (vars(owner), *(value for value in vars(owner).values() if isinstance(value, dict)))
    ]
    try:
        yield
    finally:
        for found, content in before:
            found.clear()
            found.update(content)


@contextmanager
def values_kept(parameters: list[nn.Parameter]) -> Iterator[None]:
    """The bits of `parameters` after it are those before it."""
    before: list[Tensor] = [each.detach().clone() for each in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for each, value in zip(parameters, before, strict=True):
                each.copy_(value)


def randomise(subject: Subject, seed: int = 0) -> None:
    """Give the adapters values under which they do something and choose differently, whatever the model's width D.

    A ~ N(0, 1/D), B ~ N(0, (SPREAD / s)² / r), so an update is about SPREAD of its input; routers ~ N(0, SHARPNESS²/D),
    W_AB ~ N(0, SHARPNESS²), since rows of A have length one.
    """
    generator = torch.Generator().manual_seed(seed)
    settings = {plan.adapter: plan.config for _, plan in subject.plans}
    with torch.no_grad():
        for name, parameter in subject.parameters.items():
            config = settings[name.split(".")[-2]]
            wide = parameter.shape[-1] ** 0.5
            if ".mixture_A." in name:
                spread = 1 / wide
            elif ".mixture_B." in name:
                spread = SPREAD / config.scale / config.r**0.5
            else:
                spread = SHARPNESS / (1.0 if ".mixture_router_AB." in name or parameter.dim() == 1 else wide)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)


@contextmanager
def nudged(subject: Subject, seed: int) -> Iterator[None]:
    """Every router's weights changed at random by NUDGE tolerances of themselves; afterwards the same bits again."""
    generator = torch.Generator().manual_seed(seed)
    routers = [each for name, each in subject.parameters.items() if ".mixture_router_" in name]
    with values_kept(routers):
        with torch.no_grad():
            for each in routers:
                each.mul_(1 + NUDGE * subject.tolerance * torch.randn(each.shape, generator=generator).to(each.device))
        subject.forget()
        try:
            yield
        finally:
            subject.forget()


def is_fresh(subject: Subject) -> bool:
    """Whether the adapters change the logits by so little that a wrong selection would not show."""
    one = subject.batch([subject.examples[0].whole()], "right")
    found = subject.look(one).logits
    with subject.bare():
        base = subject.look(one).logits
    return Tally(10 * subject.tolerance).close(found, base, "")


def _plain_generation(model: Any) -> None:
    """Settings of generation that change no logits, in the place of the model's own."""
    own = getattr(model, "generation_config", None)
    if own is not None:
        model.generation_config = GenerationConfig(**{name: getattr(own, name, None) for name in KEPT})
