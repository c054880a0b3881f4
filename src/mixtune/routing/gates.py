"""Gates: the factor by which each chosen slot of a mixture is multiplied, given the router's score of that slot.

Scores may have any shape; a gate always has the shape and dtype of its score.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor


def straight_through(score: Tensor) -> Tensor:
    """1 + (score − stopgrad(score)): exactly 1.0 going forward, the gradient of the score going back.

    The model computes what a hard selection computes, and the router still learns how much each chosen slot helped
    (Bengio et al., arXiv 1308.3432). The inner bracket is formed first, so a finite score gives 1.0 to the last bit.
    """
    return 1.0 + (score - score.detach())


def hard(score: Tensor) -> Tensor:
    """1.0, and no gradient: the selection alone counts, as in both founding papers' code (METHODS D1, M2)."""
    return torch.ones_like(score.detach())


def multiply(score: Tensor) -> Tensor:
    """The score itself, as in switch and top-k mixtures of experts."""
    return score


def renormalise(score: Tensor) -> Tensor:
    """Scores divided by their sum over the chosen slots (last dimension), as in top-2 mixtures.

    A row whose scores are all zero stays zero instead of becoming NaN.
    """
    total = score.sum(-1, keepdim=True)
    return score / total.clamp_min(torch.finfo(score.dtype).tiny)


_TABLE = {"straight-through": straight_through, "none": hard, "multiply": multiply, "renormalise": renormalise}
GATES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(_TABLE)

HARD_GATES = ("straight-through", "none")  # 1.0 going forward: what is computed depends on the selection alone


def check_gate(name: str) -> None:
    """Raises ValueError, naming the choices, unless `name` is a key of GATES."""
    if name not in GATES:
        raise ValueError(f"gate: {name!r} is unknown; choose from {', '.join(map(repr, GATES))}")


def gate(name: str, score: Tensor) -> Tensor:
    """The gate called `name` (a key of GATES) of `score`. Raises ValueError for another name."""
    if name not in _TABLE:  # the proxy would break a compiled graph
        check_gate(name)
    return _TABLE[name](score)
