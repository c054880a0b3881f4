"""The report's interactive figures as plain plotly figure
dictionaries; the page's script adds the colours of the theme.

A trace names its style in ``meta.series`` (see `palette.series_of`) and,
where a menu chooses among traces, ``meta.choice``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from mixtune.analyse.headline import percent
from mixtune.analyse.palette import series_of
from mixtune.analyse.runs import Run
from mixtune.analyse.selections import Usage, layer_place, task_information, task_overlap

ALL_TASKS = "all tasks"
COLOUR_BAR = {"thickness": 8, "outlinewidth": 0, "lenmode": "pixels", "len": 170, "y": 1, "yanchor": "top"}
BAR, GAP, FRAME = 13, 12, 110  # pixels: one bar, between tasks, around the bars


def figure_json(figure: go.Figure) -> dict[str, Any]:
    """Data and layout of a figure as JSON-ready dictionaries, without plotly's default template."""
    found = json.loads(figure.to_json())
    found["layout"].pop("template", None)
    return found


def accuracy_figure(runs: Sequence[Run], split: str, way: str) -> dict[str, Any]:
    """Horizontal bars of every task of a split, one a model, with 95 %
    intervals, and a mark where guessing would be.
    """
    tasks = [name for name, task in runs[0].tasks.items() if task["split"] == split and task[way]]
    tasks.sort(key=lambda name: (runs[0].tasks[name]["domain"], name), reverse=True)
    styles, figure = series_of([run.label for run in runs]), go.Figure()
    for run in reversed(runs):
        figure.add_trace(_bars(run, [name for name in tasks if name in run.tasks], way, styles[run.label]))
    marked = [name for name in tasks if runs[0].tasks[name]["chance"] is not None]
    figure.add_trace(
        go.Scatter(
            x=[runs[0].tasks[name]["chance"] for name in marked],
            y=marked,
            mode="markers",
            name="guessing",
            marker={"symbol": "line-ns", "size": BAR * len(runs), "line": {"width": 2}},
            hovertemplate="%{y}: guessing %{x:.1%}<extra></extra>",
            meta={"series": "chance"},
        )
    )
    figure.update_layout(
        barmode="group",
        height=FRAME + len(tasks) * (BAR * len(runs) + GAP),
        bargap=GAP / (GAP + BAR * len(runs)),
        xaxis={"range": [0, 1.02], "tickformat": ".0%", "side": "top", "fixedrange": True},
        yaxis={"automargin": True, "fixedrange": True, "range": [-0.6, len(tasks) - 0.4]},
        legend={"orientation": "h", "x": 0, "y": -0.01, "yanchor": "top", "traceorder": "reversed"},
        margin={"l": 8, "r": 12, "t": 28, "b": 8},
    )
    return figure_json(figure)


def _bars(run: Run, tasks: Sequence[str], way: str, style: str) -> go.Bar:
    """One model's bars with interval whiskers."""
    found = [run.tasks[name][way] for name in tasks]
    values = [entry["accuracy"] for entry in found]
    texts = [f"{percent(e['accuracy'])} ({percent(e['low'])} to {percent(e['high'])})" for e in found]
    return go.Bar(
        x=values,
        y=list(tasks),
        orientation="h",
        name=run.label,
        error_x={
            "array": [entry["high"] - entry["accuracy"] for entry in found],
            "arrayminus": [entry["accuracy"] - entry["low"] for entry in found],
            "thickness": 1.2,
            "width": 2,
        },
        text=texts,
        textposition="none",
        hovertemplate="%{y}<br>" + run.label + ": %{text}<extra></extra>",
        meta={"series": style},
    )


def curve_figure(runs: Sequence[Run]) -> dict[str, Any] | None:
    """Training loss over steps, one line a tuned model; a menu chooses
    the mean or one task. None if nothing was tuned.
    """
    tuned = [run for run in runs if run.log]
    if not tuned:
        return None
    styles, figure = series_of([run.label for run in runs]), go.Figure()
    for choice in [ALL_TASKS, *logged_tasks(tuned)]:
        for run in tuned:
            steps, losses = curve(run, choice)
            figure.add_trace(
                go.Scatter(
                    x=steps,
                    y=losses,
                    mode="lines",
                    name=run.label,
                    visible=choice == ALL_TASKS,
                    hovertemplate="step %{x}: %{y:.3f}<extra>" + run.label + "</extra>",
                    meta={"series": styles[run.label], "choice": choice},
                )
            )
    figure.update_layout(
        height=340,
        showlegend=True,
        xaxis={"title": {"text": "optimiser step"}, "fixedrange": True},
        yaxis={"title": {"text": "training loss (nats a token)"}, "rangemode": "tozero", "fixedrange": True},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom"},
        margin={"l": 8, "r": 12, "t": 28, "b": 8},
    )
    return figure_json(figure)


def logged_tasks(runs: Sequence[Run]) -> list[str]:
    """Names of the tasks that any training log has losses of."""
    return sorted({task for run in runs for record in run.log for task in record.get("task_loss", {})})


def curve(run: Run, choice: str) -> tuple[list[int], list[float]]:
    """Steps and losses of a run's log: the mean loss, or one task's where that step met it."""
    pairs = [
        (
            record["step"],
            record.get("loss") if choice == ALL_TASKS else record.get("task_loss", {}).get(choice),
        )
        for record in run.log
    ]
    kept = [(step, loss) for step, loss in pairs if loss is not None]
    return [step for step, _ in kept], [loss for _, loss in kept]


def place_figure(usage: Usage) -> dict[str, Any]:
    """How well the choice tells tasks apart, per depth and kind of linear; a click chooses the layer shown below."""
    places = [layer_place(name) for name in usage.layers]
    depths, kinds = sorted({depth for depth, _ in places}), list(dict.fromkeys(kind for _, kind in places))
    information = task_information(usage).mean(axis=0)
    values: list[list[float | None]] = [[None] * len(depths) for _ in kinds]
    numbers: list[list[int | None]] = [[None] * len(depths) for _ in kinds]
    for number, (depth, kind) in enumerate(places):
        row, column = kinds.index(kind), depths.index(depth)
        values[row][column], numbers[row][column] = round(float(information[number]), 4), number
    figure = _heatmap(values, depths, kinds, "layer %{x}, %{y}: %{z:.2f}<extra></extra>")
    figure.update_traces(customdata=numbers, zmin=0.0, zmax=float(information.max()) or 1.0)
    figure.update_layout(height=100 + 30 * len(kinds), xaxis={"title": {"text": "layer"}, "fixedrange": True})
    return figure_json(figure)


def overlap_figure(usage: Usage, names: Sequence[str]) -> dict[str, Any]:
    """Task by task overlap of the choices, averaged over sides and layers; `names` are the tasks as they are printed.

    The diagonal (always 1) is left empty, so that the colours span the differences between tasks.
    """
    overlap = task_overlap(usage)
    apart = overlap[~np.eye(len(names), dtype=bool)]
    values = [[None if i == j else round(float(v), 3) for j, v in enumerate(row)] for i, row in enumerate(overlap)]
    figure = _heatmap(values, names, names, "%{y} and %{x}: %{z:.0%} in common<extra></extra>")
    if apart.size:
        figure.update_traces(zmin=float(apart.min()), zmax=float(apart.max()))
    xaxis = {"tickangle": -60, "fixedrange": True, "automargin": True}
    figure.update_layout(height=130 + row_height(len(names)) * len(names), xaxis=xaxis)
    return figure_json(figure)


def row_height(rows: int) -> int:
    """Pixels of one heatmap row: 22 for a few tasks, less for many, never less than a small line of text."""
    return max(13, min(22, 700 // max(rows, 1)))


def usage_figure(usage: Usage, names: Sequence[str]) -> dict[str, Any]:
    """Empty task by factor heatmap; the page's script fills in the layer that the reader chooses."""
    factors = list(range(usage.counts_SNLE.shape[-1]))
    figure = _heatmap(
        [[0.0] * len(factors) for _ in names], factors, names,
        "%{y}: %{z:.1%} of its choices are factor %{x}<extra></extra>",
    )  # fmt: skip
    figure.update_traces(zmin=0.0, zmax=float(usage.shares.max()))
    height = 80 + row_height(len(names)) * len(names)
    figure.update_layout(height=height, xaxis={"title": {"text": "factor"}, "fixedrange": True})
    return figure_json(figure)


def usage_data(usage: Usage) -> Mapping[str, Any]:
    """Numbers behind `usage_figure`: shares per layer and side (thousandths), layer names, and the layer to
    begin with, the one whose choices tell most about the task.
    """
    thousandths = np.round(usage.shares * 1000).astype(int)
    return {
        "layers": [f"layer {depth} · {kind}" if depth >= 0 else kind for depth, kind in map(layer_place, usage.layers)],
        "start": int(task_information(usage).mean(axis=0).argmax()),
        "a": thousandths[0].transpose(1, 0, 2).tolist(),
        "b": thousandths[1].transpose(1, 0, 2).tolist(),
    }


def _heatmap(values: Sequence[Sequence[Any]], columns: Sequence[Any], rows: Sequence[Any], hover: str) -> go.Figure:
    """A heatmap from the background's colour to the subject's, first row on top."""
    gap = 1 if len(columns) <= 30 else 0
    trace = go.Heatmap(
        z=values, x=list(columns), y=list(rows), xgap=gap, ygap=gap, hovertemplate=hover,
        meta={"series": "heat"}, colorbar=COLOUR_BAR,
    )  # fmt: skip
    figure = go.Figure(trace)
    figure.update_layout(
        yaxis={
            "autorange": "reversed",
            "automargin": True,
            "fixedrange": True,
            "tickfont": {"size": 11},
            "dtick": 1,
        },
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
    )
    return figure
