"""Selections that live as long as the keys and values they belong to.

A selection made in the prompt pass must follow its instance through beam reordering, repetition, batch selection,
deep copies and continued chats. The KV cache is the object that already does so; `adopt` lets it carry the selections
too, by giving it a subclass of its own class. Nothing else about the cache changes.

Shape suffixes: B instances, K chosen slots.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import Cache

from mixtune.routing.routers import RouterOutput

Key = tuple[str, str]  # adapter; linear, or MLP where its linears share a router


class Kept(NamedTuple):
    """Selection of one router, without gradient: ordered indices [B, K] and gates [B, K]."""

    indices_a: Tensor
    indices_b: Tensor
    gates: Tensor

    @property
    def output(self) -> RouterOutput:
        """The same as a layer uses it; it has no probabilities, since nothing is decided."""
        return RouterOutput(self.indices_a, self.indices_b, self.gates, probs=self.gates.new_empty(0))

    @classmethod
    def of(cls, routed: RouterOutput) -> Kept:
        """The detached selection of `routed`."""
        return cls(
            indices_a=routed.indices_a.detach(), indices_b=routed.indices_b.detach(), gates=routed.gates.detach()
        )

    def take(self, rows: Tensor) -> Kept:
        """Rows `rows` of the batch, in that order."""
        return self._map(lambda each: each.index_select(0, rows.to(each.device)))

    def repeat(self, times: int) -> Kept:
        """Each row `times` times in a row."""
        return self._map(lambda each: each.repeat_interleave(times, dim=0))

    def _map(self, change: Any) -> Kept:
        same = self.indices_b is self.indices_a
        indices_a = change(self.indices_a)
        indices_b = indices_a if same else change(self.indices_b)
        return Kept(indices_a=indices_a, indices_b=indices_b, gates=change(self.gates))


class RoutedCache(Cache):
    """What `adopt` mixes into a cache's class: `mixture_kept` maps a router's key to its selection, `mixture_cores` to
    what decoding has made of that selection and can make again.

    Selections follow every change of the batch. Cropping leaves them alone, unless nothing is left to belong to.
    """

    mixture_kept: dict[Key, Kept]
    mixture_cores: dict[Key, Any]

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Reorder keys, values and selections."""
        super().reorder_cache(beam_idx)
        self._each(lambda kept: kept.take(beam_idx))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Select rows of keys, values and selections."""
        super().batch_select_indices(indices)
        self._each(lambda kept: kept.take(indices))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row of keys, values and selections."""
        super().batch_repeat_interleave(repeats)
        self._each(lambda kept: kept.repeat(repeats))

    def reset(self) -> None:
        """Empty the cache; its selections go too."""
        super().reset()
        self.mixture_kept, self.mixture_cores = {}, {}

    def crop(self, *args: Any, **kwargs: Any) -> None:
        """Shorten the cache; see the class."""
        super().crop(*args, **kwargs)
        if filled(self) == 0:
            self.mixture_kept, self.mixture_cores = {}, {}

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # The subclass is made at run time, so copies and pickles are told how to make it again.
        return _remake, (type(self).__mro__[2],), {**self.__dict__, "mixture_cores": {}}

    def _each(self, change: Any) -> None:
        self.mixture_kept = {key: change(kept) for key, kept in self.mixture_kept.items()}
        self.mixture_cores = {}


@functools.cache
def routed_class(cls: Any) -> Any:
    """The subclass of the cache class `cls` that carries selections."""
    return type(f"Routed{cls.__name__}", (RoutedCache, cls), {"__module__": cls.__module__})


@torch.compiler.disable(reason="a compiler cannot trace a change of class")
def adopt(cache: Cache, selections: dict[Key, Kept]) -> None:
    """Make `cache` carry `selections` besides those it carries already. An empty cache is left alone."""
    if filled(cache) == 0:
        return
    if not isinstance(cache, RoutedCache):
        kind: Any = type(cache)
        cache.__class__ = routed_class(kind)
        cache.__dict__["mixture_kept"] = {}
    kept_by(cache).update(selections)
    cache.__dict__["mixture_cores"] = {}


def kept_by(cache: Any) -> dict[Key, Kept]:
    """The selections that `cache` carries; empty for anything that carries none."""
    return cache.mixture_kept if isinstance(cache, RoutedCache) else {}


def cores_by(cache: Any) -> dict[Key, Any] | None:
    """Where decoding may keep what it makes of the selections that `cache` carries; None if it carries none."""
    return cache.mixture_cores if isinstance(cache, RoutedCache) and cache.mixture_kept else None


def filled(cache: Any) -> int:
    """Number of positions whose keys and values `cache` holds; 0 for None."""
    return 0 if cache is None else int(cache.get_seq_length())


def _remake(cls: type) -> Any:
    new = routed_class(cls)
    return object.__new__(new)
