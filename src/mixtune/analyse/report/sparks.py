"""Small learning curves, one a task, as SVG paths the template draws without a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mixtune.analyse.report.curves import ALL_TASKS, Curves

WIDTH, HEIGHT, STROKE = 160, 70, 12


def spark_cards(curves: Curves, styles: Mapping[str, str], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Per task: its name and, for each of `labels`, style, label, SVG points and the last loss. All tasks share both
    axes.
    """
    tasks = {task: lines for task, lines in curves.items() if task != ALL_TASKS}
    drawn = [line for lines in tasks.values() for label, line in lines.items() if label in labels]
    if not drawn:
        return []
    last_step = max(steps[-1] for steps, _ in drawn) or 1
    # The first batches may lie far above the rest; an axis up to the 98th percentile keeps those readable.
    losses = sorted(loss for _, line in drawn for loss in line)
    top = losses[min(len(losses) - 1, int(0.98 * len(losses)))] or 1.0
    return [
        {
            "task": task,
            "lines": [
                {
                    "series": styles[label],
                    "label": label,
                    "points": _points(*lines[label], last_step, top),
                    "last": f"{lines[label][1][-1]:.2f}",
                }
                for label in labels
                if label in lines
            ],
        }
        for task, lines in tasks.items()
    ]


def _points(steps: Sequence[float], losses: Sequence[float], last_step: float, top: float) -> str:
    """SVG polyline points; losses over `top` are drawn at the upper edge, a single one as a short stroke."""
    pairs = [
        (WIDTH * step / last_step, HEIGHT * (1 - min(max(loss, 0.0) / top, 1.0)))
        for step, loss in zip(steps, losses, strict=True)
    ]
    if len(pairs) == 1:
        x, y = pairs[0]
        pairs = [(max(x - STROKE, 0.0), y), (x, y)]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)
