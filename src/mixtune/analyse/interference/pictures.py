"""Heatmaps of interference: red helps, blue hurts, grey says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mixtune.analyse.interference.results import verdict
from mixtune.analyse.palette import DIVERGING, FAINT, INK, PAPER, SILENT, SOFT
from mixtune.analyse.still import save_figure

PNG = "interference.png"
PANELS = 3  # layers shown in the PNG
CELL, LABELS = 0.235, 1.9  # inches: one cell, the tasks' names
SHARE = 0.95  # of the cells lie within the colours' range; the rest are drawn in the outermost colour
DECIDED = ("helps", "hurts")


def write_picture(content: dict[str, Any], out: Path) -> Path:
    """Write A and B of up to three layers as one PNG into `out`."""
    return save_figure(poster(content), out / PNG)


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
        axis.set_title(
            f"LoRA {group['side']}, {place_name(group)}", loc="left", fontsize=10, color=INK, fontweight="bold"
        )
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


def place_name(group: Mapping[str, Any]) -> str:
    """Where a group lies: "deep (layer 25)", "layer 5"."""
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
