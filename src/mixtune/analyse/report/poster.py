"""One still picture of the result: the means and every task's accuracy, for a README or a talk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mixtune.analyse.palette import FAINT, INK, PAPER, SOFT, colour_of, series_of
from mixtune.analyse.report.rows import split_order
from mixtune.analyse.report.words import percent
from mixtune.analyse.runs import Run

MARKERS = ("o", "s", "D", "^", "v", "P")
WIDTH, ROW, MEAN_ROW = 11.0, 0.25, 0.25  # inches: the picture, one task, one model in the means


def poster(runs: Sequence[Run], way: str, title: str = "") -> Figure:
    """Bars of the means over each split on top; below, a column of tasks a split with a dot and a 95 % interval a
    model and an upright mark where guessing would be.
    """
    splits = split_order(runs)
    longest = max(len(tasks_of(runs, split, way)) for split in splits)
    means_height = MEAN_ROW * (len(splits) * (len(runs) + 1)) + 0.25
    tasks_height = ROW * (longest + 1) + 0.55
    # The object interface, not pyplot: no global state and no display needed.
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1, hspace=0.03)
    size = (WIDTH, means_height + tasks_height + 1.35)
    figure = Figure(figsize=size, dpi=140, facecolor=PAPER, layout=layout)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, len(splits), height_ratios=[means_height, tasks_height])
    means = figure.add_subplot(grid[0, :])
    _draw_means(means, runs, way)
    for column, split in enumerate(splits):
        _draw_tasks(figure.add_subplot(grid[1, column]), runs, split, way, longest)
    if title:
        figure.suptitle(title, x=0.012, ha="left", fontsize=13.5, color=INK, fontweight="bold")
    figure.legend(
        *means.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(runs) + 1,
        frameon=False,
        fontsize=9.5,
    )
    return figure


def tasks_of(runs: Sequence[Run], split: str, way: str) -> list[str]:
    """The first model's tasks of a split that were answered this way, by domain."""
    tasks = runs[0].tasks
    found = [name for name, task in tasks.items() if task["split"] == split and task[way]]
    return sorted(found, key=lambda name: (tasks[name]["domain"], name))


def _draw_means(axes: Axes, runs: Sequence[Run], way: str) -> None:
    """One bar a model and split, its value and interval written behind it."""
    styles, height, ticks, names = series_of([run.label for run in runs]), 0.0, [], []
    for split in split_order(runs):
        summary = runs[0].results["summary"][split]
        ticks.append(height + (len(runs) - 1) / 2)
        names.append(f"mean of\n{summary['tasks']} {split} tasks")
        if summary["chance"] is not None:
            axes.plot(
                [summary["chance"]] * 2,
                [height - 0.5, height + len(runs) - 0.5],
                color=INK,
                linewidth=1.6,
                zorder=4,
            )
        for run in runs:
            _mean_bar(axes, run.results["summary"].get(split, {}).get(way), height, colour_of(styles[run.label]))
            height += 1
        height += 1
    axes.set_yticks(ticks, names, fontsize=10)
    axes.set_ylim(height - 1.3, -0.7)
    _frame(axes)
    for number, run in enumerate(runs):
        axes.plot(
            [],
            [],
            color=colour_of(styles[run.label]),
            marker=MARKERS[number % len(MARKERS)],
            linestyle="none",
            label=run.label,
        )
    axes.plot([], [], color=INK, marker="|", markersize=11, markeredgewidth=1.6, linestyle="none", label="guessing")


def _mean_bar(axes: Axes, entry: Mapping[str, float] | None, height: float, colour: str) -> None:
    if not entry:
        return
    axes.barh([height], [entry["accuracy"]], height=0.82, color=colour, zorder=2)
    axes.plot([entry["low"], entry["high"]], [height, height], color=INK, linewidth=1.1, zorder=3)
    text = f"{percent(entry['accuracy'])}  ({100 * entry['low']:.0f} to {100 * entry['high']:.0f})"
    axes.annotate(
        text,
        (entry["high"], height),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=9.5,
        color=INK,
    )


def _draw_tasks(axes: Axes, runs: Sequence[Run], split: str, way: str, rows: int) -> None:
    """Dots of a split's tasks, top to bottom; `rows` keeps the columns' rows equally high."""
    styles, tasks = series_of([run.label for run in runs]), tasks_of(runs, split, way)
    for height, name in enumerate(tasks):
        chance = runs[0].tasks[name]["chance"]
        if height % 2:
            axes.axhspan(height - 0.5, height + 0.5, color="#f6f8fa", zorder=0)
        if chance is not None:
            axes.plot([chance, chance], [height - 0.4, height + 0.4], color=INK, linewidth=1.4, zorder=2)
        for number, run in enumerate(runs):
            place = height + 0.22 * (number - (len(runs) - 1) / 2)
            _dot(
                axes,
                run.tasks.get(name, {}).get(way),
                place,
                colour_of(styles[run.label]),
                MARKERS[number % len(MARKERS)],
            )
    axes.set_title(f"{split.capitalize()} tasks", loc="left", fontsize=10.5, color=INK, fontweight="bold")
    axes.set_yticks(range(len(tasks)), [name.replace("_", " ") for name in tasks], fontsize=8.5)
    axes.set_ylim(rows - 0.4, -0.6)
    _frame(axes)


def _dot(axes: Axes, entry: Mapping[str, Any] | None, height: float, colour: str, marker: str) -> None:
    """A marker with its interval; the shape differs by model as well as the colour."""
    if entry:
        axes.plot([entry["low"], entry["high"]], [height, height], color=colour, linewidth=1.0, alpha=0.7, zorder=3)
        axes.plot(
            [entry["accuracy"]],
            [height],
            color=colour,
            marker=marker,
            markersize=4.2,
            linestyle="none",
            zorder=4,
        )


def _frame(axes: Axes) -> None:
    """Percent axis, light vertical grid, no box."""
    axes.set_xlim(0, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0 %", "25 %", "50 %", "75 %", "100 %"], fontsize=8.5)
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=SOFT, labelcolor=INK)
    for side in axes.spines.values():
        side.set_visible(False)
