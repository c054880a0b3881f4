"""What a batch tells the layers and what the layers tell back, for one forward of one model and no longer.

The model's hooks put a `RoutingScope` into the model's `ScopeHolder` before the forward and take it out after it. Every
layer of the model shares that holder, so opening a scope is one assignment, however many layers there are.

Shape suffixes: B instances (rows, unless samples are packed), T positions, D width of a layer's input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mixtune.routing.auxiliary import AuxiliaryLoss
from mixtune.routing.cache import Kept, Key, cores_by, kept_by
from mixtune.routing.prompts import IGNORED, BatchFacts
from mixtune.routing.routers import RouterOutput, mean_weights, pool_prompt, pool_segments, weighted_sum


class ScopeHolder:
    """Where the layers of one model find the scope of the forward that is running; None between forwards.

    casts: copies of banks (`mixtune.kernels.Casts`) for all forwards of an optimizer step, while somebody who knows
    that the parameters stay as they are has opened that.
    """

    __slots__ = ("casts", "scope")

    def __init__(self) -> None:
        self.scope: RoutingScope | None = None
        self.casts: Any = None


@dataclass(eq=False, kw_only=True)
class RoutingScope:
    """One forward.

    facts: what the call said about the batch. cache: the KV cache it was given; continues: whether that was filled
    before. learning: whether it is a training forward with gradient. made: the selection of each router, made once in
    this forward, for recomputation to reuse; keep: those that the KV cache takes on. recorded: the same with
    probabilities, only if `recording`. auxiliary: what the routers add to the loss. replaying: whether activation
    checkpointing runs the forward again. casts: copies of banks for this forward and what runs it again, if any are
    worth keeping; whole: whether it learns and its parameters lie whole (not in shards) until the backward pass.
    chosen: of each router that decided for others too, the indices of all. live: what the layers running now share
    (linears of one group), owed: losses of recomputed routers, and ahead: decisions that linears yet to be called will
    find, with the input they are for; each recomputation has its own of these three, since their tensors belong to
    another graph.
    """

    facts: BatchFacts
    cache: Any = None
    continues: bool = False
    training: bool = False
    learning: bool = False
    recording: bool = False
    seed: int = 0
    made: dict[Key, Kept] = field(default_factory=dict)
    keep: list[Key] = field(default_factory=list)
    recorded: dict[Key, RouterOutput] = field(default_factory=dict)
    auxiliary: AuxiliaryLoss = field(default_factory=AuxiliaryLoss)
    replaying: bool = False
    casts: Any = None
    whole: bool = False
    live: dict[Key, RouterOutput] = field(default_factory=dict)
    owed: dict[Key, Tensor] = field(default_factory=dict)
    ahead: dict[Key, tuple[Tensor, RouterOutput]] = field(default_factory=dict)
    chosen: dict[Key, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)
    _cores: dict[Key, Any] = field(default_factory=dict)
    _pooled: tuple[Tensor, tuple[str, bool], Tensor] | None = None
    _masks: dict[str, Tensor | None] = field(default_factory=dict)
    _segments: int | None = None

    def again(self) -> RoutingScope:
        """The same forward, run again by activation checkpointing: same selections, nothing counted twice."""
        return replace(self, live={}, owed={}, ahead={}, _cores={}, _pooled=None, replaying=True)

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

    def cores(self, kept: bool) -> dict[Key, Any] | None:
        """Where decoding keeps what it makes of selections: beside those of the KV cache if they are `kept` there (None
        while it has none), else for this forward.
        """
        return cores_by(self.cache) if kept else self._cores

    def owners(self, like: Tensor) -> Tensor | None:
        """Number of the instance each position belongs to where rows are packed, [B, T], on the device of `like`."""
        return None if self.continues else self._mask("owners", self.facts.owners, like)

    def rows(self, like: Tensor) -> Tensor:
        """`owners`, or the number of its row at each position, [B, T] like the first two dimensions of `like`."""
        owners_BT = self.owners(like)
        if owners_BT is None:
            return torch.arange(like.shape[0], device=like.device)[:, None].expand(like.shape[:2])
        return owners_BT

    def instances(self, like: Tensor) -> int:
        """How many instances the batch holds: the rows of `like`, or the segments of all rows."""
        owners_BT = self.owners(like)
        if owners_BT is None:
            return like.shape[0]
        if self._segments is None:
            self._segments = int(owners_BT[-1, -1]) + 1
        return self._segments

    def prompt_mask(self, like: Tensor) -> Tensor | None:
        """Prompt positions as a mask on the device of `like`, [B, T]; None means every position.

        Raises ValueError if something is to be learnt from answers that nobody tells from their prompts.
        """
        if self.learning and not self.facts.prompt_is_known and self.facts.shape is not None:
            raise ValueError(
                "labels: a training forward without labels or prompt_mask would be routed on its answers; pass one of "
                "them to the model (a trainer that keeps the labels to itself needs mixtune.training.routed)"
            )
        return self._mask("prompt", lambda: self.facts.prompt_positions(self.owners(like)), like)

    def attended(self, like: Tensor) -> Tensor | None:
        """Positions that are not padding, on the device of `like`, [B, T]; None means every position."""
        return self._mask("attended", self.facts.attended, like)

    def prompt_lengths(self, like: Tensor) -> Tensor:
        """How many positions each instance is read on, [B], on the device of `like`, which has the batch's rows.

        All of them where nobody asked for the prompt: routers of tokens, or those that read everything.
        """
        shape, mask_BT = self.facts.shape or like.shape[:2], self._masks.get("prompt")
        mask_BT = torch.ones(shape, dtype=torch.bool, device=like.device) if mask_BT is None else mask_BT
        owners_BT = self.owners(like)
        if owners_BT is None:
            return mask_BT.sum(1)
        lengths_B = torch.zeros(self.instances(like), dtype=torch.long, device=like.device)
        return lengths_B.index_add_(0, owners_BT.flatten(), mask_BT.flatten().long())

    def pool(self, x_BTD: Tensor, *, over: str, detach: bool) -> Tensor:
        """Mean of x over each instance's "prompt", the "text" of it or "all" positions, [B, D]; 0 where there are none.
        Once for linears that share x.

        Raises ValueError if x does not have the positions that the batch has.
        """
        if self._pooled is not None and self._pooled[0] is x_BTD and self._pooled[1] == (over, detach):
            return self._pooled[2]
        mask_BT = None if over == "all" else self.prompt_mask(x_BTD)
        if over == "text":
            mask_BT = self._mask("text", partial(self.facts.text_positions, mask_BT), x_BTD)
        if mask_BT is not None and mask_BT.shape != x_BTD.shape[:2]:
            raise ValueError(
                f"its input has shape {tuple(x_BTD.shape)}, but the batch has {tuple(mask_BT.shape)} positions; "
                "layers that see something else cannot be routed on the prompt: leave them out with exclude_modules"
            )
        x, owners_BT = x_BTD.detach() if detach else x_BTD, self.owners(x_BTD)
        if owners_BT is not None:
            h_BD = pool_segments(x, owners_BT, self.instances(x), mask_BT)
        elif mask_BT is None:
            h_BD = pool_prompt(x)
        else:
            weights_B1T = self._masks.get(f"weights of {over}")
            if weights_B1T is None or weights_B1T.device != x.device:
                weights_B1T = mean_weights(mask_BT, torch.promote_types(x.dtype, torch.float32))
                self._masks[f"weights of {over}"] = weights_B1T
            h_BD = weighted_sum(x, weights_B1T)
        self._pooled = (x_BTD, (over, detach), h_BD)
        return h_BD

    def sample_weights(self, like: Tensor) -> Tensor:
        """How much each instance counts in an auxiliary loss per sample, [B] float32: as given, else its supervised
        labels, else 1.
        """
        weights_B, labels_BT = self.facts.sample_weights, self.facts.labels
        if weights_B is not None:
            return weights_B.to(like.device, torch.float32)
        if labels_BT is None:
            return torch.ones(self.instances(like), device=like.device)
        counted_BT = torch.nn.functional.pad(labels_BT[:, 1:] != IGNORED, (1, 0)).to(like.device, torch.float32)
        weights_B = torch.zeros(self.instances(like), device=like.device)
        return weights_B.index_add_(0, self.rows(like).flatten(), counted_BT.flatten())

    def record(self, key: Key, routed: RouterOutput) -> None:
        """Note a selection with its probabilities, detached, for `record_routing`."""
        probs_b = None if routed.probs_b is None else routed.probs_b.detach()
        kept = self.made[key]
        self.recorded[key] = RouterOutput(kept.indices_a, kept.indices_b, kept.gates, routed.probs.detach(), probs_b)

    def forget(self) -> None:
        """Drop what holds a graph; activation checkpointing keeps the scope, and so would keep the graph for ever."""
        self.live.clear()
        self.ahead.clear()
        self.auxiliary.forget()
        self._pooled = None

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
