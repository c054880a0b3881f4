"""One still picture of a comparison: every arm's mean, and its difference to the baseline, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mixtune.analyse.palette import FAINT, INK, PAPER, SOFT, colour_of
from mixtune.analyse.report.compared import Compared
from mixtune.analyse.report.words import interval, percent, points
from mixtune.evaluate.settings import SPLITS

WIDTH, ROW = 12.5, 0.34  # inches: the picture, one arm


def poster(compared: Compared, title: str = "") -> Figure:
    """A row of two panels for each split of the largest data size: accuracies on the left, differences on the right."""
    entry = compared.last
    splits = [split for split in SPLITS if any(split in arm["splits"] for arm in entry["arms"].values())]
    arms = list(entry["arms"])
    size = (WIDTH, len(splits) * (ROW * len(arms) + 0.9) + 1.0)
    figure = Figure(figsize=size, dpi=140, facecolor=PAPER, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(splits), 2, squeeze=False, sharey="row")
    for row, split in zip(panels, splits, strict=True):
        tasks = max(arm["splits"][split]["tasks"] for arm in entry["arms"].values() if split in arm["splits"])
        _accuracies(row[0], compared, split)
        row[0].set_title(
            f"{split.capitalize()} tasks ({tasks}): right answers",
            loc="left",
            fontsize=10.5,
            color=INK,
            fontweight="bold",
        )
        _differences(row[1], compared, split)
        row[1].set_title(f"minus {compared.baseline}, points", loc="left", fontsize=10.5, color=INK, fontweight="bold")
        row[0].set_yticks(range(len(arms)), arms, fontsize=9)
        row[0].set_ylim(len(arms) - 0.5, -0.5)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13.5, color=INK, fontweight="bold")
    note = (
        "95 % intervals over seeds and questions. Filled dot: the interval leaves zero out and p < 0.05 after Holm.\n"
        "Upright line on the left: guessing. Untuned models have no dot."
    )
    figure.supxlabel(note, x=0.01, ha="left", fontsize=8.5, color=SOFT)
    return figure


def _accuracies(axis: Axes, compared: Compared, split: str) -> None:
    chance = None
    for height, (name, arm) in enumerate(compared.last["arms"].items()):
        found = arm["splits"].get(split)
        if not found:
            continue
        chance = found["chance"] if chance is None else chance
        axis.barh([height], [found["mean"]], height=0.72, color=colour_of(compared.styles[name]), zorder=2)
        axis.plot([found["low"], found["high"]], [height, height], color=INK, linewidth=1.1, zorder=3)
        text = f"{percent(found['mean'])}  ({100 * found['low']:.1f} to {100 * found['high']:.1f})"
        _write(axis, found["high"], height, text)
    if chance is not None:
        axis.axvline(chance, color=INK, linewidth=1.4, zorder=4)
    axis.set_xlim(0, 1.25)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0 %", "25 %", "50 %", "75 %", "100 %"], fontsize=8.5)
    _frame(axis)


def _differences(axis: Axes, compared: Compared, split: str) -> None:
    gaps: dict[int, Mapping[str, Any]] = {}
    for height, name in enumerate(compared.last["arms"]):
        gap = compared.difference(name, split)
        if gap is None or compared.facts[name]["kind"] == "untuned":
            continue
        gaps[height], colour = gap, colour_of(compared.styles[name])
        axis.plot([100 * gap["low"], 100 * gap["high"]], [height, height], color=colour, linewidth=1.8, zorder=3)
        axis.plot([100 * gap["mean"]], [height], marker="o", markersize=7, color=colour, zorder=4, linestyle="none",
                  markerfacecolor=colour if gap["decided"] else PAPER, markeredgewidth=1.6)  # fmt: skip
        _write(axis, 100 * gap["high"], height, f"{points(gap['mean'])}  ({interval(gap)})")
    axis.axvline(0, color=INK, linewidth=1.0, zorder=1)
    ends = [100 * gap[end] for gap in gaps.values() for end in ("low", "high")] or [0.0]
    width = max(max(ends) - min(ends), 1.0)
    axis.set_xlim(min(0.0, *ends) - 0.05 * width, max(0.0, *ends) + 0.55 * width)
    axis.tick_params(axis="x", labelsize=8.5)
    _frame(axis)


def _write(axis: Axes, place: float, height: float, text: str) -> None:
    paper = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.0}
    axis.annotate(
        text, (place, height), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8.5, color=INK,
        bbox=paper, zorder=5,
    )  # fmt: skip


def _frame(axis: Axes) -> None:
    axis.grid(axis="x", color=FAINT, linewidth=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(length=0, colors=SOFT, labelcolor=INK)
    for side in axis.spines.values():
        side.set_visible(False)
