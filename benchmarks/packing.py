"""Whole training steps on batches whose samples differ in length: padded, packed into one row, packed into few rows.

The model is the pocket model's language model with random weights and a share of its layers and vocabulary, MixLoRA
E=16 r=4 on all linears, logits at supervised positions only, AdamW: what `mixtune train` runs, without tower and
projector, which packing does not touch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from benchmarks.harness import Case, Run
from benchmarks.lengths import Length, draw_pocket, draw_varied
from benchmarks.models import pocket_language_model, shared_copy, trained, with_mixture
from mixtune.data import Collator
from mixtune.data.sample import Message, Sample
from mixtune.data.tokens import IGNORED
from mixtune.training.logits import supervised_loss
from mixtune.training.packing import attention_width

PADDED = "padded"
MIXES: Mapping[str, Callable[[int], Sequence[Length]]] = {"pocket": draw_pocket, "varied": draw_varied}
VOCABULARY = 3277  # of 49,152, as 2 of 30 layers, so that every part keeps its share of a step


def cases(settings: Any, collator: Collator) -> Iterator[Case]:
    """One case for each dtype, attention, mix of lengths and batch size; `settings` is data.DataSettings.

    `collator` lends its tokenizer's padding token.
    """
    for dtype in settings.dtypes:
        base = pocket_language_model(settings.layers, VOCABULARY, getattr(torch, dtype), settings.device)
        for attention, (mix, batch) in product(settings.attention, shapes(settings)):
            lengths = MIXES[mix](batch)
            padding = 1 - sum(map(sum, lengths)) / (batch * max(map(sum, lengths)))
            facts = {"packing": mix, "attention": attention, "batch": batch, "padding": f"{padding:.0%}"}
            yield Case(
                facts={"dtype": dtype, **facts},
                arms=arms(base, attention, lengths, collator),
                reference=PADDED,
                work=batch,
                unit="samples",
            )


def shapes(settings: Any) -> list[tuple[str, int]]:
    """Mixes with their batch sizes: the pocket mix at each, made-up varied lengths at the smallest only."""
    return [*(("pocket", batch) for batch in settings.batches), ("varied", min(settings.batches))]


def arms(
    base: PreTrainedModel, attention: str, lengths: Sequence[Length], collator: Collator
) -> dict[str, Callable[[], Run]]:
    """The ways to lay out the same samples, by name."""
    encoded = [encode(length, VOCABULARY) for length in lengths]
    samples = [Sample(str(n), (Message("user", ""),), (), "draw", origin="") for n in range(len(encoded))]
    made = {}
    model = shared_copy(base)
    model.set_attn_implementation(attention)
    layouts = {
        PADDED: {},
        "packed into one row": {"packed": True},
        "packed into few rows": {"packed": True, "width": attention_width(model)},
    }
    for name, layout in layouts.items():
        batch = Collator(collator.encoder, ["draw"], **layout).batch(encoded, samples)
        made[name] = partial(step, model, {key: value.to(base.device) for key, value in batch.items()})
    return made


def encode(length: Length, vocabulary: int) -> dict[str, Tensor]:
    """A made-up sample of so many tokens, as `Encoder.encode` gives it."""
    prompt = torch.arange(sum(length)) < length[0]
    ids = torch.arange(sum(length)) * 97 % vocabulary
    return {"input_ids": ids, "labels": torch.where(prompt, IGNORED, ids), "prompt_mask": prompt}


def step(base: nn.Module, batch: dict[str, Tensor]) -> Run:
    """The training step: gradients clipped, AdamW fused, as our trainer has it."""
    model = with_mixture(base, "mixlora", r=4, num_factors=16).train()
    parameters = trained(model)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def run() -> Iterator[str]:
        nll = supervised_loss(model, batch).nll.mean()
        yield "forward"
        nll.backward()
        yield "backward"
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield "optimizer"

    return run
