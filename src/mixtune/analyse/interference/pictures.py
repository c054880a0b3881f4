"""Heatmaps of interference: red helps, blue hurts, grey says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mixtune.analyse.interference.results import verdict
from mixtune.analyse.palette import DIVERGING, SILENT
from mixtune.analyse.poster import FAINT, INK, PAPER, SOFT
from mixtune.config import write_atomic

PNG, HTML = "interference.png", "interference.html"
PANELS = 3  # layers shown in the PNG
CELL, LABELS = 0.235, 1.9  # inches: one cell, the tasks' names
SHARE = 0.95  # of the cells lie within the colours' range; the rest are drawn in the outermost colour
DECIDED = ("helps", "hurts")


def write_pictures(content: dict[str, Any], out: Path) -> tuple[Path, Path]:
    """Write the PNG (A and B of up to three layers) and the HTML (every group, chosen from a menu) into `out`."""
    png, html = out / PNG, out / HTML
    partial = png.with_name(f".{png.name}.partial")
    poster(content).savefig(partial, format="png")
    partial.replace(png)
    write_atomic(html, page(content).to_html(include_plotlyjs=True, full_html=True, config={"responsive": True}))
    return png, html


def shown_depths(groups: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the layers in the PNG: all, or the first, the middle and the last of many."""
    names = list(dict.fromkeys(group["name"] for group in groups if group["kind"] == "depth"))
    return names if len(names) <= PANELS else [names[0], names[len(names) // 2], names[-1]]


def colour_limit(groups: Sequence[dict[str, Any]], tasks: Sequence[str]) -> float:
    """Where the colours end: |score| that SHARE of the decided cells off the diagonal do not pass, at most 1."""
    sizes = [abs(value) for group in groups for value in shown_values(group, tasks).ravel() if np.isfinite(value)]
    return float(min(1.0, max(np.quantile(sizes, SHARE), 0.01))) if sizes else 1.0


def shown_values(group: dict[str, Any], tasks: Sequence[str]) -> np.ndarray:
    """Scores [P, P]; NaN on the diagonal, which is 1 by definition, and in undecided rows."""
    values = np.array(group["score"]["value"], dtype=float)
    values[[task in group["undecided"] for task in tasks]] = np.nan
    np.fill_diagonal(values, np.nan)
    return values


def poster(content: dict[str, Any]) -> Figure:
    """The still picture: a row of panels for A and one for B, a column for each layer."""
    tasks = [task["name"] for task in content["tasks"]]
    groups = [group for group in content["groups"] if group["kind"] == "depth"]
    depths = shown_depths(groups)
    shown = [group for group in groups if group["name"] in depths]
    side = max(2.4, CELL * len(tasks))
    size = (LABELS + len(depths) * (side + 0.25) + 0.9, LABELS + 2 * (side + 0.35) + 1.1)
    figure = Figure(figsize=size, dpi=140, facecolor=PAPER, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(depths), squeeze=False, sharex=True, sharey=True)
    limit = colour_limit(shown, tasks)
    for group in shown:
        axis = axes["AB".index(group["side"])][depths.index(group["name"])]
        image = _panel(axis, group, tasks, limit)
        axis.set_title(f"LoRA {group['side']}, {_place(group)}", loc="left", fontsize=10, color=INK, fontweight="bold")
    for axis in axes[:, 0]:
        axis.set_ylabel("task that is helped or hurt …", fontsize=9, color=SOFT)
    for axis in axes[-1]:
        axis.set_xlabel("… by a step on this task", fontsize=9, color=SOFT)
    bar = figure.colorbar(image, ax=axes, shrink=0.5, pad=0.015, extend="both")
    bar.ax.tick_params(labelsize=8, colors=SOFT)
    bar.outline.set_visible(False)
    bar.set_label("hurts  ←  share of the task's own gain  →  helps", fontsize=9, color=SOFT)
    adapter = Path(content["adapter"]).name if content["adapter"] else f"fresh {content['preset']}"
    model = f"{content['model']}, {adapter}"
    figure.suptitle(f"Does learning one task help another?  {model}", x=0.01, ha="left", fontsize=12.5, color=INK)
    note = (
        f"Dot: the {content['settings']['confidence']:.0%} interval leaves zero out.  Hatched: the row's own gain is "
        "not told from zero.\nThe diagonal is 1 by definition and left blank."
    )
    figure.supxlabel(note, x=0.01, ha="left", fontsize=8.5, color=SOFT)
    return figure


def _place(group: dict[str, Any]) -> str:
    numbers = ", ".join(map(str, group["layers"]))
    return group["name"] if group["name"].startswith("layer") else f"{group['name']} (layer {numbers})"


def _panel(axis: Axes, group: dict[str, Any], tasks: Sequence[str], limit: float) -> Any:
    """One heatmap with a dot in each cell that is told from zero."""
    colours = LinearSegmentedColormap.from_list("interference", DIVERGING)
    axis.set_facecolor(SILENT)
    image = axis.imshow(shown_values(group, tasks), cmap=colours, vmin=-limit, vmax=limit, aspect="equal")
    count = len(tasks)
    for row, task in enumerate(tasks):
        if task in group["undecided"]:
            axis.axhspan(row - 0.5, row + 0.5, facecolor="none", edgecolor=FAINT, hatch="////", linewidth=0)
    sure = [(i, j) for i in range(count) for j in range(count) if i != j and verdict(group, tasks, i, j) in DECIDED]
    axis.plot([j for _, j in sure], [i for i, _ in sure], "o", color=PAPER, markersize=3.2,
              markeredgecolor=INK, markeredgewidth=0.7)  # fmt: skip
    names = [task.replace("_", " ") for task in tasks]
    axis.set_xticks(range(count), names, rotation=90, fontsize=7.5)
    axis.set_yticks(range(count), names, fontsize=7.5)
    axis.tick_params(length=0, colors=SOFT, labelcolor=INK)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return image


def page(content: dict[str, Any]) -> go.Figure:
    """The interactive picture: a menu of groups; every cell tells its number, interval and verdict."""
    tasks = [task["name"] for task in content["tasks"]]
    groups = content["groups"]
    limit = colour_limit([group for group in groups if group["kind"] == "depth"], tasks)
    figure = go.Figure([_trace(group, tasks, limit, visible=number == 0) for number, group in enumerate(groups)])
    buttons = [
        {
            "label": f"LoRA {group['side']}: {_place(group) if group['kind'] == 'depth' else group['name']}",
            "method": "restyle",
            "args": ["visible", [other is group for other in groups]],
        }
        for group in groups
    ]
    figure.update_layout(
        template="plotly_white",
        title={"text": "Does learning one task help another?  (dot: told from zero; grey: says nothing)", "x": 0.01},
        height=max(460, 240 + 22 * len(tasks)),
        updatemenus=[{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}],
        xaxis={"title": {"text": "… by a step on this task"}, "tickangle": -60, "automargin": True, "showgrid": False},
        yaxis={
            "title": {"text": "task that is helped or hurt …"},
            "autorange": "reversed",
            "automargin": True,
            "showgrid": False,
        },
        plot_bgcolor=SILENT,
        margin={"t": 110},
    )
    return figure


def _trace(group: dict[str, Any], tasks: Sequence[str], limit: float, *, visible: bool) -> go.Heatmap:
    values = shown_values(group, tasks)
    sure = [["●" if verdict(group, tasks, i, j) in DECIDED and i != j else "" for j in range(len(tasks))]
            for i in range(len(tasks))]  # fmt: skip
    texts = [[_text(group, tasks, i, j) for j in range(len(tasks))] for i in range(len(tasks))]
    return go.Heatmap(
        z=[[None if np.isnan(value) else float(value) for value in row] for row in values],
        x=list(tasks), y=list(tasks), zmin=-limit, zmax=limit, visible=visible,
        colorscale=[[place / (len(DIVERGING) - 1), colour] for place, colour in enumerate(DIVERGING)],
        text=sure, texttemplate="%{text}", textfont={"size": 8}, customdata=texts,
        hovertemplate="%{customdata}<extra></extra>", hoverongaps=True, xgap=1, ygap=1,
        colorbar={"title": {"text": "helps (red)<br>hurts (blue)"}},
    )  # fmt: skip


def _text(group: dict[str, Any], tasks: Sequence[str], i: int, j: int) -> str:
    ends = [group["score"][end][i][j] for end in ("value", "low", "high")]
    told = "undefined" if None in ends else f"{ends[0]:+.3g} ({ends[1]:+.3g} to {ends[2]:+.3g})"
    said = "by definition" if i == j else verdict(group, tasks, i, j)
    return f"{tasks[j]} on {tasks[i]}<br>{told}<br>{said}"
