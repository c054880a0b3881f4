"""Figures of which factors the evaluated tasks chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixtune.analyse.report.drawing import figure_json, heatmap, name_axis, row_height
from mixtune.analyse.selections import Usage, layer_place, task_information, task_overlap


def place_figure(layers: Sequence[str], values_L: Sequence[float], highest: float) -> dict[str, Any]:
    """A value of each linear by depth and kind; a click tells which of the layers was meant."""
    places = [layer_place(name) for name in layers]
    depths, kinds = sorted({depth for depth, _ in places}), list(dict.fromkeys(kind for _, kind in places))
    values: list[list[float | None]] = [[None] * len(depths) for _ in kinds]
    numbers: list[list[int | None]] = [[None] * len(depths) for _ in kinds]
    for number, (depth, kind) in enumerate(places):
        row, column = kinds.index(kind), depths.index(depth)
        values[row][column], numbers[row][column] = round(float(values_L[number]), 4), number
    figure = heatmap(values, depths, kinds, "layer %{x}, %{y}: %{z:.2f}<extra></extra>")
    figure.update_traces(customdata=numbers, zmin=0.0, zmax=highest or 1.0)
    figure.update_layout(height=100 + 30 * len(kinds), xaxis={"title": {"text": "layer"}, "fixedrange": True})
    return figure_json(figure)


def usage_places(usage: Usage) -> dict[str, Any]:
    """How well the choice tells tasks apart, per depth and kind of linear."""
    information = task_information(usage).mean(axis=0)
    return place_figure(usage.layers, information.tolist(), float(information.max()))


def overlap_figure(overlap_NN: np.ndarray, names: Sequence[str], ends: tuple[float, float] | None) -> dict[str, Any]:
    """Task by task overlap of the choices; `names` are the tasks as they are printed, `ends` those of the colours.

    The diagonal (always 1) is left empty, so that the colours span the differences between tasks.
    """
    rows = [[None if i == j else round(float(v), 3) for j, v in enumerate(row)] for i, row in enumerate(overlap_NN)]
    figure = heatmap(rows, names, names, "%{y} and %{x}: %{z:.0%} in common<extra></extra>")
    if ends:
        figure.update_traces(zmin=ends[0], zmax=ends[1])
    figure.update_layout(
        meta={"rows": len(names)}, height=130 + row_height(len(names)) * len(names), xaxis=name_axis(names)
    )
    return figure_json(figure)


def overlap_ends(*overlaps_NN: np.ndarray) -> tuple[float, float] | None:
    """Least and largest overlap off the diagonals; None for a single task."""
    apart = np.concatenate([each[~np.eye(len(each), dtype=bool)] for each in overlaps_NN])
    return (float(apart.min()), float(apart.max())) if apart.size else None


def usage_overlap(usage: Usage, names: Sequence[str]) -> dict[str, Any]:
    """Overlap of the tasks' choices, averaged over sides and layers."""
    overlap_NN = task_overlap(usage)
    return overlap_figure(overlap_NN, names, overlap_ends(overlap_NN))


def usage_figure(usage: Usage, names: Sequence[str]) -> dict[str, Any]:
    """Empty task by factor heatmap; the page's script fills in the layer that the reader chooses."""
    factors = list(range(usage.counts_SNLE.shape[-1]))
    hover = "%{y}: %{z:.1%} of its choices are factor %{x}<extra></extra>"
    figure = heatmap([[0.0] * len(factors) for _ in names], factors, names, hover)
    figure.update_traces(zmin=0.0, zmax=float(usage.shares.max()))
    height = 80 + row_height(len(names)) * len(names)
    figure.update_layout(height=height, xaxis={"title": {"text": "factor"}, "fixedrange": True})
    return figure_json(figure)


def usage_data(usage: Usage) -> Mapping[str, Any]:
    """Numbers behind `usage_figure`: shares per layer and side (thousandths; one side where both chose alike, as
    experts do), layer names, and the layer to begin with, the one whose choices tell most about the task.
    """
    thousandths = np.round(usage.shares * 1000).astype(int)
    alike = bool((usage.counts_SNLE[0] == usage.counts_SNLE[1]).all())
    return {
        "layers": [f"layer {depth} · {kind}" if depth >= 0 else kind for depth, kind in map(layer_place, usage.layers)],
        "start": int(task_information(usage).mean(axis=0).argmax()),
        "a": thousandths[0].transpose(1, 0, 2).tolist(),
        **({} if alike else {"b": thousandths[1].transpose(1, 0, 2).tolist()}),
    }
