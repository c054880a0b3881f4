"""A whole training step of the pocket model's language model: forward, backward, optimizer.

Random weights of SmolLM2-135M's sizes, but a fifth of its layers and of its vocabulary, so that every part keeps its
share of the whole (which `--layers 30 --vocabulary 49152` measures). The batch always holds the same number of tokens.
The inputs ask for their gradient, as a trained projector makes them; only the last positions are supervised and reach
the head. The floor is the frozen base without anything to train.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.harness import Case, Run
from benchmarks.models import (
    ANSWER,
    is_mixture,
    pocket_language_model,
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
class StepSettings(Settings):
    """Sizes of the model and of the batch."""

    lengths: tuple[int, ...] = option((64, 256, 1024), "tokens of an instance")
    tokens: int = option(1024, "tokens of a batch")
    factors: tuple[int, ...] = option((16, 64, 256), "E of mixlora")
    layers: int = option(6, "layers of the model")
    vocabulary: int = option(9830, "tokens the model knows")


SETTINGS = StepSettings
MIXLORA, PEFT = "mixlora E=16 r=4", "peft r=4"
TARGETS = (
    Target(arm=MIXLORA, peer=PEFT, limits={"float32": 1.0, "bfloat16": 0.8}),
    Target(arm=MIXLORA, peer=PEFT, limits={"float32": 1.0, "bfloat16": 1.0}, of="peak"),
    Target(arm="mixlora E=256 r=4", peer=MIXLORA, limits={"float32": 1.1, "bfloat16": 1.1}),
    Target(arm="llava-mole K=3 r=32", peer="peft r=32", limits={"float32": 1.0, "bfloat16": 0.8}),
)


def cases(settings: StepSettings) -> Iterator[Case]:
    """One case for each dtype and length, short first."""
    for dtype in settings.dtypes:
        base = pocket_language_model(settings.layers, settings.vocabulary, getattr(torch, dtype), settings.device)
        for length in settings.lengths:
            batch = max(1, settings.tokens // length)
            yield Case(
                facts={"dtype": dtype, "length": length, "batch": batch, "layers": settings.layers},
                arms={
                    name: partial(arm, make, (batch, length), settings)
                    for name, make in models(base, dtype, settings).items()
                },
                reference=PEFT,
                work=batch * length,
                unit="tokens",
                shared_bytes=weight_bytes(base),
            )


def models(base: nn.Module, dtype: str, settings: StepSettings) -> dict[str, Callable[[], nn.Module]]:
    """The arms by name, each as what puts its adapter on a copy of `base`."""
    lowered = {} if dtype == "float32" else {f"{PEFT}, adapters {dtype}": partial(with_lora, base, 4, base_dtype=True)}
    rank = equal_rank(base)
    return {
        "floor": partial(shared_copy, base),
        PEFT: partial(with_lora, base, 4),
        **lowered,
        "lora r=4": partial(with_mixture, base, "lora", r=4),
        **{
            f"mixlora E={size} r=4": partial(with_mixture, base, "mixlora", r=4, num_factors=size)
            for size in settings.factors
        },
        **{
            f"mixlora E={size} r=4, router_scope {scope}": partial(
                with_mixture, base, "mixlora", r=4, num_factors=size, router_scope=scope
            )
            for size in (16, 256)
            if size in settings.factors
            for scope in ("input", "layer")
        },
        f"peft r={rank} (as many trained as {MIXLORA})": partial(with_lora, base, rank),
        "peft r=32": partial(with_lora, base, 32),
        "llava-mole K=3 r=32": partial(with_mixture, base, "llava-mole", r=32, num_experts=3),
    }


def equal_rank(base: nn.Module) -> int:
    """The rank at which plain LoRA trains as many values as mixlora with E = 16 and r = 4, routers included."""
    counts = [
        sum(parameter.numel() for parameter in trained(model))
        for model in (with_mixture(base, "mixlora", r=4, num_factors=16), with_lora(base, 1))
    ]
    return round(counts[0] / counts[1])


def arm(make: Callable[[], nn.Module], shape: tuple[int, int], settings: StepSettings) -> Run:
    """The training step of one model: gradients clipped, AdamW fused, as our trainer has it."""
    model = make().train()
    parameters, table_VD = trained(model), model.get_input_embeddings().weight
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True) if parameters else None
    answer = min(ANSWER, shape[1] // 2)
    made = {"dtype": table_VD.dtype, "device": table_VD.device}
    x_BTD = torch.randn(*shape, table_VD.shape[1], **made, requires_grad=True)
    labels_BT = torch.randint(table_VD.shape[0], (shape[0], answer), device=table_VD.device)
    given = prompt_of(model, *shape, answer, settings.device)
    routed = is_mixture(model)

    def loss() -> Tensor:
        logits_BTV = model(inputs_embeds=x_BTD, use_cache=False, logits_to_keep=answer, **given).logits
        loss = F.cross_entropy(logits_BTV.float().flatten(0, 1), labels_BT.flatten())
        extra = auxiliary_loss(model) if routed else None
        return loss if extra is None else loss + extra

    def run() -> Iterator[str]:
        value = loss()
        yield "forward"
        value.backward()
        yield "backward"
        if optimizer is not None:
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
        x_BTD.grad = None
        yield "optimizer"

    return run
