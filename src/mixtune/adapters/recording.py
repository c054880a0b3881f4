"""Selections of a model, seen from outside.

Shape suffixes: B instances, T positions, E factors or experts, K chosen slots, N instances of all recorded forwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mixtune.adapters.hooks import ModelHooks
from mixtune.routing.routers import RouterOutput
from mixtune.routing.scope import RoutingScope


@dataclass(frozen=True)
class ForwardRecord:
    """One forward in which something was routed.

    selections: by name of the linear (or of the group that shares a router; with several adapters active the adapter's
    name follows in brackets), detached: indices and gates [B, K] for instances, [B, T, K] for tokens; probs [.., E].
    prompt_lengths: [B], positions each instance was read on, all of them where none was read for its prompt.
    task_ids: [B] as given to the model, or None. Where samples were packed, B is their number, not that of the rows.
    """

    selections: dict[str, RouterOutput]
    prompt_lengths: Tensor
    task_ids: Tensor | None


class RoutingRecord:
    """What `record_routing` saw. Decoding steps that go on with a kept selection are not in it: they chose nothing."""

    def __init__(self) -> None:
        self.forwards: list[ForwardRecord] = []

    @property
    def selections(self) -> dict[str, RouterOutput]:
        """By layer, all forwards after one another: indices [N, K] (or [N, T, K]). Empty if nothing was recorded.

        Raises ValueError if token selections have different lengths; look at `forwards` then.
        """
        names = dict.fromkeys(name for forward in self.forwards for name in forward.selections)
        return {
            name: _joined([each.selections[name] for each in self.forwards if name in each.selections])
            for name in names
        }

    @property
    def prompt_lengths(self) -> Tensor:
        """[N] number of positions each instance was routed on."""
        return torch.cat([each.prompt_lengths for each in self.forwards]) if self.forwards else torch.empty(0).long()

    def add(self, scope: RoutingScope) -> None:
        """Take over what a forward recorded."""
        several = len({adapter for adapter, _ in scope.recorded}) > 1
        selections = {
            f"{name} ({adapter})" if several else name: routed for (adapter, name), routed in scope.recorded.items()
        }
        first = next(iter(selections.values()))
        self.forwards.append(ForwardRecord(selections, scope.prompt_lengths(first.indices_a), scope.facts.task_ids))


@contextmanager
def record_routing(model: nn.Module) -> Iterator[RoutingRecord]:
    """Record the selections of all forwards of `model` inside the block.

    with record_routing(model) as seen:
        model(**batch)
    seen.selections["model.language_model.layers.0.mlp.up_proj"].indices_a      # [B, K]
    """
    hooks, record = ModelHooks.find(model), RoutingRecord()
    hooks.recorders.append(record)
    try:
        yield record
    finally:
        hooks.recorders.remove(record)


def _joined(parts: list[RouterOutput]) -> RouterOutput:
    if len(parts) == 1:
        return parts[0]
    if len({part.indices_a.shape[1:] for part in parts}) > 1:
        raise ValueError("selections: the recorded forwards have different lengths; use .forwards, one by one")
    names = ("indices_a", "indices_b", "gates", "probs", "probs_b")
    present = [name for name in names if getattr(parts[0], name) is not None]
    return RouterOutput(**{name: torch.cat([getattr(part, name) for part in parts]) for name in present})
