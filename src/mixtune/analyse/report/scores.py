"""The bars of evaluated models against guessing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mixtune.analyse.palette import series_of
from mixtune.analyse.report.drawing import Bars, bar_figure
from mixtune.analyse.runs import Run


def accuracy_figure(runs: Sequence[Run], split: str, way: str) -> dict[str, Any]:
    """Horizontal bars of every task of a split by domain, one a model, with 95 % intervals, and a mark for guessing."""
    known = runs[0].tasks
    names = sorted(
        (name for name, task in known.items() if task["split"] == split and task[way]),
        key=lambda name: (known[name]["domain"], name),
    )
    styles = series_of([run.label for run in runs])
    bars = [Bars(label=run.label, series=styles[run.label], values=_values(run, names, way)) for run in runs]
    return bar_figure(names, bars, {name: known[name]["chance"] for name in names})


def _values(run: Run, names: Sequence[str], way: str) -> dict[str, tuple[float, float, float]]:
    found = {name: run.tasks[name][way] for name in names if name in run.tasks}
    return {name: (entry["accuracy"], entry["low"], entry["high"]) for name, entry in found.items() if entry}
