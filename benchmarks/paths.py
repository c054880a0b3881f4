"""The paths of one kernel call side by side, over the number of bank rows: what `kernels.choose_path` is set by.

Decisions of instances: Paired (whole bank) against Gathered (chosen rows), four rows chosen. Decisions of tokens:
Masked (whole bank) against Grouped (tokens sorted by expert), one expert chosen. Forward and backward with all
gradients, no router, no base linear: only what the choice can change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import torch

import mixtune.kernels as kernels
from benchmarks.harness import Case, Run
from benchmarks.options import Settings, option
from benchmarks.results import Target
from mixtune.kernels.factored import Paired
from mixtune.kernels.gathered import Gathered
from mixtune.kernels.grouped import Grouped
from mixtune.kernels.tokens import Masked
from mixtune.routing.routers import RouterOutput


@dataclass(frozen=True, kw_only=True)
class PathsSettings(Settings):
    """Sizes of the call."""

    memory: bool = option(False, "measure the peak memory of each path too")
    seconds: float = option(0.3, "a path that is quick is measured in more rounds, until the reference took this long")
    widths: tuple[int, ...] = option((576, 2048), "widths of x and of the result")
    batch: int = option(4, "instances")
    length: int = option(256, "tokens of an instance")
    factor_rows: tuple[int, ...] = option((16, 32, 64, 128), "rows of the banks where instances choose 4 of them")
    expert_rows: tuple[int, ...] = option((64, 96, 128, 192, 256), "rows of the banks where tokens choose one expert")
    block: int = option(32, "rows of one expert")


SETTINGS = PathsSettings
TARGETS: tuple[Target, ...] = ()
CHOSEN = 4


def cases(settings: PathsSettings) -> Iterator[Case]:
    """One case for each dtype, kind of decision, width and number of rows."""
    for dtype in settings.dtypes:
        for kind, rows_of in (("instances", settings.factor_rows), ("tokens", settings.expert_rows)):
            paths = (Paired, Gathered) if kind == "instances" else (Masked, Grouped)
            for width in settings.widths:
                for rows in rows_of:
                    yield Case(
                        facts={"dtype": dtype, "decisions of": kind, "width": width, "rows": rows},
                        arms={path.__name__: partial(arm, path, dtype, width, rows, settings) for path in paths},
                        reference=paths[0].__name__,
                    )


def arm(path: type, dtype: str, width: int, rows: int, settings: PathsSettings) -> Run:
    """Forward and backward of one call that takes `path`."""
    torch.manual_seed(0)
    shape, of = (settings.batch, settings.length, width), {"device": settings.device}
    x_BTD, base_BTO, dy_BTO = (torch.randn(shape, **of).to(getattr(torch, dtype)) for _ in range(3))
    bank_a_JD, bank_b_OJ = torch.randn(rows, width, **of), torch.randn(width, rows, **of)
    tokens = path in (Masked, Grouped)
    block = settings.block if tokens else 1
    routed = _tokens(shape, rows // block, of) if tokens else _instances(shape, rows, of)
    leaves = [x_BTD, bank_a_JD, bank_b_OJ, routed.gates]
    for leaf in leaves:
        leaf.requires_grad_()
    choose: Callable[..., type] = lambda *args, **kwargs: path  # noqa: E731

    def run() -> Iterator[str]:
        with patch.object(kernels, "choose_path", choose):
            y_BTO = kernels.mixture_linear(
                base_BTO.detach(), x_BTD, bank_a_JD, bank_b_OJ, routed, scale=1.0, block=block
            )
        torch.autograd.grad(y_BTO, leaves, dy_BTO)
        yield "both ways"

    return run


def _instances(shape: tuple[int, int, int], rows: int, of: dict[str, str]) -> RouterOutput:
    draws_2BE = torch.rand(2, shape[0], rows, **of)
    a_BK, b_BK = draws_2BE.argsort(-1)[..., :CHOSEN]
    return RouterOutput(a_BK, b_BK, torch.ones(a_BK.shape, **of), draws_2BE[0])


def _tokens(shape: tuple[int, int, int], experts: int, of: dict[str, str]) -> RouterOutput:
    draws_BTE = torch.rand(*shape[:2], experts, **of)
    chosen_BT1 = draws_BTE.argmax(-1, keepdim=True)
    return RouterOutput(chosen_BT1, chosen_BT1, torch.ones(chosen_BT1.shape, **of), draws_BTE)
