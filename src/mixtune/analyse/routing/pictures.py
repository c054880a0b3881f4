"""Maps of selections, trained beside untrained routers, seen tasks beside their unseen kin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mixtune.analyse.palette import FAINT, INK, LIGHT, PAPER, SOFT
from mixtune.analyse.still import save_figure

PNG = "routing.png"
COLOURS = (*LIGHT, "#56B4E9", "#F0E442", "#000000")  # Okabe and Ito; a domain with more tasks goes through the shapes
SEEN, UNSEEN = ("o", "s", "D", "P"), ("^", "v", "<", ">")
TITLES = {"trained": "trained router", "untrained": "untrained router (control)"}


def write_picture(content: dict[str, Any], out: Path) -> Path:
    """Write a row of maps a domain (all layers) and the purities as one PNG into `out`."""
    return save_figure(poster(content), out / PNG)


def marks(tasks: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(colour, marker) of each task: apart within its domain, closed shapes for seen tasks, triangles for unseen."""
    counts: dict[tuple[str, str], int] = {}
    found = []
    for task in tasks:
        shapes = UNSEEN if task["split"] == "unseen" else SEEN
        number = counts.setdefault((task["domain"], task["split"]), 0)
        counts[task["domain"], task["split"]] += 1
        found.append((COLOURS[number % len(COLOURS)], shapes[number // len(COLOURS) % len(shapes)]))
    return found


def poster(content: dict[str, Any]) -> Figure:
    """The still picture."""
    domains = list(dict.fromkeys(task["domain"] for task in content["tasks"]))
    size = (12.5, 3.6 * len(domains) + 3.4)
    figure = Figure(figsize=size, dpi=130, facecolor=PAPER, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(domains) + 1, 2, height_ratios=[3.6] * len(domains) + [2.6])
    for row, domain in enumerate(domains):
        for column, router in enumerate(TITLES):
            axis = figure.add_subplot(grid[row, column])
            _map(axis, content, router, domain)
            about = f"{domain}: " if domain else ""
            axis.set_title(f"{about}{TITLES[router]}", loc="left", fontsize=10, color=INK, fontweight="bold")
        axis.legend(
            loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8, labelcolor=INK, borderaxespad=0
        )
    _purities(figure.add_subplot(grid[len(domains), :]), content)
    adapter = Path(content["adapter"]).name if content["adapter"] else f"fresh {content['preset']}"
    title = f"Do routers tell tasks apart?  {content['model']}, {adapter}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12.5, color=INK)
    note = (
        f"t-SNE of what each prompt chose in all layers ({content['samples']} prompts); triangles: tasks not trained "
        "on.\nDistances between far groups mean nothing. What the control shows too was not learnt."
    )
    figure.supxlabel(note, x=0.01, ha="left", fontsize=8.5, color=SOFT)
    return figure


def _map(axis: Axes, content: dict[str, Any], router: str, domain: str) -> None:
    """One map: the domain's tasks in colour, the others in the background."""
    found = next(each for each in content["maps"] if each["router"] == router and each["name"] == "all")
    x_N, y_N = np.array(found["x"]), np.array(found["y"])
    tasks_N = np.array(content["points"]["task"])
    axis.scatter(x_N, y_N, s=7, color=FAINT, linewidths=0, zorder=1)
    for number, (task, (colour, shape)) in enumerate(zip(content["tasks"], marks(content["tasks"]), strict=True)):
        if task["domain"] != domain:
            continue
        mine, unseen = tasks_N == number, task["split"] == "unseen"
        axis.scatter(
            x_N[mine], y_N[mine], s=26, marker=shape, zorder=3, linewidths=0.9, edgecolors=colour,
            facecolors=PAPER if unseen else colour, alpha=0.85,
            label=task["name"].replace("_", " ") + (" (unseen)" if unseen else ""),
        )  # fmt: skip
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_color(FAINT)


def _purities(axis: Axes, content: dict[str, Any]) -> None:
    """Nearest-neighbour accuracy of both routers with intervals, and chance, by place and split."""
    rows = content["purity"]
    for number, row in enumerate(rows):
        for shift, router, colour in ((-0.18, "trained", LIGHT[0]), (0.18, "untrained", LIGHT[1])):
            entry = row[router]
            axis.bar(
                number + shift,
                entry["accuracy"],
                width=0.34,
                color=colour,
                label=TITLES[router] if not number else None,
            )
            axis.plot([number + shift] * 2, [entry["low"], entry["high"]], color=INK, linewidth=1.1)
        axis.plot([number - 0.4, number + 0.4], [row["chance"]] * 2, color=INK, linewidth=1.6,
                  label="chance" if not number else None)  # fmt: skip
    axis.set_xticks(range(len(rows)), [f"{row['name']}\n{row['split']} tasks" for row in rows], fontsize=8.5)
    axis.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0 %", "25 %", "50 %", "75 %", "100 %"], fontsize=8.5)
    axis.set_ylim(0, 1.02)
    axis.grid(axis="y", color=FAINT, linewidth=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(length=0, colors=SOFT, labelcolor=INK)
    for spine in axis.spines.values():
        spine.set_visible(False)
    title = f"How often the {rows[0]['neighbours']} nearest prompts tell the task"
    axis.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold")
    axis.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8, labelcolor=INK, borderaxespad=0
    )
