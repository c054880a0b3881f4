"""One call, `mixture_linear`, for y = W x + scale · B·M·A·x; which path computes it is decided here and nowhere else.

Shape suffixes as in `factored.py`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mixtune.kernels.casts import Casts, Lowered
from mixtune.kernels.decoding import (
    IDENTITY,
    Core,
    decoding_core,
    is_decoding,
    is_fresh,
    made_of,
    one_token,
    wide_dtype,
)
from mixtune.kernels.factored import (
    ExpertsPlan,
    Frozen,
    Paired,
    Plain,
    Plan,
    RowsPlan,
    chosen_rows,
    core_dtype,
    written_core,
)
from mixtune.kernels.gathered import Gathered
from mixtune.kernels.grouped import Grouped, Stacked, can_stack
from mixtune.kernels.reference import mixture_linear_reference
from mixtune.kernels.tokens import Crossed, Masked
from mixtune.routing.routers import RouterOutput, full_precision

__all__ = [
    "IDENTITY",
    "Casts",
    "Core",
    "Frozen",
    "Lowered",
    "choose_path",
    "decoding_core",
    "is_decoding",
    "made_of",
    "mixture_linear",
    "mixture_linear_reference",
    "one_token",
    "takes_core",
    "wide_dtype",
    "with_core",
]

# Most bank rows for which work on the whole bank is the faster way: `python -m benchmarks paths`, docs/kernels.md.
MAX_PAIRED_ROWS, MAX_MASKED_ROWS = 48, 256
Bank = Any  # Tensor, or Lowered
Base = Any  # Tensor, or Frozen


def choose_path(
    num_rows: int,
    chosen_rows: int,
    *,
    tokens: bool,
    crossed: bool = False,
    stackable: bool = False,
) -> type[Paired | Gathered | Masked | Grouped | Stacked | Crossed]:
    """The path for banks of `num_rows` rows of which each instance, or each token, uses `chosen_rows`.

    crossed: tokens pair rows of A with other rows of B, as instances packed into one row do. Working on the whole bank
    is a few large products with unused rows in them; working on the chosen rows alone saves those rows but copies x or
    the bank about. stackable: torch can multiply all experts' rows in one call, as `can_stack` says.
    """
    if crossed:
        return Crossed
    if tokens:
        if num_rows <= max(MAX_MASKED_ROWS, chosen_rows):
            return Masked
        return Stacked if stackable else Grouped
    return Paired if num_rows <= max(MAX_PAIRED_ROWS, chosen_rows) else Gathered


def mixture_linear(
    base_BTO: Base,
    x_BTD: Tensor,
    bank_a_JD: Bank,
    bank_b_OJ: Bank,
    routed: RouterOutput | None,
    *,
    scale: float,
    block: int,
) -> Tensor:
    """Add the adapter to a frozen linear: y = base + scale · B·M·A·x, [B, T, O]; ΔW = B·M·A is never formed.

    base: [B, T, O], the frozen linear's fresh result. It is given away: where autograd allows it, y is written over it.
    Or that linear itself, `Frozen`, of x's dtype: then the sum is rounded once, and gradients go through both.
    x: [B, T, D]. bank_a: [E·block, D], bank_b: [O, E·block] (nn.Linear layouts); block is 1 for factors, the rank for
    experts. routed, the core M: indices and gates [B, K] or [B, T, K]; slot k sends the rows of indices_a[k] to the
    columns of indices_b[k], times gates[k]. None is the identity core, plain LoRA over all rows. Banks may come with
    their values in base's dtype (`Casts.lowered`), both or none; otherwise they are cast here.

    Computed in base's dtype (the core in the gates' where that is wider), under autocast too; gradients of x, banks and
    gates come back in their own dtypes, and once only (no second derivatives).
    Raises ValueError if shapes do not fit.
    """
    banks, low = (bank_a_JD, bank_b_OJ), None
    if isinstance(bank_a_JD, Lowered):
        banks, low = (bank_a_JD.bank, bank_b_OJ.bank), (bank_a_JD.low, bank_b_OJ.low)
    num_rows = len(banks[0])
    with full_precision(x_BTD):
        if isinstance(base_BTO, Frozen) and (is_decoding(x_BTD) or not _sums(routed, num_rows, block)):
            base_BTO = F.linear(x_BTD, *base_BTO)
        frozen = base_BTO if isinstance(base_BTO, Frozen) else None
        shape = base_BTO.shape if frozen is None else (*x_BTD.shape[:-1], len(frozen.weight))
        _check_shapes(shape, x_BTD, *banks, block)
        if is_decoding(x_BTD):
            dtype = wide_dtype(base_BTO, banks[0])
            core = IDENTITY if routed is None else decoding_core(routed, dtype, banks, block)
            return one_token(base_BTO, x_BTD, *banks, core, scale=scale)
        in_place = frozen is None and not torch.compiler.is_compiling() and is_fresh(base_BTO)
        plan: dict[str, Any] = {"scale": scale, "in_place": in_place, "low": low, "frozen": frozen}
        tensors = (base_BTO if frozen is None else None, x_BTD, *banks)
        return _apply(tensors, routed, plan, block)


def _apply(tensors: tuple[Any, ...], routed: RouterOutput | None, plan: dict[str, Any], block: int) -> Tensor:
    """Compute `mixture_linear` on the path for these shapes; tensors: base, or None if it is frozen; x; both banks."""
    base_BTO, x_BTD, bank_a_JD, _ = tensors
    if routed is None:
        return Plain.apply(*tensors, Plan(**plan))
    num_rows, given = len(bank_a_JD), x_BTD if base_BTO is None else base_BTO
    path = _path(routed, num_rows, block, stackable=can_stack(given, x_BTD, block))
    if _takes_core(path):
        matrix = routed.core
        if matrix is None:
            matrix = written_core(routed, num_rows, block, core_dtype(routed.gates, given))
        return path.apply(*tensors, matrix, Plan(**plan))
    if routed.indices_a.dim() == 3 and routed.indices_a is routed.indices_b:
        experts = routed.indices_a.flatten(0, 1)
        return path.apply(*tensors, routed.gates, ExpertsPlan(**plan, experts=experts, block=block))
    rows_a, rows_b, gates = chosen_rows(routed, block)
    return path.apply(*tensors, gates, RowsPlan(**plan, rows_a=rows_a, rows_b=rows_b))


def _sums(routed: RouterOutput | None, num_rows: int, block: int) -> bool:
    """Whether the path can add a frozen linear to its own result."""
    path = Plain if routed is None else _path(routed, num_rows, block)
    return path is Plain or path is Crossed or _takes_core(path)


def takes_core(num_rows: int, chosen_rows: int, *, tokens: bool) -> bool:
    """Whether linears with such decisions take the core written out; see `choose_path`."""
    return _takes_core(choose_path(num_rows, chosen_rows, tokens=tokens))


def with_core(routed: RouterOutput, num_rows: int, block: int, dtype: torch.dtype) -> RouterOutput:
    """`routed` with its core written out once for all linears that use it, if their path takes one.

    dtype: what it is written in; one narrower than the gates' holds gates of 0 and 1 as they are.
    """
    if routed.core is not None or not _takes_core(_path(routed, num_rows, block)):
        return routed
    return routed._replace(core=written_core(routed, num_rows, block, dtype))


def _takes_core(path: type) -> bool:
    """Whether the path takes the core as one tensor, which linears can share."""
    return path is Paired or path is Masked  # not `in`, which breaks a compiled graph


def _path(routed: RouterOutput, num_rows: int, block: int, *, stackable: bool = False) -> Any:
    tokens, crossed = routed.indices_a.dim() == 3, routed.indices_a is not routed.indices_b
    chosen = routed.indices_a.shape[-1] * block
    return choose_path(num_rows, chosen, tokens=tokens, crossed=tokens and crossed, stackable=stackable)


def _check_shapes(shape: tuple[int, ...], x_BTD: Tensor, bank_a_JD: Tensor, bank_b_OJ: Tensor, block: int) -> None:
    (num_rows, d_in), (d_out, num_columns) = bank_a_JD.shape, bank_b_OJ.shape
    expected = (*x_BTD.shape[:-1], d_out)
    fits = x_BTD.dim() == 3 and tuple(shape) == expected and x_BTD.shape[-1] == d_in
    if not fits or num_rows != num_columns or num_rows % block:
        shapes = {"base": shape, "x": x_BTD.shape, "bank_a": bank_a_JD.shape, "bank_b": bank_b_OJ.shape}
        listed = ", ".join(f"{name} {list(each)}" for name, each in shapes.items())
        raise ValueError(
            f"shapes do not fit base [B, T, O], x [B, T, D], bank_a [E·{block}, D], bank_b [O, E·{block}]: {listed}"
        )
