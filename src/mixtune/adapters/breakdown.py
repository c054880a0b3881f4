"""What trains: parameters by part, their counts, and routers that the loss does not reach."""

from __future__ import annotations

import re

from torch import Tensor, nn

from mixtune.adapters.families import PROJECTORS
from mixtune.adapters.hooks import ModelHooks

_ROUTER = re.compile(r"\.mixture_router_\w+\.")
_FACTOR = re.compile(r"\.mixture_[AB]\.")
_PROJECTOR = re.compile(rf"(^|\.)({'|'.join(PROJECTORS)})\.")
_PARTS = {"routers": _ROUTER, "factors": _FACTOR, "projector": _PROJECTOR}


def router_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every router parameter of every adapter, trained or not, by its name in `model`."""
    return {name: parameter for name, parameter in model.named_parameters() if _ROUTER.search(name)}


def factor_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every bank (A and B) of every adapter, trained or not, by its name in `model`."""
    return {name: parameter for name, parameter in model.named_parameters() if _FACTOR.search(name)}


def part_of(name: str) -> str:
    """What the parameter of this name belongs to: "routers", "factors", "projector" or "other"."""
    return next((part for part, pattern in _PARTS.items() if pattern.search(name)), "other")


def trainable_breakdown(model: nn.Module) -> dict[str, int]:
    """Number of trained values: factors (banks A and B), routers, projector, other."""
    counts = dict.fromkeys(("factors", "routers", "projector", "other"), 0)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            counts[part_of(name)] += parameter.numel()
    return counts


def dead_routers(model: nn.Module) -> list[str]:
    """Names of the trained router parameters whose gradient is absent or all zero; call between backward and step.

    Rule 5: from the second step of a fresh adapter on this list is empty (in the first B is zero, and so is all that
    reaches a router).
    """
    return [
        name
        for name, parameter in router_parameters(model).items()
        if parameter.requires_grad and (parameter.grad is None or not bool(parameter.grad.any()))
    ]


def auxiliary_loss(model: nn.Module) -> Tensor | None:
    """Hand over the auxiliary loss of the forward just done: Σ over routers of router_aux_loss_coef · balance loss.

    A scalar with gradient (under activation checkpointing of either kind too), already weighted, or None if there is
    none. It is handed over once; the next forward drops one that was not taken.
    """
    return ModelHooks.find(model).take_auxiliary()
