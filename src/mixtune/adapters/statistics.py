"""Which factors training uses, summed up while it runs: usage by task, certainty of the routers, factors never chosen.

Shape suffixes: S sides (A and B, or one for experts), L layers, P tasks and one more for what has none, E factors or
experts, N decisions (one an instance, or one a token), K chosen slots.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mixtune.adapters.hooks import ModelHooks
from mixtune.routing.cache import Key
from mixtune.routing.losses import entropy
from mixtune.routing.scope import RoutingScope

MEASURES = ("entropy", "evenness", "dead_share")
DIGITS = 4  # decimals of what `flush` reports


@dataclass(kw_only=True)
class _Sums:
    """Layers counted together: counts long [S, L, P, E]; entropy float32 [S, L], in nats; decisions long [1]."""

    counts: Tensor
    entropy: Tensor
    decisions: Tensor

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.counts, self.entropy, self.decisions


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """One router since the last flush, on the CPU: counts [S, P, E], summed entropy [S], number of decisions."""

    counts: Tensor
    entropy: Tensor
    decisions: int

    def plus(self, other: _Layer) -> _Layer:
        return _Layer(**{name: value + vars(other)[name] for name, value in vars(self).items()})

    def measures(self) -> dict[str, float]:
        nats = self.entropy.mean().item() / self.decisions
        most = math.log(self.counts.shape[-1]) or 1.0
        dead = (self.counts.sum(1) == 0).double().mean().item()
        return {"entropy": nats, "evenness": nats / most, "dead_share": dead}


class RoutingStatistics:
    """Sums up what the routers of a model decide in training, from one `flush` to the next.

        statistics = RoutingStatistics(task_names=("vqa", "caption"))
        statistics.attach(model)        # from here on every training forward is counted, once
        ...
        statistics.flush()              # {"entropy": 2.1, "evenness": 0.76, "dead_share": 0.0, "layers": …, "tasks": …}
        statistics.detach(model)

    Counted are the decisions for instances, or for the tokens that are not padding. Forwards in eval mode and
    `generate` are not counted, nor is what activation checkpointing runs again. The sums stay on the model's device,
    nothing waits for that device layer by layer, no tensor of a batch is kept, and no result changes.

    task_names: what the `task_ids` given to the model number. Decisions without such a number count under "other", or
    under "all" if there are no names.
    """

    def __init__(self, task_names: Sequence[str] = ()) -> None:
        self.task_names = tuple(task_names)
        self._sums: dict[tuple[Key, ...], _Sums] = {}

    def attach(self, model: nn.Module) -> None:
        """Watch `model`; attaching again changes nothing. Raises ValueError if it carries no mixture."""
        recorders = ModelHooks.find(model).recorders
        if self not in recorders:
            recorders.append(self)

    def detach(self, model: nn.Module) -> None:
        """Stop watching `model`; the sums stay."""
        recorders = ModelHooks.find(model).recorders
        if self in recorders:
            recorders.remove(self)

    def add(self, scope: RoutingScope) -> None:
        """Count one forward (the model's hooks call this when it is done)."""
        if not scope.training or scope.facts.generation is not None:
            return
        decided: dict[Any, tuple[Tensor, Tensor]] = {}
        with torch.no_grad():
            for keys, indices_SLNK, probs_SLNE in _alike(scope):
                probs = scope.recorded[keys[0]].probs
                kind = (probs.shape[:-1], probs.device)
                if kind not in decided:
                    decided[kind] = self._decisions(scope, probs)
                self._count(keys, indices_SLNK, probs_SLNE, *decided[kind])

    def counts(self) -> dict[str, Tensor]:
        """How often each factor was chosen since the last `flush`, by layer: long [S, P, E], "other" tasks last."""
        layers = self._layers()
        return {_label(key, layers): layer.counts for key, layer in layers.items()}

    def combine(self, reduce: Callable[[Tensor], Tensor]) -> None:
        """Replace each sum by `reduce(sum)`, the sum over all processes."""
        for keys in sorted(self._sums):
            for part in self._sums[keys].parts():
                part.copy_(reduce(part))

    def clear(self) -> None:
        """Start anew."""
        for sums in self._sums.values():
            for part in sums.parts():
                part.zero_()

    def state_dict(self) -> list[dict[str, Any]]:
        """The sums as plain lists, of which JSON keeps every bit; empty right after `flush`."""
        return [
            {"layers": [list(key) for key in keys], **{name: part.tolist() for name, part in vars(sums).items()}}
            for keys, sums in self._sums.items()
            if sums.decisions.item()
        ]

    def load_state_dict(self, state: list[dict[str, Any]], device: torch.device | str) -> None:
        """Take the sums of `state_dict` back, onto the model's device."""
        types = {"counts": torch.long, "entropy": torch.float32, "decisions": torch.long}
        self._sums = {
            tuple((adapter, name) for adapter, name in each["layers"]): _Sums(
                **{part: torch.tensor(each[part], dtype=dtype, device=device) for part, dtype in types.items()}
            )
            for each in state
        }

    def flush(self) -> dict[str, Any]:
        """The record of what was counted, ready for JSON, then start anew; {} if nothing was.

        entropy: −Σ_j p_j log p_j of the router's distribution in nats, mean over decisions, sides and layers.
        evenness: the same over log E in each layer: 0 for certain routers, 1 where all choices are equally likely.
        dead_share: share of a layer's factors, of A and of B, that nothing chose; mean over layers.
        layers: these three for each layer. tasks: for each task and kind of layer (the last part of its name) how often
        each factor was chosen, all layers of that kind together: lists "a" and, for conditional routers, "b".
        """
        layers = self._layers()
        self.clear()
        if not layers:
            return {}
        measured = {_label(key, layers): layer.measures() for key, layer in layers.items()}
        means = {name: math.fsum(each[name] for each in measured.values()) / len(measured) for name in MEASURES}
        rounded = {name: _rounded(each) for name, each in measured.items()}
        return {**_rounded(means), "layers": rounded, "tasks": self._usage(layers)}

    def _decisions(self, scope: RoutingScope, probs: Tensor) -> tuple[Tensor, Tensor]:
        """(task of each decision, whether it counts), both long [N], of routers that gave such `probs` [.., E]."""
        number, by_token, none = probs[..., 0].numel(), probs.dim() == 3, len(self.task_names)
        attended = scope.attended(probs) if by_token else None
        counted_N = probs.new_ones(number, dtype=torch.long) if attended is None else attended.flatten().long()
        ids = scope.facts.task_ids if none else None
        if ids is None or ids.numel() != (scope.instances(probs) if by_token else number):
            return torch.full_like(counted_N, none), counted_N
        ids = ids.to(probs.device).flatten()
        ids = torch.where((ids >= 0) & (ids < none), ids, none)
        return ids[scope.rows(probs).flatten()] if by_token else ids, counted_N

    def _count(
        self, keys: tuple[Key, ...], indices_SLNK: Tensor, probs_SLNE: Tensor, tasks_N: Tensor, counted_N: Tensor
    ) -> None:
        sides, layers, _, size = probs_SLNE.shape
        table = (len(self.task_names) + 1) * size
        if keys not in self._sums:
            self._sums[keys] = _Sums(
                counts=tasks_N.new_zeros(sides, layers, table // size, size),
                entropy=torch.zeros(sides, layers, device=tasks_N.device),
                decisions=tasks_N.new_zeros(1),
            )
        sums = self._sums[keys]
        first_SL11 = torch.arange(0, sides * layers * table, table, device=tasks_N.device).view(sides, layers, 1, 1)
        cells_SLNK = first_SL11 + tasks_N[:, None] * size + indices_SLNK
        sums.counts.view(-1).index_add_(0, cells_SLNK.flatten(), counted_N[:, None].expand_as(cells_SLNK).flatten())
        sums.entropy += (entropy(probs_SLNE) * counted_N).sum(-1)
        sums.decisions += counted_N.sum()

    def _layers(self) -> dict[Key, _Layer]:
        """Each router that decided something, in the order of the model."""
        found: dict[Key, _Layer] = {}
        for keys, sums in self._sums.items():
            decisions, entropy_SL = int(sums.decisions), sums.entropy.double().cpu()
            counts_SLPE = sums.counts.to("cpu", copy=True)
            for number, key in enumerate(keys if decisions else ()):
                layer = _Layer(counts=counts_SLPE[:, number], entropy=entropy_SL[:, number], decisions=decisions)
                found[key] = found[key].plus(layer) if key in found else layer
        return found

    def _usage(self, layers: dict[Key, _Layer]) -> dict[str, dict[str, dict[str, list[int]]]]:
        """`tasks` of `flush`."""
        kinds: dict[tuple[str, int], Tensor] = {}
        for (_, name), layer in layers.items():
            kind = (name.rpartition(".")[2], layer.counts.shape[-1])
            kinds[kind] = kinds[kind] + layer.counts if kind in kinds else layer.counts
        several = len({name for name, _ in kinds}) < len(kinds)  # layers of one kind with more or fewer experts
        usage: dict[str, dict[str, dict[str, list[int]]]] = {}
        for (name, size), counts_SPE in kinds.items():
            label = f"{name} of {size}" if several else name
            for number, task in enumerate((*self.task_names, "other" if self.task_names else "all")):
                counts_SE = counts_SPE[:, number]
                if counts_SE.any():
                    usage.setdefault(task, {})[label] = dict(zip("ab", counts_SE.tolist(), strict=False))
        return usage


def _alike(scope: RoutingScope) -> Iterator[tuple[tuple[Key, ...], Tensor, Tensor]]:
    """(routers, their indices [S, L, N, K], probabilities [S, L, N, E]): a token router by itself, because it has much
    to count; those that route instances together where they are alike, because they are many and each has little.
    """
    groups: dict[Any, list[Key]] = {}
    for key, routed in scope.recorded.items():
        alone = key if routed.probs.dim() == 3 else None
        like = (routed.probs.shape, routed.indices_a.shape, routed.probs_b is None, routed.probs.device)
        groups.setdefault((alone, like), []).append(key)
    for keys in groups.values():
        found = [scope.recorded[key] for key in keys]
        sides_b = [(each.indices_b, each.probs_b) for each in found if each.probs_b is not None]
        indices = [[each.indices_a for each in found], [indices_b for indices_b, _ in sides_b]]
        probs = [[each.probs for each in found], [probs_b for _, probs_b in sides_b]]
        yield tuple(keys), _stacked(indices), _stacked(probs)


def _stacked(parts: list[list[Tensor]]) -> Tensor:
    """Tensors [.., X] of each side's layers, side B empty for experts, as [S, L, N, X]."""
    stacked = torch.stack([each for side in parts for each in side])
    return stacked.view(-1, len(parts[0]), stacked[0, ..., 0].numel(), stacked.shape[-1])


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, DIGITS) for name, value in values.items()}


def _label(key: Key, keys: Any) -> str:
    """The layer's name, with the adapter before it where several were at work."""
    return key[1] if len({adapter for adapter, _ in keys}) == 1 else f"{key[0]}: {key[1]}"
