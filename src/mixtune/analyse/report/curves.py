"""Learning curves: the training loss of every model over its steps, of all tasks and of each one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import plotly.graph_objects as go

from mixtune.analyse.palette import dash_of
from mixtune.analyse.report.drawing import MARGIN, figure_json
from mixtune.analyse.runs import Run

ALL_TASKS = "all tasks"
POINTS = 80  # at most so many points of a line; more are averaged in equal stretches of steps
Line: TypeAlias = tuple[list[float], list[float]]
Curves: TypeAlias = Mapping[str, Mapping[str, Line]]
"""Steps and losses by choice (`ALL_TASKS` or a task) and by the label of the model."""


def run_curves(runs: Sequence[Run]) -> dict[str, dict[str, Line]]:
    """The curves of the models that were tuned; empty if none was."""
    tuned = [run for run in runs if run.log]
    choices = [ALL_TASKS, *logged_tasks([run.log for run in tuned])] if tuned else []
    found = {choice: {run.label: log_line(run.log, choice) for run in tuned} for choice in choices}
    return {choice: {label: line for label, line in lines.items() if line[0]} for choice, lines in found.items()}


def logged_tasks(logs: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """Names of the tasks that any training log has losses of."""
    return sorted({task for log in logs for record in log for task in record.get("task_loss", {})})


def log_line(log: Sequence[Mapping[str, Any]], choice: str) -> Line:
    """Steps and losses of a training log: the mean loss, or one task's where that step met it."""
    pairs = [
        (record["step"], record.get("loss") if choice == ALL_TASKS else record.get("task_loss", {}).get(choice))
        for record in log
    ]
    kept = [(step, loss) for step, loss in pairs if loss is not None]
    return thinned([float(step) for step, _ in kept], [float(loss) for _, loss in kept])


def mean_line(lines: Sequence[Line]) -> Line:
    """The mean over seeds (or specialists) at every step that any of them logged."""
    sums: dict[float, list[float]] = {}
    for steps, losses in lines:
        for step, loss in zip(steps, losses, strict=True):
            sums.setdefault(step, []).append(loss)
    steps = sorted(sums)
    return thinned(steps, [float(np.mean(sums[step])) for step in steps])


def thinned(steps: Sequence[float], losses: Sequence[float]) -> Line:
    """At most POINTS points: means over neighbours, at their mean step."""
    if len(steps) <= POINTS:
        return [_short(step) for step in steps], [round(loss, 4) for loss in losses]
    groups = zip(np.array_split(steps, POINTS), np.array_split(losses, POINTS), strict=True)
    pairs = [(_short(float(group.mean())), round(float(part.mean()), 4)) for group, part in groups]
    return [step for step, _ in pairs], [loss for _, loss in pairs]


def _short(step: float) -> float:
    return int(step) if step == int(step) else round(step, 1)


def curve_figure(curves: Curves, styles: Mapping[str, str]) -> dict[str, Any]:
    """Training loss over steps, one line a model; a menu chooses the mean or one task."""
    figure = go.Figure()
    for choice, lines in curves.items():
        for label, (steps, losses) in lines.items():
            figure.add_trace(
                go.Scatter(
                    x=steps,
                    y=losses,
                    mode="lines" if len(steps) > 1 else "lines+markers",  # a line of one point is nothing to see
                    name=label,
                    visible=choice == ALL_TASKS,
                    hovertemplate="step %{x}: %{y:.3f}<extra>" + label + "</extra>",
                    line={"dash": dash_of(styles[label])},
                    meta={"series": styles[label], "choice": choice},
                )
            )
    figure.update_layout(
        height=380,
        showlegend=True,
        xaxis={"title": {"text": "optimiser step"}, "fixedrange": True},
        yaxis={"title": {"text": "training loss (nats a token)"}, "rangemode": "tozero", "fixedrange": True},
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom"},
        margin=MARGIN,
    )
    return figure_json(figure)
