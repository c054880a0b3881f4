"""Activation checkpointing: a recomputation sees the selections of the forward it replays (rule 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from mixtune.kernels import Casts
from mixtune.routing.scope import RoutingScope, ScopeHolder

NAME = "_gradient_checkpointing_func"


class ReplayingCheckpoint:
    """A checkpoint function like `torch.utils.checkpoint.checkpoint`, wrapped around `checkpoint`.

    Recomputation happens in the backward pass, when the forward's scope is closed and another may have been open since;
    so each checkpointed call remembers the scope it was made under.
    """

    def __init__(self, checkpoint: Callable[..., Any], holder: ScopeHolder) -> None:
        self.checkpoint, self.holder = checkpoint, holder

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Checkpoint function(*args); keyword arguments are for `checkpoint`."""
        scope = self.holder.scope
        if scope is None:
            return self.checkpoint(function, *args, **kwargs)
        if scope.whole and scope.casts is None:
            scope.casts = Casts()  # what is run again computes with the same parameters
        return self.checkpoint(_Replayed(function, self.holder, scope), *args, **kwargs)


class _Replayed:
    """`function` run under `scope` the first time, and under `scope` reopened every further time."""

    def __init__(self, function: Callable[..., Any], holder: ScopeHolder, scope: RoutingScope) -> None:
        self.function, self.holder, self.scope = function, holder, scope
        self.ran = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.ran:
            self.ran = True
            return self.function(*args, **kwargs)
        before, self.holder.scope = self.holder.scope, self.scope.again()
        try:
            return self.function(*args, **kwargs)
        finally:
            self.holder.scope = before


def wrap_checkpointing(modules: Iterable[nn.Module], holder: ScopeHolder) -> None:
    """Wrap the checkpoint function of every module in `modules` that has one and is not wrapped yet."""
    for module in modules:
        function = module.__dict__.get(NAME)
        if function is not None and not isinstance(function, ReplayingCheckpoint):
            module.__dict__[NAME] = ReplayingCheckpoint(function, holder)


def unwrap_checkpointing(modules: Iterable[nn.Module]) -> None:
    """Undo `wrap_checkpointing`."""
    for module in modules:
        function = module.__dict__.get(NAME)
        if isinstance(function, ReplayingCheckpoint):
            module.__dict__[NAME] = function.checkpoint
