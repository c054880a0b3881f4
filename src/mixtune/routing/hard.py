"""Hard choices of token routers: gates of 1 for what is chosen, whose gradient reaches the probabilities all the same.

Shape suffixes: N stands for B or for B, T (instances, tokens of each); E experts, K chosen slots.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class HardChoice(Function):
    """`straight_through` gates [N, K] of chosen probabilities, and the diagonal core [N, E] with ones at the chosen.

    Both lead their gradient to the chosen probabilities as if they were these themselves. One call forward and one
    backward where gathering, subtracting, adding and writing out take six.
    """

    @staticmethod
    def forward(
        ctx: Any, probs_NE: Tensor, indices_NK: Tensor, core_dtype: torch.dtype | None
    ) -> tuple[Tensor, Tensor | None]:
        """The core is None without a `core_dtype`."""
        gates_NK = probs_NE.new_ones(indices_NK.shape)
        core_NE = None
        if core_dtype is not None:
            core_NE = torch.zeros(probs_NE.shape, dtype=core_dtype, device=probs_NE.device)
            core_NE.scatter_(-1, indices_NK, 1.0)
        ctx.save_for_backward(indices_NK, core_NE)
        ctx.shape, ctx.dtype = probs_NE.shape, probs_NE.dtype
        ctx.set_materialize_grads(False)
        return gates_NK, core_NE

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_gates_NK: Tensor | None, d_core_NE: Tensor | None) -> tuple[Tensor | None, None, None]:
        """The gradient of the probabilities."""
        indices_NK, core_NE = ctx.saved_tensors
        d_probs_NE = None
        if d_core_NE is not None:
            d_probs_NE = (d_core_NE * core_NE).to(ctx.dtype)
        if d_gates_NK is not None:
            more_NE = d_gates_NK.new_zeros(ctx.shape).scatter_(-1, indices_NK, d_gates_NK)
            d_probs_NE = more_NE if d_probs_NE is None else d_probs_NE + more_NE
        return d_probs_NE, None, None
