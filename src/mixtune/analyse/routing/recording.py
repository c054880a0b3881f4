"""What the routers choose for each sample's prompt, with the routers as they are and drawn anew.

Legend: S sides (A and B of factors; one for experts), N samples, L routers, E factors or experts (of the largest
router; the rest of a smaller one's row is zero), B samples of a batch, T positions, K chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mixtune.adapters import record_routing
from mixtune.adapters.layer import ROUTERS, MixtureLinear
from mixtune.analyse.subject import model_inputs
from mixtune.data import Collator, Sample
from mixtune.routing.losses import entropy
from mixtune.routing.routers import RouterOutput
from mixtune.training.logits import head_at


@dataclass(frozen=True, kw_only=True)
class Selections:
    """choices [S, N, L, E]: how often each sample's prompt chose each factor (once an instance; for token routers once
    a position; where all are used in proportion, the sum of their gates). image [L, E]: the part that image positions
    chose, None unless tokens are routed. entropy [S, L]: of the router's probabilities in nats, mean over decisions.
    layers: names of the routers; sizes: E of each.
    """

    choices: np.ndarray
    image: np.ndarray | None
    entropy: np.ndarray
    layers: tuple[str, ...]
    sizes: tuple[int, ...]


@dataclass
class _Sums:
    """What has been recorded so far; a list entry is a batch."""

    choices: list[Tensor] = field(default_factory=list)
    image: list[Tensor] = field(default_factory=list)
    entropy: list[Tensor] = field(default_factory=list)
    decisions: list[int] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)


def record_selections(
    model: Any,
    collator: Collator,
    samples: Sequence[Sample],
    batch_size: int,
    done: Callable[[int], None] = lambda _count: None,
) -> Selections:
    """Run the prompts of `samples` and note what was chosen. Raises ValueError if `model` routes nothing."""
    sums, image_id = _Sums(), _image_id(collator.encoder.processor)
    order = sorted(range(len(samples)), key=lambda n: sum(len(m.text) for m in samples[n].messages[:-1]))
    for start in range(0, len(order), batch_size):
        batch = [samples[place] for place in order[start : start + batch_size]]
        prompts = collator.prompts(batch)
        with torch.inference_mode(), record_routing(model) as record:
            keep_BT = torch.zeros_like(prompts["attention_mask"], dtype=torch.bool)
            keep_BT[0, 0] = True  # nobody reads the logits
            with head_at(model.get_output_embeddings(), keep_BT):
                model(**model_inputs(model, prompts), use_cache=False)
        _add(sums, record.selections, prompts, image_id)
        done(len(batch))
    choices_SNLE = torch.cat(sums.choices, 1)[:, np.argsort(order)]
    shares = torch.tensor(sums.decisions).double() / sum(sums.decisions)
    return Selections(
        choices=choices_SNLE.numpy(),
        image=torch.stack(sums.image).sum(0).numpy() if sums.image else None,
        entropy=(torch.stack(sums.entropy, -1).double() @ shares).numpy(),
        layers=tuple(sums.sizes),
        sizes=tuple(sums.sizes.values()),
    )


def _image_id(processor: Any) -> int:
    token = getattr(processor, "image_token", None)
    return processor.tokenizer.convert_tokens_to_ids(token) if token else -1


def _add(sums: _Sums, selections: Mapping[str, RouterOutput], prompts: Mapping[str, Tensor], image_id: int) -> None:
    if not selections:
        raise ValueError("the adapter routes nothing, so there is no selection to look at; take a mixture")
    sums.sizes |= {name: routed.probs.shape[-1] for name, routed in selections.items()}
    first, widest = next(iter(selections.values())), max(sums.sizes.values())
    mask_BT = prompts["attention_mask"].bool()
    sides = 2 if any(routed.probs_b is not None for routed in selections.values()) else 1  # experts have one number
    sums.choices.append(_stacked([chosen(each, mask_BT, sides) for each in selections.values()], widest))
    sums.entropy.append(torch.stack([_entropy(each, mask_BT, sides) for each in selections.values()], 1))
    sums.decisions.append(int(mask_BT.sum()) if first.indices_a.dim() == 3 else len(mask_BT))
    if first.indices_a.dim() == 3:
        image_BT = mask_BT & (prompts["input_ids"] == image_id)
        by_layer = _stacked([chosen(each, image_BT, 1) for each in selections.values()], widest)
        sums.image.append(by_layer[0].sum(0))


def chosen(routed: RouterOutput, mask_BT: Tensor, sides: int) -> Tensor:
    """Choices of one router by each sample, float32 [S, B, E], at the positions of the mask if tokens are routed."""
    found, size = [], routed.probs.shape[-1]
    for indices in (routed.indices_a, routed.indices_b)[:sides]:
        dense = indices.shape[-1] == size
        weights = routed.gates.float() if dense else torch.ones_like(indices, dtype=torch.float32)
        if indices.dim() == 3:
            weights = weights * mask_BT.to(weights)[..., None]
        counts_BE = torch.zeros(len(indices), size, device=indices.device)
        found.append(counts_BE.scatter_add_(1, indices.flatten(1), weights.flatten(1)))
    return torch.stack(found).cpu()


def _entropy(routed: RouterOutput, mask_BT: Tensor, sides: int) -> Tensor:
    """Mean entropy of a router's decisions, [S]."""
    found = []
    for probs in (routed.probs, routed.probs if routed.probs_b is None else routed.probs_b)[:sides]:
        nats = entropy(probs.float()).cpu()
        found.append((nats[mask_BT] if nats.dim() == 2 else nats).mean())
    return torch.stack(found)


def _stacked(each_layer: Sequence[Tensor], width: int) -> Tensor:
    """[S, B, L, E] from the layers' [S, B, ·]."""
    return torch.stack([pad(each, (0, width - each.shape[-1])) for each in each_layer], 2)


@contextmanager
def untrained_routers(model: nn.Module, seed: int) -> Iterator[None]:
    """Inside, every router of the active adapters has the values that a fresh one starts with; all else stays."""
    kept = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for linear in _routers(model):
            kept.append((linear, {name: value.detach().clone() for name, value in linear.state_dict().items()}))
            linear.reset_parameters()
    try:
        yield
    finally:
        for linear, state in kept:
            linear.load_state_dict(state)


def _routers(model: nn.Module) -> Iterator[nn.Linear]:
    for layer in model.modules():
        if isinstance(layer, MixtureLinear):
            for name in ROUTERS:
                parts = getattr(layer, name)
                yield from (parts[adapter] for adapter in layer.active_adapters if adapter in parts)
