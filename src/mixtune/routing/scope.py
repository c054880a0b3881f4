"""What a batch tells the layers and what the layers tell back, for one forward of one model and no longer.

The model's hooks put a `RoutingScope` into the model's `ScopeHolder` before the forward and take it out after it. Every
layer of the model shares that holder, so opening a scope is one assignment, however many layers there are.

Shape suffixes: B instances, T positions, D width of a layer's input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mixtune.routing.cache import Kept, Key, kept_by
from mixtune.routing.prompts import BatchFacts
from mixtune.routing.routers import RouterOutput, pool_prompt


class ScopeHolder:
    """Where the layers of one model find the scope of the forward that is running; None between forwards."""

    __slots__ = ("scope",)

    def __init__(self) -> None:
        self.scope: RoutingScope | None = None


@dataclass(eq=False, kw_only=True)
class RoutingScope:
    """One forward.

    facts: what the call said about the batch. cache: the KV cache it was given; continues: whether that was filled
    before. made: the selection of each router, made once in this forward, for recomputation to reuse; keep: those that
    the KV cache takes on. recorded: the same with probabilities, only if `recording`. auxiliary: one weighted loss for
    each router that has one. live: what the layers running now share (linears of one MLP); each recomputation has its
    own, since its tensors belong to another graph.
    """

    facts: BatchFacts
    cache: Any = None
    continues: bool = False
    training: bool = False
    recording: bool = False
    seed: int = 0
    made: dict[Key, Kept] = field(default_factory=dict)
    keep: list[Key] = field(default_factory=list)
    recorded: dict[Key, RouterOutput] = field(default_factory=dict)
    auxiliary: list[Tensor] = field(default_factory=list)
    live: dict[Key, RouterOutput] = field(default_factory=dict)
    _pooled: tuple[Tensor, tuple[bool, bool], Tensor] | None = None
    _masks: dict[str, Tensor | None] = field(default_factory=dict)

    def again(self) -> RoutingScope:
        """The same forward, run again by activation checkpointing: same selections, nothing counted twice."""
        return replace(self, live={}, _pooled=None)

    def from_cache(self, key: Key) -> RouterOutput | None:
        """The selection that came with the KV cache, or None if the prompt is in this forward.

        Raises ValueError if the cache is filled but was not filled by this router.
        """
        kept = kept_by(self.cache).get(key)
        if kept is not None:
            return kept.output
        if key not in self.made and self.continues:
            raise ValueError(
                "past_key_values: this cache was filled without the adapter that is active now, so it carries no "
                "selection to go on with; run the prompt again with the adapter active"
            )
        return None

    def prompt_mask(self, like: Tensor) -> Tensor | None:
        """Prompt positions as a mask on the device of `like`, [B, T]; None means every position."""
        return self._mask("prompt", self.facts.prompt_positions, like)

    def attended(self, like: Tensor) -> Tensor | None:
        """Positions that are not padding, on the device of `like`, [B, T]; None means every position."""
        return self._mask("attended", self.facts.attended, like)

    def pool(self, x_BTD: Tensor, *, whole: bool, detach: bool) -> Tensor:
        """Mean of x over the prompt (or over everything if `whole`), [B, D]; computed once for linears that share x.

        Raises ValueError if x does not have the positions that the batch has.
        """
        if self._pooled is not None and self._pooled[0] is x_BTD and self._pooled[1] == (whole, detach):
            return self._pooled[2]
        mask_BT = None if whole else self.prompt_mask(x_BTD)
        if mask_BT is not None and mask_BT.shape != x_BTD.shape[:2]:
            raise ValueError(
                f"its input has shape {tuple(x_BTD.shape)}, but the batch has {tuple(mask_BT.shape)} positions; "
                "layers that see something else cannot be routed on the prompt: leave them out with exclude_modules"
            )
        h_BD = pool_prompt(x_BTD.detach() if detach else x_BTD, mask_BT)
        self._pooled = (x_BTD, (whole, detach), h_BD)
        return h_BD

    def record(self, key: Key, routed: RouterOutput) -> None:
        """Note a selection with its probabilities, detached, for `record_routing`."""
        probs_b = None if routed.probs_b is None else routed.probs_b.detach()
        kept = self.made[key]
        self.recorded[key] = RouterOutput(kept.indices_a, kept.indices_b, kept.gates, routed.probs.detach(), probs_b)

    def random(self, salt: int) -> torch.Generator:
        """A generator that depends on this forward and on `salt` alone."""
        return torch.Generator().manual_seed((self.seed + salt * 1_000_003) % (1 << 63))

    def _mask(self, name: str, work_out: Callable[[], Tensor | None], like: Tensor) -> Tensor | None:
        if name not in self._masks:
            self._masks[name] = work_out()
        mask_BT = self._masks[name]
        if mask_BT is not None and mask_BT.device != like.device:
            mask_BT = self._masks[name] = mask_BT.to(like.device)
        return mask_BT
