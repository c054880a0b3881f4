"""One frozen linear with each adapter on it: forward and backward.

The input asks for its gradient, as it does inside a model. A routed layer carries its own router here (three linears of
an MLP share one under LLaVA-MoLE) and pays for a whole scope (a model opens one for all its layers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.dense import DenseMixLora
from benchmarks.harness import Case, Run
from benchmarks.models import (
    ANSWER,
    OneLinear,
    is_mixture,
    prompt_of,
    shared_copy,
    trained,
    weight_bytes,
    with_lora,
    with_mixture,
)
from benchmarks.options import Settings, option
from benchmarks.results import Target
from mixtune import auxiliary_loss


@dataclass(frozen=True, kw_only=True)
class LayerSettings(Settings):
    """Sizes of the linear and of its input."""

    widths: tuple[int, ...] = option((576, 2048, 4096), "widths of the square linear")
    batch: int = option(4, "instances")
    length: int = option(256, "tokens of an instance")
    factors: tuple[int, ...] = option((16, 64, 256), "E of mixlora")


SETTINGS = LayerSettings
DENSE = "dense ΔW E=16 r=4"
MIXLORA = "mixlora E=16 r=4"
TARGETS = (
    Target(arm=MIXLORA, peer="peft r=4", limits={"float32": 1.0, "bfloat16": 0.9}),
    Target(arm=MIXLORA, peer=DENSE, limits={"float32": 0.25, "bfloat16": 0.25}),
    Target(arm="llava-mole K=3 r=32", peer="peft r=32", limits={"float32": 1.0, "bfloat16": 1.0}),
    Target(arm="mixlora E=256 r=4", peer=MIXLORA, limits={"float32": 1.1, "bfloat16": 1.1}),
    Target(arm=MIXLORA, peer="peft r=4", limits={"float32": 1.0, "bfloat16": 1.0}, of="peak"),
)


def cases(settings: LayerSettings) -> Iterator[Case]:
    """One case for each dtype and width, narrow first."""
    for dtype in settings.dtypes:
        for width in settings.widths:
            base = OneLinear(width, getattr(torch, dtype), settings.device)
            yield Case(
                facts={"dtype": dtype, "width": width, "batch": settings.batch, "length": settings.length},
                arms={name: partial(arm, make, settings) for name, make in models(base, settings).items()},
                reference="peft r=4",
                shared_bytes=weight_bytes(base),
            )


def models(base: OneLinear, settings: LayerSettings) -> dict[str, Callable[[], nn.Module]]:
    """The arms by name, each as what puts its adapter on a copy of `base`."""
    rank = equal_rank(base)
    return {
        "bare linear": partial(shared_copy, base),
        "peft r=4": partial(with_lora, base, 4),
        f"peft r={rank} (as many trained as {MIXLORA})": partial(with_lora, base, rank),
        "lora r=4": partial(with_mixture, base, "lora", r=4),
        **{
            f"mixlora E={size} r=4": partial(with_mixture, base, "mixlora", r=4, num_factors=size)
            for size in settings.factors
        },
        "mixlora-published E=16 r=4": partial(with_mixture, base, "mixlora-published", r=4, num_factors=16),
        "mixlora-released E=16 r=4": partial(with_mixture, base, "mixlora-released", r=4, num_factors=16),
        DENSE: partial(with_dense, base),
        "peft r=32": partial(with_lora, base, 32),
        "llava-mole K=3 r=32": partial(with_mixture, base, "llava-mole", r=32, num_experts=3),
        "llava-mole-released K=3 r=32": partial(with_mixture, base, "llava-mole-released", r=32, num_experts=3),
    }


def equal_rank(base: OneLinear) -> int:
    """The rank at which plain LoRA trains as many values as mixlora with E = 16 and r = 4, routers included."""
    values = sum(parameter.numel() for parameter in trained(with_mixture(base, "mixlora", r=4, num_factors=16)))
    linear = base.layer.mlp.up_proj
    return round(values / (linear.in_features + linear.out_features))


def with_dense(base: OneLinear) -> nn.Module:
    """The released computation on a copy of `base`, at the scale of the preset mixlora-released."""
    model = shared_copy(base)
    model.layer.mlp.up_proj = DenseMixLora(model.layer.mlp.up_proj, num_factors=16, r=4, scale=8.0)
    return model


def arm(make: Callable[[], nn.Module], settings: LayerSettings) -> Run:
    """Forward and backward of one model; its auxiliary loss, if it has one, is part of both."""
    model = make().train()
    weight = next(model.parameters())
    base_dtype = next(p.dtype for p in model.parameters() if not p.requires_grad)
    width = next(module.in_features for module in model.modules() if isinstance(module, nn.Linear))
    shape = (settings.batch, settings.length, width)
    x_BTD = torch.randn(shape, dtype=base_dtype, device=weight.device, requires_grad=True)
    dy_BTO = torch.randn(shape, dtype=base_dtype, device=weight.device)
    given = prompt_of(model, *shape[:2], min(ANSWER, shape[1] // 2), settings.device)
    routed = is_mixture(model)

    def run() -> Iterator[str]:
        y_BTO = model(inputs_embeds=x_BTD, **given)
        loss = auxiliary_loss(model) if routed else None
        yield "forward"
        roots: list[Tensor] = [y_BTO] if loss is None else [y_BTO, loss]
        torch.autograd.backward(roots, [dy_BTO] if loss is None else [dy_BTO, None])
        yield "backward"
        model.zero_grad()
        x_BTD.grad = None

    return run
