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
from torch import Tensor
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
    """The training step on each layout of the same samples, by name."""
    model = shared_copy(base)
    model.set_attn_implementation(attention)
    batches = layouts(lengths, collator, attention_width(model))
    return {name: partial(step, model, batch) for name, batch in batches.items()}


def layouts(lengths: Sequence[Length], collator: Collator, width: int | None) -> dict[str, dict[str, Tensor]]:
    """Samples of such lengths as batches, by name; `width` as in `mixtune.data.packing.plan_rows`."""
    encoded = [encode(length, VOCABULARY) for length in lengths]
    samples = [Sample(str(number), (Message("user", ""),), (), "draw") for number in range(len(encoded))]
    ways = {
        PADDED: Collator(collator.encoder, ["draw"]),
        "packed into one row": Collator(collator.encoder, ["draw"], packed=True),
        "packed into few rows": Collator(collator.encoder, ["draw"], packed=True, width=width),
    }
    return {name: way.batch(encoded, samples) for name, way in ways.items()}


def encode(length: Length, vocabulary: int) -> dict[str, Tensor]:
    """A made-up sample of so many tokens, as `Encoder.encode` gives it."""
    prompt = torch.arange(sum(length)) < length[0]
    ids = torch.arange(sum(length)) * 97 % vocabulary
    return {"input_ids": ids, "labels": torch.where(prompt, IGNORED, ids), "prompt_mask": prompt}


def step(base: PreTrainedModel, batch: dict[str, Tensor]) -> Run:
    """The training step: gradients clipped, AdamW fused, as our trainer has it."""
    model = with_mixture(base, "mixlora", r=4, num_factors=16).train()
    parameters = trained(model)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    batch = {name: value.to(base.device) for name, value in batch.items()}

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
