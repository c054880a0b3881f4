"""Rules 4 and 5: a selection is made once per forward, also when activations are recomputed; and routers learn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mixtune.adapters import auxiliary_loss, record_routing
from mixtune.adapters.layer import ROUTERS
from mixtune.check.examples import Inputs, NotApplicableError
from mixtune.check.results import Tally
from mixtune.check.subject import Subject
from mixtune.check.untouched import attributes_kept
from mixtune.training.setup import checkpoint_activations


def recomputed(subject: Subject, tally: Tally) -> None:
    """Two forwards, then one backward: losses and gradients are the same with activation checkpointing."""
    _recomputed(subject, tally, reentrant=False)


def recomputed_reentrant(subject: Subject, tally: Tally) -> None:
    """The same with checkpointing of the reentrant kind, which trainers force on for some launches."""
    try:
        _recomputed(subject, tally, reentrant=True)
    except ValueError as error:
        if "use_reentrant" in str(error):  # an auxiliary loss that needs more than this kind keeps says so
            raise NotApplicableError(f"refused: {error}") from None
        raise


def _recomputed(subject: Subject, tally: Tally, *, reentrant: bool) -> None:
    batches = [subject.batch([each.whole()], "right", room=number) for number, each in enumerate(subject.few)]
    with _training(subject):
        with _checkpointed(subject, reentrant=reentrant), record_routing(subject.model) as seen:
            found = _gradients(subject, batches)
        expected = _gradients(subject, batches)
    if any(plan.mixed for _, plan in subject.plans):
        tally.fact(len(seen.forwards) == len(batches), f"{len(seen.forwards)} selections for {len(batches)} forwards")
    tally.fact(found.keys() == expected.keys(), "other parameters have a gradient")
    for name in found.keys() & expected.keys():
        tally.close(found[name], expected[name], f"gradient of {name}")


def routers_learn(subject: Subject, tally: Tally) -> None:
    """Every trained router that ran gets a gradient from the task loss alone that is not zero."""
    routed = [plan.config for _, plan in subject.plans if plan.mixed]
    if not any(config.routers_learn for config in routed):
        raise NotApplicableError(_why_frozen(routed[0]) if routed else "nothing is routed")
    owners = _owners(subject)
    ran: set[nn.Module] = set()
    hooks = [
        owner.register_forward_hook(lambda module, _args, _output: ran.add(module)) for owner in set(owners.values())
    ]
    try:
        with _training(subject):
            inputs = subject.batch([each.whole() for each in subject.few], "right")
            found = _gradients(subject, [inputs], auxiliary=False)
    finally:
        for hook in hooks:
            hook.remove()
    asked = [name for name, each in subject.parameters.items() if owners.get(each) in ran]
    tally.fact(bool(asked), "no router ran")
    for name in asked:
        tally.fact(name in found and bool(found[name].any()), f"{name}: no gradient from the task loss")


def _owners(subject: Subject) -> dict[nn.Parameter, nn.Module]:
    """The parameters of all routers that are trained, with the layer that runs them."""
    return {
        parameter: plan.leader or layer
        for layer, plan in subject.plans
        if plan.mixed and plan.config.routers_learn
        for name in ROUTERS
        if plan.adapter in getattr(plan.leader or layer, name)
        for parameter in (plan.leader or layer).part(name, plan.adapter).parameters()
    }


def _why_frozen(config: Any) -> str:
    if config.random_routing:
        return "selections are drawn at random (random_routing: true)"
    if not config.router_trainable:
        return "the routers are frozen (router_trainable: false)"
    return "the routers are not trained (gate: none and no auxiliary loss)"


@contextmanager
def _training(subject: Subject) -> Iterator[None]:
    """Training mode, in which the mixture alone trains; afterwards evaluation mode and no gradients."""
    frozen = [
        f".{part}.{plan.adapter}."
        for layer, plan in subject.plans
        for part in layer.frozen_peft_weight_names.get(plan.adapter, ())
    ]
    for parameter in subject.model.parameters():
        parameter.requires_grad_(False)
    for name, parameter in subject.parameters.items():
        parameter.requires_grad_(not any(part in name for part in frozen))
    subject.model.train()
    try:
        yield
    finally:
        subject.model.eval()
        for parameter in subject.model.parameters():
            parameter.grad = None


@contextmanager
def _checkpointed(subject: Subject, *, reentrant: bool) -> Iterator[None]:
    """Activation checkpointing on. Raises NotApplicableError if the model has none."""
    with attributes_kept(subject.model.modules()):
        try:
            checkpoint_activations(subject.inner, reentrant=reentrant)
        except ValueError as error:
            raise NotApplicableError(str(error)) from error
        # The reentrant kind recomputes only what an input with a gradient leads into.
        embeddings = subject.inner.get_input_embeddings()
        embeddings.register_forward_hook(lambda _module, _args, output: output.requires_grad_(True))
        yield


def _gradients(subject: Subject, batches: list[Inputs], auxiliary: bool = True) -> dict[str, Tensor]:
    """Losses (with the auxiliary ones, or without) of all batches and, after one backward, the mixture's gradients."""
    torch.manual_seed(0)  # dropout is the same each time
    for parameter in subject.model.parameters():
        parameter.grad = None
    losses: list[Tensor] = []
    for inputs in batches:
        losses.append(subject.run(inputs, use_cache=False).loss)
        extra = auxiliary_loss(subject.model) if auxiliary else None
        losses += [] if extra is None else [extra]
    torch.stack(losses).sum().backward()
    found = {name: each.grad for name, each in subject.parameters.items() if each.grad is not None}
    return {"the losses": torch.stack(losses).detach(), **found}
