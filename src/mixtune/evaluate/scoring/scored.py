"""What a scorer gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One answer's ``score`` (0 to 1), what it was ``read_as`` (a label; None where it is not read as one) and further
    numbers of the same answer (``details``). ``graded``: the rule knows values between 0 and 1.
    """

    score: float
    graded: bool = False
    read_as: str | None = None
    details: Mapping[str, float] = field(default_factory=dict)


Scorer: TypeAlias = Callable[[str, Sequence[str], Sequence[str]], Scored]
"""(answer, targets, options) to what it is worth. Targets are all reference answers, the first the main one."""
