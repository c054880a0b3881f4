"""A comparison's figures: differences to the baseline, tasks alone against together, and tasks by arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from mixtune.analyse.report.compared import Compared
from mixtune.analyse.report.drawing import COLOUR_BAR, Bars, Cells, bar_figure, figure_json, ringed
from mixtune.analyse.report.words import interval, points, sign_of
from mixtune.evaluate.settings import SPLITS

ROW = 30  # pixels of one arm in the picture of differences
LEAST = 0.05  # colours end at this difference or beyond


def difference_figure(compared: Compared, entry: Mapping[str, Any], split: str) -> dict[str, Any] | None:
    """Every trained arm minus the baseline on a split, in points: a dot with its interval, filled where the difference
    is decided; None if there is none.
    """
    found = {
        name: arm["splits"][split] for name, arm in entry["differences"].items()
        if split in arm["splits"] and compared.facts[name]["kind"] != "untuned"
    }  # fmt: skip
    if not found:
        return None
    figure = go.Figure()
    for name, gap in found.items():
        figure.add_trace(
            go.Scatter(
                x=[100 * gap["mean"]], y=[name], mode="markers", name=name, showlegend=False,
                error_x={
                    "array": [100 * (gap["high"] - gap["mean"])], "arrayminus": [100 * (gap["mean"] - gap["low"])],
                    "thickness": 1.6, "width": 4,
                },
                text=[f"{points(gap['mean'])} points ({interval(gap)})"], hovertemplate="%{y}: %{text}<extra></extra>",
                marker={"size": 11, "symbol": "circle" if gap["decided"] else "circle-open", "line": {"width": 2}},
                meta={"series": compared.styles[name]},
            )
        )  # fmt: skip
    figure.update_layout(
        height=90 + ROW * len(found),
        xaxis={
            "tickformat": "+",
            "title": {"text": "points"},
            "zeroline": True,
            "zerolinewidth": 2,
            "side": "top",
            "fixedrange": True,
        },
        yaxis={"autorange": "reversed", "automargin": True, "fixedrange": True, "dtick": 1, "type": "category"},
        margin={"l": 8, "r": 12, "t": 28, "b": 8},
        meta={"zero": True},
    )
    return figure_json(figure)


def alone_figure(compared: Compared) -> dict[str, Any] | None:
    """Every task of the specialists: alone against together (baseline and best mixture), the task that loses most on
    top; ▼ and ▲ where the baseline's interval leaves zero out. None without specialists or baseline.
    """
    special, base, entry = compared.specialists, compared.baseline, compared.last
    gaps = entry["gaps"].get(special, {}).get(base, {}).get("tasks") if special else None
    if special is None or not gaps:
        return None
    names = {
        task: f"{task} {sign_of(gaps[task])}".strip() for task in sorted(gaps, key=lambda task: gaps[task]["mean"])
    }
    shown = [name for name in (special, base, compared.best_mixture) if name]
    bars = [
        Bars(
            label=f"{name} ({'alone' if name == special else 'together'})", series=compared.styles[name],
            values={
                names[task]: (found["mean"], found["low"], found["high"])
                for task, found in entry["arms"][name]["tasks"].items() if task in names
            },
        )
        for name in dict.fromkeys(shown)
    ]  # fmt: skip
    return bar_figure(list(names.values()), bars, {names[task]: entry["tasks"][task]["chance"] for task in names})


def task_figure(compared: Compared, entry: Mapping[str, Any], split: str) -> dict[str, Any] | None:
    """Tasks by trained arms: difference to the baseline, red above it and blue below; a ring where its interval leaves
    zero out. None if there is none.
    """
    gaps = {
        name: arm["tasks"] for name, arm in entry["differences"].items() if compared.facts[name]["kind"] != "untuned"
    }
    domain = {name: task["domain"] for name, task in entry["tasks"].items() if task["split"] == split}
    tasks = sorted(
        (task for task in domain if any(task in arm for arm in gaps.values())), key=lambda task: (domain[task], task)
    )
    arms = [name for name, arm in gaps.items() if any(task in arm for task in tasks)]
    if not arms:
        return None
    cells = {(task, arm): gaps[arm][task] for task in tasks for arm in arms if task in gaps[arm]}
    limit = max(LEAST, *(abs(cell["mean"]) for cell in cells.values()))
    told = {key: f"{points(cell['mean'])} points ({interval(cell)})" for key, cell in cells.items()}
    figure = ringed(
        Cells(
            rows=tasks, columns=arms, texts=_grid(tasks, arms, told),
            values=_grid(tasks, arms, {key: round(cell["mean"], 4) for key, cell in cells.items()}),
            told=[key for key, cell in cells.items() if sign_of(cell)],
        ),
        limit,
    )  # fmt: skip
    figure.update_traces(colorbar={**COLOUR_BAR, "tickformat": "+.0%"}, selector={"type": "heatmap"})
    return figure_json(figure)


def _grid(rows: Sequence[str], columns: Sequence[str], cells: Mapping[tuple[str, str], Any]) -> list[list[Any]]:
    return [[cells.get((row, column)) for column in columns] for row in rows]


def add_differences(compared: Compared, figures: dict[str, Any]) -> list[dict[str, str]]:
    """Add the differences of each data size and split to `figures`; returns their names and titles."""
    return _add(compared, figures, difference_figure, "difference")


def add_tasks(compared: Compared, figures: dict[str, Any]) -> list[dict[str, str]]:
    """Add tasks by arms of each data size and split to `figures`; returns their names and titles."""
    return _add(compared, figures, task_figure, "tasks")


def _add(compared: Compared, figures: dict[str, Any], make: Any, kind: str) -> list[dict[str, str]]:
    added = []
    for number, entry in enumerate(compared.entries):
        for split in SPLITS:
            figure = make(compared, entry, split)
            if figure:
                name = f"{kind}-{number}-{split}"
                size = f", {entry['data_size']:,} samples a task" if entry["data_size"] else ""
                figures[name] = figure
                added.append({"figure": name, "title": f"{split.capitalize()} tasks{size}"})
    return added
