"""Comparisons: methods × seeds × data sizes from one file, each run a process of its own, judged with intervals."""

from mixtune.compare.loading import Loaded, load_comparison
from mixtune.compare.plan import Names, Plan, PlanError
from mixtune.compare.pools import LocalPool, RayPool
from mixtune.compare.run import Comparer, Ended
from mixtune.compare.settings import Comparison

__all__ = [
    "Comparer",
    "Comparison",
    "Ended",
    "Loaded",
    "LocalPool",
    "Names",
    "Plan",
    "PlanError",
    "RayPool",
    "load_comparison",
]
