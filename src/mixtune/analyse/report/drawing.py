"""Parts of interactive figures, as plain plotly dictionaries; the page's script adds the colours of the theme.

A trace names its style in ``meta.series``: one of `palette.series_of`, "heat" (background to one hue), "diverging"
(blue, neutral, red), "ring", "map", or "chance". Where a menu chooses among traces, ``meta.choice`` is what it chooses
by. A layout with ``meta.silent`` shows the colour of cells that say nothing behind its heatmap; one with ``meta.rows``
tells the script how many rows to fit on a phone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from mixtune.analyse.report.words import percent

COLOUR_BAR = {"thickness": 8, "outlinewidth": 0, "lenmode": "pixels", "len": 170, "y": 1, "yanchor": "top"}
BAR, GAP, FRAME = 13, 12, 110  # pixels: one bar, between tasks, around the bars
MARGIN = {"l": 8, "r": 12, "t": 28, "b": 8}


@dataclass(frozen=True, kw_only=True)
class Bars:
    """One model's bars: (value, low, high) by the name of what was measured."""

    label: str
    series: str
    values: Mapping[str, tuple[float, float, float]]


def figure_json(figure: go.Figure) -> dict[str, Any]:
    """Data and layout of a figure as JSON-ready dictionaries, without plotly's default template."""
    found = json.loads(figure.to_json())
    found["layout"].pop("template", None)
    return found


def bar_figure(names: Sequence[str], models: Sequence[Bars], chances: Mapping[str, float | None]) -> dict[str, Any]:
    """Horizontal bars, a group for each of `names` from top to bottom and in it one a model, with intervals, and an
    upright mark where guessing would be.
    """
    rows, figure = list(reversed(names)), go.Figure()
    for model in reversed(models):
        figure.add_trace(_bars(model, [name for name in rows if name in model.values]))
    marked = [name for name in rows if chances.get(name) is not None]
    figure.add_trace(
        go.Scatter(
            x=[chances[name] for name in marked], y=marked, mode="markers", name="guessing",
            marker={"symbol": "line-ns", "size": BAR * len(models), "line": {"width": 2}},
            hovertemplate="%{y}: guessing %{x:.1%}<extra></extra>", meta={"series": "chance"},
        )
    )  # fmt: skip
    figure.update_layout(
        barmode="group",
        height=FRAME + len(rows) * (BAR * len(models) + GAP),
        bargap=GAP / (GAP + BAR * len(models)),
        xaxis={"range": [0, 1.02], "tickformat": ".0%", "side": "top", "fixedrange": True},
        yaxis={"automargin": True, "fixedrange": True, "type": "category", "range": [-0.6, len(rows) - 0.4]},
        legend={"orientation": "h", "x": 0, "y": -0.01, "yanchor": "top", "traceorder": "reversed"},
        margin=MARGIN,
    )
    return figure_json(figure)


def _bars(model: Bars, names: Sequence[str]) -> go.Bar:
    """One model's bars with interval whiskers."""
    found = [model.values[name] for name in names]
    return go.Bar(
        x=[value for value, _, _ in found],
        y=list(names),
        orientation="h",
        name=model.label,
        error_x={
            "array": [high - value for value, _, high in found],
            "arrayminus": [value - low for value, low, _ in found],
            "thickness": 1.2,
            "width": 2,
        },
        text=[f"{percent(value)} ({percent(low)} to {percent(high)})" for value, low, high in found],
        textposition="none",
        hovertemplate="%{y}<br>" + model.label + ": %{text}<extra></extra>",
        meta={"series": model.series},
    )


def heatmap(values: Sequence[Sequence[Any]], columns: Sequence[Any], rows: Sequence[Any], hover: str) -> go.Figure:
    """A heatmap from the background's colour to one hue, first row on top."""
    gap = 1 if len(columns) <= 30 else 0
    trace = go.Heatmap(
        z=values, x=list(columns), y=list(rows), xgap=gap, ygap=gap, hovertemplate=hover,
        meta={"series": "heat"}, colorbar=COLOUR_BAR,
    )  # fmt: skip
    figure = go.Figure(trace)
    figure.update_layout(
        yaxis={"autorange": "reversed", "automargin": True, "fixedrange": True, "tickfont": {"size": 11}, "dtick": 1},
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
    )
    return figure


@dataclass(frozen=True, kw_only=True)
class Cells:
    """A table of differences: values and what each says, both [rows][columns], and (row, column) of those that are
    told from zero.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]
    texts: Sequence[Sequence[str | None]]
    told: Sequence[tuple[str, str]]

    def as_dict(self) -> dict[str, Any]:
        """What the page's script needs to show other cells in the same figure."""
        x, y = [column for _, column in self.told], [row for row, _ in self.told]
        return {"z": self.values, "text": self.texts, "x": x, "y": y}


def ringed(cells: Cells, limit: float) -> go.Figure:
    """Red above zero, blue below, to ±`limit`; a ring in each cell that is told from zero; grey where there is none."""
    height, width, found = len(cells.rows), len(cells.columns), cells.as_dict()
    longest = max((len(name) for name in cells.columns), default=0)  # names of columns stand upright below
    gap = 1 if width <= 30 else 0
    heat = go.Heatmap(
        z=found["z"], text=found["text"], x=list(cells.columns), y=list(cells.rows), zmin=-limit, zmax=limit,
        hovertemplate="%{x} on %{y}<br>%{text}<extra></extra>", hoverongaps=True, xgap=gap, ygap=gap,
        meta={"series": "diverging"}, colorbar=COLOUR_BAR,
    )  # fmt: skip
    rings = go.Scatter(
        x=found["x"], y=found["y"], mode="markers", hoverinfo="skip", showlegend=False,
        marker={"symbol": "circle", "size": 5 if width <= 24 else 3, "line": {"width": 1}}, meta={"series": "ring"},
    )  # fmt: skip
    figure = go.Figure([heat, rings])
    rows = {**name_axis(cells.rows), "tickangle": 0, "showgrid": False, "range": [height - 0.5, -0.5]}
    figure.update_layout(
        meta={"silent": True, "rows": height, "longest": longest},
        height=65 + max(85, 7 * longest) + row_height(height) * height,
        xaxis={**name_axis(cells.columns), "showgrid": False, "range": [-0.5, width - 0.5]},
        yaxis={**rows, "tickfont": {"size": 11 if height <= 40 else 9}},
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
    )
    return figure


def row_height(rows: int) -> int:
    """Pixels of one heatmap row: 22 for a few tasks, less for many, never less than a small line of text."""
    return max(13, min(22, 700 // max(rows, 1)))


def name_axis(names: Sequence[Any]) -> dict[str, Any]:
    """A horizontal axis that prints every name upright, small enough that neighbours do not touch; also where no cell
    has a value (`categoryarray`: plotly takes names of such a heatmap from nowhere else).
    """
    return {
        "categoryorder": "array", "categoryarray": list(names),
        "tickangle": -90, "fixedrange": True, "automargin": True, "dtick": 1, "type": "category",
        "tickfont": {"size": 11 if len(names) <= 24 else 9},
    }  # fmt: skip
