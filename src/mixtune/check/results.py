"""What a check found: how far two computations of the same thing lie apart, and whether that is close enough."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """One check of one rule.

    kept: None if the check does not apply. reason: why it does not, or what is broken; of a kept check what to know
    about it, mostly nothing. difference: the largest absolute difference seen. tolerance: a value may differ by
    tolerance·(1 + |expected|); 0 means the same bits.
    """

    rule: str
    check: str
    kept: bool | None
    difference: float = 0.0
    tolerance: float = 0.0
    reason: str = ""


class Tally:
    """Adds up what one check compares.

    difference: the largest absolute one. exact: whether bits were compared. faults: what is wrong, in words. note: what
    to know although nothing is.
    """

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.difference = 0.0
        self.exact = False
        self.faults: list[str] = []
        self.note = ""

    def close(self, found: Tensor, expected: Tensor, what: str, *, exact: bool = False) -> bool:
        """Compare whole tensors as torch.testing.assert_close does; note `what` if they differ.

        The same infinity twice is equal; a value that is no number is a fault.
        """
        self.exact |= exact
        if found.shape != expected.shape:
            return self.fact(False, f"{what}: shape {tuple(found.shape)} for {tuple(expected.shape)}")
        wide = torch.promote_types(found.dtype, torch.float32)
        found, expected = found.detach().to(wide), expected.detach().to(found.device, wide)
        same = found == expected
        apart = torch.where(same, 0.0, (found - expected).abs())
        largest = float(apart.max()) if apart.numel() else 0.0
        self.difference = max(self.difference, largest if not math.isnan(largest) else math.inf)
        allowed = 0.0 if exact else self.tolerance * (1 + expected.abs())
        good = bool((same | (apart <= allowed)).all())
        if not good and not math.isfinite(largest):
            return self.fact(False, f"{what}: not finite")
        return self.fact(good, f"{what}: differ by {largest:.2g}")

    def fact(self, holds: bool, fault: str) -> bool:
        """Note `fault` unless it holds."""
        if not holds:
            self.faults.append(fault)
        return holds

    @property
    def reason(self) -> str:
        """The first fault, and how many more there are; the note without one."""
        more = f" (and {len(self.faults) - 1} more)" if len(self.faults) > 1 else ""
        return self.faults[0] + more if self.faults else self.note
