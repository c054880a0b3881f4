"""Random banks, inputs and decisions for the tests of kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from mixtune.kernels.factored import Paired
from mixtune.kernels.gathered import Gathered
from mixtune.kernels.grouped import Grouped
from mixtune.kernels.tokens import Crossed, Masked
from mixtune.routing.routers import RouterOutput

D_IN, D_OUT, EXPERTS, CHOSEN = 12, 10, 6, 3
# Each path, and the decisions it takes: of instances, of tokens, of tokens whose experts differ between A and B.
PATHS = {
    "paired": (Paired, False),
    "gathered": (Gathered, False),
    "masked": (Masked, True),
    "grouped": (Grouped, True),
    "crossed": (Crossed, "crossed"),
}


def make_routed(shape: tuple[int, int], tokens: bool, dtype: torch.dtype, seed: int = 0) -> RouterOutput:
    """Distinct random choices, with every expert but two left out for some inputs, and gates of both signs."""
    generator = torch.Generator().manual_seed(seed)
    lead = shape if tokens else shape[:1]
    draws = torch.rand(2, *lead, EXPERTS, generator=generator)
    draws[..., 4] = -1.0  # an expert nobody chooses
    a, b = draws.argsort(-1, descending=True)[..., :CHOSEN]
    gates = torch.randn(*lead, CHOSEN, generator=generator).to(torch.promote_types(dtype, torch.float32))
    probs = torch.rand(*lead, EXPERTS, generator=generator)
    return RouterOutput(a, a if tokens is True else b, gates.requires_grad_(), probs)


def make_tensors(shape: tuple[int, int], rows: int, dtype: torch.dtype) -> list[Tensor]:
    """base, x (base's dtype) and the two banks (float32 or wider)."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(*shape, D_OUT), (*shape, D_IN), (rows, D_IN), (D_OUT, rows)]
    wide = torch.promote_types(dtype, torch.float32)
    dtypes = [dtype, dtype, wide, wide]
    drawn = [torch.randn(size, generator=generator) for size in sizes]
    return [each.to(kind).requires_grad_() for each, kind in zip(drawn, dtypes, strict=True)]
