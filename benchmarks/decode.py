"""Tokens a second with the KV cache: the prompt once, then one token after another; compared on the latter.

The pocket model's language model with random weights of SmolLM2-135M's sizes, but a fifth of its layers and of its
vocabulary, as in `step`. The tokens fed are the same for every arm, and no sampling is measured. Adapters stay apart
from the base (unmerged), as a mixture cannot be merged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import Case, Run
from benchmarks.models import pocket_language_model, shared_copy, weight_bytes, with_lora, with_mixture
from benchmarks.options import Settings, option
from benchmarks.results import Target


@dataclass(frozen=True, kw_only=True)
class DecodeSettings(Settings):
    """Sizes of the model, of the prompt and of the answer."""

    batches: tuple[int, ...] = option((1, 8), "instances decoded together")
    prompt: int = option(64, "tokens of a prompt")
    answer: int = option(16, "tokens of an answer")
    layers: int = option(6, "layers of the model")
    vocabulary: int = option(9830, "tokens the model knows")


SETTINGS = DecodeSettings
PEFT = "peft r=4"
TARGETS = tuple(
    Target(arm=arm, peer=peer, limits={"float32": 1.0, "bfloat16": 1.0})
    for arm, peer in (("mixlora E=16 r=4", PEFT), ("llava-mole K=3 r=32", "peft r=32"))
)


def cases(settings: DecodeSettings) -> Iterator[Case]:
    """One case for each dtype and batch, small first."""
    for dtype in settings.dtypes:
        base = pocket_language_model(settings.layers, settings.vocabulary, getattr(torch, dtype), settings.device)
        for batch in settings.batches:
            facts = {"dtype": dtype, "batch": batch, "prompt": settings.prompt, "answer": settings.answer}
            yield Case(
                facts={**facts, "layers": settings.layers},
                arms={name: partial(arm, make, batch, settings) for name, make in models(base, dtype).items()},
                reference=PEFT,
                judged="answer",
                work=batch * settings.answer,
                unit="tokens",
                shared_bytes=weight_bytes(base),
            )


def models(base: nn.Module, dtype: str) -> dict[str, Callable[[], nn.Module]]:
    """The arms by name, each as what puts its adapter on a copy of `base`."""
    lowered = {} if dtype == "float32" else {f"{PEFT}, adapters {dtype}": partial(with_lora, base, 4, base_dtype=True)}
    return {
        "base": partial(shared_copy, base),
        PEFT: partial(with_lora, base, 4),
        **lowered,
        "lora r=4": partial(with_mixture, base, "lora", r=4),
        "mixlora E=16 r=4": partial(with_mixture, base, "mixlora", r=4, num_factors=16),
        "peft r=32": partial(with_lora, base, 32),
        "llava-mole K=3 r=32": partial(with_mixture, base, "llava-mole", r=32, num_experts=3),
    }


def arm(make: Callable[[], nn.Module], batch: int, settings: DecodeSettings) -> Run:
    """Prompt and answer of one model."""
    model = make().eval()
    length = settings.prompt + settings.answer
    ids_BT = torch.randint(settings.vocabulary, (batch, length), generator=torch.Generator().manual_seed(0))
    ids_BT = ids_BT.to(settings.device)

    @torch.no_grad()
    def forward(part_BT: Tensor, cache: Any) -> Any:
        return model(input_ids=part_BT, past_key_values=cache, use_cache=True, logits_to_keep=1).past_key_values

    def run() -> Iterator[str]:
        cache = forward(ids_BT[:, : settings.prompt], None)
        yield "prompt"
        for position in range(settings.prompt, length):
            cache = forward(ids_BT[:, position : position + 1], cache)
        yield "answer"

    return run
