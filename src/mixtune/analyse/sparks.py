"""Small learning curves, one a task, as SVG paths the template draws without a script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mixtune.analyse.figures import curve, logged_tasks
from mixtune.analyse.palette import series_of
from mixtune.analyse.runs import Run

WIDTH, HEIGHT = 160, 70


def spark_cards(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Per task: its name and, per tuned model, style, label, SVG
    points and the last loss. All tasks share both axes.
    """
    tuned = [run for run in runs if run.log]
    styles = series_of([run.label for run in runs])
    curves = {task: {run.label: curve(run, task) for run in tuned} for task in logged_tasks(tuned)}
    drawn = [line for lines in curves.values() for line in lines.values() if line[0]]
    if not drawn:
        return []
    last_step = max(steps[-1] for steps, _ in drawn) or 1
    # The first batches may lie far above the rest; an axis up to the 98th percentile keeps those readable.
    losses = sorted(loss for _, line in drawn for loss in line)
    top = losses[min(len(losses) - 1, int(0.98 * len(losses)))] or 1.0
    cards = []
    for task, lines in curves.items():
        shown = [
            {
                "series": styles[label],
                "label": label,
                "points": _points(steps, values, last_step, top),
                "last": f"{values[-1]:.2f}",
            }
            for label, (steps, values) in lines.items()
            if steps
        ]
        cards.append({"task": task, "lines": shown})
    return cards


def _points(steps: Sequence[int], losses: Sequence[float], last_step: int, top: float) -> str:
    """SVG polyline points; losses over `top` are drawn at the upper edge."""
    pairs = (
        (WIDTH * step / last_step, HEIGHT * (1 - min(max(loss, 0.0) / top, 1.0)))
        for step, loss in zip(steps, losses, strict=True)
    )
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)
