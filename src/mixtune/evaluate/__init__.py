"""Evaluation: greedy answers and ranked options, scored with intervals, kept sample by sample."""

from mixtune.evaluate.run import EvaluationResult, evaluate
from mixtune.evaluate.settings import EvaluateSettings, TaskGroup
from mixtune.evaluate.statistics import (
    Interval,
    PairedComparison,
    compare_paired,
    macro_interval,
    wilson_interval,
)
from mixtune.evaluate.summary import compare_rows

__all__ = [
    "EvaluateSettings",
    "EvaluationResult",
    "Interval",
    "PairedComparison",
    "TaskGroup",
    "compare_paired",
    "compare_rows",
    "evaluate",
    "macro_interval",
    "wilson_interval",
]
